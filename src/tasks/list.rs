//! Tasks as people and daemons look through them. No list grows with what was once done but those
//! that say so; they have a limit.

use std::cmp::Reverse;

use super::{
    Row,
    status::{active, pending},
};
use crate::{
    db::{Session, on},
    error::Result,
    identity::Insider,
    ids::{AgentId, ChatSessionId, CommentId, IssueId, RuntimeId},
    time::Timestamp,
};

/// Tasks of one answer at most: the newest.
const MOST: i64 = 1000;
/// Characters of what agents put out, of one answer at most.
const LETTERS: i64 = 16 << 20;

/// Characters of an error that is told in short.
const IN_SHORT: i32 = 1000;

/// The newest tasks, no more of them than such an answer holds.
macro_rules! within_letters {
    ($of:literal) => {
        concat!(
            "SELECT * FROM (
                 SELECT t.*, SUM(LENGTH(COALESCE(CAST(result AS text), '')) + LENGTH(COALESCE(error, '')))
                     OVER (ORDER BY created_at DESC, id) AS letters
                 FROM (SELECT * FROM task WHERE ",
            $of,
            " = $1 ORDER BY created_at DESC, id LIMIT $2) t
             ) n WHERE letters <= $3 ORDER BY created_at DESC, id"
        )
    };
}

/// The same of a whole workspace.
const MOST_ACTIVE: i64 = 10_000;

/// What an agent has done and has to do, newest first.
pub async fn of_agent(db: &mut Session, agent: AgentId) -> Result<Vec<Row>> {
    on!(db, |c| sqlx::query_as(within_letters!("agent_id")).bind(agent).bind(MOST).bind(LETTERS).fetch_all(c))
}

/// What was done for an issue and is to be done, newest first.
pub async fn of_issue(db: &mut Session, issue: IssueId) -> Result<Vec<Row>> {
    on!(db, |c| sqlx::query_as(within_letters!("issue_id")).bind(issue).bind(MOST).bind(LETTERS).fetch_all(c))
}

/// The last thing that an agent was asked to do for an issue.
pub async fn newest_of(db: &mut Session, issue: IssueId, agent: AgentId) -> Result<Option<Row>> {
    on!(db, |c| sqlx::query_as(
        "SELECT * FROM task WHERE issue_id = $1 AND agent_id = $2 ORDER BY created_at DESC, id LIMIT 1"
    )
    .bind(issue)
    .bind(agent)
    .fetch_optional(c))
}

/// When an agent last began to work on an issue, in a task that was not called off.
pub async fn last_begun(db: &mut Session, issue: IssueId, agent: AgentId) -> Result<Option<Timestamp>> {
    on!(db, |c| sqlx::query_scalar(
        "SELECT started_at FROM task WHERE issue_id = $1 AND agent_id = $2 AND started_at IS NOT NULL
             AND status <> 'cancelled'
         ORDER BY started_at DESC LIMIT 1"
    )
    .bind(issue)
    .bind(agent)
    .fetch_optional(c))
}

/// Whether an agent was ever given a task by a comment.
pub async fn has_woken(db: &mut Session, comment: CommentId, agent: AgentId) -> Result<bool> {
    on!(db, |c| sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM task WHERE trigger_comment_id = $1 AND agent_id = $2)"
    )
    .bind(comment)
    .bind(agent)
    .fetch_one(c))
}

/// What is to be done for an issue, newest first.
pub async fn active_of_issue(db: &mut Session, issue: IssueId) -> Result<Vec<Row>> {
    on!(db, |c| sqlx::query_as(concat!(
        "SELECT * FROM task WHERE issue_id = $1 AND status IN ",
        active!(),
        " ORDER BY created_at DESC, id LIMIT $2"
    ))
    .bind(issue)
    .bind(MOST)
    .fetch_all(c))
}

/// The newest thing to do in a chat.
pub async fn newest_of_chat(db: &mut Session, chat: ChatSessionId) -> Result<Option<Row>> {
    on!(db, |c| sqlx::query_as(concat!(
        "SELECT * FROM task WHERE chat_session_id = $1 AND status IN ",
        active!(),
        " ORDER BY created_at DESC, id LIMIT 1"
    ))
    .bind(chat)
    .fetch_optional(c))
}

