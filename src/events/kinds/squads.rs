//! Squads and who is in them.

use serde_json::json;

use crate::{
    ids::{AgentId, SquadId, WorkspaceId},
    protocol::{
        event::{Actor, Event},
        squad::Squad,
    },
};

/// There is a new squad.
pub fn squad_created(actor: Actor, squad: &Squad) -> Event {
    Event::new(squad.workspace_id, "squad:created", actor, &json!({ "squad": squad }))
}

/// A squad's own fields changed, its leader perhaps.
pub fn squad_updated(actor: Actor, squad: &Squad) -> Event {
    Event::new(squad.workspace_id, "squad:updated", actor, &json!({ "squad": squad }))
}

/// Somebody joined a squad or left it.
pub fn squad_members_changed(workspace: WorkspaceId, actor: Actor, squad: SquadId) -> Event {
    Event::new(workspace, "squad:updated", actor, &json!({ "squad_id": squad }))
}

/// A squad was put aside; its leader has its work.
pub fn squad_deleted(workspace: WorkspaceId, actor: Actor, squad: SquadId, leader: AgentId) -> Event {
    Event::new(workspace, "squad:deleted", actor, &json!({ "squad_id": squad, "leader_id": leader }))
}
