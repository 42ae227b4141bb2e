//! What is said in chats.

use std::time::Duration;

use super::{
    super::{attachments, words},
    Row as Chat,
};
use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    ids::{ChatMessageId, ChatSessionId, TaskId},
    protocol::chat::{CancelledMessage, ChatMessage},
    time::Timestamp,
};

#[derive(sqlx::FromRow)]
struct Row {
    id: ChatMessageId,
    chat_session_id: ChatSessionId,
    role: String,
    content: String,
    task_id: Option<TaskId>,
    failure_reason: Option<String>,
    elapsed_ms: Option<i64>,
    created_at: Timestamp,
}

impl From<Row> for ChatMessage {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            chat_session_id: row.chat_session_id,
            role: row.role,
            content: row.content,
            task_id: row.task_id,
            created_at: row.created_at,
            failure_reason: row.failure_reason,
            elapsed_ms: row.elapsed_ms,
            attachments: Vec::new(),
        }
    }
}

/// Messages of one answer at most, and characters of them: the newest ones.
const MOST: i64 = 2000;
const LETTERS: i64 = 16 << 20;

/// What was said in a chat, oldest first, with what was attached.
pub async fn list(db: &mut Session, session: ChatSessionId) -> Result<Vec<ChatMessage>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(
        "SELECT * FROM (SELECT m.*, SUM(LENGTH(m.content)) OVER (ORDER BY m.created_at DESC, m.id DESC) AS letters
         FROM (SELECT * FROM chat_message WHERE chat_session_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2) m) n
         WHERE letters <= $3 ORDER BY created_at, id"
    )
    .bind(session)
    .bind(MOST)
    .bind(LETTERS)
    .fetch_all(c))?;
    let ids: Vec<ChatMessageId> = rows.iter().map(|row| row.id).collect();
    let mut attached = attachments::of_chat_messages(db, &ids).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let attachments = attached.remove(&row.id).unwrap_or_default();
            ChatMessage { attachments, ..row.into() }
        })
        .collect())
}

/// Refuses a message without words.
pub fn require_content(content: &str) -> Result<()> {
    if content.trim().is_empty() {
        return Err(Error::invalid("field_required", "content is required"));
    }
    words::text("content", content).map(drop)
}

/// Stores what a person said in a chat that is locked, and the task that it asked for.
pub async fn say(tx: &mut Tx, chat: &Chat, content: &str, task: Option<TaskId>) -> Result<ChatMessage> {
    let now = tx.now();
    let row: Row = on!(tx, |c| sqlx::query_as(
        "INSERT INTO chat_message (id, chat_session_id, role, content, task_id, created_at)
         VALUES ($1, $2, 'user', $3, $4, $5) RETURNING *"
    )
    .bind(ChatMessageId::fresh())
    .bind(chat.id)
    .bind(content)
    .bind(task)
    .bind(now)
    .fetch_one(c))?;
    Ok(row.into())
}

/// Stores what an agent answered in a chat that is locked, or why it did not; its creator has not seen
/// it yet.
pub async fn answer(
    tx: &mut Tx,
    chat: &Chat,
    content: &str,
    task: TaskId,
    failure_reason: Option<&str>,
    elapsed: Option<Duration>,
) -> Result<ChatMessage> {
    let now = tx.now();
    let row: Row = on!(tx, |c| {
        sqlx::query_as(
        "INSERT INTO chat_message (id, chat_session_id, role, content, task_id, failure_reason, elapsed_ms, created_at)
         VALUES ($1, $2, 'assistant', $3, $4, $5, $6, $7) RETURNING *"
    )
    .bind(ChatMessageId::fresh())
    .bind(chat.id)
    .bind(content)
    .bind(task)
    .bind(failure_reason)
    .bind(elapsed.map(|elapsed| elapsed.as_millis() as i64))
    .bind(now)
    .fetch_one(c)
    })?;
    exec!(tx, |c| sqlx::query(
        "UPDATE chat_session SET unread_since = COALESCE(unread_since, $2), updated_at = $2 WHERE id = $1"
    )
    .bind(chat.id)
    .bind(now))?;
    Ok(row.into())
}

/// What was said for one task is for another one to answer.
pub async fn hand_on(tx: &mut Tx, from: TaskId, to: TaskId) -> Result<()> {
    exec!(tx, |c| sqlx::query("UPDATE chat_message SET task_id = $2 WHERE task_id = $1 AND role = 'user'")
        .bind(from)
        .bind(to))
    .map(drop)
}

/// Takes back the last thing that a person said in a chat that is locked, if a task was to answer it and
/// nobody has; its files stay in the chat.
pub async fn withdraw(tx: &mut Tx, chat: &Chat, task: TaskId) -> Result<Option<CancelledMessage>> {
    let last: Option<Row> = on!(tx, |c| sqlx::query_as(
        "SELECT * FROM chat_message WHERE chat_session_id = $1 ORDER BY created_at DESC, id DESC LIMIT 1"
    )
    .bind(chat.id)
    .fetch_optional(c))?;
    let Some(message) = last.filter(|last| last.role == "user" && last.task_id == Some(task)) else { return Ok(None) };
    let attachments = attachments::leave_chat_message(tx, message.id).await?;
    exec!(tx, |c| sqlx::query("DELETE FROM chat_message WHERE id = $1").bind(message.id))?;
    Ok(Some(CancelledMessage {
        chat_session_id: chat.id,
        message_id: message.id,
        content: message.content,
        restore_to_input: true,
        attachments,
    }))
}
