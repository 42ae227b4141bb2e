//! What a connection needs, and what it says to its session.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::hub::Close;

/// A byte stream under a WebSocket: the bare TCP socket, or whatever a TLS layer makes of it.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for T {}

/// Where a connection's frames come from, besides its mailbox.
pub trait Source {
    /// Appends ready frames to `out`, or registers the task to be woken when there are some.
    fn poll_frames(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Supply>;
}

/// What a source said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supply {
    /// Frames were appended.
    Frames,
    /// The connection has to read the log before it can go on.
    Behind,
    /// The position is lost.
    Lost,
    /// There will be nothing more, for the reason that this close code says.
    Over(u16),
}

/// A source that never has anything.
pub struct NoFrames;

impl Source for NoFrames {
    fn poll_frames(&mut self, _: &mut Context<'_>, _: &mut Vec<u8>) -> Poll<Supply> {
        Poll::Pending
    }
}

/// How long and how much.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Between two pings.
    pub ping: Duration,
    /// Without a byte from the peer.
    pub silence: Duration,
    /// Without a byte taken by the peer.
    pub stuck: Duration,
    /// Bytes of a message.
    pub max_message: usize,
}

/// What a connection tells its session.
#[derive(Debug)]
pub enum Signal {
    /// A message.
    Text(String),
    /// A ping interval has passed; the ping itself is on its way.
    Tick,
    /// The time given to [`Connection::wake_at`] has come.
    Alarm,
    /// See [`Supply::Behind`].
    Behind,
    /// See [`Supply::Lost`].
    Lost,
    /// Somebody asked for the socket to be closed.
    Close(Close),
    /// It is over, or has to be.
    Ended(Ended),
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The peer said goodbye, with this code.
    ByPeer(Option<u16>),
    /// The stream ended or failed.
    Gone(String),
    /// We have to say goodbye.
    ByUs(Close),
}
