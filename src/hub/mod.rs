//! Who is connected and what they follow. Memory only and synchronous: no database, no Redis, no
//! HTTP, no timers. It wakes connections through [`std::task::Waker`] and is told the time.

mod firehose;
mod frame;
mod peer;
mod registry;
mod room;
mod sleepers;
mod stream;
pub mod wire;

pub use firehose::{Firehose, Spoken, Sprayed};
pub use frame::{Effect, Ends, Fleeting, Frame};
pub use peer::{Close, Peer};
pub use registry::{Entry, Holder, Registry};
pub use room::{Copied, Follower, Room};
pub use sleepers::{Rousing, Wake};
pub use stream::{Listener, Stream};
