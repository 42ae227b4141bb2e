//! Runtimes whose socket has ended, and the verdict on them.
//!
//! A verdict is a comparison, not a clock: when the grace is over, a lease that changed since means
//! life. One that did not is swapped for a marker, and only whoever swaps it takes the row offline;
//! whoever touches a marker reads the row and brings it back. After the commit the leases are looked
//! at once more, and what was touched in between is undone.
//!
//! A verdict counts only if the lease store was well, and had its data, and this node was listening,
//! from beginning to end; else a fresh grace begins. The brake (`brake.rs`) holds them all when too
//! many daemons look dead at once.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    Fleet, Settings,
    brake::{Brake, DaemonKey, Ruling},
    evidence::Generation,
    lease::{Lease, State},
};
use crate::{
    db::{Arm, Tx, lists},
    error::Result,
    events::{Control, kinds},
    ids::{RuntimeId, WorkspaceId},
    protocol::{event::Actor, runtime::Presence},
    time::Timestamp,
};

/// Between two looks at the suspects.
const LOOK: Duration = Duration::from_millis(500);

/// How a daemon's socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// The peer's end was seen.
    Seen,
    /// The hub ended it, having heard nothing for this long.
    Silent(Duration),
    /// The hub asked it to leave; that says nothing about the daemon.
    Asked,
}

struct Suspect {
    workspace: WorkspaceId,
    daemon: DaemonKey,
    /// The lease as this node left it.
    lease: Lease,
    ended_at: Timestamp,
    due: Timestamp,
    grace: Duration,
    /// As it was when the grace began.
    generation: Generation,
}

/// The suspects of this node.
pub(super) struct Suspects {
    list: Mutex<HashMap<RuntimeId, Suspect>>,
    /// The daemons with open sockets here, by socket.
    present: Mutex<HashMap<u64, HashSet<DaemonKey>>>,
    brake: Brake,
}

impl Suspects {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            list: Mutex::default(),
            present: Mutex::default(),
            brake: Brake::new("the verdict on lost sockets", settings.stale_after),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.lock().len()
    }

    /// Whether verdicts are held.
    pub(super) fn are_held(&self, now: Timestamp) -> bool {
        self.brake.is_held(now)
    }

    /// Whether a socket is open here.
    pub(super) fn has_open(&self, connection: u64) -> bool {
        self.present.lock().contains_key(&connection)
    }
}

impl Fleet {
    /// A daemon's socket opened.
    pub(super) fn socket_opened(&self, connection: u64, daemons: HashSet<DaemonKey>) {
        self.suspects.present.lock().insert(connection, daemons);
    }

    /// A daemon's socket has ended. Its runtimes are suspects if the last beat of each came over it.
    pub async fn socket_ended(&self, connection: u64, runtimes: &[RuntimeId], parting: Parting) {
        self.suspects.present.lock().remove(&connection);
        let now = self.evidence.look();
        let Settings { peer_grace, silent_grace, .. } = &self.settings;
        let grace = match parting {
            Parting::Asked => return,
            Parting::Seen => *peer_grace,
            // What was said while this node stood still was not heard.
            Parting::Silent(silence) => {
                silent_grace.saturating_sub(silence.min(now.since(self.evidence.listening_since())))
            }
        };
        self.suspect(connection, runtimes, grace).await;
    }

    /// Suspects those runtimes whose lease names a socket that has ended.
    pub(super) async fn suspect(&self, connection: u64, runtimes: &[RuntimeId], grace: Duration) {
        let generation = self.evidence.generation();
        // A store that is away has no fresh evidence; the sweep decides.
        let Some(picture) = self.liveness.read(runtimes).await else { return };
        let now = self.db.clock().now();
        for (runtime, lease) in runtimes.iter().zip(picture.0) {
            let Some(lease) = lease.filter(|lease| {
                lease.state == State::Alive && lease.node == self.node && lease.connection == connection
            }) else {
                continue;
            };
            let Ok(Some(fact)) = self.fact(*runtime).await else { continue };
            let ended = lease.saying(State::Ended);
            if self.liveness.swap(*runtime, Some(lease), ended).await != Some(true) {
                continue;
            }
            self.board.changed(fact.workspace, *runtime, Presence::Reconnecting, fact.written);
            let suspect = Suspect {
                workspace: fact.workspace,
                daemon: (fact.workspace, fact.owner, fact.daemon_id),
                lease: ended,
                ended_at: now,
                due: now.plus(grace),
                grace,
                generation,
            };
            self.suspects.list.lock().insert(*runtime, suspect);
            self.metrics.suspects.inc();
        }
    }

