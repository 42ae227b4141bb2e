//! Attachments: files in the database, in chunks of a mebibyte.
//!
//! A file is never whole in memory. It comes in as many transactions as it has chunks, because the
//! body of a transaction may run again and a request's body cannot; its row is not `complete` until
//! the last of them, and nobody but the upload itself sees such a row. An upload that breaks off
//! takes its row along; if the whole process ends, [`sweep`] does so an hour later. An upload that
//! takes longer than that is refused when it goes on.
//!
//! A file is its uploader's until it is bound to an issue, a comment or a chat, or shown as
//! somebody's picture. Then everybody of the workspace may read it; a chat's only the chat's
//! creator, and the agent in a task of that chat. With a wish for an issue go files that the agent
//! may read and give to it. One that has belonged to nothing for a day is swept, too.

mod avatar;
mod binding;
mod description;
mod entrusted;
mod upload;

use std::{collections::HashMap, hash::Hash, time::Duration};

use uuid::Uuid;

pub use avatar::{in_address, show_as_avatar};
pub use binding::{bind_to_chat_message, bind_to_comment, bind_to_issue};
pub use entrusted::require_own;
pub use upload::{Belongs, Received, Upload, complete};

use super::{chats, references};
use crate::{
    db::{
        Db, Session, Tx, exec, on,
        sql::{Sql, Value},
    },
    error::{Error, Result},
    identity::Insider,
    ids::{AttachmentId, ChatMessageId, ChatSessionId, CommentId, IssueId, WorkspaceId},
    protocol::attachment::Attachment,
    time::Timestamp,
};

/// Bytes of a chunk; the last one of a file has fewer.
const CHUNK: usize = 1 << 20;
/// An upload that is not complete after this long never will be.
const BROKEN_OFF: Duration = Duration::from_secs(3600);
/// A file that has belonged to nothing for this long was forgotten.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
/// Files swept per transaction: each may have many chunks.
const TOGETHER: i64 = 10;

/// An attachment that is there.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Row {
    /// Which.
    pub id: AttachmentId,
    /// What it is called when it is saved.
    pub filename: String,
    /// What the uploader said it is; not to be believed.
    pub content_type: String,
    /// Its length.
    pub size_bytes: i64,
    workspace_id: WorkspaceId,
    issue_id: Option<IssueId>,
    comment_id: Option<CommentId>,
    chat_session_id: Option<ChatSessionId>,
    chat_message_id: Option<ChatMessageId>,
    uploader_type: String,
    uploader_id: Uuid,
    shown_as_avatar: bool,
    created_at: Timestamp,
}

impl Row {
    fn is_by(&self, who: &Insider) -> bool {
        let actor = who.actor();
        self.uploader_type == actor.kind() && Some(self.uploader_id) == actor.id()
    }

    /// Whether it belongs to nothing yet. A picture of somebody stays one.
    fn is_free(&self) -> bool {
        !self.shown_as_avatar
            && self.issue_id.is_none()
            && self.comment_id.is_none()
            && self.chat_session_id.is_none()
            && self.chat_message_id.is_none()
    }
}

impl From<Row> for Attachment {
    fn from(row: Row) -> Self {
        // Without an origin, so that it is right under whichever address the hub is reached.
        let url = format!("/api/attachments/{}/content", row.id);
        Self {
            id: row.id,
            workspace_id: row.workspace_id,
            issue_id: row.issue_id,
            comment_id: row.comment_id,
            chat_session_id: row.chat_session_id,
            chat_message_id: row.chat_message_id,
            uploader_type: row.uploader_type,
            uploader_id: row.uploader_id,
            filename: row.filename,
            download_url: url.clone(),
            markdown_url: url.clone(),
            url,
            content_type: row.content_type,
            size_bytes: row.size_bytes,
            created_at: row.created_at,
        }
    }
}

/// The refusal for attachments that are not there or not the caller's to know of.
pub fn not_found() -> Error {
    Error::not_found("attachment_not_found", "attachment not found")
}

/// Which workspace has it, for requests that name none.
pub async fn workspace_of(db: &mut Session, attachment: AttachmentId) -> Result<Option<WorkspaceId>> {
    on!(db, |c| sqlx::query_scalar("SELECT workspace_id FROM attachment WHERE id = $1 AND complete")
        .bind(attachment)
        .fetch_optional(c))
}

/// One that somebody may read.
pub async fn open(db: &mut Session, who: &Insider, attachment: AttachmentId) -> Result<Row> {
    let row: Option<Row> =
        on!(db, |c| sqlx::query_as("SELECT * FROM attachment WHERE id = $1 AND workspace_id = $2 AND complete")
            .bind(attachment)
            .bind(who.workspace)
            .fetch_optional(c))?;
    let row = row.ok_or_else(not_found)?;
    if may_read(db, who, &row).await? { Ok(row) } else { Err(not_found()) }
}

async fn may_read(db: &mut Session, who: &Insider, row: &Row) -> Result<bool> {
    match row.chat_session_id {
        // Not as the person behind its token: an agent reads what its own task's chat has.
        Some(session) => match &who.task {
            Some(binding) => chats::is_answered_in(db, session, binding.task).await,
            None => chats::is_of(db, session, who.user).await,
        },
        None if row.issue_id.is_some() || row.comment_id.is_some() || row.shown_as_avatar || row.is_by(who) => Ok(true),
        None => Ok(entrusted::to(db, who).await?.contains(&row.id)),
    }
}

