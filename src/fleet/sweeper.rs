//! The sweep: runtimes whose row is old and whose lease is gone. It knows daemons that never had a
//! socket, and what a node that is gone itself was suspecting. One node sweeps.
//!
//! Its evidence is old, so it is held back for a stale window after this node began, and after each
//! change of the database's or the lease store's health: what was not written meanwhile says
//! nothing. A lease store that stays away after that no longer counts, and the rows decide.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Instant,
};

use tokio_util::sync::CancellationToken;

use super::{
    Fleet,
    lease::State,
    suspects::{BRAKE_DAEMONS, DaemonKey},
};
use crate::{
    db::{Arm, Session, Tx, lease, lists, on},
    error::Result,
    events::{Control, kinds},
    ids::{RuntimeId, UserId, WorkspaceId},
    protocol::{event::Actor, runtime::Presence},
    time::Timestamp,
};

/// Rows of one sweep at most; the next one goes on.
const TOGETHER: i64 = 5000;
const JOB: &str = "sweep";

#[derive(sqlx::FromRow)]
struct Candidate {
    id: RuntimeId,
    workspace_id: WorkspaceId,
    owner_id: Option<UserId>,
    daemon_id: String,
}

/// What a sweep did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Taken offline.
    pub offline: usize,
    /// Removed.
    pub removed: usize,
}

impl Fleet {
    /// Sweeps until cancelled, while this node holds the job.
    pub async fn keep_sweeping(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(self.settings.sweep_interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            match lease::hold(&self.db, JOB, &self.node_name, self.settings.sweep_interval * 3 / 2).await {
                Ok(true) => {
                    self.sweep().await;
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "asking for the sweep");
                    self.note_trouble();
                }
            }
        }
    }

    /// Sweeps once.
    pub async fn sweep(&self) -> Swept {
        let began = Instant::now();
        let swept = async {
            let offline = self.sweep_stale().await?;
            let removed = self.remove_forgotten().await?;
            Result::<_>::Ok(Swept { offline, removed })
        };
        let swept = swept.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "sweeping");
            self.note_trouble();
            Swept::default()
        });
        self.metrics.sweep_seconds.observe(began.elapsed().as_secs_f64());
        swept
    }

    /// Old evidence says nothing for a while.
    pub(super) fn note_trouble(&self) {
        *self.trouble.lock() = self.db.clock().now();
    }

    /// Until when old evidence is held back.
    fn held_until(&self) -> Timestamp {
        let trouble = (*self.trouble.lock()).max(self.liveness.health().changed_at);
        trouble.plus(self.settings.stale_after)
    }

    async fn sweep_stale(&self) -> Result<usize> {
        let now = self.db.clock().now();
        if now < self.held_until() {
            return Ok(0);
        }
        let before = now.minus(self.settings.stale_after);
        let (candidates, daemons) = self.db.read(async move |db| candidates(db, before).await).await?;
        if candidates.is_empty() {
            return Ok(0);
        }
        let ids: Vec<RuntimeId> = candidates.iter().map(|row| row.id).collect();
        let dead: Vec<Candidate> = match self.liveness.read(&ids).await {
            Some(picture) => {
                let alive = |lease: Option<super::lease::Lease>| lease.is_some_and(|l| l.state == State::Alive);
                let pairs = candidates.into_iter().zip(picture.0);
                pairs.filter(|(_, lease)| !alive(*lease)).map(|(row, _)| row).collect()
            }
            None => candidates,
        };
        if dead.is_empty() || self.sweep_is_braked(&dead, daemons, now) {
            return Ok(0);
        }
        let mut by_workspace: BTreeMap<WorkspaceId, Vec<RuntimeId>> = BTreeMap::new();
        dead.iter().for_each(|row| by_workspace.entry(row.workspace_id).or_default().push(row.id));
        let mut count = 0;
        for (workspace, ids) in by_workspace {
            let offline = self.sweep_workspace(workspace, ids, before).await?;
            self.liveness.forget(&offline).await;
            self.metrics.offline("stale", offline.len() as u64);
            offline.iter().for_each(|id| self.board.changed(workspace, *id, Presence::Offline, None));
            count += offline.len();
        }
        Ok(count)
    }

    async fn sweep_workspace(
        &self,
        workspace: WorkspaceId,
        ids: Vec<RuntimeId>,
        before: Timestamp,
    ) -> Result<Vec<RuntimeId>> {
        let (nodes, clock) = (self.nodes.clone(), self.db.clock().clone());
        self.db
            .write(workspace, async move |tx| {
                let offline = take_offline(tx, &ids, before, clock.now()).await?;
                if !offline.is_empty() {
                    tracing::info!(%workspace, runtimes = offline.len(), "offline: nothing heard for a stale window");
                    tx.emit(kinds::runtimes_changed(workspace, Actor::System, "stale_sweep", &offline));
                    let (nodes, ids) = (nodes.clone(), offline.clone());
                    tx.after_commit(move || nodes.tell(Control::RuntimesChanged { ids }));
                }
                Ok(offline)
            })
            .await
    }

    /// Whether so many daemons look dead at once that it is more likely something else. Held for one
    /// stale window from when that was first seen.
    fn sweep_is_braked(&self, dead: &[Candidate], all: usize, now: Timestamp) -> bool {
        let dead: HashSet<DaemonKey> =
            dead.iter().map(|row| (row.workspace_id, row.owner_id, row.daemon_id.as_str().into())).collect();
        let mut since = self.sweep_brake.lock();
        if all < BRAKE_DAEMONS || dead.len() * 2 <= all {
            *since = None;
            return false;
        }
        let first = since.is_none();
        let held = now < since.get_or_insert(now).plus(self.settings.stale_after);
        if first {
            tracing::error!(dead = dead.len(), of = all, "more than half of the daemons look stale: the sweep is held");
            self.metrics.brakes.inc();
        }
        held
    }

    /// Whether the sweep's verdicts are held.
    pub(super) fn sweep_is_held(&self) -> bool {
        let now = self.db.clock().now();
        self.sweep_brake.lock().is_some_and(|since| now < since.plus(self.settings.stale_after))
    }

    /// Removes offline runtimes that nobody has come back to.
    async fn remove_forgotten(&self) -> Result<usize> {
        let before = self.db.clock().now().minus(self.settings.runtime_ttl);
        let forgotten: Vec<(RuntimeId, WorkspaceId)> = self
            .db
            .read(async move |db| {
                on!(db, |c| sqlx::query_as(
                    "SELECT id, workspace_id FROM agent_runtime
                     WHERE status = 'offline' AND COALESCE(last_seen_at, created_at) < $1
                     ORDER BY id LIMIT 500"
                )
                .bind(before)
                .fetch_all(c))
            })
            .await?;
        let mut by_workspace: BTreeMap<WorkspaceId, Vec<RuntimeId>> = BTreeMap::new();
        forgotten.into_iter().for_each(|(id, workspace)| by_workspace.entry(workspace).or_default().push(id));
        let mut count = 0;
        for (workspace, ids) in by_workspace {
            let nodes = self.nodes.clone();
            let removed = self
                .db
                .write(workspace, async move |tx| {
                    let removed = remove(tx, &ids, before).await?;
                    if !removed.is_empty() {
                        tx.emit(kinds::runtimes_changed(workspace, Actor::System, "runtime_gc", &removed));
                        let (nodes, ids) = (nodes.clone(), removed.clone());
                        tx.after_commit(move || nodes.tell(Control::RuntimesGone { ids }));
                    }
                    Ok(removed.len())
                })
                .await?;
            if removed > 0 {
                tracing::info!(%workspace, runtimes = removed, "removed: offline for too long");
            }
            count += removed;
        }
        Ok(count)
    }
}

