//! `/api/projects`.

use axum::{extract::State, response::Response};
use serde::Deserialize;

use super::{
    Api,
    answer::{at_position, created, nothing, ok},
    extract::{self, Asked, Body, Door, Path, Segment},
};
use crate::{
    error::Result,
    events, flows,
    ids::{ProjectId, ResourceId},
    protocol::project::{CreateProject, CreateResource, Projects, PutProject, PutResource, Resources},
    workspace::projects::{self, resources},
};

/// The query of the list.
#[derive(Deserialize)]
pub struct Filter {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    priority: Option<String>,
}

/// The workspace's projects.
pub async fn list(State(api): State<Api>, door: Door, Asked(filter): Asked<Filter>) -> Result<Response> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let filter = projects::Filter { status: given(filter.status), priority: given(filter.priority) };
    let (position, projects) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            Ok((position, projects::list(db, who.workspace, &filter).await?))
        })
        .await?;
    Ok(at_position(&position, ok(Projects { total: projects.len(), projects })))
}

/// A new one.
pub async fn create(State(api): State<Api>, door: Door, Body(wish): Body<CreateProject>) -> Result<Response> {
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        projects::create(tx, &who, &wish).await
    });
    write.await.map(created)
}

/// One.
pub async fn get(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let project = id(&segment)?;
    let read = api.db.read(async move |db| {
        let who = door.enter(db).await?;
        projects::get(db, who.workspace, project).await
    });
    read.await.map(ok)
}

/// Changes one.
pub async fn put(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Body(change): Body<PutProject>,
) -> Result<Response> {
    let project = id(&segment)?;
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        projects::put(tx, &who, project, change.clone()).await
    });
    write.await.map(ok)
}

/// Removes one.
pub async fn delete(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let project = id(&segment)?;
    let piece = || {
        let door = door.clone();
        api.db.write(door.workspace(), async move |tx| {
            let who = door.enter(tx).await?;
            flows::projects::empty(tx, &who, project).await
        })
    };
    while piece().await? {}
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::projects::delete(tx, &who, project).await
    });
    write.await.map(|()| nothing())
}

/// What one is about.
pub async fn list_resources(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let project = id(&segment)?;
    let (position, resources) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            projects::get(db, who.workspace, project).await?;
            Ok((position, resources::list(db, project).await?))
        })
        .await?;
    Ok(at_position(&position, ok(Resources { total: resources.len(), resources })))
}

/// Adds to what one is about.
pub async fn create_resource(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Body(wish): Body<CreateResource>,
) -> Result<Response> {
    let project = id(&segment)?;
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        resources::create(tx, &who, project, &wish).await
    });
    write.await.map(created)
}

/// Describes what one is about anew.
pub async fn put_resource(
    State(api): State<Api>,
    door: Door,
    Path((project, resource)): Path<(String, String)>,
    Body(change): Body<PutResource>,
) -> Result<Response> {
    let (project, resource) = (id(&project)?, resource_id(&resource)?);
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        resources::put(tx, &who, project, resource, change.clone()).await
    });
    write.await.map(ok)
}

/// Takes away from what one is about.
pub async fn delete_resource(
    State(api): State<Api>,
    door: Door,
    Path((project, resource)): Path<(String, String)>,
) -> Result<Response> {
    let (project, resource) = (id(&project)?, resource_id(&resource)?);
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        resources::delete(tx, &who, project, resource).await
    });
    write.await.map(|()| nothing())
}

fn id(segment: &str) -> Result<ProjectId> {
    extract::id(segment, "project_id")
}

fn resource_id(segment: &str) -> Result<ResourceId> {
    extract::id(segment, "resource_id")
}
