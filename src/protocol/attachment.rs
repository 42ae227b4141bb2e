//! The objects of attachments.

use serde::Serialize;
use uuid::Uuid;

use crate::{
    ids::{AttachmentId, ChatMessageId, ChatSessionId, CommentId, IssueId, WorkspaceId},
    time::Timestamp,
};

/// A file that belongs to an issue, a comment or a chat, or to nothing yet.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Attachment {
    pub id: AttachmentId,
    pub workspace_id: WorkspaceId,
    pub issue_id: Option<IssueId>,
    pub comment_id: Option<CommentId>,
    pub chat_session_id: Option<ChatSessionId>,
    pub chat_message_id: Option<ChatMessageId>,
    pub uploader_type: String,
    pub uploader_id: Uuid,
    pub filename: String,
    /// The three addresses are one: below the hub's own, for callers with credentials.
    pub url: String,
    pub download_url: String,
    pub markdown_url: String,
    /// What the uploader said it is.
    pub content_type: String,
    pub size_bytes: i64,
    pub created_at: Timestamp,
}
