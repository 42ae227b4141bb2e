//! Autopilots and what sets them off.

use serde_json::json;

use crate::{
    ids::{AutopilotId, TriggerId, WorkspaceId},
    protocol::{
        autopilot::{Autopilot, Trigger},
        event::{Actor, Event},
    },
};

/// There is a new autopilot.
pub fn autopilot_created(actor: Actor, autopilot: &Autopilot) -> Event {
    Event::new(autopilot.workspace_id, "autopilot:created", actor, &json!({ "autopilot": autopilot }))
}

/// An autopilot's own fields changed.
pub fn autopilot_updated(actor: Actor, autopilot: &Autopilot) -> Event {
    Event::new(autopilot.workspace_id, "autopilot:updated", actor, &json!({ "autopilot": autopilot }))
}

/// An autopilot has a new trigger, or one that changed.
pub fn autopilot_trigger_changed(workspace: WorkspaceId, actor: Actor, trigger: &Trigger) -> Event {
    let payload = json!({ "autopilot_id": trigger.autopilot_id, "trigger": trigger });
    Event::new(workspace, "autopilot:updated", actor, &payload)
}

/// An autopilot has lost a trigger.
pub fn autopilot_trigger_deleted(
    workspace: WorkspaceId,
    actor: Actor,
    autopilot: AutopilotId,
    trigger: TriggerId,
) -> Event {
    let payload = json!({ "autopilot_id": autopilot, "trigger_id": trigger });
    Event::new(workspace, "autopilot:updated", actor, &payload)
}

/// An autopilot is gone.
pub fn autopilot_deleted(workspace: WorkspaceId, actor: Actor, autopilot: AutopilotId) -> Event {
    Event::new(workspace, "autopilot:deleted", actor, &json!({ "autopilot_id": autopilot }))
}
