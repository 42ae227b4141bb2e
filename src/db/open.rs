//! Opening the pools, with every limit said explicitly.

use std::{
    fs::{File, TryLockError},
    path::Path,
    str::FromStr,
    time::Duration,
};

use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{Pools, Settings, Synchronous, migrate};
use crate::error::{Error, Result};

/// Texts of prepared statements kept per connection; more than the program has.
const STATEMENT_CACHE: usize = 512;

/// The server's own time limits, milliseconds, and how it finds out that a hub is gone whose
/// machine did not say so (seconds, and questions): sent in the start-up packet, so they cost
/// nothing and hold for every statement. How the hub finds out about the server: `pulse.rs`.
const SERVER_LIMITS: [(&str, &str); 7] = [
    ("statement_timeout", "30000"),
    ("lock_timeout", "15000"),
    ("idle_in_transaction_session_timeout", "30000"),
    ("default_transaction_isolation", "read committed"),
    ("tcp_keepalives_idle", "60"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
];

/// The name of the embedded store's file in the data folder.
const FILE: &str = "heartwire.db";

pub(super) async fn postgres(settings: &Settings, url: &str) -> Result<Pools> {
    let options = PgConnectOptions::from_str(url)
        // The error would repeat the URL, and with it the password.
        .map_err(|_| Error::internal("DATABASE_URL is not a postgres:// address"))?
        .application_name("heartwire")
        .statement_cache_capacity(STATEMENT_CACHE)
        .options(SERVER_LIMITS);
    let options = quiet(options);
    let pool = PgPoolOptions::new()
        .max_connections(settings.connections)
        .acquire_timeout(settings.patience.connection)
        .test_before_acquire(false)
        .connect_with(options)
        .await?;
    migrate::postgres(&pool).await?;
    Ok(Pools::Postgres(pool))
}

/// Without a word about each statement, which costs and may show what is in it; benches read them.
fn quiet<O: ConnectOptions>(options: O) -> O {
    if cfg!(feature = "test-hooks") { options } else { options.disable_statement_logging() }
}

pub(super) async fn sqlite(settings: &Settings) -> Result<Pools> {
    std::fs::create_dir_all(&settings.data_dir)
        .map_err(|error| Error::internal(format_args!("{}: {error}", settings.data_dir.display())))?;
    let options = SqliteConnectOptions::new()
        .filename(settings.data_dir.join(FILE))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(match settings.synchronous {
            Synchronous::Full => SqliteSynchronous::Full,
            Synchronous::Normal => SqliteSynchronous::Normal,
        })
        .busy_timeout(Duration::from_secs(5))
        .foreign_keys(true)
        .statement_cache_capacity(STATEMENT_CACHE);
    let options = quiet(options);
    let pool = |connections| {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(settings.patience.connection)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
    };
    // Under one lock: switching a new store to WAL does not wait for another process that does too.
    let turn = migrate::take_turn(&settings.data_dir).await?;
    let writer = pool(1).connect_with(options.clone()).await?;
    migrate::sqlite(&writer).await?;
    drop(turn);
    let readers = pool(settings.readers).connect_with(options).await?;
    Ok(Pools::Sqlite { readers, writer })
}

/// Keeps other hubs away from a data folder for as long as it lives; the operating system lets go
/// of it with the process.
pub struct DataDirLock(#[allow(dead_code, reason = "held, not read")] File);

pub(super) fn lock_data_dir(folder: &Path) -> Result<DataDirLock> {
    let io = |error: std::io::Error| Error::internal(format_args!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(io)?;
    let file = File::options().create(true).truncate(false).write(true).open(folder.join("hub.lock")).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(DataDirLock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::internal(format_args!(
            "another hub uses the data folder {}; give this one its own with --data-dir",
            folder.display()
        ))),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}
