//! Where leases are kept: in memory for one node, in Redis for several, behind one interface. The
//! rules that read them are the same.

mod memory;
mod remote;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::lease::Lease;
use crate::{db::Clock, ids::RuntimeId, redis_link::RedisLink, time::Timestamp};

use memory::Memory;
use remote::Remote;

/// What a touch found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// What was there before.
    Was(Option<Lease>),
    /// Nothing was touched: the store does not answer.
    Away,
}

/// Some leases, read at once.
#[derive(Debug)]
pub struct Picture(pub Vec<Option<Lease>>);

/// How the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Whether it answers.
    pub well: bool,
    /// Grows whenever it stops or begins to answer, or turns out to have lost everything. A verdict
    /// that spans such a change does not count.
    pub changes: u64,
    /// Since when it answers, if it does.
    pub well_since: Timestamp,
    /// When it last turned out to have other data than before, or this node began.
    pub lost_at: Timestamp,
}

/// The store of leases.
pub enum Liveness {
    /// In this process.
    Memory(Memory),
    /// In Redis.
    Remote(Arc<Remote>),
}

impl Liveness {
    /// Leases of one node, in its memory.
    pub fn in_memory(ttl: Duration, clock: Clock) -> Self {
        Self::Memory(Memory::new(ttl, clock))
    }

    /// Leases in Redis, under names that begin with `prefix`.
    pub fn in_redis(link: RedisLink, prefix: &str, ttl: Duration, clock: Clock, stop: CancellationToken) -> Self {
        Self::Remote(Remote::start(link, prefix, ttl, clock, stop))
    }

    /// Writes a lease and says what was there before. With Redis it goes with the next tick, and
    /// never takes longer than a quarter of a second.
    pub async fn touch(&self, runtime: RuntimeId, lease: Lease) -> Touched {
        match self {
            Self::Memory(memory) => memory.touch(runtime, lease),
            Self::Remote(remote) => remote.touch(runtime, lease).await,
        }
    }

    /// Lets a lease live longer as it is, and says what it is. As quick as a touch.
    pub async fn keep(&self, runtime: RuntimeId) -> Touched {
        match self {
            Self::Memory(memory) => memory.keep(runtime),
            Self::Remote(remote) => remote.keep(runtime).await,
        }
    }

    /// Reads leases, in the order of the ids; `None` when the store does not answer.
    pub async fn read(&self, runtimes: &[RuntimeId]) -> Option<Picture> {
        match self {
            Self::Memory(memory) => Some(memory.read(runtimes)),
            Self::Remote(remote) => remote.read(runtimes).await,
        }
    }

    /// Writes a lease if the one there is still the expected one; `None` when the store does not
    /// answer.
    pub async fn swap(&self, runtime: RuntimeId, expected: Option<Lease>, new: Lease) -> Option<bool> {
        match self {
            Self::Memory(memory) => Some(memory.swap(runtime, expected, new)),
            Self::Remote(remote) => remote.swap(runtime, expected, new).await,
        }
    }

    /// Removes leases. One that cannot be removed ends by itself.
    pub async fn forget(&self, runtimes: &[RuntimeId]) {
        match self {
            Self::Memory(memory) => memory.forget(runtimes),
            Self::Remote(remote) => remote.forget(runtimes).await,
        }
    }

    /// Notes something under a name, for so long. With Redis it goes with the next tick; nobody waits for
    /// it, and while the store is away it is not noted.
    pub fn mark(&self, name: String, ttl: Duration) {
        match self {
            Self::Memory(memory) => memory.mark(name, ttl),
            Self::Remote(remote) => remote.mark(name, ttl),
        }
    }

    /// As [`Liveness::mark`], and noted when this returns.
    pub async fn mark_now(&self, names: &[String], ttl: Duration) {
        match self {
            Self::Memory(memory) => names.iter().for_each(|name| memory.mark(name.clone(), ttl)),
            Self::Remote(remote) => remote.mark_now(names, ttl).await,
        }
    }

    /// When names were noted, those that are not over, in their order; `None` when the store does not
    /// answer.
    pub async fn marked(&self, names: &[String]) -> Option<Vec<Option<Timestamp>>> {
        match self {
            Self::Memory(memory) => Some(memory.marked(names)),
            Self::Remote(remote) => remote.marked(names).await,
        }
    }

    /// How the store is.
    pub fn health(&self) -> Health {
        match self {
            Self::Memory(memory) => memory.health(),
            Self::Remote(remote) => remote.health(),
        }
    }

    /// Round trips to Redis so far, for touches.
    pub fn round_trips(&self) -> u64 {
        match self {
            Self::Memory(_) => 0,
            Self::Remote(remote) => remote.round_trips(),
        }
    }
}
