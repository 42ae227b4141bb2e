//! What people say of themselves and of their workspaces. A picture may be one of the hub's files,
//! which the workspace that has it sees from then on.

use crate::{
    db::Tx,
    error::Result,
    identity::{Insider, Role, members, users, workspaces},
    ids::{UserId, WorkspaceId},
    protocol::{
        event::Actor,
        people::{PatchMe, PatchWorkspace, User, Workspace},
    },
    workspace::attachments,
};

/// Applies a person's own changes. They belong to no workspace, but the file of a picture does.
pub async fn patch_me(tx: &mut Tx, user: UserId, change: &PatchMe) -> Result<User> {
    let url = change.avatar_url.as_deref();
    if let Some(attachment) = url.and_then(attachments::in_address)
        && let Some(workspace) = attachments::workspace_of(tx, attachment).await?
        && let Some(role) = members::role(tx, workspace, user).await?
    {
        let who = Insider { workspace, user, role, task: None };
        attachments::show_as_avatar(tx, &who, url).await?;
    }
    users::patch(tx, user, change).await
}

/// Changes a workspace; for its owners and admins.
pub async fn patch_workspace(
    tx: &mut Tx,
    workspace: WorkspaceId,
    user: UserId,
    actor: Actor,
    change: &PatchWorkspace,
) -> Result<Workspace> {
    let role = members::require_role(tx, workspace, user, Role::Admin).await?;
    let changed = workspaces::patch(tx, workspace, actor, change).await?;
    let who = Insider { workspace, user, role, task: None };
    attachments::show_as_avatar(tx, &who, change.avatar_url.as_deref()).await?;
    Ok(changed)
}
