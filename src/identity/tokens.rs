//! Personal access tokens: `mul_` and forty hex digits, shown once, stored as SHA-256.

use std::{collections::HashMap, fmt::Write, time::Duration};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use sqlx::types::Json;

use super::Identity;
use crate::{
    db::{Arm, Db, Session, Tx, exec, on},
    error::{Error, Result},
    ids::{TokenId, UserId},
    protocol::people::{NewToken, Renewal, Token},
    time::Timestamp,
};

const PREFIX: &str = "mul_";
const RANDOM_BYTES: usize = 20;
/// How much of a token is shown to recognise it by.
const SHOWN: usize = 12;

const DAY: Duration = Duration::from_secs(86_400);
/// A token is renewed when it has this much life left or less, and then by [`RENEWAL`].
const RENEW_WITHIN: Duration = Duration::from_secs(7 * 86_400);
const RENEWAL: Duration = Duration::from_secs(90 * 86_400);
/// Longer lives are "never" for all practical purposes and would leave the calendar.
const MAX_DAYS: i64 = 36_500;

/// A new secret.
pub fn mint() -> String {
    let random: [u8; RANDOM_BYTES] = rand::random();
    let mut token = String::from(PREFIX);
    for byte in random {
        let _ = write!(token, "{byte:02x}");
    }
    token
}

/// What is stored of a secret.
pub fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

/// Whether it looks like a personal access token; saves a look-up for what cannot be one.
fn is_well_formed(token: &str) -> bool {
    token
        .strip_prefix(PREFIX)
        .is_some_and(|rest| rest.len() == 2 * RANDOM_BYTES && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The identity behind a credential; `None` if it is unknown, expired or revoked.
pub async fn resolve(db: &Db, token: &str) -> Result<Option<Identity>> {
    if !is_well_formed(token) {
        return Ok(None);
    }
    let hash = hash(token);
    let now = db.clock().now();
    let found: Option<(UserId, TokenId)> = db
        .read(async move |db| {
            on!(db, |c| sqlx::query_as(
                "SELECT user_id, id FROM personal_access_token
                 WHERE token_hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)"
            )
            .bind(&hash)
            .bind(now)
            .fetch_optional(c))
        })
        .await?;
    Ok(found.map(|(user, token)| Identity::Person { user, token }))
}

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
    if expires_in_days > MAX_DAYS {
        return Err(Error::invalid("invalid_expiry", "expires_in_days is too large"));
    }
    let token = mint();
    let now = tx.now();
    let about = Token {
        id: TokenId::fresh(),
        name: name.to_owned(),
        token_prefix: token[..SHOWN].to_owned(),
        expires_at: (expires_in_days > 0).then(|| now.plus(DAY * expires_in_days as u32)),
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
    .bind(hash(&token))
    .bind(&about.token_prefix)
    .bind(about.expires_at)
    .bind(now))?;
    Ok(NewToken { about, token })
}

/// Revokes a person's token; an unknown one is as good as revoked.
pub async fn revoke(tx: &mut Tx, user: UserId, token: TokenId) -> Result<()> {
    let now = tx.now();
    exec!(tx, |c| sqlx::query(
        "UPDATE personal_access_token SET revoked_at = $3
         WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL"
    )
    .bind(token)
    .bind(user)
    .bind(now))?;
    Ok(())
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

/// When tokens were last used, gathered here and written now and then, so that a request costs no
/// write.
#[derive(Default)]
pub struct LastUsed(Mutex<HashMap<TokenId, Timestamp>>);

impl LastUsed {
    /// Notes a use.
    pub fn note(&self, token: TokenId, at: Timestamp) {
        self.0.lock().insert(token, at);
    }

    /// Writes what was noted; puts it back if that fails.
    pub async fn flush(&self, db: &Db) -> Result<()> {
        let noted = std::mem::take(&mut *self.0.lock());
        if noted.is_empty() {
            return Ok(());
        }
        let (ids, times): (Vec<TokenId>, Vec<Timestamp>) = noted.iter().map(|(id, at)| (*id, *at)).unzip();
        let written = db.write_global(async move |tx| write_uses(tx, &ids, &times).await).await;
        if written.is_err() {
            let mut map = self.0.lock();
            for (token, at) in noted {
                map.entry(token).or_insert(at);
            }
        }
        written
    }
}

async fn write_uses(tx: &mut Tx, ids: &[TokenId], times: &[Timestamp]) -> Result<()> {
    let outcome = match tx.arm() {
        Arm::Postgres(c) => sqlx::query(
            "UPDATE personal_access_token t SET last_used_at = u.at
             FROM UNNEST($1::uuid[], $2::bigint[]) AS u (id, at)
             WHERE t.id = u.id AND (t.last_used_at IS NULL OR t.last_used_at < u.at)",
        )
        .bind(ids)
        .bind(times)
        .execute(c)
        .await
        .map(drop),
        Arm::Sqlite(c) => {
            let rows: Vec<(String, i64)> =
                ids.iter().zip(times).map(|(id, at)| (id.0.simple().to_string(), at.0)).collect();
            sqlx::query(
                "UPDATE personal_access_token SET last_used_at = u.at
                 FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS at FROM json_each($1)) AS u
                 WHERE personal_access_token.id = u.id
                   AND (last_used_at IS NULL OR last_used_at < u.at)",
            )
            .bind(Json(rows))
            .execute(c)
            .await
            .map(drop)
        }
    };
    tx.note(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_token_is_well_formed_and_others_are_not() {
        let token = mint();
        assert_eq!(token.len(), 44);
        assert!(is_well_formed(&token));
        assert_ne!(token, mint());
        for bad in
            ["", "mul_", &token[..43], &token.replace("mul_", "mdt_"), "mul_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"]
        {
            assert!(!is_well_formed(bad), "{bad:?}");
        }
    }
}
