//! Sign-ins: a session row, and the signed token that names it. A session ends with the token that
//! it was opened with.

use super::{Credentials, jwt::Claims};
use crate::{
    db::{Db, Tx, exec, on},
    error::{Error, Result},
    ids::{SessionId, TokenId, UserId},
    time::Timestamp,
};

/// A session as its holder gets it.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The signed token: the value of the session cookie.
    pub jwt: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl Credentials {
    /// Opens a session for the holder of a token; it lasts as long as sessions do, and no longer
    /// than the token.
    pub async fn open_session(&self, tx: &mut Tx, user: UserId, token: TokenId) -> Result<Opened> {
        let now = tx.now();
        let token_ends: Option<Option<Timestamp>> = on!(
            tx,
            pg "SELECT expires_at FROM personal_access_token
                WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2) FOR SHARE",
            lite "SELECT expires_at FROM personal_access_token
                  WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)",
            |c, sql| sqlx::query_scalar(sql).bind(token).bind(now).fetch_optional(c)
        )?;
        // Revoked since the guard looked.
        let token_ends = token_ends.ok_or_else(|| Error::unauthenticated("invalid_token", "invalid token"))?;
        let full = now.plus(self.session_ttl);
        let expires_at = token_ends.map_or(full, |end| end.min(full));
        let session = SessionId::fresh();
        exec!(tx, |c| sqlx::query(
            "INSERT INTO session (id, user_id, token_id, expires_at, created_at) VALUES ($1, $2, $3, $4, $5)"
        )
        .bind(session)
        .bind(user)
        .bind(token)
        .bind(expires_at)
        .bind(now))?;
        let claims =
            Claims { sub: user, sid: session, iat: now.unix_seconds(), exp: expires_at.unix_seconds_rounded_up() };
        Ok(Opened { jwt: self.key.sign(&claims), expires_at })
    }
}

/// Ends a session.
pub async fn end(tx: &mut Tx, session: SessionId) -> Result<()> {
    let now = tx.now();
    exec!(tx, |c| sqlx::query("UPDATE session SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL")
        .bind(session)
        .bind(now))?;
    Ok(())
}

/// Removes the rows of sessions that are over; returns how many.
pub async fn prune(db: &Db) -> Result<u64> {
    let now = db.clock().now();
    db.write_global(async move |tx| {
        exec!(tx, |c| sqlx::query("DELETE FROM session WHERE expires_at < $1 OR ended_at < $1").bind(now))
    })
    .await
}
