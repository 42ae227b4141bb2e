//! Comments: what people and agents say about an issue, in threads.

pub mod list;
pub mod mentions;
mod timeline;

use uuid::Uuid;

use super::{attachments, references, words};
use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    events::kinds,
    identity::Insider,
    ids::{AgentId, AttachmentId, CommentId, IssueId, TaskId, WorkspaceId},
    protocol::{
        attachment::Attachment,
        comment::{Comment, CreateComment, PutComment},
        event::Actor,
        issue::Issue,
    },
    time::Timestamp,
};

pub use timeline::timeline;

const TYPES: &[&str] = &["comment", "status_change", "progress_update", "system"];

#[derive(Debug, Clone, sqlx::FromRow)]
struct Row {
    id: CommentId,
    issue_id: IssueId,
    author_type: String,
    author_id: Uuid,
    content: String,
    r#type: String,
    parent_id: Option<CommentId>,
    root_id: CommentId,
    reply_count: i32,
    last_activity_at: Timestamp,
    resolved_at: Option<Timestamp>,
    resolved_by_type: Option<String>,
    resolved_by_id: Option<Uuid>,
    source_task_id: Option<TaskId>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Row> for Comment {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            issue_id: row.issue_id,
            author_type: row.author_type,
            author_id: row.author_id,
            content: row.content,
            r#type: row.r#type,
            parent_id: row.parent_id,
            created_at: row.created_at,
            updated_at: row.updated_at,
            resolved_at: row.resolved_at,
            resolved_by_type: row.resolved_by_type,
            resolved_by_id: row.resolved_by_id,
            source_task_id: row.source_task_id,
            reactions: [],
            attachments: Vec::new(),
            reply_count: None,
            last_activity_at: None,
            content_truncated: None,
        }
    }
}

/// As much of a comment as decides whom it wakes, or whom an answer to it wakes.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "the table's columns")]
pub struct Brief {
    pub id: CommentId,
    pub issue_id: IssueId,
    pub parent_id: Option<CommentId>,
    pub author_type: String,
    pub author_id: Uuid,
    pub content: String,
    pub source_task_id: Option<TaskId>,
}

/// A comment in brief.
pub async fn brief(db: &mut Session, workspace: WorkspaceId, comment: CommentId) -> Result<Option<Brief>> {
    on!(db, |c| sqlx::query_as(
        "SELECT id, issue_id, parent_id, author_type, author_id, content, source_task_id
         FROM comment WHERE id = $1 AND workspace_id = $2"
    )
    .bind(comment)
    .bind(workspace)
    .fetch_optional(c))
}

/// What people have said about an issue after some time, the newest first and no more of it than that.
pub async fn said_by_people_after(db: &mut Session, issue: IssueId, after: Timestamp, most: i64) -> Result<Vec<Brief>> {
    on!(db, |c| sqlx::query_as(
        "SELECT id, issue_id, parent_id, author_type, author_id, content, source_task_id
         FROM comment WHERE issue_id = $1 AND created_at > $2 AND author_type = 'member'
         ORDER BY created_at DESC, id DESC LIMIT $3"
    )
    .bind(issue)
    .bind(after)
    .bind(most)
    .fetch_all(c))
}

/// When something was said, if it is still there.
pub async fn said_at(db: &mut Session, comment: CommentId) -> Result<Option<Timestamp>> {
    on!(db, |c| sqlx::query_scalar("SELECT created_at FROM comment WHERE id = $1").bind(comment).fetch_optional(c))
}

/// Whether an agent has answered a comment, that very one.
pub async fn has_answered(db: &mut Session, comment: CommentId, agent: AgentId) -> Result<bool> {
    let found: Option<i32> = on!(db, |c| sqlx::query_scalar(
        "SELECT 1 FROM comment WHERE parent_id = $1 AND author_type = 'agent' AND author_id = $2 LIMIT 1"
    )
    .bind(comment)
    .bind(agent)
    .fetch_optional(c))?;
    Ok(found.is_some())
}

