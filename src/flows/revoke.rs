//! The ends of memberships, workspaces and tokens: everything that rests on them ends in the same
//! transaction, and open sockets are closed. Browsers follow their workspace's sequence up to the
//! event that removes them and no further; their lane sees to that. Every node is told of the rest
//! once the transaction is committed.

use std::sync::Arc;

use super::teardown::Site;
use crate::{
    db::{Tx, exec},
    error::Result,
    events::{Control, Nodes, kinds},
    fleet::{self, Condemned},
    identity::{Role, daemon_tokens, members, sessions, task_tokens, tokens},
    ids::{DaemonTokenId, MemberId, RuntimeId, SessionId, TokenId, UserId, WorkspaceId},
    protocol::{event::Actor, people::Member},
    tasks::Queue,
};

/// Removes a member, in the name of an owner or admin.
pub async fn remove_member(
    tx: &mut Tx,
    nodes: &Arc<Nodes>,
    queue: &Arc<Queue>,
    workspace: WorkspaceId,
    caller: UserId,
    member: MemberId,
) -> Result<()> {
    tx.allow_long_statements().await?;
    members::lock_workspace(tx, workspace).await?;
    let rank = members::require_role(tx, workspace, caller, Role::Admin).await?;
    let member = members::get(tx, workspace, member).await?;
    members::require_rank(rank, Role::parse(&member.role).unwrap_or(Role::Owner))?;
    end_membership(tx, nodes, queue, member, caller).await
}

/// Ends the caller's own membership.
pub async fn leave(
    tx: &mut Tx,
    nodes: &Arc<Nodes>,
    queue: &Arc<Queue>,
    workspace: WorkspaceId,
    caller: UserId,
) -> Result<()> {
    tx.allow_long_statements().await?;
    members::lock_workspace(tx, workspace).await?;
    let member = members::own(tx, workspace, caller).await?;
    end_membership(tx, nodes, queue, member, caller).await
}

async fn end_membership(tx: &mut Tx, nodes: &Arc<Nodes>, queue: &Arc<Queue>, member: Member, by: UserId) -> Result<()> {
    members::require_another_owner(tx, &member).await?;
    let Member { id, workspace_id: workspace, user_id: user, .. } = member;
    members::lock_all(tx, workspace, Some(user)).await?;
    let taken = take(tx, queue, workspace, Some(user), by).await?;
    daemon_tokens::revoke_all(tx, workspace, Some(user)).await?;
    task_tokens::revoke_all(tx, workspace, Some(user)).await?;
    members::delete(tx, id).await?;
    taken.tell(tx, workspace, by);
    tx.emit(kinds::member_removed(workspace, Actor::Member(by), id, user));
    let nodes = nodes.clone();
    tx.after_commit(move || {
        tracing::info!(
            %workspace, %user, %by, runtimes = taken.runtimes.len(), agents_archived = taken.agents,
            tasks_cancelled = taken.tasks,
            "membership ended"
        );
        nodes.tell(Control::RuntimesTaken { ids: taken.runtimes });
        nodes.tell(Control::Membership { workspace, user });
    });
    Ok(())
}

/// Removes a workspace, for one of its owners: all work in it ends. What it held is purged later.
pub async fn delete_workspace(
    tx: &mut Tx,
    nodes: &Arc<Nodes>,
    queue: &Arc<Queue>,
    workspace: WorkspaceId,
    caller: UserId,
) -> Result<()> {
    tx.allow_long_statements().await?;
    members::lock_workspace(tx, workspace).await?;
    members::require_role(tx, workspace, caller, Role::Owner).await?;
    members::lock_all(tx, workspace, None).await?;
    let taken = take(tx, queue, workspace, None, caller).await?;
    daemon_tokens::revoke_all(tx, workspace, None).await?;
    task_tokens::revoke_all(tx, workspace, None).await?;
    exec!(tx, |c| sqlx::query("DELETE FROM member WHERE workspace_id = $1").bind(workspace))?;
    // The slug is free for another. Last, because it is a key, and whoever refers to the workspace in a
    // new row waits from here on.
    let now = tx.now();
    exec!(tx, |c| sqlx::query("UPDATE workspace SET deleted_at = $2, updated_at = $2, slug = $3 WHERE id = $1")
        .bind(workspace)
        .bind(now)
        .bind(workspace.to_string()))?;
    taken.tell(tx, workspace, caller);
    tx.emit(kinds::workspace_deleted(workspace, Actor::Member(caller)));
    let nodes = nodes.clone();
    tx.after_commit(move || {
        tracing::info!(
            %workspace, by = %caller, runtimes = taken.runtimes.len(), agents_archived = taken.agents,
            tasks_cancelled = taken.tasks,
            "workspace removed"
        );
        nodes.tell(Control::RuntimesTaken { ids: taken.runtimes });
        nodes.tell(Control::WorkspaceGone { workspace });
    });
    Ok(())
}

/// What was taken from an owner of runtimes, or from all of a workspace's.
#[derive(Default)]
struct Taken {
    runtimes: Vec<RuntimeId>,
    any_online: bool,
    agents: usize,
    tasks: usize,
}

impl Taken {
    fn tell(&self, tx: &mut Tx, workspace: WorkspaceId, by: UserId) {
        if self.any_online {
            tx.emit(kinds::runtimes_changed(workspace, Actor::Member(by), "revoke", &[]));
        }
    }
}

/// Ends the work on the runtimes of a workspace, or of one owner there, and of the agents that are
/// bound to them, wherever it is; puts the agents aside and takes the runtimes offline.
async fn take(
    tx: &mut Tx,
    queue: &Arc<Queue>,
    workspace: WorkspaceId,
    owner: Option<UserId>,
    by: UserId,
) -> Result<Taken> {
    let condemned = fleet::condemn_all_of(tx, workspace, owner).await?;
    if condemned.is_empty() {
        return Ok(Taken::default());
    }
    let site = Site::survey(tx, condemned).await?;
    let tasks = site.end_work(tx, queue, false).await?;
    let agents = site.archive(tx, by).await?;
    fleet::revoke(tx, &site.runtimes).await?;
    let any_online = site.runtimes.iter().any(Condemned::is_online);
    Ok(Taken { runtimes: site.runtime_ids(), any_online, agents, tasks })
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
