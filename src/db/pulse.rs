//! Whether the server still answers, for one conversation and for all.
//!
//! The server's own limits end every statement, so one without an answer long after them will never
//! have one: the server is gone, and nobody has said so. TCP would find out by keepalive, but the
//! driver gives nobody its socket. So the conversation is given up here, and its connection with it.

use std::{
    future::Future,
    io,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use crate::error::database_is_away;

/// When something was last sent or heard in a conversation.
pub(super) struct Pulse {
    began: Instant,
    /// Milliseconds after that.
    last: AtomicU64,
    /// How long the other end may be silent; `None` for a database in this process.
    limit: Option<Duration>,
}

impl Pulse {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0), limit }
    }

    /// Something was sent or heard.
    pub(super) fn beat(&self) {
        self.last.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Does a part of the conversation; `None` if the other end fell silent. The connection can then
    /// only be closed.
    pub(super) async fn watch<F: Future>(&self, part: F) -> Option<F::Output> {
        let Some(limit) = self.limit else { return Some(part.await) };
        let mut part = pin!(part);
        loop {
            let until = self.began + Duration::from_millis(self.last.load(Ordering::Relaxed)) + limit;
            tokio::select! {
                biased;
                done = &mut part => return Some(done),
                () = tokio::time::sleep_until(until) => {
                    let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
                    if self.began + last + limit <= Instant::now() {
                        return None;
                    }
                }
            }
        }
    }
}

/// What a silent server amounts to.
pub(super) fn silence() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the server fell silent"))
}

/// Whether the server has said anything, if only no. Its limits on locks and statements are words of
/// a server that is there.
pub(super) fn is_an_answer<T>(outcome: &Result<T, sqlx::Error>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(sqlx::Error::Database(refusal)) => {
            !matches!(refusal.code().as_deref(), Some("57P01" | "57P02" | "57P03" | "53300"))
        }
        Err(error) => !database_is_away(error),
    }
}
