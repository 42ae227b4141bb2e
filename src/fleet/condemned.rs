//! Runtimes that are about to be taken apart, or taken from their owner: locked so that nothing is
//! queued for them, claimed from them or bound to them meanwhile.

use super::runtimes::{self, ONLINE, Row};
use crate::{
    db::{
        Tx,
        sql::{Sql, Value},
    },
    error::{Error, Result},
    identity::{Role, members},
    ids::{RuntimeId, UserId, WorkspaceId},
};

/// One of them.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "the table's columns")]
pub struct Condemned {
    pub id: RuntimeId,
    pub workspace_id: WorkspaceId,
    pub owner_id: Option<UserId>,
    status: String,
}

impl From<&Row> for Condemned {
    fn from(row: &Row) -> Self {
        Self { id: row.id, workspace_id: row.workspace_id, owner_id: row.owner_id, status: row.status.clone() }
    }
}

impl Condemned {
    /// Whether its daemon is there.
    pub fn is_online(&self) -> bool {
        self.status == ONLINE
    }
}

/// Locks a runtime that somebody wants removed: its owner, or an owner or admin of its workspace. Who
/// may not is refused before anything is locked.
pub async fn condemn(
    tx: &mut Tx,
    runtime: RuntimeId,
    user: UserId,
    selected: Option<WorkspaceId>,
) -> Result<Condemned> {
    let seen = runtimes::find(tx, runtime).await?.ok_or_else(runtimes::runtime_not_found)?;
    let may = |owner: Option<UserId>, role: Role| role >= Role::Admin || owner == Some(user);
    if selected.is_some_and(|selected| selected != seen.workspace_id) {
        return Err(runtimes::runtime_not_found());
    }
    let role = members::role(tx, seen.workspace_id, user).await?.ok_or_else(runtimes::runtime_not_found)?;
    let refusal = || Error::forbidden("not_runtime_owner", "you can only delete your own runtimes");
    if !may(seen.owner_id, role) {
        return Err(refusal());
    }
    let locked = lock(tx, " WHERE id = ", Value::Id(runtime.0), None).await?.pop();
    let locked = locked.ok_or_else(runtimes::runtime_not_found)?;
    // It may have been adopted since, and the caller may be whose membership ended meanwhile.
    let role = members::role(tx, locked.workspace_id, user).await?.ok_or_else(runtimes::runtime_not_found)?;
    if may(locked.owner_id, role) { Ok(locked) } else { Err(refusal()) }
}

/// Locks all runtimes of a workspace, or those of one owner there.
pub async fn condemn_all_of(tx: &mut Tx, workspace: WorkspaceId, owner: Option<UserId>) -> Result<Vec<Condemned>> {
    lock(tx, " WHERE workspace_id = ", Value::Id(workspace.0), owner).await
}

/// In the order of their ids.
async fn lock(tx: &mut Tx, of: &'static str, id: Value, owner: Option<UserId>) -> Result<Vec<Condemned>> {
    let mut sql = Sql::new("SELECT id, workspace_id, owner_id, status FROM agent_runtime");
    sql.push(of).bind(id);
    if let Some(owner) = owner {
        sql.push(" AND owner_id = ").bind(Value::Id(owner.0));
    }
    sql.push_for(" ORDER BY id FOR UPDATE", " ORDER BY id");
    sql.fetch_all(tx).await
}

/// Takes locked runtimes offline until they are registered anew: a beat that is under way does not
/// bring them back.
pub async fn revoke(tx: &mut Tx, runtimes: &[Condemned]) -> Result<()> {
    if runtimes.is_empty() {
        return Ok(());
    }
    let now = Value::Number(tx.now().0);
    let mut sql = Sql::new("UPDATE agent_runtime SET status = 'offline', offline_cause = 'revoked', offline_at = ");
    sql.bind(now.clone()).push(", updated_at = ").bind(now).push(" WHERE id ").bind(any_of(runtimes));
    sql.push(" RETURNING id");
    let _: Vec<(RuntimeId,)> = sql.fetch_all(tx).await?;
    Ok(())
}

/// Removes locked runtimes, to which no agent is bound any more.
pub async fn remove(tx: &mut Tx, runtimes: &[Condemned]) -> Result<()> {
    let mut sql = Sql::new("DELETE FROM agent_runtime WHERE id ");
    sql.bind(any_of(runtimes)).push(" RETURNING id");
    let _: Vec<(RuntimeId,)> = sql.fetch_all(tx).await?;
    Ok(())
}

fn any_of(runtimes: &[Condemned]) -> Value {
    Value::AnyOf(runtimes.iter().map(|runtime| runtime.id.0).collect())
}
