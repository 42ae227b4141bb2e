//! The daemon's calls and frames. The shapes are those of daemons nobody here wrote, so every field
//! that may be absent may be null as well.

use serde::{Deserialize, Serialize};

use super::{
    lenient,
    runtime::{Repo, Runtime},
};
use crate::ids::{RuntimeId, WorkspaceId};

/// Frame type of a beat.
pub const HEARTBEAT: &str = "daemon:heartbeat";
/// Frame type of its answer.
pub const HEARTBEAT_ACK: &str = "daemon:heartbeat_ack";

/// A frame from a daemon; the payload is read once the type is known.
#[derive(Debug, Default, Deserialize)]
pub struct Inbound {
    /// What it is.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub r#type: String,
    /// Its content.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub payload: Heartbeat,
}

/// A frame to a daemon.
#[derive(Debug, Serialize)]
pub struct Outbound<P> {
    /// What it is.
    pub r#type: &'static str,
    /// Its content.
    pub payload: P,
}

impl<P: Serialize> Outbound<P> {
    /// The frame's JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A beat, over HTTP and over the socket.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Whose beat.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub runtime_id: String,
    /// Whether the daemon takes several skill imports at once.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub supports_batch_import: bool,
}

/// The answer to a beat over the socket.
#[derive(Debug, Clone, Serialize)]
pub struct HeartbeatAck {
    /// Whose beat; daemons ignore an ack without it.
    pub runtime_id: String,
    /// `ok` or `runtime_gone`.
    pub status: &'static str,
    /// The row is gone: forget it and register again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub runtime_gone: bool,
    /// How often to beat.
    pub heartbeat_interval_ms: u64,
    /// What this server can do beyond the June protocol.
    pub server_capabilities: &'static [&'static str],
}

/// `POST /api/daemon/register`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Register {
    /// Where.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub workspace_id: String,
    /// The machine, as it names itself.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub daemon_id: String,
    /// Names it had before. Daemons that know of no such list do not send one.
    #[serde(default, deserialize_with = "lenient::given_list", skip_serializing_if = "Option::is_none")]
    pub legacy_daemon_ids: Option<Vec<String>>,
    /// For people.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub device_name: String,
    /// The daemon's own version.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub cli_version: String,
    /// `desktop`, or empty.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub launched_by: String,
    /// What it can drive.
    #[serde(default, deserialize_with = "lenient::list")]
    pub runtimes: Vec<RegisterRuntime>,
}

/// One entry of a registration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RegisterRuntime {
    /// For people.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub name: String,
    /// The provider.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub r#type: String,
    /// The agent CLI's version.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub version: String,
    /// `offline` registers it as that; anything else is online.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub status: String,
    /// The custom profile it is an instance of.
    #[serde(default, deserialize_with = "lenient::zero", skip_serializing_if = "String::is_empty")]
    pub profile_id: String,
}

/// The answer to a registration.
#[derive(Debug, Serialize)]
pub struct Registered {
    /// One for each entry, in the order of the request.
    pub runtimes: Vec<Runtime>,
    /// The workspace's repositories.
    pub repos: Vec<Repo>,
    /// A hash of their addresses.
    pub repos_version: String,
    /// The workspace's settings.
    pub settings: serde_json::Value,
}

/// `GET /api/daemon/workspaces/{id}/repos`.
#[derive(Debug, Serialize)]
pub struct WorkspaceRepos {
    /// Whose.
    pub workspace_id: WorkspaceId,
    /// The workspace's repositories.
    pub repos: Vec<Repo>,
    /// A hash of their addresses.
    pub repos_version: String,
    /// The workspace's settings, never null.
    pub settings: serde_json::Value,
}

/// `POST /api/daemon/deregister`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Deregister {
    /// Which.
    #[serde(default, deserialize_with = "lenient::list")]
    pub runtime_ids: Vec<String>,
}

/// Tells a socket that a runtime's row is gone.
pub fn gone_ack(runtime: RuntimeId, heartbeat_interval_ms: u64) -> HeartbeatAck {
    HeartbeatAck {
        runtime_id: runtime.to_string(),
        status: "runtime_gone",
        runtime_gone: true,
        heartbeat_interval_ms,
        server_capabilities: &[],
    }
}
