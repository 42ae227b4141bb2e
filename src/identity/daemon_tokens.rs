//! Daemon tokens: for machines that should not hold a person's token. Each is good for one
//! workspace and one daemon id; what it registers belongs to its creator, and it is worthless
//! without its creator's membership.

use super::{Role, secrets};
use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    ids::{DaemonTokenId, UserId, WorkspaceId},
    protocol::people::{CreateDaemonToken, DaemonToken, NewDaemonToken},
    time::Timestamp,
};

/// Characters of a daemon id at most; as for a registration.
const DAEMON_ID: usize = 255;

#[derive(sqlx::FromRow)]
struct Row {
    id: DaemonTokenId,
    workspace_id: WorkspaceId,
    daemon_id: String,
    created_by: UserId,
    token_prefix: String,
    expires_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl From<Row> for DaemonToken {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            workspace_id: row.workspace_id,
            daemon_id: row.daemon_id,
            created_by: row.created_by,
            token_prefix: row.token_prefix,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            created_at: row.created_at,
        }
    }
}

/// Makes a token in the name of a member. The caller has asked whether they are one.
pub async fn create(
    tx: &mut Tx,
    workspace: WorkspaceId,
    creator: UserId,
    wish: &CreateDaemonToken,
) -> Result<NewDaemonToken> {
    let daemon_id = wish.daemon_id.trim();
    if daemon_id.is_empty() {
        return Err(Error::invalid("daemon_id_required", "daemon_id is required"));
    }
    if daemon_id.chars().count() > DAEMON_ID {
        return Err(Error::invalid("too_long", format!("daemon_id has at most {DAEMON_ID} characters")));
    }
    let now = tx.now();
    let token = secrets::mint(secrets::DAEMON);
    let about = DaemonToken {
        id: DaemonTokenId::fresh(),
        workspace_id: workspace,
        daemon_id: daemon_id.to_owned(),
        created_by: creator,
        token_prefix: secrets::shown(&token).to_owned(),
        expires_at: super::tokens::end_of_life(now, wish.expires_in_days)?,
        last_used_at: None,
        created_at: now,
    };
    exec!(tx, |c| sqlx::query(
        "INSERT INTO daemon_token
             (id, workspace_id, daemon_id, created_by, token_hash, token_prefix, expires_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
    )
    .bind(about.id)
    .bind(workspace)
    .bind(daemon_id)
    .bind(creator)
    .bind(secrets::hash(&token))
    .bind(&about.token_prefix)
    .bind(about.expires_at)
    .bind(now))?;
    Ok(NewDaemonToken { about, token })
}

/// A workspace's tokens, newest first: all for owners and admins, their own for members.
pub async fn list(db: &mut Session, workspace: WorkspaceId, user: UserId, role: Role) -> Result<Vec<DaemonToken>> {
    let only = (role < Role::Admin).then_some(user);
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(
        "SELECT id, workspace_id, daemon_id, created_by, token_prefix, expires_at, last_used_at, created_at
         FROM daemon_token WHERE workspace_id = $1 AND (created_by = $2 OR $2 IS NULL)
         ORDER BY created_at DESC, id DESC"
    )
    .bind(workspace)
    .bind(only)
    .fetch_all(c))?;
    Ok(rows.into_iter().map(DaemonToken::from).collect())
}

/// Removes a token, one's own or, for owners and admins, anybody's.
pub async fn revoke(tx: &mut Tx, workspace: WorkspaceId, user: UserId, role: Role, token: DaemonTokenId) -> Result<()> {
    let only = (role < Role::Admin).then_some(user);
    let removed = exec!(tx, |c| sqlx::query(
        "DELETE FROM daemon_token WHERE id = $1 AND workspace_id = $2 AND (created_by = $3 OR $3 IS NULL)"
    )
    .bind(token)
    .bind(workspace)
    .bind(only))?;
    if removed == 0 {
        return Err(Error::not_found("daemon_token_not_found", "daemon token not found"));
    }
    Ok(())
}

/// Removes the tokens of a workspace, or those that one person made there.
pub async fn revoke_all(tx: &mut Tx, workspace: WorkspaceId, creator: Option<UserId>) -> Result<()> {
    exec!(tx, |c| sqlx::query("DELETE FROM daemon_token WHERE workspace_id = $1 AND (created_by = $2 OR $2 IS NULL)")
        .bind(workspace)
        .bind(creator))
    .map(drop)
}
