//! Who is connected and what they follow. Memory only and synchronous: no database, no Redis, no
//! HTTP, no timers. It wakes connections through [`std::task::Waker`] and is told the time.

mod frame;
mod peer;
mod registry;
mod room;
pub mod wire;

pub use frame::{Effect, Ends, Fleeting, Frame};
pub use peer::{Close, Peer};
pub use registry::{Entry, Holder, Registry};
pub use room::{Copied, Follower, Room, Wake};
