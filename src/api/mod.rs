//! HTTP: a file per resource. Handlers extract, call the domain and render; no SQL and no rules
//! here. `routes` says who may call what.

mod agents;
mod answer;
mod attachments;
mod autopilots;
mod chats;
mod comments;
mod cookies;
mod daemon;
mod daemon_tasks;
mod daemon_tokens;
mod download;
mod events;
mod extract;
mod form;
mod gc_checks;
mod guard;
mod health;
mod issues;
mod me;
mod members;
mod metrics;
mod optional;
mod origin;
mod pages;
mod patience;
mod profiles;
mod projects;
mod quick_create;
mod request_log;
mod routes;
mod runtimes;
pub mod server;
mod session;
mod settings;
mod skills;
mod sockets;
mod squads;
mod tasks;
mod tokens;
mod workspaces;

use std::sync::{Arc, atomic::AtomicBool};

use crate::{
    db::Db,
    events::{Nodes, Relay},
    fleet::Fleet,
    flows::teardown::Tools,
    identity::{Credentials, LastUsed},
    tasks::Queue,
    ws::Sockets,
};

pub use routes::router;
#[cfg(feature = "test-hooks")]
pub use routes::table;
pub use settings::{KEYS, Settings};

/// What the routes need of the rest; clones are cheap.
#[derive(Clone)]
pub struct Api(pub Arc<Parts>);

/// The parts.
pub struct Parts {
    /// The store.
    pub db: Db,
    /// Who holds which secret.
    pub credentials: Arc<Credentials>,
    /// The way to all nodes.
    pub nodes: Arc<Nodes>,
    /// Between the nodes, if there may be several.
    pub relay: Option<Arc<Relay>>,
    /// The runtimes.
    pub fleet: Arc<Fleet>,
    /// The work.
    pub queue: Arc<Queue>,
    /// The sockets.
    pub sockets: Arc<Sockets>,
    /// What is counted.
    pub metrics: prometheus_client::registry::Registry,
    /// When tokens were used.
    pub last_used: Arc<LastUsed>,
    /// Where people come from.
    pub settings: Settings,
    /// Whether this node wants traffic.
    pub ready: Arc<AtomicBool>,
}

impl Parts {
    /// What taking apart needs of them.
    pub fn tools(&self) -> Tools {
        Tools { queue: self.queue.clone(), fleet: self.fleet.clone() }
    }
}

impl std::ops::Deref for Api {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}