/// Stores what somebody says about an issue, and tells of it. An answer to a thread that was settled
/// opens it again.
pub async fn create(tx: &mut Tx, who: &Insider, issue: &Issue, wish: &CreateComment) -> Result<Comment> {
    if wish.content.trim().is_empty() {
        return Err(Error::invalid("field_required", "content is required"));
    }
    words::text("content", &wish.content)?;
    let kind = words::one_of_or("type", TYPES, &wish.r#type, "comment")?;
    let parent = match wish.parent_id.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => {
            let id: CommentId = references::id("parent_id", text)?;
            let invalid = || references::invalid("parent_id");
            let parent = find(tx, who.workspace, id).await?.filter(|parent| parent.issue_id == issue.id);
            // With its thread's first one locked before it, as by every change of the two; and both
            // may be gone by then.
            let held = lock(tx, who.workspace, parent.ok_or_else(invalid)?.id).await;
            Some(held.map_err(|error| if matches!(error, Error::Refused(_)) { invalid() } else { error })?)
        }
        None => None,
    };
    let said = Said {
        actor: who.actor(),
        content: &wish.content,
        kind,
        parent: parent.as_ref().map(|parent| (parent.id, parent.root_id)),
        source_task: who.task.as_ref().map(|task| task.task),
    };
    let mut comment = insert(tx, issue, &said).await?;
    attachments::bind_to_comment(tx, who, &wish.attachment_ids, issue.id, comment.id).await?;
    comment.attachments = attached(tx, comment.id).await?;
    tx.emit(kinds::comment_created(said.actor, issue, &comment));
    if let Some(parent) = parent {
        let opened = open_again(tx, parent.root_id).await?;
        if let Some(root) = opened {
            tx.emit(kinds::comment_unresolved(who.workspace, who.actor(), &root));
        }
    }
    Ok(comment)
}

/// Stores what the hub itself has to say about an issue, and tells of it.
pub async fn create_as_system(tx: &mut Tx, issue: &Issue, content: &str) -> Result<Comment> {
    let said = Said { actor: Actor::System, content, kind: "system", parent: None, source_task: None };
    let comment = insert(tx, issue, &said).await?;
    tx.emit(kinds::comment_created(said.actor, issue, &comment));
    Ok(comment)
}

/// What the end of a task says about its issue.
#[derive(Debug, Clone, Copy)]
pub struct OfTask {
    /// In whose name.
    pub agent: AgentId,
    /// Which task.
    pub task: TaskId,
    /// The comment that asked for it, if it is still there.
    pub answers: Option<CommentId>,
    /// The comment's type.
    pub kind: &'static str,
}

/// Stores what the end of a task says about an issue that is locked, and tells of it. Nobody is woken by
/// it. An answer to a thread that was settled opens it again.
pub async fn create_for_task(tx: &mut Tx, issue: &Issue, end: &OfTask, content: &str) -> Result<()> {
    let parent = match end.answers {
        Some(id) => match lock(tx, issue.workspace_id, id).await {
            Ok(parent) => Some(parent).filter(|parent| parent.issue_id == issue.id),
            Err(Error::Refused(_)) => None,
            Err(error) => return Err(error),
        },
        None => None,
    };
    let said = Said {
        actor: Actor::Agent(end.agent),
        content,
        kind: end.kind,
        parent: parent.as_ref().map(|parent| (parent.id, parent.root_id)),
        source_task: Some(end.task),
    };
    let comment = insert(tx, issue, &said).await?;
    tx.emit(kinds::comment_created(said.actor, issue, &comment));
    if let Some(parent) = parent
        && let Some(root) = open_again(tx, parent.root_id).await?
    {
        tx.emit(kinds::comment_unresolved(issue.workspace_id, said.actor, &root));
    }
    Ok(())
}

/// Whether an agent has said anything about an issue since some time.
pub async fn has_spoken(db: &mut Session, issue: IssueId, agent: AgentId, since: Timestamp) -> Result<bool> {
    on!(db, |c| sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM comment WHERE issue_id = $1 AND created_at >= $3
             AND author_type = 'agent' AND author_id = $2 AND type <> 'system')"
    )
    .bind(issue)
    .bind(agent)
    .bind(since)
    .fetch_one(c))
}

/// Something to be said.
struct Said<'s> {
    actor: Actor,
    content: &'s str,
    kind: &'s str,
    /// What it answers, and the first comment of that thread.
    parent: Option<(CommentId, CommentId)>,
    source_task: Option<TaskId>,
}

