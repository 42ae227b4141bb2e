//! What can be set about the database.

use std::{path::PathBuf, time::Duration};

use crate::settings::{Key, Unusable, Values};

const DATA_DIR: Key = Key {
    name: "db.data_dir",
    env: "HEARTWIRE_DATA_DIR",
    default: "data",
    doc: "Folder of the embedded store and of first-start files. One hub at a time may use it.",
};
const URL: Key = Key {
    name: "db.url",
    env: "DATABASE_URL",
    default: "",
    doc: "postgres://user:password@host/database. Empty: the embedded SQLite store in the data folder.",
};
const CONNECTIONS: Key = Key {
    name: "db.connections",
    env: "HEARTWIRE_DB_CONNECTIONS",
    default: "20",
    doc: "PostgreSQL connections at most. One workspace never holds more than four of them for writing.",
};
const READERS: Key = Key {
    name: "db.sqlite_readers",
    env: "HEARTWIRE_SQLITE_READERS",
    default: "4",
    doc: "Reading connections of the embedded store; there is always exactly one writer.",
};
const SYNCHRONOUS: Key = Key {
    name: "db.sqlite_synchronous",
    env: "HEARTWIRE_SQLITE_SYNCHRONOUS",
    default: "full",
    doc: "full: what was acknowledged survives a power cut. normal: faster; after an unclean stop the\nevent epoch changes and every client refetches.",
};

/// The database's own settings' keys.
pub const KEYS: &[Key] = &[DATA_DIR, URL, CONNECTIONS, READERS, SYNCHRONOUS];

/// How durable a SQLite commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// Flushed at every commit.
    Full,
    /// Flushed at checkpoints.
    Normal,
}

/// Where the data is and how it is reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the embedded store and of first-start files.
    pub data_dir: PathBuf,
    /// PostgreSQL, when set.
    pub url: Option<String>,
    /// PostgreSQL connections at most.
    pub connections: u32,
    /// SQLite readers.
    pub readers: u32,
    /// SQLite durability.
    pub synchronous: Synchronous,
    /// How long is waited.
    pub patience: Patience,
}

/// How long is waited for a database that may be gone without having said so. Tied to the server's
/// own limits, which end whatever takes long while it is there; so they are not for people to set.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection to be free, or made.
    pub connection: Duration,
    /// For the end of a read, whatever it waits for.
    pub read: Duration,
    /// For the end of a write.
    pub write: Duration,
    /// For a word of the server within a read: more than its limit on statements.
    pub silent_read: Duration,
    /// For one within a write: more than the longest limit that a write may give itself, two minutes.
    pub silent_write: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connection: Duration::from_secs(10),
            read: Duration::from_secs(60),
            write: Duration::from_secs(180),
            silent_read: Duration::from_secs(45),
            silent_write: Duration::from_secs(150),
        }
    }
}

impl Settings {
    /// Reads the room's part.
    pub fn read(values: &Values) -> Result<Self, Unusable> {
        Ok(Self {
            data_dir: values.text(&DATA_DIR).unwrap_or_else(|| ".".into()).into(),
            url: values.text(&URL),
            connections: values.number(&CONNECTIONS, 2, 500)? as u32,
            readers: values.number(&READERS, 1, 64)? as u32,
            synchronous: values
                .choice(&SYNCHRONOUS, &[("full", Synchronous::Full), ("normal", Synchronous::Normal)])?,
            patience: Patience::default(),
        })
    }
}
