//! Which failures are worth another attempt, and how that is queued.

use std::sync::Arc;

use super::{
    Queue, Row,
    enqueue::{New, Trigger, Wish, Work},
    list::queued_of_chat,
    reasons,
};
use crate::{
    db::{Tx, exec},
    error::Result,
    ids::TaskId,
    workspace::{agents, chats::messages},
};

/// Queues another attempt of a task that failed; whether there is one.
pub(super) async fn again(queue: &Arc<Queue>, tx: &mut Tx, agent: &agents::Row, row: &Row) -> Result<bool> {
    let reason = row.failure_reason.as_deref().unwrap_or_default();
    let (Some(runtime), true) = (row.runtime_id, reasons::is_retryable(reason) && row.attempt < row.max_attempts)
    else {
        return Ok(false);
    };
    let work = match (row.issue_id, row.chat_session_id, row.autopilot_run_id) {
        // An autopilot comes round again by itself.
        (_, _, Some(_)) => return Ok(false),
        (_, Some(chat), _) => Work::Chat(chat),
        (Some(issue), ..) => Work::Issue {
            issue,
            trigger: row
                .trigger_comment_id
                .map(|comment| Trigger { comment, summary: row.trigger_summary.clone().unwrap_or_default() }),
            leads: row.is_leader_task,
        },
        _ => return Ok(false),
    };
    let fresh = reasons::starts_afresh(reason);
    if let Work::Chat(chat) = work
        && let Some(waiting) = queued_of_chat(tx, chat).await?
    {
        // It answers all that was asked so far: another one would find nothing to answer.
        messages::hand_on(tx, row.id, waiting.id).await?;
        return if fresh { forget_session(tx, waiting.id).await.map(|()| true) } else { Ok(true) };
    }
    let new = New {
        wish: Wish {
            work,
            priority: row.priority,
            initiator: row.initiator_user_id,
            // One that had begun afresh goes on with what is its own.
            force_fresh: fresh || row.force_fresh_session && row.session_id.is_none(),
        },
        attempt: row.attempt + 1,
        max_attempts: row.max_attempts,
        parent: Some(row.id),
        session_id: row.session_id.clone().filter(|_| !fresh),
        work_dir: row.work_dir.clone().filter(|_| !fresh),
        runtime,
        owner: row.owner_id,
        daemon_id: row.daemon_id.clone(),
        context: row.context.as_ref().map(|context| context.0.clone()),
    };
    let Some(child) = queue.insert(tx, agent, new).await? else {
        tracing::info!(task = %row.id, "not tried again: the agent has another task for the issue");
        return Ok(false);
    };
    if row.chat_session_id.is_some() {
        messages::hand_on(tx, row.id, child.id).await?;
    }
    Ok(true)
}

/// A task that waits does not take up any earlier session.
async fn forget_session(tx: &mut Tx, task: TaskId) -> Result<()> {
    exec!(tx, |c| sqlx::query("UPDATE task SET force_fresh_session = true WHERE id = $1").bind(task)).map(drop)
}
