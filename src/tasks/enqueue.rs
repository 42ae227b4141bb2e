//! Work enters the queue here, whoever asks for it.

use std::sync::Arc;

use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Queue, Row, Which, Worker};
use crate::{
    db::{Tx, on},
    error::Result,
    events::{Control, kinds},
    ids::{ChatSessionId, CommentId, IssueId, RunId, RuntimeId, TaskId, UserId},
    workspace::agents,
};

/// Characters of a summary.
const SUMMARY: usize = 200;

/// The comment that asks for work.
#[derive(Debug, Clone)]
pub struct Trigger {
    /// Which.
    pub comment: CommentId,
    /// What it says, in short: see [`summary`].
    pub summary: String,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Work {
    /// An issue.
    Issue {
        /// Which.
        issue: IssueId,
        /// The comment that asks for it; none if the assignment does.
        trigger: Option<Trigger>,
        /// Whether the agent is asked as a squad's leader.
        leads: bool,
    },
    /// An answer in a chat.
    Chat(ChatSessionId),
    /// An autopilot's run without an issue.
    Run(RunId),
    /// An issue is to be made of somebody's words.
    QuickCreate(Value),
}

/// A wish for work.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What.
    pub work: Work,
    /// Higher ones come first; see [`priority_of`].
    pub priority: i32,
    /// Who asks, where the store does not say it otherwise.
    pub initiator: Option<UserId>,
    /// Not to take up any earlier session.
    pub force_fresh: bool,
}

/// The rank of an issue's priority in the queue.
pub fn priority_of(word: &str) -> i32 {
    match word {
        "urgent" => 4,
        "high" => 3,
        "medium" => 2,
        "low" => 1,
        _ => 0,
    }
}

/// A comment in one short line.
pub fn summary(text: &str) -> String {
    let line = text.replace(['\n', '\r', '\t'], " ");
    let line = line.trim();
    match line.char_indices().nth(SUMMARY) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// A task before it is stored.
#[derive(Clone)]
pub(super) struct New {
    pub wish: Wish,
    /// What is taken over from the attempt before.
    pub attempt: i32,
    pub max_attempts: i32,
    pub parent: Option<TaskId>,
    pub session_id: Option<String>,
    pub work_dir: Option<String>,
    /// Where it waits; a retry stays where its first attempt was.
    pub runtime: RuntimeId,
    pub owner: Option<UserId>,
    pub daemon_id: String,
    pub context: Option<Value>,
}

impl Queue {
    /// Queues work for an agent that is locked and not archived. `None` if it has a task for the issue
    /// that has not begun: that one will see to it.
    pub async fn enqueue(self: &Arc<Self>, tx: &mut Tx, worker: &Worker, wish: Wish) -> Result<Option<Row>> {
        let context = match &wish.work {
            Work::QuickCreate(context) => Some(context.clone()),
            _ => None,
        };
        let new = New {
            wish,
            attempt: 1,
            max_attempts: 2,
            parent: None,
            session_id: None,
            work_dir: None,
            runtime: worker.seat.id,
            owner: worker.seat.owner_id,
            daemon_id: worker.seat.daemon_id.clone(),
            context,
        };
        if let Some(row) = self.insert(tx, &worker.agent, new.clone()).await? {
            return Ok(Some(row));
        }
        // Where that one waits nobody may ever ask for it: the agent has moved since.
        match stranded(tx, worker, &new.wish.work).await? {
            Some(task) => {
                self.cancel(tx, worker.agent.workspace_id, Which::Task(task), |id| id == worker.agent.id).await?;
                self.insert(tx, &worker.agent, new).await
            }
            None => Ok(None),
        }
    }

    pub(super) async fn insert(self: &Arc<Self>, tx: &mut Tx, agent: &agents::Row, new: New) -> Result<Option<Row>> {
        let (mut issue, mut chat, mut run, mut trigger, mut leads) = (None, None, None, None, false);
        let serial_key: Option<Uuid> = match &new.wish.work {
            Work::Issue { issue: id, trigger: by, leads: leader } => {
                (issue, trigger, leads) = (Some(*id), by.clone(), *leader);
                Some(id.0)
            }
            Work::Chat(id) => {
                chat = Some(*id);
                Some(id.0)
            }
            Work::Run(id) => {
                run = Some(*id);
                None
            }
            Work::QuickCreate(_) => Some(agent.id.0),
        };
        let now = tx.now();
        let row: Option<Row> = on!(tx, |c| {
            sqlx::query_as(
            "INSERT INTO task (id, workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status,
                               priority, issue_id, chat_session_id, autopilot_run_id, serial_key, trigger_comment_id,
                               trigger_summary, context, force_fresh_session, is_leader_task, initiator_user_id,
                               attempt, max_attempts, parent_task_id, session_id, work_dir, created_at)
             VALUES ($1, $2, $3, $4, $4, $5, $6, 'queued', $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
                     $19, $20, $21, $22, $23)
             ON CONFLICT (issue_id, agent_id) WHERE issue_id IS NOT NULL AND status IN ('queued', 'dispatched')
             DO NOTHING RETURNING *"
        )
        .bind(TaskId::fresh())
        .bind(agent.workspace_id)
        .bind(agent.id)
        .bind(new.runtime)
        .bind(new.owner)
        .bind(&new.daemon_id)
        .bind(new.wish.priority)
        .bind(issue)
        .bind(chat)
        .bind(run)
        .bind(serial_key)
        .bind(trigger.as_ref().map(|trigger| trigger.comment))
        .bind(trigger.as_ref().map(|trigger| &trigger.summary))
        .bind(new.context.as_ref().map(Json))
        .bind(new.wish.force_fresh)
        .bind(leads)
        .bind(new.wish.initiator)
        .bind(new.attempt)
        .bind(new.max_attempts)
        .bind(new.parent)
        .bind(&new.session_id)
        .bind(&new.work_dir)
        .bind(now)
        .fetch_optional(c)
        })?;
        let Some(row) = row else { return Ok(None) };
        tx.emit(kinds::task_changed("task:queued", &row.told()));
        let (queue, runtime, task, source) = (self.clone(), new.runtime, row.id, row.source());
        tx.after_commit(move || {
            queue.metrics.enqueued(source);
            queue.nodes.tell(Control::TaskAvailable { runtime, task });
        });
        Ok(Some(row))
    }
}

/// A task for the same issue that waits at a runtime which is not the agent's any more.
async fn stranded(tx: &mut Tx, worker: &Worker, work: &Work) -> Result<Option<TaskId>> {
    let Work::Issue { issue, .. } = work else { return Ok(None) };
    on!(tx, |c| sqlx::query_scalar(
        "SELECT id FROM task WHERE issue_id = $1 AND agent_id = $2 AND status = 'queued' AND runtime_id <> $3"
    )
    .bind(issue)
    .bind(worker.agent.id)
    .bind(worker.seat.id)
    .fetch_optional(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_one_line_of_at_most_two_hundred_characters() {
        assert_eq!(summary("  a\n\tb "), "a  b");
        assert_eq!(summary(&"ä".repeat(200)), "ä".repeat(200));
        assert_eq!(summary(&"ä".repeat(201)), format!("{}…", "ä".repeat(200)));
    }
}
