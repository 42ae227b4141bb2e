//! The runtime's row, who may touch it, and what people do with it.

use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

use super::Fleet;
use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    events::{self, Judged, kinds},
    hub::wire,
    identity::{Driver, Role, members},
    ids::{RuntimeId, UserId, WorkspaceId},
    protocol::{
        browser::Position,
        daemon::{HEARTBEAT_ACK, Outbound, gone_ack},
        event::Actor,
        runtime::{Runtime, launch_header},
    },
    time::Timestamp,
};

pub(super) const ONLINE: &str = "online";
pub(super) const OFFLINE: &str = "offline";

/// A runtime as stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Row {
    pub id: RuntimeId,
    pub workspace_id: WorkspaceId,
    pub owner_id: Option<UserId>,
    pub daemon_id: String,
    pub provider: String,
    pub profile_id: Option<Uuid>,
    pub name: String,
    pub runtime_mode: String,
    pub status: String,
    pub offline_cause: Option<String>,
    pub offline_at: Option<Timestamp>,
    pub device_info: String,
    pub metadata: Json<Value>,
    pub visibility: String,
    pub last_seen_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Row {
    pub(super) fn wire(self, has_socket: bool) -> Runtime {
        let presence = match (self.status.as_str(), has_socket) {
            (OFFLINE, _) => "offline",
            (_, true) => "socket",
            (_, false) => "http",
        };
        Runtime {
            id: self.id,
            workspace_id: self.workspace_id,
            daemon_id: Some(self.daemon_id),
            name: self.name,
            runtime_mode: self.runtime_mode,
            launch_header: launch_header(&self.provider),
            provider: self.provider,
            status: self.status,
            device_info: self.device_info,
            metadata: self.metadata.0,
            owner_id: self.owner_id,
            visibility: self.visibility,
            profile_id: self.profile_id,
            last_seen_at: self.last_seen_at,
            created_at: self.created_at,
            updated_at: self.updated_at,
            presence,
        }
    }
}

/// "Gone": daemons forget the runtime on reading this.
pub(super) fn runtime_not_found() -> Error {
    Error::not_found("runtime_not_found", "runtime not found")
}

/// "Not yours": daemons do nothing on reading this.
pub(super) fn not_yours() -> Error {
    Error::not_found("not_found", "not found")
}

pub(super) async fn find(db: &mut Session, runtime: RuntimeId) -> Result<Option<Row>> {
    on!(db, |c| sqlx::query_as("SELECT * FROM agent_runtime WHERE id = $1").bind(runtime).fetch_optional(c))
}

/// The row under a lock that other changes of it wait for.
pub(super) async fn lock(tx: &mut Tx, runtime: RuntimeId) -> Result<Option<Row>> {
    on!(
        tx,
        pg "SELECT * FROM agent_runtime WHERE id = $1 FOR NO KEY UPDATE",
        lite "SELECT * FROM agent_runtime WHERE id = $1",
        |c, sql| sqlx::query_as(sql).bind(runtime).fetch_optional(c)
    )
}

/// Whether somebody may work for the runtime: its owner, while a member, or who holds a daemon token
/// that the owner made for this very daemon.
pub(super) async fn require_driver(db: &mut Session, row: &Row, driver: &Driver) -> Result<()> {
    if row.owner_id != Some(driver.user) || !driver.is(row.workspace_id, &row.daemon_id) {
        return Err(not_yours());
    }
    members::role(db, row.workspace_id, driver.user).await?.map(drop).ok_or_else(not_yours)
}

impl Fleet {
    /// A workspace's runtimes, oldest first, for a member; only their own with `mine`. With the
    /// position from before the first row was read: who follows from there misses nothing.
    pub async fn list(&self, workspace: WorkspaceId, user: UserId, mine: bool) -> Result<(Judged, Vec<Runtime>)> {
        let owner = mine.then_some(user);
        let (position, rows) = self
            .db
            .read(async move |db| {
                members::require(db, workspace, user).await?;
                let position = events::judge(db, workspace, &Position::default()).await?;
                let rows: Vec<Row> = on!(db, |c| sqlx::query_as(
                    "SELECT * FROM agent_runtime
                     WHERE workspace_id = $1 AND (owner_id = $2 OR $2 IS NULL) ORDER BY created_at, id"
                )
                .bind(workspace)
                .bind(owner)
                .fetch_all(c))?;
                Ok((position, rows))
            })
            .await?;
        Ok((position, rows.into_iter().map(|row| self.wire(row)).collect()))
    }

