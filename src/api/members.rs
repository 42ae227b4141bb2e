//! `/api/workspaces/{id}/members`.

use axum::{extract::State, response::Response};

use super::{
    Api,
    answer::{at_position, created, nothing, ok},
    extract::{self, Body, Caller, Path, Segment},
    workspaces::id,
};
use crate::{
    error::Result,
    events,
    flows::{join, revoke},
    identity::members,
    ids::MemberId,
    protocol::people::Membership,
};

/// A workspace's members.
pub async fn list(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let (user, workspace) = (caller.user(), caller.confine(id(&segment)?)?);
    let (position, members) = api
        .db
        .read(async move |db| {
            members::require(db, workspace, user).await?;
            let position = events::position(db, workspace).await?;
            Ok((position, members::list(db, workspace).await?))
        })
        .await?;
    Ok(at_position(&position, ok(members)))
}

/// Adds somebody by their address, at once.
pub async fn add(
    State(api): State<Api>,
    caller: Caller,
    segment: Segment,
    Body(wish): Body<Membership>,
) -> Result<Response> {
    let (user, workspace) = (caller.user(), id(&segment)?);
    let nodes = api.nodes.clone();
    api.db
        .write(workspace, async move |tx| join::add_member(tx, &nodes, workspace, user, &wish.email, &wish.role).await)
        .await
        .map(created)
}

/// Gives a member another role.
pub async fn set_role(
    State(api): State<Api>,
    caller: Caller,
    Path((workspace, member)): Path<(String, String)>,
    Body(wish): Body<Membership>,
) -> Result<Response> {
    let (user, workspace, member) = (caller.user(), id(&workspace)?, member_id(&member)?);
    let nodes = api.nodes.clone();
    api.db
        .write(workspace, async move |tx| join::set_role(tx, &nodes, workspace, user, member, &wish.role).await)
        .await
        .map(ok)
}

/// Ends a membership.
pub async fn remove(
    State(api): State<Api>,
    caller: Caller,
    Path((workspace, member)): Path<(String, String)>,
) -> Result<Response> {
    let (user, workspace, member) = (caller.user(), id(&workspace)?, member_id(&member)?);
    let (nodes, queue) = (api.nodes.clone(), api.queue.clone());
    api.db
        .write(workspace, async move |tx| revoke::remove_member(tx, &nodes, &queue, workspace, user, member).await)
        .await?;
    Ok(nothing())
}

fn member_id(segment: &str) -> Result<MemberId> {
    extract::id(segment, "member_id")
}
