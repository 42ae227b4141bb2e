//! The sweep: runtimes whose row is old and whose lease is gone. It knows daemons that never had a
//! socket, and what a node that is gone itself was suspecting. One node sweeps.
//!
//! Its evidence is old, so it says nothing for a stale window after there was trouble with what it
//! rests on (`evidence.rs`), and nothing this time if the lease store could not be read. A store that
//! stays away for longer than that no longer counts, and the rows decide: beats reach them by
//! themselves meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Instant,
};

use tokio_util::sync::CancellationToken;

use super::{
    Fleet,
    brake::{DaemonKey, Ruling},
    lease::{Lease, State},
};
use crate::{
    db::{Arm, Session, Tx, lease, lists, on},
    error::Result,
    events::{Control, kinds},
    ids::{RuntimeId, UserId, WorkspaceId},
    protocol::{event::Actor, runtime::Presence},
    time::Timestamp,
};

/// Rows that one sweep takes offline at most; the next one goes on. What is judged has no limit: the
/// brake must see how many there are.
const TOGETHER: usize = 5000;
const JOB: &str = "sweep";

/// An online row that is old.
#[derive(sqlx::FromRow)]
struct Stale {
    id: RuntimeId,
    workspace_id: WorkspaceId,
    owner_id: Option<UserId>,
    daemon_id: String,
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
                // What this node thought of the fleet is another's to judge.
                Ok(false) => self.sweep_brake.clear(),
                Err(error) => tracing::warn!(%error, "asking for the sweep"),
            }
        }
    }

    /// Sweeps once; returns how many were taken offline. What goes wrong in one workspace keeps nothing else from
    /// being done.
    pub async fn sweep(&self) -> usize {
        let began = Instant::now();
        let offline = self.sweep_stale().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "sweeping");
            0
        });
        self.metrics.sweep_seconds.observe(began.elapsed().as_secs_f64());
        offline
    }

    async fn sweep_stale(&self) -> Result<usize> {
        let now = self.evidence.look();
        if now < self.evidence.old_until() {
            self.sweep_brake.clear();
            return Ok(0);
        }
        let before = now.minus(self.settings.stale_after);
        let (stale, daemons) = self.db.read(async move |db| stale(db, before).await).await?;
        if stale.is_empty() {
            self.sweep_brake.clear();
            return Ok(0);
        }
        let Some(mut dead) = self.without_lease(stale, now).await else { return Ok(0) };
        if self.sweep_is_held(&dead, daemons, now) {
            return Ok(0);
        }
        dead.truncate(TOGETHER);
        let mut by_workspace: BTreeMap<WorkspaceId, Vec<RuntimeId>> = BTreeMap::new();
        dead.iter().for_each(|row| by_workspace.entry(row.workspace_id).or_default().push(row.id));
        let mut count = 0;
        for (workspace, ids) in by_workspace {
            match self.sweep_workspace(workspace, ids, before).await {
                Ok(offline) => count += offline,
                Err(error) => tracing::warn!(%workspace, %error, "taking stale runtimes offline"),
            }
        }
        Ok(count)
    }

    /// Those of them that no lease says are alive; `None` if the leases could not be read.
    async fn without_lease(&self, stale: Vec<Stale>, now: Timestamp) -> Option<Vec<Stale>> {
        let ids: Vec<RuntimeId> = stale.iter().map(|row| row.id).collect();
        let before = self.liveness.health();
        let picture = self.liveness.read(&ids).await;
        if self.liveness.health() != before {
            // It went away, came back or lost its data in the midst.
            return None;
        }
        match picture {
            Some(picture) => {
                let pairs = stale.into_iter().zip(picture.0);
                let dead = pairs.filter(|(_, lease)| lease.is_none_or(|lease| lease.state != State::Alive));
                Some(dead.map(|(row, _)| row).collect())
            }
            None => self.evidence.leases_stay_away(now).then_some(stale),
        }
    }

    /// Whoever was last heard of before this is silent; `None` while old evidence says nothing.
    pub fn silent_since(&self) -> Option<Timestamp> {
        let now = self.db.clock().now();
        (now >= self.evidence.old_until()).then(|| now.minus(self.settings.stale_after))
    }

    /// Those of some runtimes that their leases say are alive; `None` if that cannot be said. Nobody, if
    /// the lease store stays away: then what the rows say counts.
    pub async fn living(&self, runtimes: &[RuntimeId]) -> Option<BTreeSet<RuntimeId>> {
        let before = self.liveness.health();
        let picture = self.liveness.read(runtimes).await;
        if self.liveness.health() != before {
            return None;
        }
        let Some(picture) = picture else {
            return self.evidence.leases_stay_away(self.db.clock().now()).then(BTreeSet::new);
        };
        let alive = |lease: &Option<Lease>| lease.is_some_and(|lease| lease.state == State::Alive);
        Some(runtimes.iter().zip(&picture.0).filter(|(_, lease)| alive(lease)).map(|(id, _)| *id).collect())
    }

    /// Whether so many daemons look dead at once that it is more likely something else.
    fn sweep_is_held(&self, dead: &[Stale], daemons: usize, now: Timestamp) -> bool {
        let dead: HashSet<DaemonKey> =
            dead.iter().map(|row| (row.workspace_id, row.owner_id, row.daemon_id.as_str().into())).collect();
        let living = daemons.saturating_sub(dead.len());
        let ruling = self.sweep_brake.judge(dead, &HashSet::new(), living, now);
        if ruling == Ruling::Pulled {
            self.metrics.brakes.inc();
        }
        // Once let go, the next sweep takes what is still stale by then.
        ruling != Ruling::Free
    }

    async fn sweep_workspace(&self, workspace: WorkspaceId, ids: Vec<RuntimeId>, before: Timestamp) -> Result<usize> {
        let (nodes, clock) = (self.nodes.clone(), self.db.clock().clone());
        let offline = self
            .db
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
            .await?;
        self.liveness.forget(&offline).await;
        self.metrics.offline("stale", offline.len() as u64);
        offline.iter().for_each(|id| self.board.changed(workspace, *id, Presence::Offline, None));
        Ok(offline.len())
    }
}

/// Online rows that are old, the oldest first, and how many daemons are online at all.
async fn stale(db: &mut Session, before: Timestamp) -> Result<(Vec<Stale>, usize)> {
    let rows: Vec<Stale> = on!(db, |c| sqlx::query_as(
        "SELECT id, workspace_id, owner_id, daemon_id FROM agent_runtime
         WHERE status = 'online' AND last_seen_at < $1 ORDER BY last_seen_at"
    )
    .bind(before)
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
