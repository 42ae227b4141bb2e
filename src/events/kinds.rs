//! The kinds of events and their payloads; one function for each way a payload can look. Secrets
//! have no field in any of them.

use serde::Serialize;
use serde_json::json;

use crate::{
    ids::{RuntimeId, WorkspaceId},
    protocol::{
        event::{Actor, Event},
        people::{Member, Workspace},
        runtime::Runtime,
    },
};

/// A daemon registered these runtimes.
pub fn runtimes_registered(workspace: WorkspaceId, runtimes: &[Runtime]) -> Event {
    Event::new(workspace, "daemon:register", Actor::System, &json!({ "runtimes": runtimes }))
}

/// The list of runtimes changed in a way that its action names.
pub fn runtimes_changed(workspace: WorkspaceId, actor: Actor, action: &'static str, ids: &[RuntimeId]) -> Event {
    #[derive(Serialize)]
    struct Payload<'a> {
        action: &'static str,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        runtime_ids: &'a [RuntimeId],
    }
    Event::new(workspace, "daemon:register", actor, &Payload { action, runtime_ids: ids })
}

/// A runtime's row was removed.
pub fn runtime_deleted(workspace: WorkspaceId, actor: Actor, runtime: RuntimeId) -> Event {
    Event::new(workspace, "daemon:register", actor, &json!({ "action": "delete", "runtime_id": runtime }))
}

/// Somebody became a member.
pub fn member_added(actor: Actor, member: &Member, workspace_name: &str) -> Event {
    Event::new(
        member.workspace_id,
        "member:added",
        actor,
        &json!({ "member": member, "workspace_name": workspace_name }),
    )
}

/// A workspace's own fields changed.
pub fn workspace_updated(actor: Actor, workspace: &Workspace) -> Event {
    Event::new(workspace.id, "workspace:updated", actor, &json!({ "workspace": workspace }))
}
