//! The kinds of events and their payloads; one function for each way a payload can look. Secrets
//! have no field in any of them.

use serde::Serialize;
use serde_json::json;

use crate::{
    ids::{MemberId, RuntimeId, UserId, WorkspaceId},
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

/// A member's role changed.
pub fn member_updated(actor: Actor, member: &Member) -> Event {
    Event::new(member.workspace_id, "member:updated", actor, &json!({ "member": member }))
}

/// The end of somebody's membership.
pub(super) const MEMBER_REMOVED: &str = "member:removed";
/// The end of a workspace.
pub(super) const WORKSPACE_DELETED: &str = "workspace:deleted";

/// Somebody is no longer a member: the last event of the workspace that reaches them.
pub fn member_removed(workspace: WorkspaceId, actor: Actor, member: MemberId, user: UserId) -> Event {
    let payload = json!({ "member_id": member, "workspace_id": workspace, "user_id": user });
    Event::new(workspace, MEMBER_REMOVED, actor, &payload)
}

/// The workspace is gone: its last event.
pub fn workspace_deleted(workspace: WorkspaceId, actor: Actor) -> Event {
    Event::new(workspace, WORKSPACE_DELETED, actor, &json!({ "workspace_id": workspace }))
}

/// A workspace's own fields changed.
pub fn workspace_updated(actor: Actor, workspace: &Workspace) -> Event {
    Event::new(workspace.id, "workspace:updated", actor, &json!({ "workspace": workspace }))
}
