//! Workspaces and their members.

use serde_json::json;

use crate::{
    ids::{MemberId, UserId, WorkspaceId},
    protocol::{
        event::{Actor, Event},
        people::{Member, Workspace},
    },
};

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
    Event::new(member.workspace_id, MEMBER_UPDATED, actor, &json!({ "member": member }))
}

/// Another role of somebody's.
pub(in crate::events) const MEMBER_UPDATED: &str = "member:updated";
/// The end of somebody's membership.
pub(in crate::events) const MEMBER_REMOVED: &str = "member:removed";
/// The end of a workspace.
pub(in crate::events) const WORKSPACE_DELETED: &str = "workspace:deleted";

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
