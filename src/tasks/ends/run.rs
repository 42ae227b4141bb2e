//! A run of an autopilot ends with its task; one that made an issue goes on as long as anybody works
//! on that.

use crate::{
    db::Tx,
    error::Result,
    events::kinds,
    ids::IssueId,
    tasks::{Row, status::Status},
    workspace::autopilots::runs::{self, Outcome},
};

/// The run of a task that has just ended.
pub(super) async fn follow(tx: &mut Tx, row: &Row) -> Result<()> {
    let Some(run) = row.autopilot_run_id else { return Ok(()) };
    let outcome = match row.status {
        Status::Completed => Outcome::Completed(row.result.as_ref().map(|result| &result.0)),
        Status::Failed => Outcome::Failed(row.error.as_deref().unwrap_or("task failed")),
        _ => Outcome::Failed("task was cancelled"),
    };
    if let Some(run) = runs::end(tx, run, &outcome).await? {
        tx.emit(kinds::autopilot_run_ended(row.workspace_id, &run));
    }
    Ok(())
}

/// The runs of an issue whose last task has failed.
pub(super) async fn give_up(tx: &mut Tx, row: &Row, issue: IssueId) -> Result<()> {
    let reason = row.error.as_deref().unwrap_or("task failed");
    for run in runs::end_of_issue(tx, issue, &Outcome::Failed(reason)).await? {
        tx.emit(kinds::autopilot_run_ended(row.workspace_id, &run));
    }
    Ok(())
}
