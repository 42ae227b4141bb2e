//! `/api/workspaces`.

use axum::{extract::State, response::Response};

use super::{
    Api,
    answer::{created, ok},
    extract::{self, Body, Caller, Segment},
};
use crate::{
    error::Result,
    identity::{Role, members as membership, workspaces},
    ids::WorkspaceId,
    protocol::{
        event::Actor,
        people::{CreateWorkspace, PatchWorkspace},
    },
};

/// The caller's workspaces.
pub async fn list(State(api): State<Api>, caller: Caller) -> Result<Response> {
    let user = caller.user();
    api.db.read(async move |db| workspaces::list(db, user).await).await.map(ok)
}

/// A new one, owned by the caller.
pub async fn create(State(api): State<Api>, caller: Caller, Body(wish): Body<CreateWorkspace>) -> Result<Response> {
    let user = caller.user();
    api.db.write_global(async move |tx| workspaces::create(tx, user, &wish).await).await.map(created)
}

/// One of the caller's.
pub async fn get(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let (user, workspace) = (caller.user(), id(&segment)?);
    api.db
        .read(async move |db| {
            membership::require(db, workspace, user).await?;
            workspaces::get(db, workspace).await
        })
        .await
        .map(ok)
}

/// Changes one; for its owners and admins.
pub async fn patch(
    State(api): State<Api>,
    caller: Caller,
    segment: Segment,
    Body(change): Body<PatchWorkspace>,
) -> Result<Response> {
    let (user, workspace) = (caller.user(), id(&segment)?);
    api.db
        .write(workspace, async move |tx| {
            membership::require_role(tx, workspace, user, Role::Admin).await?;
            workspaces::patch(tx, workspace, Actor::Member(user), &change).await
        })
        .await
        .map(ok)
}

/// Its members.
pub async fn members(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let (user, workspace) = (caller.user(), id(&segment)?);
    api.db
        .read(async move |db| {
            membership::require(db, workspace, user).await?;
            membership::list(db, workspace).await
        })
        .await
        .map(ok)
}

fn id(segment: &str) -> Result<WorkspaceId> {
    extract::id(segment, "workspace_id")
}
