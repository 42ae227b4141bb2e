//! The two sockets, over one connection.

mod admission;
pub mod browser;
mod connection;
pub mod daemon;
mod door;
mod lifeline;
mod listening;
mod scopes;
mod settings;
mod upgrade;

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    db::Db,
    events::Lanes,
    fleet::Fleet,
    hub::{Close, Registry},
    identity::Credentials,
    protocol::close,
    tasks::Queue,
};

pub use connection::{Connection, Ended, Limits, NoFrames, Signal, Source, Supply, Transport};
pub use door::Door;
pub use lifeline::Lifeline;
pub use settings::{KEYS, Settings};
pub use upgrade::check;

/// What the sockets need of the rest.
pub struct Sockets {
    /// The store.
    pub db: Db,
    /// Who holds which secret.
    pub credentials: Arc<Credentials>,
    /// What strangers may do.
    pub door: Arc<Door>,
    /// The event streams.
    pub lanes: Arc<Lanes>,
    /// The rules of beats.
    pub fleet: Arc<Fleet>,
    /// The work.
    pub queue: Arc<Queue>,
    /// The open sockets.
    pub registry: Arc<Registry>,
    /// What was set.
    pub settings: Settings,
    /// This node's name.
    pub node: Arc<str>,
    /// Owns every socket's task; HTTP's graceful shutdown knows nothing of them.
    pub tracker: TaskTracker,
    /// Cancelled when no new socket is wanted.
    pub draining: CancellationToken,
}

impl Sockets {
    /// Closes every open socket, spread over `pace`, telling each to come back a little later than
    /// the one before.
    pub async fn drain(&self, pace: std::time::Duration) {
        self.draining.cancel();
        let sockets = self.registry.all();
        let count = sockets.len().max(1) as u32;
        for (index, socket) in sockets.into_iter().enumerate() {
            let retry = 500 + rand::random_range(0..1000u32 + 20 * count.min(500));
            socket.close(Close::new(close::DRAINING, format!("retry_after_ms={retry}")));
            if (index + 1) % 64 == 0 {
                tokio::time::sleep(pace * 64 / count).await;
            }
        }
        self.tracker.close();
    }
}