/// The bytes at a place, counted in chunks; `None` beyond the end.
pub async fn chunk(db: &mut Session, attachment: AttachmentId, place: i32) -> Result<Option<Vec<u8>>> {
    on!(db, |c| sqlx::query_scalar("SELECT bytes FROM attachment_chunk WHERE attachment_id = $1 AND place = $2")
        .bind(attachment)
        .bind(place)
        .fetch_optional(c))
}

/// Removes one, for its uploader or the workspace's owners and admins.
pub async fn delete(tx: &mut Tx, who: &Insider, attachment: AttachmentId) -> Result<Attachment> {
    let row = open(tx, who, attachment).await?;
    if !row.is_by(who) && (who.task.is_some() || !who.rules()) {
        return Err(Error::forbidden("not_uploader", "only the uploader or a workspace admin can do this"));
    }
    let gone = exec!(tx, |c| sqlx::query("DELETE FROM attachment WHERE id = $1").bind(attachment))?;
    if gone == 0 { Err(not_found()) } else { Ok(row.into()) }
}

/// What is attached to an issue itself, not to its comments; oldest first.
pub async fn of_issue(db: &mut Session, issue: IssueId) -> Result<Vec<Attachment>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(
        "SELECT * FROM attachment WHERE issue_id = $1 AND comment_id IS NULL ORDER BY created_at, id"
    )
    .bind(issue)
    .fetch_all(c))?;
    Ok(rows.into_iter().map(Attachment::from).collect())
}

/// What is attached to comments, oldest first; comments without attachments are not in it.
pub async fn of_comments(db: &mut Session, comments: &[CommentId]) -> Result<HashMap<CommentId, Vec<Attachment>>> {
    grouped(db, "SELECT * FROM attachment WHERE comment_id ", comments, |row| row.comment_id).await
}

/// What is attached to messages of chats, oldest first; messages without attachments are not in it.
pub async fn of_chat_messages(
    db: &mut Session,
    messages: &[ChatMessageId],
) -> Result<HashMap<ChatMessageId, Vec<Attachment>>> {
    grouped(db, "SELECT * FROM attachment WHERE chat_message_id ", messages, |row| row.chat_message_id).await
}

/// The rows of a selection that ends in a column, by this column's values.
async fn grouped<K: Copy + Eq + Hash + Into<Uuid>>(
    db: &mut Session,
    selection: &'static str,
    keys: &[K],
    key: impl Fn(&Row) -> Option<K>,
) -> Result<HashMap<K, Vec<Attachment>>> {
    let mut sql = Sql::new(selection);
    sql.bind(Value::AnyOf(keys.iter().map(|key| (*key).into()).collect())).push(" ORDER BY created_at, id");
    let rows: Vec<Row> = sql.fetch_all(db).await?;
    let mut groups: HashMap<K, Vec<Attachment>> = HashMap::new();
    for row in rows {
        if let Some(key) = key(&row) {
            groups.entry(key).or_default().push(row.into());
        }
    }
    Ok(groups)
}

/// Takes the files of a comment away from it, but for some; they are their uploaders' again.
pub async fn leave_comment(tx: &mut Tx, comment: CommentId, but: &[AttachmentId]) -> Result<bool> {
    let sweep_after = tx.now().plus(FORGOTTEN);
    let mut left = false;
    for attachment in of_comments(tx, &[comment]).await?.remove(&comment).unwrap_or_default() {
        if !but.contains(&attachment.id) {
            left = true;
            exec!(tx, |c| sqlx::query(
                "UPDATE attachment SET issue_id = NULL, comment_id = NULL, sweep_after = $2 WHERE id = $1"
            )
            .bind(attachment.id)
            .bind(sweep_after))?;
        }
    }
    Ok(left)
}

/// Takes the files from a chat's message that is taken back: they stay in the chat, to go along with
/// another one. Which they are.
pub async fn leave_chat_message(tx: &mut Tx, message: ChatMessageId) -> Result<Vec<Attachment>> {
    let attached = of_chat_messages(tx, &[message]).await?.remove(&message).unwrap_or_default();
    let sweep_after = tx.now().plus(FORGOTTEN);
    for attachment in &attached {
        exec!(tx, |c| sqlx::query("UPDATE attachment SET chat_message_id = NULL, sweep_after = $2 WHERE id = $1")
            .bind(attachment.id)
            .bind(sweep_after))?;
    }
    Ok(attached.into_iter().map(|attachment| Attachment { chat_message_id: None, ..attachment }).collect())
}

/// Removes uploads that broke off together with their process, and files that have belonged to
/// nothing for long; returns how many.
pub async fn sweep(db: &Db) -> Result<u64> {
    let mut removed = 0;
    loop {
        let gone = db
            .write_global(async move |tx| {
                let now = tx.now();
                exec!(
                    tx,
                    pg "DELETE FROM attachment WHERE id IN
                            (SELECT id FROM attachment WHERE sweep_after < $1
                             ORDER BY sweep_after LIMIT $2 FOR UPDATE SKIP LOCKED)",
                    lite "DELETE FROM attachment WHERE id IN
                            (SELECT id FROM attachment WHERE sweep_after < $1 ORDER BY sweep_after LIMIT $2)",
                    |c, sql| sqlx::query(sql).bind(now).bind(TOGETHER)
                )
            })
            .await?;
        removed += gone;
        if gone < TOGETHER as u64 {
            return Ok(removed);
        }
    }
}
