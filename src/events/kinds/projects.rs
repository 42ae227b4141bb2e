//! Projects and what they are about.

use serde_json::json;

use crate::{
    ids::{ProjectId, ResourceId, WorkspaceId},
    protocol::{
        event::{Actor, Event},
        project::{Project, Resource},
    },
};

/// There is a new project.
pub fn project_created(actor: Actor, project: &Project) -> Event {
    Event::new(project.workspace_id, "project:created", actor, &json!({ "project": project }))
}

/// A project's own fields changed.
pub fn project_updated(actor: Actor, project: &Project) -> Event {
    Event::new(project.workspace_id, "project:updated", actor, &json!({ "project": project }))
}

/// A project is gone.
pub fn project_deleted(workspace: WorkspaceId, actor: Actor, project: ProjectId) -> Event {
    Event::new(workspace, "project:deleted", actor, &json!({ "project_id": project }))
}

/// A project is about one thing more.
pub fn resource_created(actor: Actor, resource: &Resource) -> Event {
    let payload = json!({ "resource": resource, "project_id": resource.project_id });
    Event::new(resource.workspace_id, "project_resource:created", actor, &payload)
}

/// What a project is about is described anew.
pub fn resource_updated(actor: Actor, resource: &Resource) -> Event {
    let payload = json!({ "resource": resource, "project_id": resource.project_id });
    Event::new(resource.workspace_id, "project_resource:updated", actor, &payload)
}

/// A project is about one thing less.
pub fn resource_deleted(workspace: WorkspaceId, actor: Actor, project: ProjectId, resource: ResourceId) -> Event {
    let payload = json!({ "project_id": project, "resource_id": resource });
    Event::new(workspace, "project_resource:deleted", actor, &payload)
}
