//! One open socket, as the rest of the program sees it: a small mailbox for frames meant for it
//! alone, and a place to ask it to close.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes that may wait for one socket. Acks and hints are some hundred bytes; a socket with this
/// much waiting is not reading.
const MAILBOX_BYTES: usize = 256 << 10;

/// Why a socket is closed, as its peer is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// From the catalogue in [`crate::protocol::close`].
    pub code: u16,
    /// For programs (`retry_after_ms=N`) and people; at most 123 bytes.
    pub reason: String,
}

impl Close {
    /// A close with its reason.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// A socket's mailbox.
#[derive(Default)]
pub struct Peer {
    mail: Mutex<Mail>,
}

#[derive(Default)]
struct Mail {
    frames: VecDeque<Bytes>,
    bytes: usize,
    close: Option<Close>,
    waker: Option<Waker>,
}

impl Peer {
    /// Puts a ready frame into the mailbox. A full mailbox refuses it and closes the socket.
    pub fn send(&self, frame: Bytes) -> bool {
        let mut mail = self.mail.lock();
        let accepted = mail.bytes + frame.len() <= MAILBOX_BYTES;
        if accepted {
            mail.bytes += frame.len();
            mail.frames.push_back(frame);
        } else if mail.close.is_none() {
            mail.close = Some(Close::new(crate::protocol::close::SLOW_CONSUMER, "mailbox full"));
        }
        mail.wake();
        accepted
    }

    /// Asks the socket to close; the first reason stands.
    pub fn close(&self, close: Close) {
        let mut mail = self.mail.lock();
        mail.close.get_or_insert(close);
        mail.wake();
    }

    /// Moves waiting frames to `out`, or says that the socket is to close once they are written.
    /// Pending when there is neither; the task is woken when there is.
    pub fn poll_mail(&self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Option<Close>> {
        let mut mail = self.mail.lock();
        if mail.bytes > 0 {
            for frame in std::mem::take(&mut mail.frames) {
                out.extend_from_slice(&frame);
            }
            mail.bytes = 0;
            return Poll::Ready(None);
        }
        if let Some(close) = mail.close.take() {
            return Poll::Ready(Some(close));
        }
        mail.sleep(cx);
        Poll::Pending
    }

    /// The request to close alone, for a socket that can take no frames at the moment.
    pub fn poll_close(&self, cx: &mut Context<'_>) -> Poll<Close> {
        let mut mail = self.mail.lock();
        if let Some(close) = mail.close.take() {
            return Poll::Ready(close);
        }
        mail.sleep(cx);
        Poll::Pending
    }
}

impl Mail {
    fn sleep(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            slot => *slot = Some(cx.waker().clone()),
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
