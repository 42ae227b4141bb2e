//! The objects and bodies of agents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lenient::{self, Patch};
use crate::{
    ids::{AgentId, RuntimeId, SkillId, UserId, WorkspaceId},
    time::Timestamp,
};

/// A coding agent, as somebody may see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Agent {
    pub id: AgentId,
    pub workspace_id: WorkspaceId,
    pub runtime_id: RuntimeId,
    pub name: String,
    pub description: String,
    pub instructions: String,
    pub avatar_url: Option<String>,
    pub runtime_mode: String,
    /// Its gateway's token is masked.
    pub runtime_config: Value,
    pub custom_args: Vec<String>,
    pub mcp_config: Option<Value>,
    pub has_custom_env: bool,
    pub custom_env_key_count: usize,
    pub mcp_config_redacted: bool,
    pub visibility: String,
    pub status: String,
    pub max_concurrent_tasks: i32,
    pub model: String,
    pub thinking_level: String,
    pub owner_id: UserId,
    pub skills: Vec<AgentSkill>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub archived_at: Option<Timestamp>,
    pub archived_by: Option<UserId>,
}

/// A skill, as its agents name it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct AgentSkill {
    pub id: SkillId,
    pub name: String,
    pub description: String,
}

/// An agent in a refusal.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct SlimAgent {
    pub id: AgentId,
    pub name: String,
    pub status: String,
    pub avatar_url: Option<String>,
}

/// `POST /api/agents`.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct CreateAgent {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub name: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub runtime_id: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub description: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub instructions: String,
    #[serde(default)]
    pub avatar_url: Option<String>,
    #[serde(default)]
    pub runtime_config: Option<Value>,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub custom_env: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "lenient::list")]
    pub custom_args: Vec<String>,
    #[serde(default)]
    pub mcp_config: Option<Value>,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub visibility: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub max_concurrent_tasks: i32,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub model: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub thinking_level: String,
}

/// `PUT /api/agents/{id}`: what is absent stays; null clears the MCP configuration.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct PutAgent {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub runtime_id: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub instructions: Option<String>,
    #[serde(default)]
    pub avatar_url: Option<String>,
    #[serde(default)]
    pub runtime_config: Option<Value>,
    /// Refused: it has an address of its own.
    #[serde(default)]
    pub custom_env: Patch<Value>,
    #[serde(default)]
    pub custom_args: Option<Vec<String>>,
    #[serde(default)]
    pub mcp_config: Patch<Value>,
    #[serde(default)]
    pub visibility: Option<String>,
    #[serde(default)]
    pub status: Option<String>,
    #[serde(default)]
    pub max_concurrent_tasks: Option<i32>,
    #[serde(default)]
    pub model: Option<String>,
    #[serde(default)]
    pub thinking_level: Option<String>,
}

/// `PUT` and `POST` below `/api/agents/{id}/skills`.
#[derive(Debug, Default, Clone, Deserialize)]
pub struct SkillIds {
    /// Which skills.
    #[serde(default, deserialize_with = "lenient::list")]
    pub skill_ids: Vec<String>,
}

/// `PUT /api/agents/{id}/env`.
#[derive(Default, Clone, Deserialize)]
pub struct PutEnv {
    /// The whole environment; `****` keeps a value.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub custom_env: BTreeMap<String, String>,
}

/// An agent's environment: the only object that has it.
#[derive(Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct AgentEnv {
    pub agent_id: AgentId,
    pub custom_env: BTreeMap<String, String>,
}
