//! Somebody does not want a task any more.

use std::sync::Arc;

use crate::{
    db::Tx,
    error::{Error, Result, there},
    identity::Insider,
    ids::{IssueId, TaskId},
    tasks::{self, Queue, Row, Which, Withdrawn},
    workspace::{agents, chats},
};

/// Ends a task, perhaps only one of an issue. One that is over comes back as it is. In a chat, what a
/// person said comes back as well, if nobody has begun to answer it.
pub async fn cancel(
    tx: &mut Tx,
    queue: &Arc<Queue>,
    who: &Insider,
    issue: Option<IssueId>,
    task: TaskId,
) -> Result<(Row, Withdrawn)> {
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
    let chat = match row.chat_session_id {
        Some(chat) => there(chats::hold(tx, chat).await)?,
        None => None,
    };
    let ended = queue.cancel(tx, who.workspace, Which::Task(task), |id| id == agent.id).await?.pop();
    let Some(ended) = ended else {
        return Ok((tasks::find(tx, task).await?.ok_or_else(tasks::not_found)?, None));
    };
    let withdrawn = match chat {
        Some(chat) => tasks::finish_cancelled(tx, &chat, &ended).await?,
        None => None,
    };
    Ok((ended, withdrawn))
}

/// An agent ends its own task only, and a person nobody else's talk.
fn require_may_cancel(who: &Insider, row: &Row) -> Result<()> {
    let may = match &who.task {
        Some(_) => row.is_done_by(who),
        None => row.chat_session_id.is_none() || row.is_own_chat_of(who),
    };
    if may { Ok(()) } else { Err(Error::forbidden("not_your_task", "not your task")) }
}
