//! Leases on jobs: what one node does for all of them, and another takes over when it is gone.
//!
//! A holder that stalls for longer than its lease does not notice until it renews, so a job must
//! bear being run twice; the lease saves work, it fences nothing off.

use std::time::Duration;

use super::{Db, exec, on};
use crate::error::Result;

/// How long a job stays with a node that is gone.
pub const TTL: Duration = Duration::from_secs(45);

/// Takes or renews the lease of `job` for `holder`; `false` while it is another's.
pub async fn hold(db: &Db, job: &'static str, holder: &str, ttl: Duration) -> Result<bool> {
    let holder = holder.to_owned();
    db.write_global(async move |tx| {
        let now = tx.now();
        let held: Option<i32> = on!(tx, |c| sqlx::query_scalar(
            "INSERT INTO job_lease (name, holder, expires_at) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
             WHERE job_lease.holder = excluded.holder OR job_lease.expires_at <= $4
             RETURNING 1"
        )
        .bind(job)
        .bind(&holder)
        .bind(now.plus(ttl))
        .bind(now)
        .fetch_optional(c))?;
        Ok(held.is_some())
    })
    .await
}

/// Gives up every lease of `holder`, so that nobody waits for them to run out.
pub async fn release(db: &Db, holder: &str) -> Result<()> {
    let holder = holder.to_owned();
    db.write_global(async move |tx| {
        exec!(tx, |c| sqlx::query("DELETE FROM job_lease WHERE holder = $1").bind(&holder))?;
        Ok(())
    })
    .await
}
