//! `/api/workspaces/{id}/daemon-tokens`.

use axum::{extract::State, response::Response};

use super::{
    Api,
    answer::{created, nothing, ok},
    extract::{self, Body, Caller, Path, Segment},
    workspaces::id,
};
use crate::{
    error::Result,
    flows::revoke,
    identity::{daemon_tokens, members},
    protocol::people::CreateDaemonToken,
};

/// The workspace's tokens: all for owners and admins, their own for members.
pub async fn list(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let (user, workspace) = (caller.user(), id(&segment)?);
    api.db
        .read(async move |db| {
            let role = members::require(db, workspace, user).await?;
            daemon_tokens::list(db, workspace, user, role).await
        })
        .await
        .map(ok)
}

/// Makes one in the caller's name; the only answer that has its secret.
pub async fn create(
    State(api): State<Api>,
    caller: Caller,
    segment: Segment,
    Body(wish): Body<CreateDaemonToken>,
) -> Result<Response> {
    let (user, workspace) = (caller.user(), id(&segment)?);
    api.db
        .write(workspace, async move |tx| {
            // It ends with the membership, which must not end unseen.
            members::hold(tx, workspace, user).await?;
            members::require(tx, workspace, user).await?;
            daemon_tokens::create(tx, workspace, user, &wish).await
        })
        .await
        .map(created)
}

/// Revokes one.
pub async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Path((workspace, token)): Path<(String, String)>,
) -> Result<Response> {
    let (user, workspace) = (caller.user(), id(&workspace)?);
    let token = extract::id(&token, "token id")?;
    let nodes = api.nodes.clone();
    api.db
        .write(workspace, async move |tx| revoke::revoke_daemon_token(tx, &nodes, workspace, user, token).await)
        .await?;
    Ok(nothing())
}