/// Stores it without a word.
async fn insert(tx: &mut Tx, issue: &Issue, said: &Said<'_>) -> Result<Comment> {
    let (id, now) = (CommentId::fresh(), tx.now());
    let row: Row = on!(tx, |c| {
        sqlx::query_as(
        "INSERT INTO comment (id, workspace_id, issue_id, author_type, author_id, content, type, parent_id, root_id,
                              last_activity_at, source_task_id, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $10, $10) RETURNING *"
    )
    .bind(id)
    .bind(issue.workspace_id)
    .bind(issue.id)
    .bind(said.actor.kind())
    .bind(said.actor.id().unwrap_or_default())
    .bind(said.content)
    .bind(said.kind)
    .bind(said.parent.map(|(parent, _)| parent))
    .bind(said.parent.map_or(id, |(_, root)| root))
    .bind(now)
    .bind(said.source_task)
    .fetch_one(c)
    })?;
    if let Some((_, root)) = said.parent {
        exec!(tx, |c| sqlx::query(
            "UPDATE comment SET reply_count = reply_count + 1, last_activity_at = $2 WHERE id = $1"
        )
        .bind(root)
        .bind(now))?;
    }
    Ok(row.into())
}

/// Says something else instead; for its author, and for owners and admins.
pub async fn put(tx: &mut Tx, who: &Insider, comment: CommentId, change: &PutComment) -> Result<Comment> {
    let row = lock(tx, who.workspace, comment).await?;
    require_author(who, &row)?;
    let content = &change.content;
    if content.trim().is_empty() {
        return Err(Error::invalid("field_required", "content is required"));
    }
    words::text("content", content)?;
    let mut changed = row.content != *content;
    if let Some(wished) = &change.attachment_ids {
        let ids: Vec<AttachmentId> = wished.iter().filter_map(|id| id.parse().ok()).collect();
        changed |= attachments::leave_comment(tx, comment, &ids).await?;
        changed |= !attachments::bind_to_comment(tx, who, wished, row.issue_id, comment).await?.is_empty();
    }
    if !changed {
        return whole(tx, row).await;
    }
    let now = tx.now();
    let row: Row =
        on!(tx, |c| sqlx::query_as("UPDATE comment SET content = $2, updated_at = $3 WHERE id = $1 RETURNING *")
            .bind(comment)
            .bind(content)
            .bind(now)
            .fetch_one(c))?;
    let comment = whole(tx, row).await?;
    tx.emit(kinds::comment_updated(who.workspace, who.actor(), &comment));
    Ok(comment)
}

/// Refuses whoever may not change a comment, and keeps it as it is.
pub async fn require_change(tx: &mut Tx, who: &Insider, comment: CommentId) -> Result<()> {
    require_author(who, &lock(tx, who.workspace, comment).await?)
}

/// Tells that other files are attached to a comment.
pub async fn files_changed(tx: &mut Tx, who: &Insider, comment: CommentId) -> Result<()> {
    let now = tx.now();
    let row: Row = on!(tx, |c| sqlx::query_as("UPDATE comment SET updated_at = $2 WHERE id = $1 RETURNING *")
        .bind(comment)
        .bind(now)
        .fetch_one(c))?;
    let comment = whole(tx, row).await?;
    tx.emit(kinds::comment_updated(who.workspace, who.actor(), &comment));
    Ok(())
}

/// Takes a comment back with all its answers; for its author, and for owners and admins.
pub async fn delete(tx: &mut Tx, who: &Insider, comment: CommentId) -> Result<()> {
    let row = lock(tx, who.workspace, comment).await?;
    require_author(who, &row)?;
    let gone = with_answers(tx, comment).await?;
    exec!(tx, |c| sqlx::query(
        "WITH RECURSIVE gone AS (
             SELECT id FROM comment WHERE id = $1
             UNION ALL
             SELECT answer.id FROM comment answer JOIN gone ON answer.parent_id = gone.id
         )
         DELETE FROM comment WHERE id IN (SELECT id FROM gone)"
    )
    .bind(comment))?;
    if row.root_id != comment {
        exec!(tx, |c| sqlx::query(
            "UPDATE comment SET reply_count = reply_count - $2, last_activity_at = COALESCE(
                 (SELECT MAX(answer.created_at) FROM comment answer WHERE answer.root_id = $1), created_at)
             WHERE id = $1"
        )
        .bind(row.root_id)
        .bind(gone.len() as i32))?;
    }
    for id in gone {
        tx.emit(kinds::comment_deleted(who.workspace, who.actor(), row.issue_id, id));
    }
    Ok(())
}

