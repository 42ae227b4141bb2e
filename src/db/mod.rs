//! The relational store: SQLite in the process or PostgreSQL beside it, behind one interface.
//!
//! Every statement in the program goes through [`Db::read`] or [`Db::write`], which run the whole
//! conversation with the database in a task of its own: a caller that goes away cancels nothing
//! half-way, and no connection returns to a pool inside an open transaction. Time limits are the
//! server's; ours are for a server that is gone and has not said so. A caller then waits only so
//! long, and a conversation in which the server fell silent is given up with its connection.
//!
//! Those tasks run on threads of the store's own: a transaction awaits several answers while it
//! holds the writer or a counter's row, and on the sockets' threads each of them would wait behind a
//! whole fan-out. Inside, the `on!` macro runs one expression on either database.

mod clock;
mod course;
pub mod lease;
pub mod lists;
mod meta;
mod migrate;
mod node_lease;
mod open;
mod place;
mod pulse;
mod session;
mod settings;
pub mod sql;
mod threads;
mod write;

use std::{
    collections::HashMap,
    future::Future,
    path::Path,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use course::Course;
use parking_lot::Mutex;
use pulse::{Pulse, is_an_answer};
use sqlx::{PgPool, SqlitePool};
use tokio::sync::Semaphore;

pub use clock::Clock;
pub use meta::read_or_store;
pub use node_lease::NodeLease;
pub use open::DataDirLock;
pub use place::Place;
pub use session::{Arm, Session};
pub use settings::{KEYS, Patience, Settings, Synchronous};
pub use threads::Spawned;
use threads::Threads;
pub use write::{Batch, Sealed, Sink, Tx};

use crate::{
    error::{Error, Result, database_is_away},
    ids::WorkspaceId,
};

/// Writes of one workspace that may hold connections at once. Four keep a hot workspace's counter
/// row busy; more only queue on its lock, and take connections from the quiet ones.
const WRITERS_PER_WORKSPACE: usize = 4;

/// Beyond the pool's size: how often work is begun again when the connection it was given turns out
/// to be dead. All idle connections may have died with a restarted server.
const DEAD_CONNECTIONS: u32 = 20;

/// A handle on the store; clones are cheap.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

struct Inner {
    pools: Pools,
    threads: Threads,
    clock: Clock,
    sink: Arc<dyn Sink>,
    permits: Mutex<HashMap<WorkspaceId, Weak<Semaphore>>>,
    patience: Patience,
    statements: AtomicU64,
    answers: AtomicBool,
    /// The statement of a workspace's next transaction that is to fail.
    #[cfg(feature = "test-hooks")]
    fuse: Mutex<Option<(WorkspaceId, usize)>>,
}

impl Inner {
    fn heard<T>(&self, outcome: &std::result::Result<T, sqlx::Error>) {
        let answers = is_an_answer(outcome);
        if self.answers.load(Ordering::Relaxed) != answers {
            self.answers.store(answers, Ordering::Relaxed);
        }
    }
}

enum Pools {
    Postgres(PgPool),
    Sqlite { readers: SqlitePool, writer: SqlitePool },
}

impl Db {
    /// Opens and migrates the store that the settings name.
    pub async fn open(settings: &Settings, sink: Arc<dyn Sink>) -> Result<Self> {
        let threads = Threads::start()?;
        let settings = settings.clone();
        let patience = settings.patience;
        // There, since a connection belongs to the runtime in which it was opened.
        let pools = threads.run(async move {
            match &settings.url {
                Some(url) => open::postgres(&settings, url).await,
                None => open::sqlite(&settings).await,
            }
        });
        let pools = pools.await?;
        let db = Self(Arc::new(Inner {
            pools,
            threads,
            clock: Clock::default(),
            sink,
            permits: Mutex::default(),
            patience,
            statements: AtomicU64::new(0),
            answers: AtomicBool::new(true),
            #[cfg(feature = "test-hooks")]
            fuse: Mutex::default(),
        }));
        db.measure_clock().await?;
        Ok(db)
    }

    /// The clock that all stored times come from.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Statements sent since the start, `BEGIN` and `COMMIT` included.
    pub fn statements(&self) -> u64 {
        self.0.statements.load(Ordering::Relaxed)
    }

    /// The n-th statement of a workspace's next transaction fails, the first being 1.
    #[cfg(feature = "test-hooks")]
    pub fn fail_statement(&self, workspace: WorkspaceId, statement: usize) {
        *self.0.fuse.lock() = Some((workspace, statement));
    }

    /// Whether the last that was asked of the database was answered, if only with a no.
    pub fn answers(&self) -> bool {
        self.0.answers.load(Ordering::Relaxed)
    }

    /// Whether this is PostgreSQL.
    pub fn is_shared(&self) -> bool {
        matches!(self.0.pools, Pools::Postgres(_))
    }

    /// Compares this machine's clock with the database's and returns the distance.
    pub async fn measure_clock(&self) -> Result<Duration> {
        if !self.is_shared() {
            return Ok(Duration::ZERO);
        }
        let clock = self.0.clock.clone();
        self.read(async move |db| {
            let asked = std::time::Instant::now();
            let now: i64 = on!(
                db,
                pg "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
                lite "SELECT 0",
                |c, sql| sqlx::query_scalar(sql).fetch_one(c)
            )?;
            Ok(clock.learn(crate::time::Timestamp(now), asked.elapsed()))
        })
        .await
    }

    /// Runs `body` on a connection, outside any transaction. It may run again on another
    /// connection when its first turns out to be dead, so it has no effects.
    pub fn read<T, F>(&self, body: F) -> Spawned<impl Future<Output = Result<T>> + use<T, F>>
    where
        F: AsyncFn(&mut Session) -> Result<T>,
    {
        let db = self.clone();
        let (course, patience) = (Arc::<Course>::default(), self.0.patience);
        let waited_for = course.clone();
        let conversation = self.0.threads.run(async move {
            let mut dead = 0;
            loop {
                course.begin()?;
                let mut session = db.reader().await?;
                let pulse = session.pulse();
                let outcome = match pulse.watch(body(&mut session)).await {
                    Some(outcome) => outcome,
                    None => Err(session.fell_silent()),
                };
                match outcome {
                    Err(Error::Database(error)) if session.is_dead(&error) && dead < db.most_dead() => dead += 1,
                    outcome => return outcome,
                }
            }
        });
        conversation.within(patience.read, waited_for)
    }

    /// Runs `body` in a transaction on behalf of `workspace`, seals and commits what it emitted, and
    /// hands it on. The body runs again after a deadlock or a serialisation failure, so everything
    /// it does outside the database belongs into [`Tx::after_commit`]. An `Err` rolls back.
    pub fn write<T, F>(&self, workspace: WorkspaceId, body: F) -> Spawned<impl Future<Output = Result<T>> + use<T, F>>
    where
        F: AsyncFn(&mut Tx) -> Result<T>,
    {
        self.write_for(Some(workspace), body)
    }

    /// As [`Db::write`], for rows that belong to no workspace: people and their tokens.
    pub fn write_global<T, F>(&self, body: F) -> Spawned<impl Future<Output = Result<T>> + use<T, F>>
    where
        F: AsyncFn(&mut Tx) -> Result<T>,
    {
        self.write_for(None, body)
    }

    fn write_for<T, F>(
        &self,
        workspace: Option<WorkspaceId>,
        body: F,
    ) -> Spawned<impl Future<Output = Result<T>> + use<T, F>>
    where
        F: AsyncFn(&mut Tx) -> Result<T>,
    {
        let db = self.clone();
        let (course, patience) = (Arc::<Course>::default(), self.0.patience);
        let waited_for = course.clone();
        let conversation = self.0.threads.run(async move { write::run(&db, workspace, &course, body).await });
        conversation.within(patience.write, waited_for)
    }

    fn most_dead(&self) -> u32 {
        let size = match &self.0.pools {
            Pools::Postgres(pool) => pool.options().get_max_connections(),
            Pools::Sqlite { .. } => 0,
        };
        size + DEAD_CONNECTIONS
    }

    /// Closes the pools and waits for the connections in use.
    pub async fn close(&self) {
        match &self.0.pools {
            Pools::Postgres(pool) => pool.close().await,
            Pools::Sqlite { readers, writer } => {
                readers.close().await;
                writer.close().await;
            }
        }
    }

    async fn reader(&self) -> Result<Session> {
        let counter = Arc::downgrade(&self.0);
        let session = match &self.0.pools {
            Pools::Postgres(pool) => pool
                .acquire()
                .await
                .map(|connection| Session::pg(connection, counter, Pulse::new(Some(self.0.patience.silent_read)))),
            Pools::Sqlite { readers, .. } => {
                readers.acquire().await.map(|connection| Session::lite(connection, counter, Pulse::new(None)))
            }
        };
        if session.is_err() {
            // An idle one out of the pool, on the other hand, is no answer of the server's.
            self.0.heard(&session);
        }
        Ok(session?)
    }

    /// Begins a transaction; a connection that died in the pool is replaced here, where running
    /// again is always safe.
    async fn begin(&self) -> Result<Session> {
        let mut dead = 0;
        loop {
            self.0.statements.fetch_add(1, Ordering::Relaxed);
            let begun = self.try_begin().await;
            self.0.heard(&begun);
            match begun {
                Err(error)
                    if database_is_away(&error)
                        && !matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed)
                        && dead < self.most_dead() =>
                {
                    dead += 1;
                    if dead > 20 {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
                outcome => return Ok(outcome?),
            }
        }
    }

    async fn try_begin(&self) -> Result<Session, sqlx::Error> {
        let counter = Arc::downgrade(&self.0);
        match &self.0.pools {
            Pools::Postgres(pool) => {
                let pulse = Pulse::new(Some(self.0.patience.silent_write));
                Session::pg_tx(pool.acquire().await?, counter, pulse).await
            }
            Pools::Sqlite { writer, .. } => {
                let tx = writer.begin_with("BEGIN IMMEDIATE").await?;
                Ok(Session::lite_tx(tx, counter, Pulse::new(None)))
            }
        }
    }

    fn permits(&self, workspace: WorkspaceId) -> Arc<Semaphore> {
        let mut map = self.0.permits.lock();
        if let Some(permits) = map.get(&workspace).and_then(Weak::upgrade) {
            return permits;
        }
        if map.len() > 1024 {
            map.retain(|_, permits| permits.strong_count() > 0);
        }
        let permits = Arc::new(Semaphore::new(WRITERS_PER_WORKSPACE));
        map.insert(workspace, Arc::downgrade(&permits));
        permits
    }
}

/// Takes the folder for this process; see [`DataDirLock`].
pub fn lock_data_dir(folder: &Path) -> Result<DataDirLock> {
    open::lock_data_dir(folder)
}

/// Runs one query expression on whichever database the session talks to.
///
/// `on!(session, |c| sqlx::query_as("…").bind(x).fetch_one(c))`, or with both dialects side by side:
/// `on!(session, pg "…FOR UPDATE", lite "…", |c, sql| sqlx::query_as(sql).fetch_one(c))`.
macro_rules! on {
    ($session:expr, |$c:ident| $query:expr) => {{
        let session: &mut $crate::db::Session = $session;
        let outcome = match session.arm() {
            $crate::db::Arm::Postgres($c) => $query.await,
            $crate::db::Arm::Sqlite($c) => $query.await,
        };
        session.note(outcome)
    }};
    ($session:expr, pg $pg:expr, lite $lite:expr, |$c:ident, $sql:ident| $query:expr) => {{
        let session: &mut $crate::db::Session = $session;
        let outcome = match session.arm() {
            $crate::db::Arm::Postgres($c) => {
                let $sql = $pg;
                $query.await
            }
            $crate::db::Arm::Sqlite($c) => {
                let $sql = $lite;
                $query.await
            }
        };
        session.note(outcome)
    }};
}
pub(crate) use on;

/// As `on!`, for statements whose answer is the number of rows they changed.
macro_rules! exec {
    ($session:expr, |$c:ident| $query:expr) => {
        $crate::db::on!($session, |$c| async { $query.execute($c).await.map(|done| done.rows_affected()) })
    };
    ($session:expr, pg $pg:expr, lite $lite:expr, |$c:ident, $sql:ident| $query:expr) => {
        $crate::db::on!($session, pg $pg, lite $lite, |$c, $sql| async {
            $query.execute($c).await.map(|done| done.rows_affected())
        })
    };
}
pub(crate) use exec;
