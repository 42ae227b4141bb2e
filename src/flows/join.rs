//! The beginning of a membership, and its change.

use std::sync::Arc;

use crate::{
    db::Tx,
    error::Result,
    events::{Control, Nodes, kinds},
    identity::{Role, members},
    ids::{MemberId, UserId, WorkspaceId},
    protocol::{event::Actor, people::Member},
};

/// Adds somebody by address, in the name of an owner or admin; an unknown address becomes a new
/// person. Their browsers, which follow other workspaces, get a hint.
pub async fn add_member(
    tx: &mut Tx,
    nodes: &Arc<Nodes>,
    workspace: WorkspaceId,
    caller: UserId,
    email: &str,
    role: &str,
) -> Result<Member> {
    let rank = members::require_role(tx, workspace, caller, Role::Admin).await?;
    let role = if role.is_empty() { Role::Member } else { members::parse_role(role)? };
    members::require_rank(rank, role)?;
    let user = members::find_or_invite(tx, email).await?;
    let (member, name) = members::add(tx, workspace, user, role).await?;
    let added = kinds::member_added(Actor::Member(caller), &member, &name);
    let (nodes, frame) = (nodes.clone(), added.hint());
    tx.emit(added);
    tx.after_commit(move || nodes.tell(Control::Hint { user, but_not_in: workspace, frame }));
    Ok(member)
}

/// Gives a member another role, in the name of an owner or admin; what was believed of them no longer holds.
pub async fn set_role(
    tx: &mut Tx,
    nodes: &Arc<Nodes>,
    workspace: WorkspaceId,
    caller: UserId,
    member: MemberId,
    role: &str,
) -> Result<Member> {
    let member = members::set_role(tx, workspace, caller, member, role).await?;
    let (nodes, user) = (nodes.clone(), member.user_id);
    tx.after_commit(move || nodes.tell(Control::Membership { workspace, user }));
    Ok(member)
}