/// A comment and all answers below it, oldest first.
pub async fn with_answers(db: &mut Session, comment: CommentId) -> Result<Vec<CommentId>> {
    on!(db, |c| sqlx::query_scalar(
        "WITH RECURSIVE gone AS (
             SELECT id, created_at FROM comment WHERE id = $1
             UNION ALL
             SELECT answer.id, answer.created_at FROM comment answer JOIN gone ON answer.parent_id = gone.id
         )
         SELECT id FROM gone ORDER BY created_at, id"
    )
    .bind(comment)
    .fetch_all(c))
}

/// Settles a thread, or opens it again.
pub async fn resolve(tx: &mut Tx, who: &Insider, comment: CommentId, settled: bool) -> Result<Comment> {
    let row = lock(tx, who.workspace, comment).await?;
    if row.parent_id.is_some() {
        return Err(Error::invalid("not_a_thread", "only the first comment of a thread can be resolved"));
    }
    if row.resolved_at.is_some() == settled {
        return whole(tx, row).await;
    }
    let (actor, now) = (who.actor(), tx.now());
    let row: Row = on!(tx, |c| sqlx::query_as(
        "UPDATE comment SET resolved_at = $2, resolved_by_type = $3, resolved_by_id = $4 WHERE id = $1 RETURNING *"
    )
    .bind(comment)
    .bind(settled.then_some(now))
    .bind(settled.then_some(actor.kind()))
    .bind(actor.id().filter(|_| settled))
    .fetch_one(c))?;
    let comment = whole(tx, row).await?;
    tx.emit(if settled {
        kinds::comment_resolved(who.workspace, actor, &comment)
    } else {
        kinds::comment_unresolved(who.workspace, actor, &comment)
    });
    Ok(comment)
}

async fn open_again(tx: &mut Tx, root: CommentId) -> Result<Option<Comment>> {
    let row: Option<Row> = on!(tx, |c| sqlx::query_as(
        "UPDATE comment SET resolved_at = NULL, resolved_by_type = NULL, resolved_by_id = NULL
         WHERE id = $1 AND resolved_at IS NOT NULL RETURNING *"
    )
    .bind(root)
    .fetch_optional(c))?;
    match row {
        Some(row) => whole(tx, row).await.map(Some),
        None => Ok(None),
    }
}

/// A comment with what is attached to it.
async fn whole(db: &mut Session, row: Row) -> Result<Comment> {
    let attachments = attached(db, row.id).await?;
    Ok(Comment { attachments, ..row.into() })
}

async fn attached(db: &mut Session, comment: CommentId) -> Result<Vec<Attachment>> {
    Ok(attachments::of_comments(db, &[comment]).await?.remove(&comment).unwrap_or_default())
}

async fn find(db: &mut Session, workspace: WorkspaceId, comment: CommentId) -> Result<Option<Row>> {
    on!(db, |c| sqlx::query_as("SELECT * FROM comment WHERE id = $1 AND workspace_id = $2")
        .bind(comment)
        .bind(workspace)
        .fetch_optional(c))
}

/// The comment under a lock, after its thread's first one: answers lock that one too.
async fn lock(tx: &mut Tx, workspace: WorkspaceId, comment: CommentId) -> Result<Row> {
    let found = find(tx, workspace, comment).await?.ok_or_else(not_found)?;
    let mut row = None;
    let mut ids = vec![found.root_id];
    if found.root_id != comment {
        ids.push(comment);
    }
    for id in ids {
        row = on!(
            tx,
            pg "SELECT * FROM comment WHERE id = $1 FOR NO KEY UPDATE",
            lite "SELECT * FROM comment WHERE id = $1",
            |c, sql| sqlx::query_as(sql).bind(id).fetch_optional(c)
        )?;
    }
    row.ok_or_else(not_found)
}

fn require_author(who: &Insider, comment: &Row) -> Result<()> {
    let actor = who.actor();
    let author = comment.author_type == actor.kind() && Some(comment.author_id) == actor.id();
    if author || who.rules() {
        return Ok(());
    }
    Err(Error::forbidden("not_comment_author", "only the comment author or a workspace admin can do this"))
}

/// The refusal for comments that are not there or not the workspace's.
pub fn not_found() -> Error {
    Error::not_found("comment_not_found", "comment not found")
}
