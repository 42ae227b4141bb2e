//! Personal access tokens.

use std::time::Duration;

use super::secrets;
use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    ids::{TokenId, UserId},
    protocol::people::{NewToken, Renewal, Token},
    time::Timestamp,
};

const DAY: Duration = Duration::from_secs(86_400);
/// A token is renewed when it has this much life left or less, and then by [`RENEWAL`].
const RENEW_WITHIN: Duration = Duration::from_secs(7 * 86_400);
const RENEWAL: Duration = Duration::from_secs(90 * 86_400);
/// Longer lives are "never" for all practical purposes and would leave the calendar.
const MAX_DAYS: i64 = 36_500;

#[derive(sqlx::FromRow)]
struct Row {
    id: TokenId,
    name: String,
    token_prefix: String,
    expires_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl From<Row> for Token {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            name: row.name,
            token_prefix: row.token_prefix,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            created_at: row.created_at,
        }
    }
}

/// A person's tokens, newest first, without the revoked ones.
pub async fn list(db: &mut Session, user: UserId) -> Result<Vec<Token>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(
        "SELECT id, name, token_prefix, expires_at, last_used_at, created_at FROM personal_access_token
         WHERE user_id = $1 AND revoked_at IS NULL ORDER BY created_at DESC, id DESC"
    )
    .bind(user)
    .fetch_all(c))?;
    Ok(rows.into_iter().map(Token::from).collect())
}

/// Makes a token; `expires_in_days` of zero or less is "never".
pub async fn create(tx: &mut Tx, user: UserId, name: &str, expires_in_days: i64) -> Result<NewToken> {
    let name = name.trim();
    if name.is_empty() {
        return Err(Error::invalid("name_required", "name is required"));
    }
    let token = secrets::mint(secrets::PERSONAL);
    let now = tx.now();
    let about = Token {
        id: TokenId::fresh(),
        name: name.to_owned(),
        token_prefix: secrets::shown(&token).to_owned(),
        expires_at: end_of_life(now, expires_in_days)?,
        last_used_at: None,
        created_at: now,
    };
    exec!(tx, |c| sqlx::query(
        "INSERT INTO personal_access_token
             (id, user_id, name, token_hash, token_prefix, expires_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)"
    )
    .bind(about.id)
    .bind(user)
    .bind(name)
    .bind(secrets::hash(&token))
    .bind(&about.token_prefix)
    .bind(about.expires_at)
    .bind(now))?;
    Ok(NewToken { about, token })
}

/// When something ends that is wished for so many days; none for never.
pub(super) fn end_of_life(now: Timestamp, days: i64) -> Result<Option<Timestamp>> {
    if days > MAX_DAYS {
        return Err(Error::invalid("invalid_expiry", "expires_in_days is too large"));
    }
    Ok((days > 0).then(|| now.plus(DAY * days as u32)))
}

/// Revokes a person's token, and with it the sessions that were opened with it; an unknown one is
/// as good as revoked. Whether there was one.
pub async fn revoke(tx: &mut Tx, user: UserId, token: TokenId) -> Result<bool> {
    let now = tx.now();
    let revoked = exec!(tx, |c| sqlx::query(
        "UPDATE personal_access_token SET revoked_at = $3
         WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL"
    )
    .bind(token)
    .bind(user)
    .bind(now))?;
    Ok(revoked > 0)
}

/// Extends a token near its end. Two renewals at once extend it once.
pub async fn renew(tx: &mut Tx, token: TokenId) -> Result<Renewal> {
    let now = tx.now();
    let extended = now.plus(RENEWAL);
    let changed = exec!(tx, |c| sqlx::query(
        "UPDATE personal_access_token SET expires_at = $2
         WHERE id = $1 AND revoked_at IS NULL AND expires_at > $3 AND expires_at <= $4"
    )
    .bind(token)
    .bind(extended)
    .bind(now)
    .bind(now.plus(RENEW_WITHIN)))?;
    if changed > 0 {
        return Ok(Renewal { expires_at: extended.to_string(), renewed: true });
    }
    let expiry: Option<Option<Timestamp>> = on!(tx, |c| sqlx::query_scalar(
        "SELECT expires_at FROM personal_access_token
         WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)"
    )
    .bind(token)
    .bind(now)
    .fetch_optional(c))?;
    match expiry {
        Some(expiry) => Ok(Renewal { expires_at: expiry.map(|at| at.to_string()).unwrap_or_default(), renewed: false }),
        None => Err(Error::unauthenticated("invalid_token", "invalid token")),
    }
}
