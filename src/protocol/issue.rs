//! The objects and bodies of issues.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    attachment::Attachment,
    lenient::{self, Patch},
};
use crate::{
    ids::{IssueId, ProjectId, WorkspaceId},
    time::Timestamp,
};

/// What an issue is marked with: strings, numbers, truth values.
pub type Metadata = BTreeMap<String, Value>;

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Issue {
    pub id: IssueId,
    pub workspace_id: WorkspaceId,
    pub number: i64,
    /// The workspace's prefix of today, and the number.
    pub identifier: String,
    pub title: String,
    pub description: Option<String>,
    pub status: String,
    pub priority: String,
    pub assignee_type: Option<String>,
    pub assignee_id: Option<Uuid>,
    pub creator_type: String,
    pub creator_id: Uuid,
    pub parent_issue_id: Option<IssueId>,
    pub project_id: Option<ProjectId>,
    pub position: f64,
    pub start_date: Option<String>,
    pub due_date: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub metadata: Metadata,
    /// Always empty; absent means "unchanged" to clients, so lists and details have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<[(); 0]>,
    /// Always empty; details have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reactions: Option<[(); 0]>,
    /// Its own, not its comments'; details have them, and changes of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachments: Option<Vec<Attachment>>,
}

/// `GET /api/issues`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Issues {
    pub issues: Vec<Issue>,
    pub total: i64,
}

/// `GET /api/issues/{id}/children`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Children {
    pub issues: Vec<Issue>,
}

/// An issue in a refusal, small enough for clients that read 4,096 bytes.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct SlimIssue {
    pub id: IssueId,
    pub identifier: String,
    pub title: String,
}

/// `POST /api/issues`.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct CreateIssue {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub title: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub status: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub priority: String,
    #[serde(default)]
    pub assignee_type: Option<String>,
    #[serde(default)]
    pub assignee_id: Option<String>,
    #[serde(default)]
    pub parent_issue_id: Option<String>,
    #[serde(default)]
    pub project_id: Option<String>,
    #[serde(default)]
    pub start_date: Option<String>,
    #[serde(default)]
    pub due_date: Option<String>,
    #[serde(default, deserialize_with = "lenient::list")]
    pub attachment_ids: Vec<String>,
    #[serde(default)]
    pub origin_type: Option<String>,
    #[serde(default)]
    pub origin_id: Option<String>,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub allow_duplicate: bool,
}

/// `POST /api/issues/quick-create`.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct QuickCreate {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub prompt: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub agent_id: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub squad_id: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub project_id: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub parent_issue_id: String,
    #[serde(default, deserialize_with = "lenient::list")]
    pub attachment_ids: Vec<String>,
}

/// `PUT /api/issues/{id}`: null clears assignee, dates, parent and project, and leaves the rest.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct PutIssue {
    #[serde(default)]
    pub title: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub status: Option<String>,
    #[serde(default)]
    pub priority: Option<String>,
    #[serde(default)]
    pub assignee_type: Patch<String>,
    #[serde(default)]
    pub assignee_id: Patch<String>,
    #[serde(default)]
    pub parent_issue_id: Patch<String>,
    #[serde(default)]
    pub project_id: Patch<String>,
    #[serde(default)]
    pub position: Option<f64>,
    #[serde(default)]
    pub start_date: Patch<String>,
    #[serde(default)]
    pub due_date: Patch<String>,
    #[serde(default, deserialize_with = "lenient::list")]
    pub attachment_ids: Vec<String>,
}

/// `PUT /api/issues/{id}/metadata/{key}`.
#[derive(Debug, Default, Clone, Deserialize)]
pub struct PutMetadata {
    /// A string, a number or a truth value.
    #[serde(default)]
    pub value: Value,
}

/// An issue's metadata, whole.
#[derive(Debug, Serialize)]
pub struct WholeMetadata {
    /// All of it.
    pub metadata: Metadata,
}