/// Online rows that are old, and how many daemons are online at all.
async fn candidates(db: &mut Session, before: Timestamp) -> Result<(Vec<Candidate>, usize)> {
    let rows: Vec<Candidate> = on!(db, |c| sqlx::query_as(
        "SELECT id, workspace_id, owner_id, daemon_id FROM agent_runtime
         WHERE status = 'online' AND last_seen_at < $1 ORDER BY last_seen_at LIMIT $2"
    )
    .bind(before)
    .bind(TOGETHER)
    .fetch_all(c))?;
    if rows.is_empty() {
        return Ok((rows, 0));
    }
    let daemons: i64 = on!(db, |c| sqlx::query_scalar(
        "SELECT COUNT(*) FROM (SELECT DISTINCT workspace_id, owner_id, daemon_id FROM agent_runtime
                               WHERE status = 'online') AS daemons"
    )
    .fetch_one(c))?;
    Ok((rows, daemons as usize))
}

/// Takes those offline that are still what they were when they were chosen.
async fn take_offline(tx: &mut Tx, ids: &[RuntimeId], before: Timestamp, now: Timestamp) -> Result<Vec<RuntimeId>> {
    let rows: sqlx::Result<Vec<RuntimeId>> = match tx.arm() {
        Arm::Postgres(c) => {
            sqlx::query_scalar(
                "WITH held AS (
                     SELECT id FROM agent_runtime
                     WHERE id = ANY($1) AND status = 'online' AND last_seen_at < $2
                     ORDER BY id FOR NO KEY UPDATE
                 )
                 UPDATE agent_runtime r
                 SET status = 'offline', offline_cause = 'stale', offline_at = $3, updated_at = $3
                 FROM held WHERE r.id = held.id RETURNING r.id",
            )
            .bind(ids)
            .bind(before)
            .bind(now)
            .fetch_all(c)
            .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_scalar(
                "UPDATE agent_runtime
                 SET status = 'offline', offline_cause = 'stale', offline_at = $3, updated_at = $3
                 WHERE id IN (SELECT unhex(value) FROM json_each($1)) AND status = 'online' AND last_seen_at < $2
                 RETURNING id",
            )
            .bind(lists::ids(ids.iter().copied()))
            .bind(before)
            .bind(now)
            .fetch_all(c)
            .await
        }
    };
    tx.note(rows)
}

async fn remove(tx: &mut Tx, ids: &[RuntimeId], before: Timestamp) -> Result<Vec<RuntimeId>> {
    let rows: sqlx::Result<Vec<RuntimeId>> = match tx.arm() {
        Arm::Postgres(c) => {
            sqlx::query_scalar(
                "WITH held AS (
                     SELECT id FROM agent_runtime
                     WHERE id = ANY($1) AND status = 'offline' AND COALESCE(last_seen_at, created_at) < $2
                     ORDER BY id FOR UPDATE
                 )
                 DELETE FROM agent_runtime r USING held WHERE r.id = held.id RETURNING r.id",
            )
            .bind(ids)
            .bind(before)
            .fetch_all(c)
            .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_scalar(
                "DELETE FROM agent_runtime
                 WHERE id IN (SELECT unhex(value) FROM json_each($1))
                   AND status = 'offline' AND COALESCE(last_seen_at, created_at) < $2 RETURNING id",
            )
            .bind(lists::ids(ids.iter().copied()))
            .bind(before)
            .fetch_all(c)
            .await
        }
    };
    tx.note(rows)
}
