//! The objects and bodies of comments and of an issue's timeline.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{attachment::Attachment, lenient};
use crate::{
    ids::{CommentId, IssueId, TaskId},
    time::Timestamp,
};

/// What somebody said about an issue.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Comment {
    pub id: CommentId,
    pub issue_id: IssueId,
    pub author_type: String,
    /// The nil UUID for the hub itself.
    pub author_id: Uuid,
    pub content: String,
    pub r#type: String,
    pub parent_id: Option<CommentId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub resolved_at: Option<Timestamp>,
    pub resolved_by_type: Option<String>,
    pub resolved_by_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_task_id: Option<TaskId>,
    /// Always empty.
    pub reactions: [(); 0],
    pub attachments: Vec<Attachment>,
    /// Of the first comment of a thread, where only those are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_count: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_activity_at: Option<Timestamp>,
    /// In summaries: there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_truncated: Option<bool>,
}

/// A change in an issue's timeline.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct TimelineActivity {
    pub id: Uuid,
    pub actor_type: String,
    pub actor_id: Uuid,
    pub action: String,
    pub details: Value,
    pub created_at: Timestamp,
}

/// An entry of an issue's timeline.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub enum TimelineEntry {
    Comment {
        id: CommentId,
        actor_type: String,
        actor_id: Uuid,
        created_at: Timestamp,
        content: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        parent_id: Option<CommentId>,
        updated_at: Timestamp,
        comment_type: String,
        reactions: [(); 0],
        attachments: Vec<Attachment>,
        #[serde(skip_serializing_if = "Option::is_none")]
        resolved_at: Option<Timestamp>,
        #[serde(skip_serializing_if = "Option::is_none")]
        resolved_by_type: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        resolved_by_id: Option<Uuid>,
        #[serde(skip_serializing_if = "Option::is_none")]
        source_task_id: Option<TaskId>,
    },
    Activity {
        id: Uuid,
        actor_type: String,
        actor_id: Uuid,
        created_at: Timestamp,
        action: String,
        details: Value,
    },
}

/// `POST /api/issues/{id}/comments`.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct CreateComment {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub content: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub r#type: String,
    #[serde(default)]
    pub parent_id: Option<String>,
    #[serde(default, deserialize_with = "lenient::list")]
    pub attachment_ids: Vec<String>,
    /// Agents that are not to be woken by it; what is no id is passed over.
    #[serde(default, deserialize_with = "lenient::list")]
    pub suppress_agent_ids: Vec<String>,
}

/// `PUT /api/comments/{id}`.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct PutComment {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub content: String,
    /// Instead of those it has, if present.
    #[serde(default)]
    pub attachment_ids: Option<Vec<String>>,
}
