//! Beats reach their rows in bulk: one statement per tick for all that are due. Only rows that are
//! still online, never backwards in time, and nothing that somebody holds is waited for. What could
//! not be written is put back.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Fleet;
use crate::{
    db::{Arm, Tx, lists},
    error::Result,
    ids::RuntimeId,
    time::Timestamp,
};

/// Rows of one statement at most.
const TOGETHER: usize = 2000;
/// Between two flushes that were asked for.
const PAUSE: Duration = Duration::from_millis(500);

/// What is due, with the time of its last beat.
#[derive(Default)]
pub(super) struct Due {
    rows: Mutex<HashMap<RuntimeId, Timestamp>>,
    /// Somebody was refused because nothing could be written: that is to be tried at once.
    asked: Notify,
}

impl Due {
    pub(super) fn note(&self, runtime: RuntimeId, at: Timestamp) {
        let mut rows = self.rows.lock();
        let last = rows.entry(runtime).or_insert(at);
        *last = (*last).max(at);
    }

    /// How many rows wait.
    pub(super) fn len(&self) -> usize {
        self.rows.lock().len()
    }

    /// The oldest beat that waits.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.rows.lock().values().min().copied()
    }

    /// Asks for a flush now.
    pub(super) fn ask(&self) {
        self.asked.notify_one();
    }

    fn take(&self) -> Vec<(RuntimeId, Timestamp)> {
        std::mem::take(&mut *self.rows.lock()).into_iter().collect()
    }
}

impl Fleet {
    /// Flushes tick after tick until cancelled.
    pub async fn keep_flushing(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(self.settings.flush_tick);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
                () = self.due.asked.notified() => {
                    if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                        return;
                    }
                }
            }
            self.flush().await;
            if self.evidence.flush_fails() {
                // Soon, or it counts as an outage.
                tick.reset_after(self.settings.flush_tick.min(self.settings.beat_interval / 3));
            }
        }
    }

    /// Writes what is due; returns how many rows were written. What could not be is due again.
    pub async fn flush(&self) -> usize {
        let mut written = 0;
        for some in self.due.take().chunks(TOGETHER) {
            match self.flush_some(some).await {
                Ok(rows) => {
                    written += rows;
                    self.evidence.flushed(true);
                }
                Err(error) => {
                    tracing::warn!(rows = some.len(), %error, "writing beats; they are due again");
                    some.iter().for_each(|(runtime, at)| self.due.note(*runtime, *at));
                    self.metrics.flush_failures.inc();
                    self.evidence.flushed(false);
                }
            }
        }
        self.metrics.flushed_rows.inc_by(written as u64);
        written
    }

    async fn flush_some(&self, some: &[(RuntimeId, Timestamp)]) -> Result<usize> {
        let (ids, times): (Vec<RuntimeId>, Vec<Timestamp>) = some.iter().copied().unzip();
        let (written, held) = self
            .db
            .write_global(async move |tx| {
                let written = write(tx, &ids, &times).await?;
                let missing: Vec<RuntimeId> = ids.iter().copied().filter(|id| !written.contains(id)).collect();
                let held = if missing.is_empty() { Vec::new() } else { still_online(tx, &missing).await? };
                Ok((written, held))
            })
            .await?;
        for (runtime, at) in some {
            if written.contains(runtime) {
                self.facts.written(*runtime, *at);
            }
        }
        // Offline, gone, or held by somebody who is changing them: not believed any longer.
        let lost: Vec<RuntimeId> = some.iter().map(|(id, _)| *id).filter(|id| !written.contains(id)).collect();
        if !lost.is_empty() {
            self.facts.drop_all_of(&lost);
            some.iter().filter(|(id, _)| held.contains(id)).for_each(|(id, at)| self.due.note(*id, *at));
        }
        Ok(written.len())
    }
}

async fn write(tx: &mut Tx, ids: &[RuntimeId], times: &[Timestamp]) -> Result<std::collections::HashSet<RuntimeId>> {
    let rows: sqlx::Result<Vec<RuntimeId>> = match tx.arm() {
        Arm::Postgres(c) => {
            sqlx::query_scalar(
                "WITH held AS (
                     SELECT r.id, u.at FROM UNNEST($1::uuid[], $2::bigint[]) AS u (id, at)
                     JOIN agent_runtime r ON r.id = u.id AND r.status = 'online'
                     ORDER BY r.id FOR NO KEY UPDATE OF r SKIP LOCKED
                 )
                 UPDATE agent_runtime r SET last_seen_at = GREATEST(r.last_seen_at, held.at)
                 FROM held WHERE r.id = held.id RETURNING r.id",
            )
            .bind(ids)
            .bind(times)
            .fetch_all(c)
            .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_scalar(
                // MAX of anything and NULL is NULL here.
                "UPDATE agent_runtime AS r SET last_seen_at = MAX(COALESCE(r.last_seen_at, u.at), u.at)
                 FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS at FROM json_each($1)) AS u
                 WHERE r.id = u.id AND r.status = 'online' RETURNING id",
            )
            .bind(lists::timed(ids, times))
            .fetch_all(c)
            .await
        }
    };
    tx.note(rows).map(|ids| ids.into_iter().collect())
}

async fn still_online(tx: &mut Tx, ids: &[RuntimeId]) -> Result<Vec<RuntimeId>> {
    let rows: sqlx::Result<Vec<RuntimeId>> = match tx.arm() {
        Arm::Postgres(c) => {
            sqlx::query_scalar("SELECT id FROM agent_runtime WHERE id = ANY($1) AND status = 'online'")
                .bind(ids)
                .fetch_all(c)
                .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_scalar(
                "SELECT id FROM agent_runtime
                 WHERE id IN (SELECT unhex(value) FROM json_each($1)) AND status = 'online'",
            )
            .bind(lists::ids(ids.iter().copied()))
            .fetch_all(c)
            .await
        }
    };
    tx.note(rows)
}
