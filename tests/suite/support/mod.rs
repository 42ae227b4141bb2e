//! What the cases stand on: a hub on a chosen store, people and daemons to call it, sockets to
//! follow it.

pub mod fleet;
pub mod gate;
pub mod hub;
pub mod postgres;
pub mod race;
pub mod redis;
pub mod socket;

pub use gate::Gate;
pub use hub::{Backend, Hub};
pub use socket::Socket;

/// Makes a test per store of a function that takes a [`Backend`].
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use crate::support::Backend;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                super::$name(Backend::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                super::$name(Backend::Postgres).await;
            }
        }
    )*};
}

/// Makes a test per store, and one on PostgreSQL with leases in Redis.
macro_rules! on_all_stores {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use crate::support::Backend;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                super::$name(Backend::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres_and_redis() {
                super::$name(Backend::PostgresRedis).await;
            }
        }
    )*};
}

use std::time::Duration;

/// How long anything may take before a case fails: generous, because machines are noisy, and never
/// waited for when all is well.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
