//! A runtime as answers and events show it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lenient;
use crate::{
    ids::{RuntimeId, RuntimeProfileId, UserId, WorkspaceId},
    time::Timestamp,
};

/// `POST /api/runtimes/{id}/archive-agents-and-delete`.
#[derive(Debug, Default, Clone, Deserialize)]
pub struct ConfirmedAgents {
    /// The agents that were seen to be active.
    #[serde(default, deserialize_with = "lenient::list")]
    pub expected_active_agent_ids: Vec<String>,
}

/// The runtime object of the people's API; field by field the reference's, and `presence`.
#[derive(Debug, Clone, Serialize)]
pub struct Runtime {
    /// Stable over re-registrations.
    pub id: RuntimeId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The machine, as it names itself.
    pub daemon_id: Option<String>,
    /// For people.
    pub name: String,
    /// `local` or `cloud`.
    pub runtime_mode: String,
    /// Which agent CLI.
    pub provider: String,
    /// How the daemon starts it, for display; empty if unknown.
    pub launch_header: &'static str,
    /// `online` or `offline`.
    pub status: String,
    /// Device and version.
    pub device_info: String,
    /// What the daemon said about itself.
    pub metadata: Value,
    /// Who it works for.
    pub owner_id: Option<UserId>,
    /// `private` or `public`: who may bind agents to it.
    pub visibility: String,
    /// The custom profile, null for built-in ones.
    pub profile_id: Option<RuntimeProfileId>,
    /// The last contact on record.
    pub last_seen_at: Option<Timestamp>,
    /// First registration.
    pub created_at: Timestamp,
    /// Last change other than a beat.
    pub updated_at: Timestamp,
    /// How it is reachable.
    pub presence: Presence,
}

/// How a runtime is reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It beats over a socket.
    Socket,
    /// It beats over HTTP.
    Http,
    /// Its socket has ended; it is not known yet whether it comes back.
    Reconnecting,
    /// It is offline.
    Offline,
}

/// The display hint for a provider's command.
pub fn launch_header(provider: &str) -> &'static str {
    match provider {
        "antigravity" => "agy -p (print mode)",
        "claude" => "claude (stream-json)",
        "codebuddy" => "codebuddy (stream-json)",
        "gemini" => "gemini (stream-json)",
        "codex" => "codex app-server",
        "copilot" => "copilot (json)",
        "cursor" => "cursor-agent (stream-json)",
        "hermes" => "hermes acp",
        "kimi" => "kimi acp",
        "kiro" => "kiro-cli acp",
        "openclaw" => "openclaw agent (json)",
        "opencode" => "opencode run (json)",
        "pi" => "pi (json mode)",
        _ => "",
    }
}

/// A repository of a workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repo {
    /// Where it is cloned from.
    #[serde(default, deserialize_with = "super::lenient::zero")]
    pub url: String,
    /// For people; left out when empty.
    #[serde(default, deserialize_with = "super::lenient::zero", skip_serializing_if = "String::is_empty")]
    pub description: String,
}
