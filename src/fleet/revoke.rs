//! The end of runtimes whose owner may no longer drive them.

use crate::{
    db::{Tx, exec, on},
    error::Result,
    ids::{RuntimeId, UserId, WorkspaceId},
};

/// What was revoked.
pub struct Revoked {
    /// The runtimes.
    pub ids: Vec<RuntimeId>,
    /// Whether one of them was online.
    pub any_online: bool,
}

/// Takes the runtimes of a workspace, or of one owner there, offline until they are registered
/// anew: a beat that is under way does not bring them back.
pub async fn revoke(tx: &mut Tx, workspace: WorkspaceId, owner: Option<UserId>) -> Result<Revoked> {
    let rows: Vec<(RuntimeId, String)> = on!(
        tx,
        pg "SELECT id, status FROM agent_runtime
            WHERE workspace_id = $1 AND (owner_id = $2 OR $2 IS NULL) ORDER BY id FOR NO KEY UPDATE",
        lite "SELECT id, status FROM agent_runtime
              WHERE workspace_id = $1 AND (owner_id = $2 OR $2 IS NULL) ORDER BY id",
        |c, sql| sqlx::query_as(sql).bind(workspace).bind(owner).fetch_all(c)
    )?;
    let now = tx.now();
    exec!(tx, |c| sqlx::query(
        "UPDATE agent_runtime SET status = 'offline', offline_cause = 'revoked', offline_at = $3, updated_at = $3
         WHERE workspace_id = $1 AND (owner_id = $2 OR $2 IS NULL)"
    )
    .bind(workspace)
    .bind(owner)
    .bind(now))?;
    let any_online = rows.iter().any(|(_, status)| status == super::runtimes::ONLINE);
    Ok(Revoked { ids: rows.into_iter().map(|(id, _)| id).collect(), any_online })
}
