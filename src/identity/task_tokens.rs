//! Task tokens: what an agent process acts with while it runs a task.

use std::time::Duration;

use super::{TaskBinding, secrets};
use crate::{
    db::{Arm, Tx, exec, lists},
    error::Result,
    ids::{TaskId, TaskTokenId, UserId, WorkspaceId},
};

/// A task token ends after this long even if its task does not.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// Makes a token for a task; the binding says what it acts as.
pub async fn mint(tx: &mut Tx, binding: &TaskBinding) -> Result<String> {
    let token = secrets::mint(secrets::TASK);
    let now = tx.now();
    exec!(tx, |c| sqlx::query(
        "INSERT INTO task_token (id, task_id, agent_id, workspace_id, user_id, token_hash, expires_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
    )
    .bind(binding.token)
    .bind(binding.task)
    .bind(binding.agent)
    .bind(binding.workspace)
    .bind(binding.user)
    .bind(secrets::hash(&token))
    .bind(now.plus(LIFE))
    .bind(now))?;
    Ok(token)
}

/// Removes the tokens of a workspace, or of one person's runtimes there.
pub async fn revoke_all(tx: &mut Tx, workspace: WorkspaceId, user: Option<UserId>) -> Result<()> {
    exec!(tx, |c| sqlx::query("DELETE FROM task_token WHERE workspace_id = $1 AND (user_id = $2 OR $2 IS NULL)")
        .bind(workspace)
        .bind(user))
    .map(drop)
}

/// Removes the tokens of some tasks; which they were.
pub async fn revoke(tx: &mut Tx, tasks: &[TaskId]) -> Result<Vec<TaskTokenId>> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let gone = match tx.arm() {
        Arm::Postgres(c) => {
            sqlx::query_scalar("DELETE FROM task_token WHERE task_id = ANY($1) RETURNING id")
                .bind(tasks)
                .fetch_all(c)
                .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_scalar(
                "DELETE FROM task_token WHERE task_id IN (SELECT unhex(value) FROM json_each($1)) RETURNING id",
            )
            .bind(lists::ids(tasks.iter().copied()))
            .fetch_all(c)
            .await
        }
    };
    tx.note(gone)
}
