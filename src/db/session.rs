//! One conversation with the database, inside a transaction or outside.

use std::sync::{Weak, atomic::Ordering};

use sqlx::{PgConnection, Postgres, Sqlite, SqliteConnection, Transaction, pool::PoolConnection};

use super::Inner;
use crate::error::{Error, Result, database_is_away};

/// A connection in use.
pub struct Session {
    link: Link,
    /// A statement failed. PostgreSQL has then aborted the transaction and will answer COMMIT with
    /// a rollback that the driver reports as success, so nothing may be committed any more.
    failed: bool,
    counter: Weak<Inner>,
}

enum Link {
    Pg(PoolConnection<Postgres>),
    PgTx(Transaction<'static, Postgres>),
    Lite(PoolConnection<Sqlite>),
    LiteTx(Transaction<'static, Sqlite>),
}

/// The connection under a session, for the `on!` macro.
pub enum Arm<'a> {
    /// PostgreSQL.
    Postgres(&'a mut PgConnection),
    /// SQLite.
    Sqlite(&'a mut SqliteConnection),
}

impl Session {
    pub(super) fn pg(connection: PoolConnection<Postgres>, counter: Weak<Inner>) -> Self {
        Self { link: Link::Pg(connection), failed: false, counter }
    }

    pub(super) fn pg_tx(tx: Transaction<'static, Postgres>, counter: Weak<Inner>) -> Self {
        Self { link: Link::PgTx(tx), failed: false, counter }
    }

    pub(super) fn lite(connection: PoolConnection<Sqlite>, counter: Weak<Inner>) -> Self {
        Self { link: Link::Lite(connection), failed: false, counter }
    }

    pub(super) fn lite_tx(tx: Transaction<'static, Sqlite>, counter: Weak<Inner>) -> Self {
        Self { link: Link::LiteTx(tx), failed: false, counter }
    }

    /// The connection to send the next statement over.
    pub fn arm(&mut self) -> Arm<'_> {
        self.count();
        match &mut self.link {
            Link::Pg(connection) => Arm::Postgres(connection),
            Link::PgTx(tx) => Arm::Postgres(tx),
            Link::Lite(connection) => Arm::Sqlite(connection),
            Link::LiteTx(tx) => Arm::Sqlite(tx),
        }
    }

    /// Takes note of how a statement ended.
    pub fn note<T>(&mut self, outcome: Result<T, sqlx::Error>) -> Result<T> {
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

    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        self.count();
        match self.link {
            Link::PgTx(tx) => tx.commit().await,
            Link::LiteTx(tx) => tx.commit().await,
            Link::Pg(_) | Link::Lite(_) => Ok(()),
        }
    }

    /// Ends the transaction without effect. A connection that fails here is dropped by its pool.
    pub(super) async fn rollback(self) {
        let ended = match self.link {
            Link::PgTx(tx) => tx.rollback().await,
            Link::LiteTx(tx) => tx.rollback().await,
            Link::Pg(_) | Link::Lite(_) => Ok(()),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "rollback");
        }
    }

    fn count(&self) {
        if let Some(inner) = self.counter.upgrade() {
            inner.statements.fetch_add(1, Ordering::Relaxed);
        }
    }
}
