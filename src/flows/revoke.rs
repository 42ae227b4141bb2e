//! The ends of memberships, workspaces and tokens: everything that rests on them ends in the same
//! transaction, and open sockets are closed. Browsers follow their workspace's sequence up to the
//! event that removes them and no further; their lane sees to that. Every node is told of the rest
//! once the transaction is committed.

use std::sync::Arc;

use crate::{
    db::{Tx, exec},
    error::Result,
    events::{Control, Nodes, kinds},
    fleet,
    identity::{Role, daemon_tokens, members, sessions, task_tokens, tokens},
    ids::{DaemonTokenId, MemberId, RuntimeId, SessionId, TokenId, UserId, WorkspaceId},
    protocol::{event::Actor, people::Member},
};

/// Removes a member, in the name of an owner or admin.
pub async fn remove_member(
    tx: &mut Tx,
    nodes: &Arc<Nodes>,
    workspace: WorkspaceId,
    caller: UserId,
    member: MemberId,
) -> Result<()> {
    members::lock_workspace(tx, workspace).await?;
    let rank = members::require_role(tx, workspace, caller, Role::Admin).await?;
    let member = members::get(tx, workspace, member).await?;
    members::require_rank(rank, Role::parse(&member.role).unwrap_or(Role::Owner))?;
    end_membership(tx, nodes, member, caller).await
}

/// Ends the caller's own membership.
pub async fn leave(tx: &mut Tx, nodes: &Arc<Nodes>, workspace: WorkspaceId, caller: UserId) -> Result<()> {
    members::lock_workspace(tx, workspace).await?;
    let member = members::own(tx, workspace, caller).await?;
    end_membership(tx, nodes, member, caller).await
}

async fn end_membership(tx: &mut Tx, nodes: &Arc<Nodes>, member: Member, by: UserId) -> Result<()> {
    members::require_another_owner(tx, &member).await?;
    let Member { id, workspace_id: workspace, user_id: user, .. } = member;
    let runtimes = fleet::revoke(tx, workspace, Some(user)).await?;
    daemon_tokens::revoke_all(tx, workspace, Some(user)).await?;
    task_tokens::revoke_all(tx, workspace, Some(user)).await?;
    members::delete(tx, id).await?;
    if runtimes.any_online {
        tx.emit(kinds::runtimes_changed(workspace, Actor::Member(by), "revoke", &[]));
    }
    tx.emit(kinds::member_removed(workspace, Actor::Member(by), id, user));
    take_runtimes(tx, nodes, runtimes.ids);
    let nodes = nodes.clone();
    tx.after_commit(move || {
        nodes.tell(Control::Membership { workspace, user });
        tracing::info!(%workspace, %user, %by, "membership ended");
    });
    Ok(())
}

/// Removes a workspace, for one of its owners. What it held is purged later.
pub async fn delete_workspace(tx: &mut Tx, nodes: &Arc<Nodes>, workspace: WorkspaceId, caller: UserId) -> Result<()> {
    members::lock_workspace(tx, workspace).await?;
    members::require_role(tx, workspace, caller, Role::Owner).await?;
    let now = tx.now();
    // The slug is free for another.
    exec!(tx, |c| sqlx::query("UPDATE workspace SET deleted_at = $2, updated_at = $2, slug = $3 WHERE id = $1")
        .bind(workspace)
        .bind(now)
        .bind(workspace.to_string()))?;
    let runtimes = fleet::revoke(tx, workspace, None).await?;
    daemon_tokens::revoke_all(tx, workspace, None).await?;
    task_tokens::revoke_all(tx, workspace, None).await?;
    exec!(tx, |c| sqlx::query("DELETE FROM member WHERE workspace_id = $1").bind(workspace))?;
    tx.emit(kinds::workspace_deleted(workspace, Actor::Member(caller)));
    take_runtimes(tx, nodes, runtimes.ids);
    let nodes = nodes.clone();
    tx.after_commit(move || {
        nodes.tell(Control::WorkspaceGone { workspace });
        tracing::info!(%workspace, by = %caller, "workspace removed");
    });
    Ok(())
}

/// Revokes a person's token with the sessions that were opened with it.
pub async fn revoke_token(tx: &mut Tx, nodes: &Arc<Nodes>, user: UserId, token: TokenId) -> Result<()> {
    if tokens::revoke(tx, user, token).await? {
        let nodes = nodes.clone();
        tx.after_commit(move || nodes.tell(Control::TokenEnded { token: token.0 }));
    }
    Ok(())
}

/// Ends a session.
pub async fn end_session(tx: &mut Tx, nodes: &Arc<Nodes>, session: SessionId) -> Result<()> {
    sessions::end(tx, session).await?;
    let nodes = nodes.clone();
    tx.after_commit(move || nodes.tell(Control::SessionEnded { session: session.0 }));
    Ok(())
}

/// Revokes a daemon's token.
pub async fn revoke_daemon_token(
    tx: &mut Tx,
    nodes: &Arc<Nodes>,
    workspace: WorkspaceId,
    caller: UserId,
    token: DaemonTokenId,
) -> Result<()> {
    let role = members::require(tx, workspace, caller).await?;
    daemon_tokens::revoke(tx, workspace, caller, role, token).await?;
    let nodes = nodes.clone();
    tx.after_commit(move || nodes.tell(Control::TokenEnded { token: token.0 }));
    Ok(())
}

fn take_runtimes(tx: &mut Tx, nodes: &Arc<Nodes>, ids: Vec<RuntimeId>) {
    let nodes = nodes.clone();
    tx.after_commit(move || nodes.tell(Control::RuntimesTaken { ids }));
}
