//! The runtimes that daemons bring: registration, beats, ends, and what people may do with them.

mod heartbeat;
mod register;
mod revoke;
mod runtimes;
mod settings;

use std::sync::Arc;

use crate::{db::Db, hub::Registry};

pub use heartbeat::Beat;
pub use revoke::revoke;
pub use settings::{KEYS, Settings};

/// The fleet's rules over one store and this process's sockets.
pub struct Fleet {
    db: Db,
    registry: Arc<Registry>,
    settings: Settings,
}

impl Fleet {
    /// Joins the parts.
    pub fn new(db: Db, registry: Arc<Registry>, settings: Settings) -> Self {
        Self { db, registry, settings }
    }

    /// What was set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
