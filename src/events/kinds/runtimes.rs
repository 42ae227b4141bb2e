//! Runtimes.

use serde::Serialize;
use serde_json::json;

use crate::{
    ids::{RuntimeId, RuntimeProfileId, WorkspaceId},
    protocol::{
        event::{Actor, Event},
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

/// There is a new profile, or one changed.
pub fn profile_changed(workspace: WorkspaceId, actor: Actor, profile: RuntimeProfileId) -> Event {
    Event::new(workspace, "daemon:register", actor, &json!({ "runtime_profile_id": profile }))
}

/// A profile was removed, after its runtimes.
pub fn profile_deleted(workspace: WorkspaceId, actor: Actor, profile: RuntimeProfileId) -> Event {
    Event::new(workspace, "daemon:register", actor, &json!({ "deleted_runtime_profile_id": profile }))
}
