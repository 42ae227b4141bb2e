//! Memberships.

use super::{Role, users};
use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    events::kinds,
    ids::{MemberId, UserId, WorkspaceId},
    protocol::{event::Actor, people::Member},
    time::Timestamp,
};

/// A person's role in a workspace; `None` for a stranger and for a workspace that is gone.
pub async fn role(db: &mut Session, workspace: WorkspaceId, user: UserId) -> Result<Option<Role>> {
    let role: Option<String> = on!(db, |c| sqlx::query_scalar(
        "SELECT m.role FROM member m JOIN workspace w ON w.id = m.workspace_id
         WHERE m.workspace_id = $1 AND m.user_id = $2 AND w.deleted_at IS NULL"
    )
    .bind(workspace)
    .bind(user)
    .fetch_optional(c))?;
    Ok(role.as_deref().and_then(Role::parse))
}

/// As [`role`], refusing strangers with the one answer that says neither "absent" nor "forbidden".
pub async fn require(db: &mut Session, workspace: WorkspaceId, user: UserId) -> Result<Role> {
    role(db, workspace, user).await?.ok_or_else(workspace_not_found)
}

/// As [`require`], refusing a role below `least`.
pub async fn require_role(db: &mut Session, workspace: WorkspaceId, user: UserId, least: Role) -> Result<Role> {
    let role = require(db, workspace, user).await?;
    if role < least {
        return Err(Error::forbidden("insufficient_permissions", "insufficient permissions"));
    }
    Ok(role)
}

/// The refusal for workspaces that are not there or not the caller's.
pub fn workspace_not_found() -> Error {
    Error::not_found("workspace_not_found", "workspace not found")
}

#[derive(sqlx::FromRow)]
struct Row {
    id: MemberId,
    workspace_id: WorkspaceId,
    user_id: UserId,
    role: String,
    created_at: Timestamp,
    name: String,
    email: String,
    avatar_url: Option<String>,
}

impl From<Row> for Member {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            workspace_id: row.workspace_id,
            user_id: row.user_id,
            role: row.role,
            created_at: row.created_at,
            name: row.name,
            email: row.email,
            avatar_url: row.avatar_url,
        }
    }
}

/// A workspace's members, oldest first.
pub async fn list(db: &mut Session, workspace: WorkspaceId) -> Result<Vec<Member>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(
        "SELECT m.id, m.workspace_id, m.user_id, m.role, m.created_at, u.name, u.email, u.avatar_url
         FROM member m JOIN users u ON u.id = m.user_id
         WHERE m.workspace_id = $1 ORDER BY m.created_at, m.id"
    )
    .bind(workspace)
    .fetch_all(c))?;
    Ok(rows.into_iter().map(Member::from).collect())
}

/// Makes somebody a member, without a word; also gives the workspace's name. Nobody joins a workspace whose
/// memberships are about to end, see [`lock_workspace`].
pub async fn add(tx: &mut Tx, workspace: WorkspaceId, user: UserId, role: Role) -> Result<(Member, String)> {
    let name: Option<String> = on!(
        tx,
        pg "SELECT name FROM workspace WHERE id = $1 AND deleted_at IS NULL FOR SHARE",
        lite "SELECT name FROM workspace WHERE id = $1 AND deleted_at IS NULL",
        |c, sql| sqlx::query_scalar(sql).bind(workspace).fetch_optional(c)
    )?;
    let name = name.ok_or_else(workspace_not_found)?;
    if !insert(tx, workspace, user, role).await? {
        return Err(Error::conflict("already_member", "user is already a member"));
    }
    Ok((own(tx, workspace, user).await?, name))
}

/// Locks a workspace against other changes of who owns it; so that two owners cannot remove each
/// other at once.
pub async fn lock_workspace(tx: &mut Tx, workspace: WorkspaceId) -> Result<()> {
    let found: Option<i32> = on!(
        tx,
        pg "SELECT 1 FROM workspace WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE",
        lite "SELECT 1 FROM workspace WHERE id = $1 AND deleted_at IS NULL",
        |c, sql| sqlx::query_scalar(sql).bind(workspace).fetch_optional(c)
    )?;
    found.map(drop).ok_or_else(workspace_not_found)
}

/// Locks the memberships of a workspace, or one person's, in the order of their ids: they are about to
/// end, and whoever rests on one meanwhile waits and then finds it gone. The workspace is locked.
pub async fn lock_all(tx: &mut Tx, workspace: WorkspaceId, user: Option<UserId>) -> Result<()> {
    on!(
        tx,
        pg "SELECT 1 FROM member WHERE workspace_id = $1 AND (user_id = $2 OR $2 IS NULL) ORDER BY id FOR UPDATE",
        lite "SELECT 1 FROM member WHERE workspace_id = $1 AND (user_id = $2 OR $2 IS NULL)",
        |c, sql| sqlx::query_scalar::<_, i32>(sql).bind(workspace).bind(user).fetch_all(c)
    )
    .map(drop)
}

