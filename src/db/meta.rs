//! Facts about the store itself, made once and the same for every node.

use super::{Db, exec, on};
use crate::error::Result;

/// The value under a key; `fresh` if there is none yet. Whoever stores first wins.
pub async fn read_or_store(db: &Db, key: &'static str, fresh: String) -> Result<String> {
    db.write_global(async move |tx| {
        exec!(tx, |c| sqlx::query("INSERT INTO hub_meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING")
            .bind(key)
            .bind(&fresh))?;
        on!(tx, |c| sqlx::query_scalar("SELECT value FROM hub_meta WHERE key = $1").bind(key).fetch_one(c))
    })
    .await
}
