//! State events: written in the transaction of their change, handed to their workspace's lane
//! after its commit, kept in a log from which whoever missed them is served.
//!
//! ```text
//! Db::write ── seal ──▶ event_log                       (journal)
//!     └─ commit ──▶ lane: what comes next, in order ──▶ hub::Room ──▶ sockets
//!     │              ▲                    other nodes ◀── relay ◀── lane
//!                    ▲ held too long, or the 2 s comparison      ▲
//!                    └────────── read the gap (log) ─────────────┘ a socket that is behind (pages)
//! ```

mod epoch;
mod frame;
mod journal;
pub mod kinds;
mod lane;
mod lanes;
mod log;
mod mend;
mod nodes;
mod pages;
mod poll;
mod position;
mod pruner;
mod relay;
mod settings;
mod talk;

pub use epoch::{close, establish, renew};
pub use journal::Journal;
pub use lane::Lane;
pub use lanes::{Lanes, Turn};
pub use nodes::{Control, Nodes};
pub use pages::Page;
pub use poll::{Missed, missed, wait_beyond};
pub use position::{Judged, judge, position};
pub use pruner::prune;
pub use relay::{EphemeralFrame, Relay};
pub use settings::{KEYS, Settings};
pub use talk::Talk;
