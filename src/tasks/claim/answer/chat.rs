//! An answer in a chat.

use super::{super::super::resume, ClaimedTask, Row};
use crate::{
    db::{Tx, on},
    error::Result,
    ids::{ChatMessageId, ChatSessionId, RuntimeId, TaskId, WorkspaceId},
    protocol::task::ClaimedAttachment,
    time::Timestamp,
    workspace::attachments,
};

/// Messages that are handed over at most: the newest. A daemon that is away does not end the talking.
const MOST: usize = 200;

/// A chat, wherever it lies.
#[derive(sqlx::FromRow)]
pub(super) struct Found {
    pub workspace_id: WorkspaceId,
    id: ChatSessionId,
    title: String,
    session_id: Option<String>,
    work_dir: Option<String>,
    runtime_id: Option<RuntimeId>,
}

pub(super) async fn find(tx: &mut Tx, chat: ChatSessionId) -> Result<Option<Found>> {
    on!(tx, |c| sqlx::query_as(
        "SELECT workspace_id, id, title, session_id, work_dir, runtime_id FROM chat_session WHERE id = $1"
    )
    .bind(chat)
    .fetch_optional(c))
}

#[derive(sqlx::FromRow)]
struct Message {
    id: ChatMessageId,
    role: String,
    content: String,
    created_at: Timestamp,
    /// Whether it asked for this very task.
    asked: bool,
}

pub(super) async fn tell(tx: &mut Tx, row: &Row, found: Found, task: &mut ClaimedTask) -> Result<()> {
    let messages = unanswered(tx, found.id, row.id).await?;
    let said: Vec<&str> =
        messages.iter().map(|message| message.content.as_str()).filter(|text| !text.trim().is_empty()).collect();
    let said = said.join("\n\n");
    let kept = resume::Run { session_id: found.session_id, work_dir: found.work_dir, runtime_id: found.runtime_id };
    let prior = resume::of_chat(tx, row, found.id, kept).await?;
    let about = &mut task.about;
    about.thread_name = if found.title.trim().is_empty() { said.clone() } else { found.title };
    about.chat_message = said;
    about.chat_message_attachments = attached(tx, &messages).await?;
    about.prior_session_id = prior.session_id;
    about.prior_work_dir = prior.work_dir;
    Ok(())
}

/// What a person has said since the agent's last word, and what asked for this task before that: it was
/// said while another answer was on its way. Oldest first.
async fn unanswered(tx: &mut Tx, chat: ChatSessionId, task: TaskId) -> Result<Vec<Message>> {
    let mut found = last_said(tx, chat, task).await?;
    found.sort_by_key(|message| (message.created_at, message.id));
    let last_word = found.iter().rev().find(|message| message.role != "user");
    let answered = last_word.map(|word| (word.created_at, word.id));
    found.retain(|message| {
        message.role == "user" && (message.asked || Some((message.created_at, message.id)) > answered)
    });
    found.dedup_by_key(|message| message.id);
    let earlier = found.len().saturating_sub(MOST);
    found.drain(..earlier);
    Ok(found)
}

/// What was said in a chat last, down to the agent's last word, and what asked for a task, which may be the
/// same. Two looks, each along its index: chats grow long.
async fn last_said(tx: &mut Tx, chat: ChatSessionId, task: TaskId) -> Result<Vec<Message>> {
    on!(tx, |c| sqlx::query_as(
        "SELECT * FROM (
             SELECT id, role, content, created_at, false AS asked FROM chat_message
             WHERE chat_session_id = $1 AND created_at >= COALESCE(
                 (SELECT created_at FROM chat_message WHERE chat_session_id = $1 AND role <> 'user'
                  ORDER BY created_at DESC, id DESC LIMIT 1), 0)
             ORDER BY created_at DESC, id DESC LIMIT $3
         ) latest
         UNION ALL
         SELECT * FROM (
             SELECT id, role, content, created_at, true AS asked FROM chat_message
             WHERE task_id = $2 AND role = 'user' ORDER BY created_at DESC, id DESC LIMIT $3
         ) asking"
    )
    .bind(chat)
    .bind(task)
    .bind(MOST as i64)
    .fetch_all(c))
}

/// What came with the messages, in their order.
async fn attached(tx: &mut Tx, messages: &[Message]) -> Result<Vec<ClaimedAttachment>> {
    let ids: Vec<ChatMessageId> = messages.iter().map(|message| message.id).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut attached = attachments::of_chat_messages(tx, &ids).await?;
    let in_order = ids.iter().flat_map(|id| attached.remove(id).unwrap_or_default());
    Ok(in_order
        .map(|file| ClaimedAttachment { id: file.id, filename: file.filename, content_type: file.content_type })
        .collect())
}
