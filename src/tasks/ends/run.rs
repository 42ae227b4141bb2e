//! A run of an autopilot ends with its task; one that made an issue goes on as long as anybody works
//! on that.

use crate::{
    db::Tx,
    error::Result,
    events::kinds,
    ids::{IssueId, RunId},
    tasks::{Row, status::Status},
    workspace::autopilots::runs::{self, Outcome},
};

/// The runs of tasks that have just ended, all in the same way.
pub(super) async fn follow(tx: &mut Tx, rows: &[Row]) -> Result<()> {
    let ids: Vec<RunId> = rows.iter().filter_map(|row| row.autopilot_run_id).collect();
    let Some(row) = rows.first().filter(|_| !ids.is_empty()) else { return Ok(()) };
    let outcome = match row.status {
        Status::Completed => Outcome::Completed(row.result.as_ref().map(|result| &result.0)),
        Status::Failed => Outcome::Failed(row.error.as_deref().unwrap_or("task failed")),
        _ => Outcome::Failed("task was cancelled"),
    };
    for run in runs::end(tx, &ids, &outcome).await? {
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
