//! One conversation with the database, inside a transaction or outside.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use sqlx::{PgConnection, Postgres, Sqlite, SqliteConnection, Transaction, pool::PoolConnection};
use tokio::runtime::Handle;

use super::{
    Inner,
    pulse::{Pulse, silence},
};
use crate::error::{Error, Result, database_is_away};

/// A connection that goes back to its pool is asked whether it lives; one that says nothing for this
/// long is closed instead.
const RETURN: Duration = Duration::from_secs(10);

/// A connection in use.
pub struct Session {
    link: Link,
    /// A statement failed. PostgreSQL has then aborted the transaction and will answer COMMIT with
    /// a rollback that the driver reports as success, so nothing may be committed any more.
    failed: bool,
    counter: Weak<Inner>,
    pulse: Arc<Pulse>,
    /// Statements until one fails; none does at 0.
    #[cfg(feature = "test-hooks")]
    fuse: usize,
}

enum Link {
    Pg(Held),
    PgTx(Held),
    Lite(PoolConnection<Sqlite>),
    LiteTx(Transaction<'static, Sqlite>),
}

/// A connection to PostgreSQL. Transactions are begun and ended by hand: the driver's own would take
/// the connection back into the pool, inside a transaction or without anybody at the other end, and
/// wait there for an answer without any limit.
struct Held {
    connection: PoolConnection<Postgres>,
    /// Inside a transaction, or silent: it may only be closed.
    spoiled: bool,
}

/// The connection under a session, for the `on!` macro.
pub enum Arm<'a> {
    /// PostgreSQL.
    Postgres(&'a mut PgConnection),
    /// SQLite.
    Sqlite(&'a mut SqliteConnection),
}

impl Session {
    pub(super) fn pg(connection: PoolConnection<Postgres>, counter: Weak<Inner>, pulse: Pulse) -> Self {
        Self::new(Link::Pg(Held { connection, spoiled: false }), counter, pulse)
    }

    pub(super) fn lite(connection: PoolConnection<Sqlite>, counter: Weak<Inner>, pulse: Pulse) -> Self {
        Self::new(Link::Lite(connection), counter, pulse)
    }

    pub(super) fn lite_tx(tx: Transaction<'static, Sqlite>, counter: Weak<Inner>, pulse: Pulse) -> Self {
        Self::new(Link::LiteTx(tx), counter, pulse)
    }

    /// A transaction that begins here.
    pub(super) async fn pg_tx(
        connection: PoolConnection<Postgres>,
        counter: Weak<Inner>,
        pulse: Pulse,
    ) -> Result<Self, sqlx::Error> {
        let mut held = Held { connection, spoiled: true };
        held.say("BEGIN ISOLATION LEVEL READ COMMITTED", &pulse).await?;
        Ok(Self::new(Link::PgTx(held), counter, pulse))
    }

    fn new(link: Link, counter: Weak<Inner>, pulse: Pulse) -> Self {
        Self {
            link,
            failed: false,
            counter,
            pulse: Arc::new(pulse),
            #[cfg(feature = "test-hooks")]
            fuse: 0,
        }
    }

    /// The n-th statement from here on fails.
    #[cfg(feature = "test-hooks")]
    pub(super) fn burn_down(&mut self, statements: usize) {
        self.fuse = statements;
    }

    #[cfg(feature = "test-hooks")]
    fn is_to_fail(&mut self) -> bool {
        let last = self.fuse == 1;
        self.fuse = self.fuse.saturating_sub(1);
        last
    }

    #[cfg(not(feature = "test-hooks"))]
    fn is_to_fail(&mut self) -> bool {
        false
    }

    /// The connection to send the next statement over.
    pub fn arm(&mut self) -> Arm<'_> {
        self.count();
        self.pulse.beat();
        match &mut self.link {
            Link::Pg(held) | Link::PgTx(held) => Arm::Postgres(&mut held.connection),
            Link::Lite(connection) => Arm::Sqlite(connection),
            Link::LiteTx(tx) => Arm::Sqlite(tx),
        }
    }

    /// Takes note of how a statement ended.
    pub fn note<T>(&mut self, outcome: Result<T, sqlx::Error>) -> Result<T> {
        self.pulse.beat();
        self.heard(&outcome);
        if self.is_to_fail() {
            self.failed = true;
            return Err(Error::internal("a statement that was to fail"));
        }
        outcome.map_err(|error| {
            self.failed |= !matches!(error, sqlx::Error::RowNotFound);
            Error::Database(error)
        })
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether `error` says that the connection, not the query, was at fault, outside any
    /// transaction.
    pub(super) fn is_dead(&self, error: &sqlx::Error) -> bool {
        let lost = match error {
            sqlx::Error::Database(database) => matches!(database.code().as_deref(), Some("57P01" | "57P02")),
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => false,
            other => database_is_away(other),
        };
        lost && matches!(self.link, Link::Pg(_))
    }

    pub(super) fn pulse(&self) -> Arc<Pulse> {
        self.pulse.clone()
    }

    /// The server fell silent: nothing can be said over this connection any more.
    pub(super) fn fell_silent(&mut self) -> Error {
        if let Link::Pg(held) | Link::PgTx(held) = &mut self.link {
            held.spoiled = true;
        }
        self.failed = true;
        self.heard(&Err::<(), _>(silence()));
        Error::Database(silence())
    }

    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        self.count();
        self.pulse.beat();
        let counter = self.counter.clone();
        let outcome = match self.link {
            Link::PgTx(mut held) => held.end("COMMIT", &self.pulse).await,
            Link::LiteTx(tx) => tx.commit().await,
            Link::Pg(_) | Link::Lite(_) => Ok(()),
        };
        if let Some(inner) = counter.upgrade() {
            inner.heard(&outcome);
        }
        outcome
    }

    /// Ends the transaction without effect. A connection that fails here is dropped by its pool.
    pub(super) async fn rollback(self) {
        self.pulse.beat();
        let ended = match self.link {
            Link::PgTx(mut held) => held.end("ROLLBACK", &self.pulse).await,
            Link::LiteTx(tx) => tx.rollback().await,
            Link::Pg(_) | Link::Lite(_) => Ok(()),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "rollback");
        }
    }

    fn heard<T>(&self, outcome: &Result<T, sqlx::Error>) {
        if let Some(inner) = self.counter.upgrade() {
            inner.heard(outcome);
        }
    }

    fn count(&self) {
        if let Some(inner) = self.counter.upgrade() {
            inner.statements.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Held {
    async fn say(&mut self, word: &'static str, pulse: &Pulse) -> Result<(), sqlx::Error> {
        pulse.beat();
        let said = pulse.watch(sqlx::raw_sql(word).execute(&mut *self.connection)).await;
        said.unwrap_or_else(|| Err(silence())).map(drop)
    }

    async fn end(&mut self, word: &'static str, pulse: &Pulse) -> Result<(), sqlx::Error> {
        self.say(word, pulse).await?;
        self.spoiled = false;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.spoiled {
            // The driver waits five seconds for that.
            self.connection.close_on_drop();
        } else if let Ok(runtime) = Handle::try_current() {
            let returned = self.connection.return_to_pool();
            // Dropped unfinished, it closes the connection and gives its place in the pool free.
            runtime.spawn(async move { tokio::time::timeout(RETURN, returned).await });
        }
    }
}
