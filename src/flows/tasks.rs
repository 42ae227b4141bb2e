//! Somebody does not want a task any more.

use std::sync::Arc;

use crate::{
    db::Tx,
    error::{Error, Result},
    identity::Insider,
    ids::{IssueId, TaskId},
    tasks::{self, Queue, Row, Which},
    workspace::agents,
};

/// Ends a task, perhaps only one of an issue. One that is over comes back as it is.
pub async fn cancel(
    tx: &mut Tx,
    queue: &Arc<Queue>,
    who: &Insider,
    issue: Option<IssueId>,
    task: TaskId,
) -> Result<Row> {
    let row = tasks::find(tx, task).await?.ok_or_else(tasks::not_found)?;
    if row.workspace_id != who.workspace || issue.is_some_and(|issue| row.issue_id != Some(issue)) {
        return Err(tasks::not_found());
    }
    // What it is for never changes, so the row says so as well without its lock.
    require_may_cancel(who, &row)?;
    let agent = tasks::lock_agents(tx, who.workspace, &[row.agent_id]).await?.pop().ok_or_else(tasks::not_found)?;
    if !agent.is_open_to(who) {
        return Err(agents::no_access());
    }
    match queue.cancel(tx, who.workspace, Which::Task(task), |id| id == agent.id).await?.pop() {
        Some(ended) => Ok(ended),
        None => tasks::find(tx, task).await?.ok_or_else(tasks::not_found),
    }
}

/// An agent ends its own task only, and a person nobody else's talk.
fn require_may_cancel(who: &Insider, row: &Row) -> Result<()> {
    let may = match &who.task {
        Some(_) => row.is_done_by(who),
        None => row.chat_session_id.is_none() || row.is_own_chat_of(who),
    };
    if may { Ok(()) } else { Err(Error::forbidden("not_your_task", "not your task")) }
}
