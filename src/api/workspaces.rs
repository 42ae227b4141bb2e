//! `/api/workspaces`.

use axum::{extract::State, response::Response};

use super::{
    Api,
    answer::{created, nothing, ok},
    extract::{self, Body, Caller, Segment},
};
use crate::{
    error::Result,
    flows::{people, revoke},
    identity::{members as membership, workspaces},
    ids::WorkspaceId,
    protocol::people::{CreateWorkspace, PatchWorkspace},
};

/// The caller's workspaces; the only one that a daemon's or task's token is good for.
pub async fn list(State(api): State<Api>, caller: Caller) -> Result<Response> {
    let (user, only) = (caller.user(), caller.0.confined_to());
    let mut all = api.db.read(async move |db| workspaces::list(db, user).await).await?;
    all.retain(|workspace| only.is_none_or(|only| workspace.id == only));
    Ok(ok(all))
}

/// A new one, owned by the caller.
pub async fn create(State(api): State<Api>, caller: Caller, Body(wish): Body<CreateWorkspace>) -> Result<Response> {
    let user = caller.user();
    api.db.write_global(async move |tx| workspaces::create(tx, user, &wish).await).await.map(created)
}

/// One of the caller's.
pub async fn get(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let (user, workspace) = (caller.user(), caller.confine(id(&segment)?)?);
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
    let (user, actor, workspace) = (caller.user(), caller.actor(), id(&segment)?);
    api.db
        .write(workspace, async move |tx| people::patch_workspace(tx, workspace, user, actor, &change).await)
        .await
        .map(ok)
}

/// Removes one; for its owners.
pub async fn delete(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let (user, workspace) = (caller.user(), id(&segment)?);
    let (nodes, queue) = (api.nodes.clone(), api.queue.clone());
    api.db
        .write(workspace, async move |tx| revoke::delete_workspace(tx, &nodes, &queue, workspace, user).await)
        .await?;
    Ok(nothing())
}

/// Ends the caller's own membership.
pub async fn leave(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let (user, workspace) = (caller.user(), id(&segment)?);
    let (nodes, queue) = (api.nodes.clone(), api.queue.clone());
    api.db.write(workspace, async move |tx| revoke::leave(tx, &nodes, &queue, workspace, user).await).await?;
    Ok(nothing())
}

/// The id of a workspace in a path.
pub fn id(segment: &str) -> Result<WorkspaceId> {
    extract::id(segment, "workspace_id")
}