    /// Judges, look after look, until cancelled.
    pub async fn keep_judging(self: Arc<Self>, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(look.tick()).await.is_some() {
            self.judge().await;
        }
    }

    /// Looks at the suspects whose grace is over.
    pub async fn judge(self: &Arc<Self>) {
        let now = self.evidence.look();
        let ids: Vec<RuntimeId> = {
            let list = self.suspects.list.lock();
            if !self.suspects.brake.is_pulled() && !list.values().any(|suspect| suspect.due <= now) {
                return;
            }
            list.keys().copied().collect()
        };
        let generation = self.evidence.generation();
        let Some(picture) = self.liveness.read(&ids).await else {
            self.renew_graces(&ids, now);
            return;
        };
        let well = self.liveness.health().well;
        let due = {
            let mut list = self.suspects.list.lock();
            for (id, lease) in ids.iter().zip(&picture.0) {
                // Another value is life, here or at another node.
                if list.get(id).is_some_and(|suspect| lease.is_some_and(|lease| lease != suspect.lease)) {
                    list.remove(id);
                }
            }
            let found: HashMap<RuntimeId, Option<Lease>> = ids.iter().copied().zip(picture.0).collect();
            if self.verdicts_are_held(&mut list, now) {
                return;
            }
            let mut due = Vec::new();
            for (id, suspect) in list.iter_mut().filter(|(_, suspect)| suspect.due <= now) {
                if suspect.generation == generation && well {
                    due.push(*id);
                } else {
                    // The store was away or lost its data, or we stood still: nothing follows from
                    // what is there.
                    suspect.generation = generation;
                    suspect.due = now.plus(suspect.grace);
                }
            }
            due.into_iter().filter_map(|id| Some((id, *found.get(&id)?, list.remove(&id)?))).collect::<Vec<_>>()
        };
        if !due.is_empty() {
            self.condemn(due, now).await;
        }
    }

    fn renew_graces(&self, ids: &[RuntimeId], now: Timestamp) {
        let mut list = self.suspects.list.lock();
        for id in ids {
            if let Some(suspect) = list.get_mut(id) {
                suspect.due = suspect.due.max(now.plus(suspect.grace));
            }
        }
    }

    /// Asks the brake, with the daemons whose leases name this node.
    fn verdicts_are_held(&self, list: &mut HashMap<RuntimeId, Suspect>, now: Timestamp) -> bool {
        let present: HashSet<DaemonKey> = self.suspects.present.lock().values().flatten().cloned().collect();
        let dead = list.values().map(|suspect| &suspect.daemon).filter(|daemon| !present.contains(*daemon));
        let ruling = self.suspects.brake.judge(dead.cloned().collect(), &present, 0, now);
        match ruling {
            Ruling::Free => return false,
            Ruling::Pulled => drop(self.metrics.brakes.inc()),
            Ruling::Held => {}
            Ruling::LetGo => list.values_mut().for_each(|suspect| suspect.due = now.plus(suspect.grace)),
        }
        true
    }

