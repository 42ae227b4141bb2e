//! The comment that asks for work, and what else was said since the agent was there last.

use uuid::Uuid;

use super::{ClaimedTask, Row};
use crate::{
    db::{Tx, on},
    error::Result,
    ids::{CommentId, IssueId},
    protocol::task::Initiator,
    time::Timestamp,
};

#[derive(sqlx::FromRow)]
struct Said {
    content: String,
    root_id: CommentId,
    author_type: String,
    author_id: Uuid,
    author_name: Option<String>,
    author_email: Option<String>,
}

impl Said {
    /// Its author, if that is somebody: the hub itself is not.
    fn initiator(&self) -> Option<Initiator> {
        let kind = match self.author_type.as_str() {
            "member" => "member",
            "agent" => "agent",
            _ => return None,
        };
        let name = self.author_name.clone().unwrap_or_default();
        Some(Initiator { kind, id: self.author_id, name, email: self.author_email.clone() })
    }
}

/// Nothing is told of a comment that is gone, or of another issue's.
pub(super) async fn tell(
    tx: &mut Tx,
    row: &Row,
    issue: IssueId,
    comment: CommentId,
    task: &mut ClaimedTask,
) -> Result<()> {
    let said: Option<Said> = on!(tx, |c| sqlx::query_as(
        "SELECT c.content, c.root_id, c.author_type, c.author_id, COALESCE(a.name, u.name) AS author_name,
             u.email AS author_email
         FROM comment c
         LEFT JOIN agent a ON c.author_type = 'agent' AND a.id = c.author_id AND a.workspace_id = c.workspace_id
         LEFT JOIN users u ON c.author_type = 'member' AND u.id = c.author_id
         WHERE c.id = $1 AND c.issue_id = $2 AND c.workspace_id = $3"
    )
    .bind(comment)
    .bind(issue)
    .bind(row.workspace_id)
    .fetch_optional(c))?;
    let Some(said) = said else { return Ok(()) };
    let about = &mut task.about;
    if let Some(initiator) = said.initiator() {
        about.initiator = Some(initiator);
    }
    about.trigger_thread_id = Some(said.root_id);
    about.trigger_comment_content = Some(said.content);
    about.trigger_author_type = Some(said.author_type);
    about.trigger_author_name = said.author_name;
    if let Some((since, count)) = since_last_run(tx, row, issue, comment).await?.filter(|(_, count)| *count > 0) {
        about.new_comment_count = Some(count);
        about.new_comments_since = Some(since);
    }
    Ok(())
}

/// When the agent last began to work on the issue, and what others have said about it since, but for
/// one comment.
async fn since_last_run(tx: &mut Tx, row: &Row, issue: IssueId, but: CommentId) -> Result<Option<(Timestamp, i64)>> {
    on!(tx, |c| sqlx::query_as(
        "SELECT t.started_at,
             (SELECT COUNT(*) FROM comment c
              WHERE c.issue_id = $2 AND c.created_at > t.started_at AND c.id <> $3
                AND NOT (c.author_type = 'agent' AND c.author_id = $1))
         FROM task t WHERE t.agent_id = $1 AND t.issue_id = $2 AND t.started_at IS NOT NULL
         ORDER BY t.started_at DESC LIMIT 1"
    )
    .bind(row.agent_id)
    .bind(issue)
    .bind(but)
    .fetch_optional(c))
}
