//! Memberships.

use super::Role;
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

/// Makes somebody a member and says so.
pub async fn add(tx: &mut Tx, workspace: WorkspaceId, user: UserId, role: Role, actor: Actor) -> Result<Member> {
    let name: Option<String> = on!(
        tx,
        pg "SELECT name FROM workspace WHERE id = $1 AND deleted_at IS NULL FOR KEY SHARE",
        lite "SELECT name FROM workspace WHERE id = $1 AND deleted_at IS NULL",
        |c, sql| sqlx::query_scalar(sql).bind(workspace).fetch_optional(c)
    )?;
    let name = name.ok_or_else(workspace_not_found)?;
    if !insert(tx, workspace, user, role).await? {
        return Err(Error::conflict("already_member", "user is already a member"));
    }
    let members = list(tx, workspace).await?;
    let member = members
        .into_iter()
        .find(|member| member.user_id == user)
        .ok_or_else(|| Error::internal("a member vanished inside its own transaction"))?;
    tx.emit(kinds::member_added(actor, &member, &name));
    Ok(member)
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
