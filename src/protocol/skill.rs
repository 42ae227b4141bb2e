//! The objects and bodies of skills.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lenient;
use crate::{
    ids::{SkillFileId, SkillId, UserId, WorkspaceId},
    time::Timestamp,
};

/// A skill without its content.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct SkillSummary {
    pub id: SkillId,
    pub workspace_id: WorkspaceId,
    pub name: String,
    pub description: String,
    pub config: Value,
    pub created_by: Option<UserId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What an agent knows beside its instructions.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Skill {
    #[serde(flatten)]
    pub summary: SkillSummary,
    pub content: String,
    pub files: Vec<SkillFile>,
}

/// One file of a skill.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct SkillFile {
    pub id: SkillFileId,
    pub skill_id: SkillId,
    pub path: String,
    pub content: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A file in a body.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct WishedFile {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub path: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub content: String,
}

/// `POST /api/skills`.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct CreateSkill {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub name: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub description: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub content: String,
    #[serde(default)]
    pub config: Option<Value>,
    #[serde(default, deserialize_with = "lenient::list")]
    pub files: Vec<WishedFile>,
}

/// `PUT /api/skills/{id}`: what is absent or null stays; files, if present, replace all.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct PutSkill {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub content: Option<String>,
    #[serde(default)]
    pub config: Option<Value>,
    #[serde(default)]
    pub files: Option<Vec<WishedFile>>,
}