/// What waits for an agent in a chat and has not been given to its daemon.
pub async fn queued_of_chat(db: &mut Session, chat: ChatSessionId) -> Result<Option<Row>> {
    on!(db, |c| sqlx::query_as(
        "SELECT * FROM task WHERE chat_session_id = $1 AND status = 'queued' ORDER BY created_at DESC, id LIMIT 1"
    )
    .bind(chat)
    .fetch_optional(c))
}

/// What the agents of a workspace that somebody may see have to do, and how the last thing went that
/// each came to an end with; newest first.
pub async fn snapshot(db: &mut Session, who: &Insider) -> Result<Vec<Row>> {
    let all = who.task.is_some() || who.rules();
    let mut rows: Vec<Row> = on!(db, |c| sqlx::query_as(concat!(
        "SELECT t.* FROM task t JOIN agent a ON a.id = t.agent_id
         WHERE t.workspace_id = $1 AND (a.visibility <> 'private' OR a.owner_id = $2 OR $3) AND t.status IN ",
        active!(),
        " ORDER BY t.created_at DESC, t.id LIMIT $4"
    ))
    .bind(who.workspace)
    .bind(who.user)
    .bind(all)
    .bind(MOST_ACTIVE)
    .fetch_all(c))?;
    rows.extend(last_ends(db, who, all).await?);
    rows.sort_by_key(|row| (Reverse(row.created_at), row.id));
    Ok(rows)
}

/// What each agent came to an end with last. Each is there; what the older ones put out is left out where
/// it would be too much.
async fn last_ends(db: &mut Session, who: &Insider, all: bool) -> Result<Vec<Row>> {
    on!(db, |c| {
        sqlx::query_as(
            "SELECT t.id, t.workspace_id, t.agent_id, t.runtime_id, t.owner_id, t.daemon_id, t.status, t.priority,
                 t.issue_id, t.chat_session_id, t.autopilot_run_id, t.trigger_comment_id, t.trigger_summary, t.context,
                 t.force_fresh_session, t.is_leader_task, t.initiator_user_id, t.attempt, t.max_attempts,
                 t.parent_task_id, t.session_id, t.work_dir, t.failure_reason, t.dispatched_at, t.started_at,
                 t.waiting_at, t.orphan_check_at, t.completed_at, t.created_at,
                 CASE WHEN n.letters <= $4 THEN t.result END AS result,
                 CASE WHEN n.letters <= $4 THEN t.error ELSE SUBSTR(t.error, 1, $5) END AS error
             FROM (SELECT l.id, SUM(LENGTH(COALESCE(CAST(l.result AS text), '')) + LENGTH(COALESCE(l.error, '')))
                       OVER (ORDER BY l.completed_at DESC, l.id) AS letters
                   FROM agent a JOIN task l ON l.id =
                       (SELECT e.id FROM task e WHERE e.agent_id = a.id AND e.status IN ('completed', 'failed')
                        ORDER BY e.completed_at DESC, e.id DESC LIMIT 1)
                   WHERE a.workspace_id = $1 AND (a.visibility <> 'private' OR a.owner_id = $2 OR $3)) n
             JOIN task t ON t.id = n.id",
        )
        .bind(who.workspace)
        .bind(who.user)
        .bind(all)
        .bind(LETTERS)
        .bind(IN_SHORT)
        .fetch_all(c)
    })
}

/// What has not begun on a runtime, in the order in which it is claimed.
pub async fn pending_of_runtime(db: &mut Session, runtime: RuntimeId) -> Result<Vec<Row>> {
    on!(db, |c| sqlx::query_as(concat!(
        "SELECT * FROM task WHERE runtime_id = $1 AND status IN ",
        pending!(),
        " AND status IN ",
        // For the index.
        active!(),
        " ORDER BY priority DESC, created_at, id LIMIT $2"
    ))
    .bind(runtime)
    .bind(MOST)
    .fetch_all(c))
}
