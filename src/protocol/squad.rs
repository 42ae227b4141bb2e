//! The objects and bodies of squads.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::lenient;
use crate::{
    ids::{AgentId, SquadId, SquadMemberId, UserId, WorkspaceId},
    time::Timestamp,
};

/// Agents and people who work together, led by an agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Squad {
    pub id: SquadId,
    pub workspace_id: WorkspaceId,
    pub name: String,
    pub description: String,
    pub instructions: String,
    pub avatar_url: Option<String>,
    pub leader_id: AgentId,
    pub creator_id: UserId,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub archived_at: Option<Timestamp>,
    pub archived_by: Option<UserId>,
    pub member_count: i64,
    /// A few of them, the leader first.
    pub member_preview: Vec<PreviewedMember>,
}

/// Somebody in a squad, in brief.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct PreviewedMember {
    pub member_type: String,
    pub member_id: Uuid,
    pub role: String,
}

/// Somebody's place in a squad.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct SquadMember {
    pub id: SquadMemberId,
    pub squad_id: SquadId,
    /// `agent`, or `member` for a person.
    pub member_type: String,
    pub member_id: Uuid,
    pub role: String,
    pub created_at: Timestamp,
}

/// `POST /api/squads`.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct CreateSquad {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub name: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub description: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub instructions: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub leader_id: String,
    #[serde(default)]
    pub avatar_url: Option<String>,
}

/// `PUT /api/squads/{id}`: what is absent or null stays.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct PutSquad {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub instructions: Option<String>,
    #[serde(default)]
    pub leader_id: Option<String>,
    #[serde(default)]
    pub avatar_url: Option<String>,
}

/// `POST` and `DELETE` of `/api/squads/{id}/members`; the role is for the first only.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct WishedMember {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub member_type: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub member_id: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub role: String,
}

/// `POST /api/issues/{id}/squad-evaluated`.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Evaluate {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub outcome: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub reason: String,
}

/// The answer to [`Evaluate`].
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Evaluated {
    pub id: Uuid,
    pub action: &'static str,
    pub created_at: Timestamp,
}
