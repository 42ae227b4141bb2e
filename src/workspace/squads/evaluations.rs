//! What leaders decided about issues of their squads.

use uuid::Uuid;

use super::Row;
use crate::{
    db::{Session, Tx, exec, on},
    error::Result,
    identity::TaskBinding,
    ids::{IssueId, TaskId},
    protocol::squad::{Evaluate, Evaluated},
    workspace::words,
};

/// What a leader may have decided.
const OUTCOMES: &[&str] = &["action", "no_action", "failed"];

/// Takes note of what a squad's leader decided about an issue in its task.
pub async fn note(
    tx: &mut Tx,
    leader: &TaskBinding,
    squad: &Row,
    issue: IssueId,
    wish: &Evaluate,
) -> Result<Evaluated> {
    let outcome = words::one_of("outcome", OUTCOMES, &wish.outcome)?;
    words::text("reason", &wish.reason)?;
    let (id, now) = (Uuid::now_v7(), tx.now());
    exec!(tx, |c| sqlx::query(
        "INSERT INTO squad_evaluation (id, workspace_id, issue_id, squad_id, agent_id, task_id, outcome, reason,
                                       created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
    )
    .bind(id)
    .bind(squad.workspace_id)
    .bind(issue)
    .bind(squad.id)
    .bind(leader.agent)
    .bind(leader.task)
    .bind(outcome)
    .bind(&wish.reason)
    .bind(now))?;
    Ok(Evaluated { id, action: "squad_leader_evaluated", created_at: now })
}

/// Whether it was decided in a task that nothing is to be done: then nothing is said either.
pub async fn is_no_action(db: &mut Session, task: TaskId) -> Result<bool> {
    let found: Option<i32> = on!(db, |c| sqlx::query_scalar(
        "SELECT 1 FROM squad_evaluation WHERE task_id = $1 AND outcome = 'no_action' LIMIT 1"
    )
    .bind(task)
    .fetch_optional(c))?;
    Ok(found.is_some())
}
