//! Beats, over HTTP and over the socket, by the same rules.

use super::{
    Fleet,
    runtimes::{self, ONLINE, Row},
};
use crate::{
    db::exec, error::Result, events::kinds, identity::Driver, ids::RuntimeId, protocol::event::Actor, time::Timestamp,
};

/// What became of a beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Recorded.
    Recorded,
    /// The row is gone: the daemon forgets it and registers again.
    Gone,
    /// The runtime was taken offline on purpose after this contact began; it stays so.
    TakenOffline,
}

impl Fleet {
    /// Records a beat. `since` is when the contact began, the request's head or
    /// the socket's opening: what was taken offline after that is not brought back by it.
    pub async fn beat(&self, driver: &Driver, runtime: RuntimeId, since: Timestamp) -> Result<Beat> {
        let driver = driver.clone();
        self.db
            .write_global(async move |tx| {
                let Some(row) = runtimes::lock(tx, runtime).await? else { return Ok(Beat::Gone) };
                runtimes::require_driver(tx, &row, &driver).await?;
                let now = tx.now();
                if row.status == ONLINE {
                    exec!(tx, |c| sqlx::query(
                        "UPDATE agent_runtime SET last_seen_at = $2
                         WHERE id = $1 AND (last_seen_at IS NULL OR last_seen_at < $2)"
                    )
                    .bind(runtime)
                    .bind(now))?;
                    return Ok(Beat::Recorded);
                }
                if !may_return(&row, since) {
                    return Ok(Beat::TakenOffline);
                }
                exec!(tx, |c| sqlx::query(
                    "UPDATE agent_runtime
                     SET status = 'online', offline_cause = NULL, offline_at = NULL,
                         last_seen_at = $2, updated_at = $2
                     WHERE id = $1"
                )
                .bind(runtime)
                .bind(now))?;
                tx.emit(kinds::runtimes_changed(row.workspace_id, Actor::System, "online", &[runtime]));
                Ok(Beat::Recorded)
            })
            .await
    }
}

/// Whether a contact that began at `since` may end the row's being offline.
fn may_return(row: &Row, since: Timestamp) -> bool {
    match row.offline_cause.as_deref() {
        Some("revoked") => false,
        // A tie counts as begun before.
        Some("deregistered") => row.offline_at.is_none_or(|at| since > at),
        _ => true,
    }
}
