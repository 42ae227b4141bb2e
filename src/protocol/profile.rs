//! The objects and bodies of runtime profiles, and the frame that tells daemons of a change.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::lenient;
use crate::{
    ids::{RuntimeProfileId, UserId, WorkspaceId},
    time::Timestamp,
};

/// The frame that makes a daemon fetch a workspace's profiles anew.
pub const PROFILES_CHANGED: &str = "daemon:runtime_profiles_changed";

/// See [`PROFILES_CHANGED`].
pub fn profiles_changed(workspace: WorkspaceId, profile: RuntimeProfileId) -> String {
    json!({ "type": PROFILES_CHANGED, "payload": { "workspace_id": workspace, "runtime_profile_id": profile } })
        .to_string()
}

/// A custom kind of runtime: a command that speaks as one of the known agent CLIs does.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct RuntimeProfile {
    pub id: RuntimeProfileId,
    pub workspace_id: WorkspaceId,
    pub display_name: String,
    pub protocol_family: String,
    pub command_name: String,
    pub description: Option<String>,
    pub fixed_args: Vec<String>,
    /// Always `workspace`.
    pub visibility: String,
    pub created_by: Option<UserId>,
    pub enabled: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// `GET /api/workspaces/{id}/runtime-profiles`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct RuntimeProfiles {
    pub runtime_profiles: Vec<RuntimeProfile>,
}

/// `GET /api/daemon/workspaces/{id}/runtime-profiles`: the enabled ones.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct EnabledProfiles {
    pub workspace_id: WorkspaceId,
    pub runtime_profiles: Vec<RuntimeProfile>,
}

/// `POST /api/workspaces/{id}/runtime-profiles`; a wished visibility means nothing.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct CreateProfile {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub display_name: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub protocol_family: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub command_name: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default, deserialize_with = "lenient::list")]
    pub fixed_args: Vec<String>,
    #[serde(default)]
    pub enabled: Option<bool>,
}

/// `PATCH` and `PUT /api/workspaces/{id}/runtime-profiles/{id}`: what is null or absent stays; an
/// empty description clears it.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct ChangeProfile {
    #[serde(default)]
    pub display_name: Option<String>,
    /// May only be what it is.
    #[serde(default)]
    pub protocol_family: Option<String>,
    #[serde(default)]
    pub command_name: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub fixed_args: Option<Vec<String>>,
    #[serde(default)]
    pub enabled: Option<bool>,
}
