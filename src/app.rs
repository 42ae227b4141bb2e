//! The whole: builds the parts, joins them, starts and stops them in order. Tests start the same
//! one, on port 0.

mod autopilots;
mod chores;
mod shift;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prometheus_client::registry as metrics;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api::{self, Api, Parts},
    config::Config,
    db::{self, DataDirLock, Db, NodeLease, Place, lease, read_or_store},
    error::{Error, Result},
    events::{self, Journal, Lanes, Nodes, Relay},
    fleet::{self, Fleet, Liveness},
    flows::{hear::Ears, purge::purge, recheck::recheck, teardown::remove_forgotten},
    hub::Registry,
    identity::{
        Credentials, LastUsed,
        bootstrap::{self, Demo, FirstOwner},
    },
    redis_link::RedisLink,
    tasks::{self, Queue},
    ws::{Door, Sockets},
};

/// Between two runs of the small jobs.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// Between two checks of what is believed about tokens and memberships.
const RECHECK: Duration = Duration::from_secs(30);
/// The hub's own name in a Redis that it may share.
const HUB_ID: &str = "hub_id";
/// Requests and sockets have this long to end; sockets are told within the first part of it.
const SHUTDOWN: Duration = Duration::from_secs(8);
const DRAIN: Duration = Duration::from_secs(3);
/// And then the store, to write what was noted and to close.
const LAST_WRITES: Duration = Duration::from_secs(2);
/// A clock this far from the database's is worth a warning.
const CLOCK_WARNING: Duration = Duration::from_secs(2);
/// … and one this far away keeps the node from being ready: its times would mislead.
const CLOCK_LIMIT: Duration = Duration::from_secs(10);

/// A running hub.
pub struct App {
    /// Where it listens.
    pub address: SocketAddr,
    /// Made by the first start on an empty store.
    first_owner: Option<FirstOwner>,
    parts: Arc<Parts>,
    lanes: Arc<Lanes>,
    ears: Arc<Ears>,
    stop: CancellationToken,
    listening: CancellationToken,
    connections: TaskTracker,
    jobs: TaskTracker,
    /// On a shared database only; an embedded one is its folder's.
    node_lease: Option<Arc<NodeLease>>,
    _data_dir: Option<DataDirLock>,
}

impl App {
    /// Starts a hub.
    pub async fn start(config: Config) -> Result<Self> {
        raise_file_limit();
        let data_dir = match config.db.url {
            None => Some(db::lock_data_dir(&config.db.data_dir)?),
            Some(_) => None,
        };
        // Before anything is made that is told only once.
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|error| Error::internal(format_args!("listening on {}: {error}", config.listen)))?;
        let address = listener.local_addr().map_err(Error::internal)?;
        let lanes = Lanes::new(config.events.clone());
        let db = Db::open(&config.db, Journal::new(lanes.clone())).await?;
        let node: Arc<str> = uuid::Uuid::new_v4().simple().to_string()[..12].into();
        let node_lease = match db.is_shared() {
            true => {
                let place = Place::of(&config.db.data_dir);
                Some(Arc::new(NodeLease::take(&db, &node, place, config.redis_url.is_some()).await?))
            }
            false => None,
        };
        let epoch = events::establish(&db, config.db.synchronous).await?;
        lanes.set_epoch(&epoch);
        let first_owner = bootstrap::first_owner(&db).await?;
        let credentials = Arc::new(Credentials::open(&db, config.identity.session_ttl).await?);

        let registry = Arc::new(Registry::default());
        let stop = CancellationToken::new();
        let nodes = Nodes::new();
        let hub = read_or_store(&db, HUB_ID, uuid::Uuid::new_v4().simple().to_string()).await?;
        let redis = config.redis_url.as_deref().map(RedisLink::new).transpose()?;
        let (ttl, clock) = (config.fleet.lease_ttl, db.clock().clone());
        let (relay, liveness) = match redis {
            Some(link) => (
                Some(Relay::start(link.clone(), &hub, node.clone(), &lanes, &nodes, stop.clone())),
                Liveness::in_redis(link, &hub, ttl, clock, stop.clone()),
            ),
            None => (None, Liveness::in_memory(ttl, clock)),
        };
        let mut metrics = metrics::Registry::default();
        let fleet = Fleet::new(fleet::Parts {
            db: db.clone(),
            nodes: nodes.clone(),
            lanes: lanes.clone(),
            credentials: credentials.clone(),
            liveness,
            settings: config.fleet.clone(),
            node: node.clone(),
            metrics: fleet::Metrics::new(&mut metrics),
        });
        let queue =
            Queue::new(db.clone(), nodes.clone(), lanes.clone(), fleet.clone(), tasks::Metrics::new(&mut metrics));
        let ears =
            Arc::new(Ears { registry: registry.clone(), credentials: credentials.clone(), fleet: fleet.clone() });
        nodes.listen({
            // The ears know the fleet, and the fleet the way to all nodes.
            let ears = Arc::downgrade(&ears);
            move |message| {
                if let Some(ears) = ears.upgrade() {
                    ears.hear(message);
                }
            }
        });
        let sockets = Arc::new(Sockets {
            db: db.clone(),
            lanes: lanes.clone(),
            credentials: credentials.clone(),
            door: Door::new(&config.ws),
            fleet: fleet.clone(),
            queue: queue.clone(),
            registry,
            settings: config.ws.clone(),
            node,
            tracker: TaskTracker::new(),
            draining: CancellationToken::new(),
        });
        let parts = Arc::new(Parts {
            db,
            credentials,
            nodes,
            relay,
            fleet,
            queue,
            sockets,
            metrics,
            settings: config.api.clone(),
            last_used: Arc::new(LastUsed::default()),
            ready: Arc::new(AtomicBool::new(true)),
        });