/// Holds a membership for as long as the transaction lasts, or refuses as [`require`].
pub async fn hold(tx: &mut Tx, workspace: WorkspaceId, user: UserId) -> Result<()> {
    let held: Option<i32> = on!(
        tx,
        pg "SELECT 1 FROM member WHERE workspace_id = $1 AND user_id = $2 FOR KEY SHARE",
        lite "SELECT 1 FROM member WHERE workspace_id = $1 AND user_id = $2",
        |c, sql| sqlx::query_scalar(sql).bind(workspace).bind(user).fetch_optional(c)
    )?;
    held.map(drop).ok_or_else(workspace_not_found)
}

/// A membership by its id.
pub async fn get(db: &mut Session, workspace: WorkspaceId, member: MemberId) -> Result<Member> {
    let row: Option<Row> = on!(db, |c| sqlx::query_as(
        "SELECT m.id, m.workspace_id, m.user_id, m.role, m.created_at, u.name, u.email, u.avatar_url
         FROM member m JOIN users u ON u.id = m.user_id
         WHERE m.workspace_id = $1 AND m.id = $2"
    )
    .bind(workspace)
    .bind(member)
    .fetch_optional(c))?;
    row.map(Member::from).ok_or_else(member_not_found)
}

/// A person's own membership.
pub async fn own(db: &mut Session, workspace: WorkspaceId, user: UserId) -> Result<Member> {
    let id: Option<MemberId> =
        on!(db, |c| sqlx::query_scalar("SELECT id FROM member WHERE workspace_id = $1 AND user_id = $2")
            .bind(workspace)
            .bind(user)
            .fetch_optional(c))?;
    get(db, workspace, id.ok_or_else(workspace_not_found)?).await
}

/// Refuses what only an owner may do to another owner.
pub fn require_rank(caller: Role, touched: Role) -> Result<()> {
    if touched == Role::Owner && caller != Role::Owner {
        return Err(Error::forbidden("insufficient_permissions", "insufficient permissions"));
    }
    Ok(())
}

/// Refuses to leave a workspace without an owner. The workspace is locked.
pub async fn require_another_owner(tx: &mut Tx, member: &Member) -> Result<()> {
    if member.role != Role::Owner.name() {
        return Ok(());
    }
    let another: Option<i32> = on!(tx, |c| sqlx::query_scalar(
        "SELECT 1 FROM member WHERE workspace_id = $1 AND role = 'owner' AND id <> $2 LIMIT 1"
    )
    .bind(member.workspace_id)
    .bind(member.id)
    .fetch_optional(c))?;
    another.map(drop).ok_or_else(|| Error::invalid("last_owner", "workspace must have at least one owner"))
}

/// Gives a member another role; for owners and admins.
pub async fn set_role(
    tx: &mut Tx,
    workspace: WorkspaceId,
    caller: UserId,
    member: MemberId,
    role: &str,
) -> Result<Member> {
    lock_workspace(tx, workspace).await?;
    let rank = require_role(tx, workspace, caller, Role::Admin).await?;
    let before = get(tx, workspace, member).await?;
    let role = parse_role(role)?;
    require_rank(rank, Role::parse(&before.role).unwrap_or(Role::Owner))?;
    require_rank(rank, role)?;
    if before.role == role.name() {
        return Ok(before);
    }
    require_another_owner(tx, &before).await?;
    exec!(tx, |c| sqlx::query("UPDATE member SET role = $2 WHERE id = $1").bind(member).bind(role.name()))?;
    let after = Member { role: role.name().to_owned(), ..before };
    tx.emit(kinds::member_updated(Actor::Member(caller), &after));
    Ok(after)
}

/// Somebody by address; an unknown one becomes a new person.
pub async fn find_or_invite(tx: &mut Tx, email: &str) -> Result<UserId> {
    match users::find(tx, email).await? {
        Some(user) => Ok(user),
        None => users::invite(tx, email).await,
    }
}

/// Ends a membership without a word; the flow around it does the rest.
pub async fn delete(tx: &mut Tx, member: MemberId) -> Result<()> {
    exec!(tx, |c| sqlx::query("DELETE FROM member WHERE id = $1").bind(member)).map(drop)
}

/// A role by the wire's word.
pub fn parse_role(text: &str) -> Result<Role> {
    Role::parse(text.trim()).ok_or_else(|| Error::invalid("invalid_role", "invalid member role"))
}

fn member_not_found() -> Error {
    Error::not_found("member_not_found", "member not found")
}

/// Stores a membership without a word; false if there is one.
pub(super) async fn insert(tx: &mut Tx, workspace: WorkspaceId, user: UserId, role: Role) -> Result<bool> {
    let now = tx.now();
    let inserted = exec!(tx, |c| sqlx::query(
        "INSERT INTO member (id, workspace_id, user_id, role, created_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (workspace_id, user_id) DO NOTHING"
    )
    .bind(MemberId::fresh())
    .bind(workspace)
    .bind(user)
    .bind(role.name())
    .bind(now))?;
    Ok(inserted > 0)
}
