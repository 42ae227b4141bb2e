//! The runtimes that daemons bring: registration, beats, leases and verdicts, ends, and what people
//! may do with them.
//!
//! ```text
//! beat ──▶ fact (believed) ──▶ touch: lease ──▶ due? flush set ──▶ one statement per tick
//!             │ not known        │ nothing there, or a marker          │ ids that did not come back
//!             └──── read ◀───────┴─────────────────────────────────────┘
//! socket's end ──▶ suspect ── grace ──▶ unchanged? marker ──▶ offline        sweep ──▶ old row, no lease
//! ```

mod brake;
mod condemned;
mod enrol;
mod evidence;
mod facts;
mod flush;
mod forgotten;
mod heartbeat;
mod lease;
mod liveness;
mod merge;
mod metrics;
mod notes;
mod presence;
pub mod profiles;
mod register;
mod runtimes;
mod seat;
mod settings;
mod suspects;
mod sweeper;
mod transitions;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::AtomicU64},
};

use bytes::Bytes;

use crate::{
    db::Db,
    error::Result,
    events::{Control, Lanes, Nodes},
    hub::wire,
    identity::{Credentials, Driver},
    ids::{RuntimeId, UserId, WorkspaceId},
    protocol::daemon::{HEARTBEAT_ACK, Outbound, gone_ack},
};

pub use condemned::{Condemned, condemn, condemn_all_of, remove, revoke};
pub use forgotten::{condemn_forgotten, forgotten};
pub use heartbeat::{Beat, Contact};
pub use liveness::{Health, Liveness};
pub use metrics::Metrics;
pub use notes::TASK_HEARD;
pub use runtimes::{lock_to_bind, not_yours, provider, runtime_not_found};
pub use seat::{Seat, lock_seats};
pub use settings::{KEYS, Settings};
pub use suspects::Parting;

/// What the fleet's rules need of the rest.
pub struct Parts {
    /// The store.
    pub db: Db,
    /// The way to all nodes.
    pub nodes: Arc<Nodes>,
    /// The event streams, for frames that are not part of them.
    pub lanes: Arc<Lanes>,
    /// Who holds which secret, and who is a member where.
    pub credentials: Arc<Credentials>,
    /// The leases.
    pub liveness: Liveness,
    /// What was set.
    pub settings: Settings,
    /// This node's name.
    pub node: Arc<str>,
    /// The counters.
    pub metrics: Metrics,
}

/// The fleet's rules over one store, one lease store and this node's sockets.
pub struct Fleet {
    db: Db,
    nodes: Arc<Nodes>,
    lanes: Arc<Lanes>,
    credentials: Arc<Credentials>,
    liveness: Arc<Liveness>,
    evidence: evidence::Evidence,
    settings: Settings,
    node_name: Arc<str>,
    /// The node in leases.
    node: u64,
    beats: AtomicU64,
    facts: facts::Facts,
    due: flush::Due,
    transitions: transitions::Transitions,
    board: presence::Board,
    suspects: suspects::Suspects,
    sweep_brake: brake::Brake,
    metrics: Metrics,
}