        let app = Self {
            address,
            first_owner,
            parts: parts.clone(),
            lanes: lanes.clone(),
            ears,
            stop,
            listening: CancellationToken::new(),
            connections: TaskTracker::new(),
            jobs: TaskTracker::new(),
            node_lease,
            _data_dir: data_dir,
        };
        app.jobs.spawn(lanes.keep_whole(parts.db.clone(), app.stop.clone()));
        let fleet = &app.parts.fleet;
        app.jobs.spawn(fleet.clone().keep_looking(app.stop.clone()));
        app.jobs.spawn(fleet.clone().keep_flushing(app.stop.clone()));
        app.jobs.spawn(fleet.clone().keep_judging(app.stop.clone()));
        app.jobs.spawn(fleet.clone().keep_sweeping(app.stop.clone()));
        app.jobs.spawn(fleet.clone().keep_showing(app.stop.clone()));
        app.jobs.spawn(app.parts.queue.clone().keep_sweeping(app.stop.clone()));
        app.jobs.spawn(app.parts.queue.clone().keep_listeners_whole(app.stop.clone()));
        app.jobs.spawn(rechecking(app.ears.clone(), app.stop.clone()));
        app.jobs.spawn(housekeeping(parts.clone(), app.stop.clone()));
        app.jobs.spawn(chores::run(parts.clone(), config.events, app.stop.clone()));
        app.jobs.spawn(autopilots::run(parts.clone(), app.stop.clone()));
        if let Some(lease) = &app.node_lease {
            app.jobs.spawn(keep_lease(parts.db.clone(), lease.clone(), app.stop.clone()));
        }
        app.jobs.spawn(api::server::serve(
            listener,
            api::router(Api(parts)),
            app.listening.clone(),
            app.connections.clone(),
        ));
        tracing::info!(%address, database = if app.parts.db.is_shared() { "postgres" } else { "sqlite" }, "listening");
        Ok(app)
    }

    /// The token that the first start made, told once.
    pub fn first_token(&self) -> Option<&str> {
        self.first_owner.as_ref().map(|owner| owner.token.as_str())
    }

    /// The first owner's address and workspace.
    pub fn first_home(&self) -> Option<(&str, &str)> {
        self.first_owner.as_ref().map(|owner| (owner.email.as_str(), owner.slug.as_str()))
    }

    /// Lets a demonstration in: a token of a day for an owner of the oldest workspace.
    pub(crate) async fn demo_token(&self) -> Result<Demo> {
        bootstrap::demo(&self.parts.db).await
    }

    /// Moves the hub's clock ahead; for tests of what takes days.
    pub fn advance_clock(&self, by: Duration) {
        self.parts.db.clock().advance(by);
    }

    /// Statements sent to the database so far; what a path costs is the difference.
    pub fn statements(&self) -> u64 {
        self.parts.db.statements()
    }

    /// Writes the beats that are due; the flush does it every tick. Returns how many rows.
    pub async fn flush(&self) -> usize {
        self.parts.fleet.flush().await
    }

    /// Judges suspects; a job does it all the time.
    pub async fn judge(&self) {
        self.parts.fleet.judge().await;
    }

    /// Sweeps, whoever's turn it is: how many went offline, and how many were removed.
    pub async fn sweep(&self) -> (usize, usize) {
        let offline = self.parts.fleet.sweep().await;
        let removed = remove_forgotten(&self.parts.db, &self.parts.tools()).await;
        (offline, removed.unwrap_or_default())
    }

    /// Sweeps tasks, whoever's turn it is: how many failed.
    pub async fn sweep_tasks(&self) -> Result<usize> {
        self.parts.queue.sweep().await
    }

    /// Sets off the autopilots that are due, whoever's turn it is: how many; a job does it every half
    /// minute.
    pub async fn run_due_autopilots(&self) -> Result<usize> {
        autopilots::run_due(&self.parts).await
    }

    /// Purges removed workspaces, whoever's turn it is: how many rows went; a job does it every minute.
    pub async fn purge(&self) -> Result<u64> {
        purge(&self.parts.db).await
    }

    /// Runtimes that are suspected to be gone.
    pub fn suspected(&self) -> usize {
        self.parts.fleet.suspected()
    }

    /// Whether the lease store answers, and the relay brings back what is published.
    pub fn is_connected(&self) -> bool {
        self.parts.fleet.lease_store().well && self.parts.relay.as_ref().is_none_or(|relay| relay.is_well())
    }

    /// Checks tokens and memberships now; a job does it every half minute.
    pub async fn recheck(&self) -> Result<()> {
        recheck(&self.ears).await
    }

    /// Removes what is over the log's limits now; the housekeeping does it every minute.
    pub async fn prune_events(&self, config: &Config) -> Result<u64> {
        events::prune(&self.parts.db, &config.events).await
    }

    #[cfg(feature = "test-hooks")]
    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    #[cfg(feature = "test-hooks")]
    pub(crate) fn db(&self) -> &Db {
        &self.parts.db
    }

    /// Stops in order: no new work, sockets told, requests finished, what is noted written, pools
    /// closed.
    pub async fn stop(self) {
        let parts = &self.parts;
        parts.ready.store(false, Ordering::Relaxed);
        let deadline = tokio::time::Instant::now() + SHUTDOWN;
        let order = async {
            self.listening.cancel();
            self.connections.close();
            parts.sockets.drain(DRAIN).await;
            parts.sockets.tracker.wait().await;
            self.connections.wait().await;
        };
        if tokio::time::timeout_at(deadline, order).await.is_err() {
            tracing::warn!(
                sockets = parts.sockets.registry.len(),
                requests = self.connections.len(),
                "stopping with some of them open"
            );
        }
        self.stop.cancel();
        self.jobs.close();
        let rest = async {
            // Also what came while the sockets were leaving.
            parts.fleet.flush().await;
            if let Err(error) = parts.last_used.flush(&parts.db).await {
                tracing::warn!(%error, "writing when tokens were last used");
            }
            if let Err(error) = events::close(&parts.db).await {
                tracing::warn!(%error, "noting the clean stop");
            }
            // The jobs would take their leases again.
            self.jobs.wait().await;
            self.release_leases().await;
            parts.db.close().await;
        };
        if tokio::time::timeout(LAST_WRITES, rest).await.is_err() {
            tracing::warn!("the database does not answer; stopping without its last writes");
        }
        tracing::info!(epoch = %self.lanes.epoch(), "stopped");
    }

    /// Nobody has to wait for this node's leases to run out.
    async fn release_leases(&self) {
        let db = &self.parts.db;
        if let Err(error) = lease::release(db, &self.parts.sockets.node).await {
            tracing::warn!(%error, "releasing this node's jobs");
        }
        if let Some(lease) = &self.node_lease
            && let Err(error) = lease.give_up(db).await
        {
            tracing::warn!(%error, "giving up this node's lease");
        }
    }
}

