//! Skills. In the log, a large one is without its files: see [`Event::new`].

use serde_json::json;

use crate::{
    ids::{SkillId, WorkspaceId},
    protocol::{
        event::{Actor, Event},
        skill::Skill,
    },
};

/// There is a new skill.
pub fn skill_created(actor: Actor, skill: &Skill) -> Event {
    Event::new(skill.summary.workspace_id, "skill:created", actor, &json!({ "skill": skill }))
}

/// A skill, or one of its files, changed.
pub fn skill_updated(actor: Actor, skill: &Skill) -> Event {
    Event::new(skill.summary.workspace_id, "skill:updated", actor, &json!({ "skill": skill }))
}

/// A skill is gone.
pub fn skill_deleted(workspace: WorkspaceId, actor: Actor, skill: SkillId) -> Event {
    Event::new(workspace, "skill:deleted", actor, &json!({ "skill_id": skill }))
}