impl Fleet {
    /// Joins the parts.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { db, nodes, lanes, credentials, liveness, settings, node, metrics } = parts;
        let liveness = Arc::new(liveness);
        Arc::new(Self {
            evidence: evidence::Evidence::new(db.clone(), liveness.clone(), &settings),
            suspects: suspects::Suspects::new(&settings),
            sweep_brake: brake::Brake::new("the sweep", settings.stale_after),
            db,
            nodes,
            lanes,
            credentials,
            liveness,
            settings,
            node_name: node,
            node: rand::random(),
            beats: AtomicU64::new(1),
            facts: facts::Facts::default(),
            due: flush::Due::default(),
            transitions: transitions::Transitions::default(),
            board: presence::Board::default(),
            metrics,
        })
    }

    /// What was set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// This node's name.
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// How the lease store is.
    pub fn lease_store(&self) -> Health {
        self.liveness.health()
    }

    /// Whether verdicts are held because too many daemons look dead at once.
    pub fn is_braked(&self) -> bool {
        let now = self.db.clock().now();
        self.suspects.are_held(now) || self.sweep_brake.is_held(now)
    }

    /// What is believed about these runtimes no longer holds.
    pub fn forget_facts(&self, runtimes: &[RuntimeId]) {
        self.facts.drop_all_of(runtimes);
    }

    /// What silence says counts, as if nothing had been the matter for long.
    #[cfg(feature = "test-hooks")]
    pub fn trust_silence(&self) {
        self.evidence.trust();
    }

    /// Nothing is believed about any runtime.
    #[cfg(feature = "test-hooks")]
    pub fn forget_all_facts(&self) {
        self.facts.drop_all();
    }

    /// Their leases mean nothing any more.
    pub async fn forget_leases(&self, runtimes: &[RuntimeId]) {
        self.liveness.forget(runtimes).await;
    }

    /// What follows the removal of runtimes once it is committed. Nobody believes in them any more; their
    /// daemons are told as soon as it is noted that they were, since what they do then is judged by
    /// that; their leases mean nothing.
    pub fn removed(self: &Arc<Self>, runtimes: &[Condemned]) {
        let ids: Vec<RuntimeId> = runtimes.iter().map(|runtime| runtime.id).collect();
        let owners: HashSet<UserId> = runtimes.iter().filter_map(|runtime| runtime.owner_id).collect();
        self.nodes.tell(Control::RuntimesChanged { ids: ids.clone() });
        let fleet = self.clone();
        tokio::spawn(async move {
            fleet.note_told_gone_now(owners).await;
            fleet.nodes.tell(Control::RuntimesGone { ids: ids.clone() });
            fleet.liveness.forget(&ids).await;
        });
    }

    /// Brings gauges up to date before they are read.
    pub fn measure(&self) {
        self.metrics.flush_waiting.set(self.due.len() as i64);
        let now = self.db.clock().now();
        let lag = self.due.oldest().map_or(0, |at| now.since(at).as_secs());
        self.metrics.flush_lag.set(lag as i64);
        self.metrics.touch_round_trips.set(self.liveness.round_trips() as i64);
        self.metrics.braked.set(i64::from(self.is_braked()));
    }

    /// How many runtimes are suspected here.
    pub fn suspected(&self) -> usize {
        self.suspects.len()
    }

    /// What a daemon is told when a runtime's row is gone.
    pub fn gone_frame(&self, runtime: RuntimeId) -> Bytes {
        let interval = self.settings.beat_interval.as_millis() as u64;
        wire::text(&Outbound { r#type: HEARTBEAT_ACK, payload: gone_ack(runtime, interval) }.json())
    }

    /// Whether somebody may open a socket for these runtimes: all of them, or the first refusal. One
    /// statement for those of which nothing is believed.
    pub async fn admit(&self, runtimes: &[RuntimeId], driver: &Driver) -> Result<()> {
        self.learn_all(runtimes).await?;
        for runtime in runtimes {
            let fact = self.fact(*runtime).await?.ok_or_else(runtimes::runtime_not_found)?;
            self.require_driver(&fact, driver).await?;
        }
        Ok(())
    }

    /// The workspaces that runtimes belong to; of those that there are.
    pub async fn homes(&self, runtimes: &[RuntimeId]) -> Result<HashMap<RuntimeId, WorkspaceId>> {
        let mut homes = self.learn_all(runtimes).await?;
        homes.extend(runtimes.iter().filter_map(|id| Some((*id, self.facts.get(*id)?.workspace))));
        Ok(homes)
    }

    /// Reads the rows of which nothing is believed, in one statement; gives their workspaces, since
    /// a belief may be dropped as soon as it is there.
    async fn learn_all(&self, runtimes: &[RuntimeId]) -> Result<HashMap<RuntimeId, WorkspaceId>> {
        let unknown: Vec<RuntimeId> = runtimes.iter().copied().filter(|id| self.facts.get(*id).is_none()).collect();
        if unknown.is_empty() {
            return Ok(HashMap::new());
        }
        let before = self.facts.before_reading();
        let rows = self.db.read(async move |db| runtimes::find_all(db, &unknown).await).await?;
        rows.iter().for_each(|row| self.facts.learn(row.id, row.into(), before));
        Ok(rows.into_iter().map(|row| (row.id, row.workspace_id)).collect())
    }

    /// A daemon's socket opened for these runtimes.
    pub async fn socket_began(&self, connection: u64, runtimes: &[RuntimeId]) {
        let mut daemons = HashSet::new();
        for runtime in runtimes {
            if let Ok(Some(fact)) = self.fact(*runtime).await {
                daemons.insert((fact.workspace, fact.owner, fact.daemon_id));
            }
        }
        self.socket_opened(connection, daemons);
    }
}
