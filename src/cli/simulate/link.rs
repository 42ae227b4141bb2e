//! A daemon's socket over its life: connecting, open, lost and waiting. One value, so that the
//! daemon's loop waits for all of it in one place and beats over HTTP in the meantime.

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until};

use super::{
    client::{Heard, Socket, Trouble},
    report::Online,
};

/// The socket's state.
pub enum Link {
    /// This daemon has none and beats over HTTP.
    Never,
    /// Lost, or not made yet; the next attempt is due then.
    Down(Instant),
    /// The handshake is under way.
    Opening(BoxFuture<'static, Result<Socket, Trouble>>),
    /// Open, and counted as such until it is dropped.
    Up(Socket, Online),
}

/// What a link tells its daemon.
pub enum Signal {
    /// It is time to connect.
    Due,
    /// The handshake is over.
    Opened(Result<Socket, Trouble>),
    /// The open socket said something.
    Heard(Heard),
}

impl Link {
    /// The next signal. Safe to cancel; after `Due`, `Opened` and a close the daemon has to put a
    /// new state in its place.
    pub async fn next(&mut self) -> Signal {
        match self {
            Self::Never => std::future::pending().await,
            Self::Down(due) => {
                sleep_until(*due).await;
                Signal::Due
            }
            Self::Opening(opening) => Signal::Opened(opening.await),
            Self::Up(socket, _) => Signal::Heard(socket.next().await),
        }
    }
}
