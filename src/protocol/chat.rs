//! The objects and bodies of chats.

use serde::{Deserialize, Serialize};

use super::{attachment::Attachment, lenient};
use crate::{
    ids::{AgentId, AttachmentId, ChatMessageId, ChatSessionId, TaskId, UserId, WorkspaceId},
    time::Timestamp,
};

/// A person's talk with an agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct ChatSession {
    pub id: ChatSessionId,
    pub workspace_id: WorkspaceId,
    pub agent_id: AgentId,
    pub creator_id: UserId,
    pub title: String,
    pub status: String,
    /// Told by lists only; false elsewhere.
    pub has_unread: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What one of the two said.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct ChatMessage {
    pub id: ChatMessageId,
    pub chat_session_id: ChatSessionId,
    pub role: String,
    pub content: String,
    pub task_id: Option<TaskId>,
    pub created_at: Timestamp,
    pub failure_reason: Option<String>,
    pub elapsed_ms: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
}

/// A message that was taken back, since its answer was called off before it began.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct CancelledMessage {
    pub chat_session_id: ChatSessionId,
    pub message_id: ChatMessageId,
    pub content: String,
    /// Always: it can be said again, differently.
    pub restore_to_input: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
}

/// `POST /api/chat/sessions`.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct CreateChat {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub agent_id: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub title: String,
}

/// `PATCH /api/chat/sessions/{id}`.
#[derive(Debug, Default, Deserialize)]
pub struct RenameChat {
    /// The new title.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub title: String,
}

/// `POST /api/chat/sessions/{id}/messages`.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct SendMessage {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub content: String,
    #[serde(default, deserialize_with = "lenient::list")]
    pub attachment_ids: Vec<String>,
}

/// The answer to a message.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Sent {
    pub message_id: ChatMessageId,
    /// The work that it asked for.
    pub task_id: Option<TaskId>,
    pub created_at: Timestamp,
    /// Null if none were named.
    pub attachment_ids: Option<Vec<AttachmentId>>,
}
