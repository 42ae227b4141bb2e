//! From a secret to who holds it. The one place where a bearer token or a session cookie is
//! believed.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{DaemonBinding, Identity, Proof, Role, TaskBinding, believed::Believed, jwt, members, secrets};
use crate::{
    db::{Db, on, read_or_store},
    error::{Error, Result},
    ids::{AgentId, DaemonTokenId, TaskId, TaskTokenId, TokenId, UserId, WorkspaceId},
    time::Timestamp,
};

const KEY: &str = "session_key";

/// An identity, and for how long it holds.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Who.
    pub identity: Identity,
    /// When the secret ends by itself; `None` is never.
    pub expires_at: Option<Timestamp>,
}

/// What turns secrets into identities.
pub struct Credentials {
    pub(super) db: Db,
    pub(super) key: jwt::Key,
    pub(super) session_ttl: Duration,
    pub(super) believed: Believed,
}

impl Credentials {
    /// Reads the signing key of sessions, making it on an empty store.
    pub async fn open(db: &Db, session_ttl: Duration) -> Result<Self> {
        let fresh: [u8; 32] = rand::random();
        let fresh: String = fresh.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = read_or_store(db, KEY, fresh).await?;
        let key = jwt::Key::new(key.as_bytes()).ok_or_else(|| Error::internal("the session key is unusable"))?;
        Ok(Self { db: db.clone(), key, session_ttl, believed: Believed::default() })
    }

    /// The identity behind a secret; `None` if it is unknown, expired, revoked, or rests on a
    /// membership that is gone. No statement for one that is believed, else one.
    pub async fn resolve(&self, secret: &str) -> Result<Option<Credential>> {
        let key = Believed::key(secret);
        if let Some(credential) = self.believed.credential(&key, self.db.clock().now()) {
            return Ok(Some(credential));
        }
        let before = self.believed.before_reading();
        let found = self.look_up(secret).await?;
        if let Some(credential) = &found {
            self.believed.learn_credential(key, credential.clone(), before);
        }
        Ok(found)
    }

    async fn look_up(&self, secret: &str) -> Result<Option<Credential>> {
        if secrets::is(secrets::PERSONAL, secret) {
            self.personal(secret).await
        } else if secrets::is(secrets::DAEMON, secret) {
            self.daemon(secret).await
        } else if secrets::is(secrets::TASK, secret) {
            self.task(secret).await
        } else {
            self.session(secret).await
        }
    }

    /// Somebody's role in a workspace; `None` for a stranger. No statement for one that is believed.
    pub async fn role(&self, workspace: WorkspaceId, user: UserId) -> Result<Option<Role>> {
        if let Some(role) = self.believed.role(workspace, user) {
            return Ok(Some(role));
        }
        let before = self.believed.before_reading();
        let role = self.db.read(async move |db| members::role(db, workspace, user).await).await?;
        if let Some(role) = role {
            self.believed.learn_role(workspace, user, role, before);
        }
        Ok(role)
    }

    /// A token, or a session, changed or ended.
    pub fn forget_token(&self, row: Uuid) {
        self.believed.drop_row(row);
    }

    /// A membership changed, or all of a workspace did.
    pub fn forget_membership(&self, workspace: WorkspaceId, user: Option<UserId>) {
        self.believed.drop_membership(workspace, user);
    }

    /// Nothing is believed about any secret or membership.
    #[cfg(feature = "test-hooks")]
    pub fn forget_everything(&self) {
        self.believed.drop_everything();
    }

    async fn personal(&self, secret: &str) -> Result<Option<Credential>> {
        let (hash, now) = (secrets::hash(secret), self.db.clock().now());
        let found: Option<(UserId, TokenId, Option<Timestamp>)> = self
            .db
            .read(async move |db| {
                on!(db, |c| sqlx::query_as(
                    "SELECT user_id, id, expires_at FROM personal_access_token
                     WHERE token_hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)"
                )
                .bind(&hash)
                .bind(now)
                .fetch_optional(c))
            })
            .await?;
        Ok(found.map(|(user, token, expires_at)| Credential {
            identity: Identity::Person { user, proof: Proof::Token(token) },
            expires_at,
        }))
    }

    async fn session(&self, secret: &str) -> Result<Option<Credential>> {
        let Some(claims) = self.key.verify(secret) else { return Ok(None) };
        let now = self.db.clock().now();
        if claims.exp <= now.unix_seconds() {
            return Ok(None);
        }
        let session = claims.sid;
        let found: Option<(UserId, TokenId, Timestamp)> = self
            .db
            .read(async move |db| {
                on!(db, |c| sqlx::query_as(
                    "SELECT s.user_id, s.token_id, s.expires_at
                     FROM session s JOIN personal_access_token t ON t.id = s.token_id
                     WHERE s.id = $1 AND s.ended_at IS NULL AND s.expires_at > $2 AND t.revoked_at IS NULL"
                )
                .bind(session)
                .bind(now)
                .fetch_optional(c))
            })
            .await?;
        Ok(found.filter(|(user, ..)| *user == claims.sub).map(|(user, token, expires_at)| Credential {
            identity: Identity::Person { user, proof: Proof::Session { session, token } },
            expires_at: Some(expires_at),
        }))
    }

    async fn daemon(&self, secret: &str) -> Result<Option<Credential>> {
        type Row = (DaemonTokenId, WorkspaceId, String, UserId, Option<Timestamp>);
        let (hash, now) = (secrets::hash(secret), self.db.clock().now());
        let found: Option<Row> = self
            .db
            .read(async move |db| {
                on!(db, |c| sqlx::query_as(
                    "SELECT t.id, t.workspace_id, t.daemon_id, t.created_by, t.expires_at
                     FROM daemon_token t
                     JOIN member m ON m.workspace_id = t.workspace_id AND m.user_id = t.created_by
                     JOIN workspace w ON w.id = t.workspace_id AND w.deleted_at IS NULL
                     WHERE t.token_hash = $1 AND (t.expires_at IS NULL OR t.expires_at > $2)"
                )
                .bind(&hash)
                .bind(now)
                .fetch_optional(c))
            })
            .await?;
        Ok(found.map(|(token, workspace, daemon_id, creator, expires_at)| Credential {
            identity: Identity::Daemon(Arc::new(DaemonBinding { token, workspace, daemon_id, creator })),
            expires_at,
        }))
    }

    async fn task(&self, secret: &str) -> Result<Option<Credential>> {
        type Row = (TaskTokenId, WorkspaceId, AgentId, TaskId, UserId, Timestamp);
        let (hash, now) = (secrets::hash(secret), self.db.clock().now());
        let found: Option<Row> = self
            .db
            .read(async move |db| {
                on!(db, |c| sqlx::query_as(
                    "SELECT t.id, t.workspace_id, t.agent_id, t.task_id, t.user_id, t.expires_at
                     FROM task_token t
                     JOIN member m ON m.workspace_id = t.workspace_id AND m.user_id = t.user_id
                     JOIN workspace w ON w.id = t.workspace_id AND w.deleted_at IS NULL
                     WHERE t.token_hash = $1 AND t.expires_at > $2"
                )
                .bind(&hash)
                .bind(now)
                .fetch_optional(c))
            })
            .await?;
        Ok(found.map(|(token, workspace, agent, task, user, expires_at)| Credential {
            identity: Identity::Agent(Arc::new(TaskBinding { token, workspace, agent, task, user })),
            expires_at: Some(expires_at),
        }))
    }
}
