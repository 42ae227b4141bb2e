//! The objects and bodies of projects.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::lenient::{self, Patch};
use crate::{
    ids::{ProjectId, ResourceId, UserId, WorkspaceId},
    time::Timestamp,
};

/// What several issues are for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Project {
    pub id: ProjectId,
    pub workspace_id: WorkspaceId,
    pub title: String,
    pub description: Option<String>,
    pub icon: Option<String>,
    pub status: String,
    pub priority: String,
    pub lead_type: Option<String>,
    pub lead_id: Option<Uuid>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub issue_count: i64,
    /// Done and cancelled ones.
    pub done_count: i64,
    pub resource_count: i64,
}

/// A repository or folder that a project is about.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Resource {
    pub id: ResourceId,
    pub project_id: ProjectId,
    pub workspace_id: WorkspaceId,
    pub resource_type: String,
    pub resource_ref: Value,
    pub label: Option<String>,
    pub position: i32,
    pub created_at: Timestamp,
    pub created_by: Option<UserId>,
}

/// `GET /api/projects`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Projects {
    pub projects: Vec<Project>,
    pub total: usize,
}

/// `GET /api/projects/{id}/resources`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Resources {
    pub resources: Vec<Resource>,
    pub total: usize,
}

/// The answer to `POST /api/projects`: with resources if some were asked for.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct NewProject {
    #[serde(flatten)]
    pub project: Project,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
}

/// `POST /api/projects`.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct CreateProject {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub title: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub icon: Option<String>,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub status: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub priority: String,
    #[serde(default)]
    pub lead_type: Option<String>,
    #[serde(default)]
    pub lead_id: Option<String>,
    #[serde(default, deserialize_with = "lenient::list")]
    pub resources: Vec<CreateResource>,
}

/// `PUT /api/projects/{id}`: null clears description, icon and lead, and leaves the rest.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct PutProject {
    #[serde(default)]
    pub title: Option<String>,
    #[serde(default)]
    pub description: Patch<String>,
    #[serde(default)]
    pub icon: Patch<String>,
    #[serde(default)]
    pub status: Option<String>,
    #[serde(default)]
    pub priority: Option<String>,
    #[serde(default)]
    pub lead_type: Patch<String>,
    #[serde(default)]
    pub lead_id: Patch<String>,
}

/// `POST /api/projects/{id}/resources`, and one of `POST /api/projects`.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct CreateResource {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub resource_type: String,
    #[serde(default)]
    pub resource_ref: Value,
    #[serde(default)]
    pub label: Option<String>,
    #[serde(default)]
    pub position: Option<i32>,
}

/// `PUT /api/projects/{id}/resources/{rid}`: null or empty clears the label; the type stays.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct PutResource {
    #[serde(default)]
    pub resource_ref: Option<Value>,
    #[serde(default)]
    pub label: Patch<String>,
    #[serde(default)]
    pub position: Option<i32>,
}
