//! What daemons report while a task runs, and how it is read again.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::lenient;
use crate::ids::{IssueId, TaskId};

/// `POST /api/daemon/tasks/{id}/messages`.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct ReportMessages {
    /// Some messages, in order.
    #[serde(default, deserialize_with = "lenient::list")]
    pub messages: Vec<MessageReport>,
}

/// A message as its daemon numbers it: from 1, and from 1 again when the agent is run anew.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct MessageReport {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub seq: i64,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub r#type: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub tool: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub content: String,
    #[serde(default, deserialize_with = "lenient::zero", skip_serializing_if = "serde_json::Value::is_null")]
    pub input: serde_json::Value,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub output: String,
}

/// A message as people read it. What is left out must be absent, not null.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct TaskMessage {
    pub task_id: TaskId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issue_id: Option<IssueId>,
    /// The daemon's number, made unique within the task.
    pub seq: i64,
    /// Its place among the task's messages, from 1, without gaps.
    pub pos: i64,
    pub r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// RFC 3339 with the fraction.
    pub created_at: String,
}

/// `POST /api/daemon/tasks/{id}/progress`.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct ReportProgress {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub summary: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub step: i64,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub total: i64,
}

/// `POST /api/daemon/tasks/{id}/usage`. The rows are read one by one: a bad one spoils no other.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct ReportUsage {
    /// What each model was used for, once for a task and model.
    #[serde(default, deserialize_with = "lenient::list")]
    pub usage: Vec<serde_json::Value>,
}

/// The tokens that a task used of one model.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct ModelUsage {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub provider: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub model: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub input_tokens: i64,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub output_tokens: i64,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub cache_read_tokens: i64,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub cache_write_tokens: i64,
}

/// A row of a usage report that was not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectedUsage {
    /// Which, from 0.
    pub index: usize,
    /// Why.
    pub error: String,
}
