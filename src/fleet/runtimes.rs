//! The runtime's row, who may touch it, and what people do with it.

use serde_json::Value;
use sqlx::types::Json;

use super::{Fleet, lease::Lease, presence::presence_of};
use crate::{
    db::{Arm, Session, Tx, lists, on},
    error::{Error, Result},
    events::{self, Judged, kinds},
    identity::{Role, members},
    ids::{RuntimeId, RuntimeProfileId, UserId, WorkspaceId},
    protocol::{
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
    pub profile_id: Option<RuntimeProfileId>,
    pub name: String,
    pub runtime_mode: String,
    pub status: String,
    pub device_info: String,
    pub metadata: Json<Value>,
    pub visibility: String,
    pub last_seen_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Row {
    pub(super) fn wire(self, lease: Option<Lease>) -> Runtime {
        let presence = presence_of(&self.status, lease);
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
pub fn runtime_not_found() -> Error {
    Error::not_found("runtime_not_found", "runtime not found")
}

/// "Not yours": daemons do nothing on reading this.
pub fn not_yours() -> Error {
    Error::not_found("not_found", "not found")
}

pub(super) async fn find(db: &mut Session, runtime: RuntimeId) -> Result<Option<Row>> {
    on!(db, |c| sqlx::query_as("SELECT * FROM agent_runtime WHERE id = $1").bind(runtime).fetch_optional(c))
}

pub(super) async fn find_all(db: &mut Session, runtimes: &[RuntimeId]) -> Result<Vec<Row>> {
    let rows = match db.arm() {
        Arm::Postgres(c) => {
            sqlx::query_as("SELECT * FROM agent_runtime WHERE id = ANY($1)").bind(runtimes).fetch_all(c).await
        }
        Arm::Sqlite(c) => {
            sqlx::query_as("SELECT * FROM agent_runtime WHERE id IN (SELECT unhex(value) FROM json_each($1))")
                .bind(lists::ids(runtimes.iter().copied()))
                .fetch_all(c)
                .await
        }
    };
    db.note(rows)
}

/// A workspace's runtimes, oldest first; only one owner's if that is asked for.
pub(super) async fn of_workspace(db: &mut Session, workspace: WorkspaceId, owner: Option<UserId>) -> Result<Vec<Row>> {
    on!(db, |c| sqlx::query_as(
        "SELECT * FROM agent_runtime
         WHERE workspace_id = $1 AND (owner_id = $2 OR $2 IS NULL) ORDER BY created_at, id"
    )
    .bind(workspace)
    .bind(owner)
    .fetch_all(c))
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

/// A runtime, as far as binding agents to it is concerned.
#[derive(Debug, sqlx::FromRow)]
pub struct Target {
    /// Whose it is.
    pub owner_id: Option<UserId>,
    /// Whether any member may bind agents to it.
    pub is_public: bool,
    /// What it drives.
    pub provider: String,
    /// `local` or `cloud`.
    pub runtime_mode: String,
}

/// Locks a runtime of the workspace against being removed, to bind an agent to it.
pub async fn lock_to_bind(tx: &mut Tx, workspace: WorkspaceId, runtime: RuntimeId) -> Result<Option<Target>> {
    on!(
        tx,
        pg "SELECT owner_id, visibility = 'public' AS is_public, provider, runtime_mode FROM agent_runtime
            WHERE id = $1 AND workspace_id = $2 FOR KEY SHARE",
        lite "SELECT owner_id, visibility = 'public' AS is_public, provider, runtime_mode FROM agent_runtime
              WHERE id = $1 AND workspace_id = $2",
        |c, sql| sqlx::query_as(sql).bind(runtime).bind(workspace).fetch_optional(c)
    )
}

/// What a runtime drives; nothing if it is gone.
pub async fn provider(db: &mut Session, runtime: RuntimeId) -> Result<String> {
    let provider: Option<String> = on!(db, |c| sqlx::query_scalar("SELECT provider FROM agent_runtime WHERE id = $1")
        .bind(runtime)
        .fetch_optional(c))?;
    Ok(provider.unwrap_or_default())
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
                let position = events::position(db, workspace).await?;
                Ok((position, of_workspace(db, workspace, owner).await?))
            })
            .await?;
        Ok((position, self.wire(rows).await))
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
        let lease = self.leases(&[runtime]).await.pop().flatten();
        Ok(row.wire(lease))
    }

    pub(super) async fn wire(&self, rows: Vec<Row>) -> Vec<Runtime> {
        let ids: Vec<RuntimeId> = rows.iter().map(|row| row.id).collect();
        let leases = self.leases(&ids).await;
        rows.into_iter().zip(leases).map(|(row, lease)| row.wire(lease)).collect()
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