    /// Takes suspects offline whose lease is still what was found: what this node left, or nothing.
    async fn condemn(self: &Arc<Self>, due: Vec<(RuntimeId, Option<Lease>, Suspect)>, now: Timestamp) {
        let mut marked: HashMap<WorkspaceId, Vec<(RuntimeId, Timestamp, Lease)>> = HashMap::new();
        for (runtime, found, suspect) in due {
            let marker = suspect.lease.saying(State::Marked);
            if self.liveness.swap(runtime, found, marker).await == Some(true) {
                marked.entry(suspect.workspace).or_default().push((runtime, suspect.ended_at, marker));
                self.suspects.brake.condemned(suspect.daemon, now);
            } else {
                // Alive, run out in between, or lost: the next look tells which.
                self.suspects.list.lock().insert(runtime, suspect);
            }
        }
        for (workspace, runtimes) in marked {
            if let Err(error) = self.take_offline(workspace, &runtimes).await {
                // The marker makes the next touch read the row; without one the sweep decides.
                tracing::warn!(%workspace, %error, "taking runtimes offline");
            }
        }
    }

    async fn take_offline(
        self: &Arc<Self>,
        workspace: WorkspaceId,
        marked: &[(RuntimeId, Timestamp, Lease)],
    ) -> Result<()> {
        let ids: Vec<RuntimeId> = marked.iter().map(|(id, ..)| *id).collect();
        let heard: Vec<Timestamp> = marked.iter().map(|(_, at, _)| *at).collect();
        let (nodes, clock) = (self.nodes.clone(), self.db.clock().clone());
        let offline = self
            .db
            .write(workspace, async move |tx| {
                let offline = offline(tx, &ids, &heard, clock.now()).await?;
                if !offline.is_empty() {
                    tx.emit(kinds::runtimes_changed(workspace, Actor::System, "offline", &offline));
                    let (nodes, ids) = (nodes.clone(), offline.clone());
                    tx.after_commit(move || nodes.tell(Control::RuntimesChanged { ids }));
                }
                Ok(offline)
            })
            .await?;
        for runtime in &offline {
            tracing::info!(%workspace, %runtime, "offline: its socket ended and nothing was heard since");
            self.metrics.offline("socket_lost", 1);
            self.board.changed(workspace, *runtime, Presence::Offline, None);
        }
        // What was touched between the marker and the commit saw an online row.
        let marker: HashMap<RuntimeId, Lease> = marked.iter().map(|(id, _, marker)| (*id, *marker)).collect();
        let now = self.db.clock().now();
        for (runtime, lease) in offline.iter().zip(self.leases(&offline).await) {
            if lease.is_some_and(|lease| marker.get(runtime) != Some(&lease)) {
                self.bring_back(workspace, *runtime, now, now).await?;
            }
        }
        Ok(())
    }
}

async fn offline(tx: &mut Tx, ids: &[RuntimeId], heard: &[Timestamp], now: Timestamp) -> Result<Vec<RuntimeId>> {
    let rows: sqlx::Result<Vec<RuntimeId>> = match tx.arm() {
        Arm::Postgres(c) => {
            sqlx::query_scalar(
                "WITH held AS (
                     SELECT r.id FROM UNNEST($1::uuid[], $2::bigint[]) AS u (id, heard)
                     JOIN agent_runtime r ON r.id = u.id
                     WHERE r.status = 'online' AND (r.last_seen_at IS NULL OR r.last_seen_at <= u.heard)
                     ORDER BY r.id FOR NO KEY UPDATE OF r
                 )
                 UPDATE agent_runtime r
                 SET status = 'offline', offline_cause = 'socket_lost', offline_at = $3, updated_at = $3
                 FROM held WHERE r.id = held.id RETURNING r.id",
            )
            .bind(ids)
            .bind(heard)
            .bind(now)
            .fetch_all(c)
            .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_scalar(
                "UPDATE agent_runtime AS r
                 SET status = 'offline', offline_cause = 'socket_lost', offline_at = $2, updated_at = $2
                 FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS heard FROM json_each($1)) AS u
                 WHERE r.id = u.id AND r.status = 'online'
                   AND (r.last_seen_at IS NULL OR r.last_seen_at <= u.heard)
                 RETURNING id",
            )
            .bind(lists::timed(ids, heard))
            .bind(now)
            .fetch_all(c)
            .await
        }
    };
    tx.note(rows)
}