    /// Whether somebody may open a socket for the runtime, and for which workspace.
    pub async fn admit(&self, runtime: RuntimeId, driver: &Driver) -> Result<WorkspaceId> {
        let driver = driver.clone();
        self.db
            .read(async move |db| {
                let row = find(db, runtime).await?.ok_or_else(runtime_not_found)?;
                require_driver(db, &row, &driver).await?;
                Ok(row.workspace_id)
            })
            .await
    }

    /// Changes who may bind agents to a runtime. The body is only read once the caller may change
    /// it at all, hence `read_body`.
    pub async fn set_visibility(
        &self,
        runtime: RuntimeId,
        user: UserId,
        selected: Option<WorkspaceId>,
        read_body: impl Fn() -> Result<Option<String>> + Send + Sync + 'static,
    ) -> Result<Runtime> {
        let row = self
            .db
            .write_global(async move |tx| {
                let row = editable(tx, runtime, user, selected, "you can only edit your own runtimes").await?;
                let Some(visibility) = read_body()? else { return Ok(row) };
                if !["private", "public"].contains(&visibility.as_str()) {
                    return Err(Error::invalid("invalid_visibility", "visibility must be 'private' or 'public'"));
                }
                if visibility == row.visibility {
                    return Ok(row);
                }
                let now = tx.now();
                let row: Row = on!(tx, |c| sqlx::query_as(
                    "UPDATE agent_runtime SET visibility = $2, updated_at = $3 WHERE id = $1 RETURNING *"
                )
                .bind(runtime)
                .bind(&visibility)
                .bind(now)
                .fetch_one(c))?;
                tx.emit(kinds::runtimes_changed(row.workspace_id, Actor::Member(user), "update", &[]));
                Ok(row)
            })
            .await?;
        Ok(self.wire(row))
    }

    /// Removes a runtime. Its daemon is told at once, if it is connected here.
    pub async fn delete(&self, runtime: RuntimeId, user: UserId, selected: Option<WorkspaceId>) -> Result<()> {
        let registry = self.registry.clone();
        let interval = self.settings.beat_interval.as_millis() as u64;
        self.db
            .write_global(async move |tx| {
                let row = editable(tx, runtime, user, selected, "you can only delete your own runtimes").await?;
                exec!(tx, |c| sqlx::query("DELETE FROM agent_runtime WHERE id = $1").bind(runtime))?;
                tx.emit(kinds::runtime_deleted(row.workspace_id, Actor::Member(user), runtime));
                let registry = registry.clone();
                tx.after_commit(move || {
                    let gone = Outbound { r#type: HEARTBEAT_ACK, payload: gone_ack(runtime, interval) };
                    registry.send_to_runtime(runtime, &wire::text(&gone.json()));
                    tracing::info!(%runtime, by = %user, "runtime removed");
                });
                Ok(())
            })
            .await
    }

    pub(super) fn wire(&self, row: Row) -> Runtime {
        let has_socket = self.registry.drives(row.id);
        row.wire(has_socket)
    }
}

/// The row, locked, if `user` may change it: its owner, or an owner or admin of its workspace.
async fn editable(
    tx: &mut Tx,
    runtime: RuntimeId,
    user: UserId,
    selected: Option<WorkspaceId>,
    refusal: &'static str,
) -> Result<Row> {
    let row = lock(tx, runtime).await?.ok_or_else(runtime_not_found)?;
    if selected.is_some_and(|selected| selected != row.workspace_id) {
        return Err(runtime_not_found());
    }
    let role = members::role(tx, row.workspace_id, user).await?.ok_or_else(runtime_not_found)?;
    if role < Role::Admin && row.owner_id != Some(user) {
        return Err(Error::forbidden("not_runtime_owner", refusal));
    }
    Ok(row)
}