/// What was missed about tokens and memberships, every half minute.
async fn rechecking(ears: Arc<Ears>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(RECHECK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if let Err(error) = recheck(&ears).await {
            tracing::warn!(%error, "checking tokens and memberships");
        }
    }
}

/// What every node does for itself.
async fn housekeeping(parts: Arc<Parts>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        match parts.db.measure_clock().await {
            Ok(distance) => {
                if distance > CLOCK_WARNING {
                    tracing::warn!(?distance, "this machine's clock differs from the database's");
                }
                let stopping = parts.sockets.draining.is_cancelled();
                parts.ready.store(distance <= CLOCK_LIMIT && !stopping, Ordering::Relaxed);
            }
            Err(error) => tracing::warn!(%error, "asking the database for the time"),
        }
        if let Err(error) = parts.last_used.flush(&parts.db).await {
            tracing::warn!(%error, "writing when tokens were last used");
        }
    }
}

async fn keep_lease(db: Db, lease: Arc<NodeLease>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(NodeLease::RENEWAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = lease.renew(&db).await {
            tracing::warn!(%error, "renewing this node's lease");
        }
    }
}

/// A socket is a file: the soft limit of 1,024 would end a fleet early.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => tracing::info!(from = ?limit.current, to = ?limit.maximum, "raised the limit of open files"),
        Err(error) => tracing::warn!(%error, limit = ?limit.current, "raising the limit of open files"),
    }
}
