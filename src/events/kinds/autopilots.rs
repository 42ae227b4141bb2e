//! Autopilots and what sets them off. Whoever may not see the private agent that does an autopilot's
//! work gets its id: what it says is what the agent is asked.

use serde_json::{Value, json};

use crate::{
    ids::{AutopilotId, TriggerId, WorkspaceId},
    protocol::{
        autopilot::{Autopilot, Run, Trigger},
        event::{Actor, Audience, Event},
    },
};

/// There is a new autopilot.
pub fn autopilot_created(actor: Actor, autopilot: &Autopilot) -> Event {
    about("autopilot:created", actor, autopilot, json!({ "autopilot": autopilot }))
}

/// An autopilot's own fields changed.
pub fn autopilot_updated(actor: Actor, autopilot: &Autopilot) -> Event {
    about("autopilot:updated", actor, autopilot, json!({ "autopilot": autopilot }))
}

/// An autopilot has a new trigger, or one that changed.
pub fn autopilot_trigger_changed(actor: Actor, autopilot: &Autopilot, trigger: &Trigger) -> Event {
    let payload = json!({ "autopilot_id": autopilot.id, "trigger": trigger });
    about("autopilot:updated", actor, autopilot, payload)
}

/// An autopilot has lost a trigger.
pub fn autopilot_trigger_deleted(actor: Actor, autopilot: &Autopilot, trigger: TriggerId) -> Event {
    let payload = json!({ "autopilot_id": autopilot.id, "trigger_id": trigger });
    Event::new(autopilot.workspace_id, "autopilot:updated", actor, &payload)
}

/// An autopilot is gone.
pub fn autopilot_deleted(workspace: WorkspaceId, actor: Actor, autopilot: AutopilotId) -> Event {
    Event::new(workspace, "autopilot:deleted", actor, &json!({ "autopilot_id": autopilot }))
}

/// An autopilot was set off, and there is work.
pub fn autopilot_run_started(workspace: WorkspaceId, run: &Run) -> Event {
    let payload = json!({
        "run_id": run.id, "autopilot_id": run.autopilot_id, "source": run.source, "status": run.status,
    });
    Event::new(workspace, "autopilot:run_start", Actor::System, &payload)
}

/// An autopilot's run is over.
pub fn autopilot_run_ended(workspace: WorkspaceId, run: &Run) -> Event {
    let payload = json!({ "run_id": run.id, "autopilot_id": run.autopilot_id, "status": run.status });
    Event::new(workspace, "autopilot:run_done", Actor::System, &payload)
}

fn about(kind: &'static str, actor: Actor, autopilot: &Autopilot, payload: Value) -> Event {
    let event = Event::new(autopilot.workspace_id, kind, actor, &payload);
    match autopilot.private_to {
        Some(owner) => event.in_full_for(Audience::OwnerAndAdmins(owner), &json!({ "autopilot_id": autopilot.id })),
        None => event,
    }
}
