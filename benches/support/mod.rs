//! What the benches share: a hub in a runtime of its own, a load generator that costs much less
//! than the hub, and what the kernel says about both.

mod hub;
pub mod machine;
mod publish;
mod remote;
mod stats;
mod swarm;
mod viewers;

pub use hub::{Hub, Store, id_of};
pub use publish::{Mill, Rate, paced, saturated};
pub use remote::RemoteSwarm;
pub use stats::{Delays, Notes, Table, millions, spread};
pub use swarm::{Swarm, Target, now};
pub use viewers::{Viewed, Viewers, clock};

use std::time::{Duration, Instant};

/// Bytes of filler that make an event some 325 bytes long on the wire.
pub const FILLER: usize = 110;

/// Prints the command line and what it ran on.
pub fn introduce(store: &Store) {
    let command: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let name = option_env!("CARGO_CRATE_NAME").unwrap_or("bench");
    println!("$ cargo bench --features test-hooks --bench {name} -- {}", command.join(" "));
    println!("{}", machine::facts(store.folder()));
}

/// Looks every few milliseconds until `done` says so; gives up with `what` after `limit`.
pub fn wait(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        rest(Duration::from_millis(2));
    }
    start.elapsed()
}

/// Does nothing for a while.
#[allow(clippy::disallowed_methods, reason = "no thread of a runtime")]
pub fn rest(time: Duration) {
    std::thread::sleep(time);
}

/// The binary's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
