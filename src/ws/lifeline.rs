//! A connection's bytes, watched: a peer that stands still in the midst of a head, or takes nothing of an answer, is
//! given up soon; one that has nothing to ask is given up later than clients and proxies give up their side, which
//! keep unused connections for 60 to 90 seconds: a request must not meet the end of its connection. What a socket
//! does after its upgrade is its own business.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// A client has this long to send a request's head.
const HEAD: Duration = Duration::from_secs(10);
/// Between two requests.
const IDLE: Duration = Duration::from_secs(150);
/// To take some of an answer.
const STUCK: Duration = Duration::from_secs(60);

/// What a connection is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Nothing was asked yet.
    Idle,
    /// A head has begun.
    Head,
    /// Something was asked, and is being answered.
    Asked,
    /// The answer is there, and on its way.
    Answered,
    /// It is a socket now.
    Upgraded,
}

/// Tells the connection how far a request is.
#[derive(Clone)]
pub struct Progress(Arc<AtomicU8>);

impl Progress {
    /// A request's head is there.
    pub fn asked(&self) {
        self.set(Phase::Asked);
    }

    /// Its answer is there.
    pub fn answered(&self, upgrades: bool) {
        self.set(if upgrades { Phase::Upgraded } else { Phase::Answered });
    }

    fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }

    fn is(&self, phase: Phase) -> bool {
        self.0.load(Ordering::Acquire) == phase as u8
    }
}

/// The watched connection.
pub struct Lifeline<S> {
    stream: S,
    progress: Progress,
    /// Until when something has to be read, and what for.
    reading: Deadline,
    /// Until when some of what waits has to be taken.
    writing: Deadline,
}

impl<S> Lifeline<S> {
    /// Watches a connection on which nothing was asked yet.
    pub fn new(stream: S) -> (Self, Progress) {
        let progress = Progress(Arc::new(AtomicU8::new(Phase::Idle as u8)));
        let lifeline =
            Self { stream, progress: progress.clone(), reading: Deadline::default(), writing: Deadline::default() };
        (lifeline, progress)
    }

    /// The connection alone: a socket looks after itself.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

/// A moment that may never come.
#[derive(Default)]
struct Deadline(Option<(Duration, Pin<Box<Sleep>>)>);

impl Deadline {
    fn clear(&mut self) {
        self.0 = None;
    }

    /// Begins, unless one of the same length has begun; an error once it is over.
    fn poll(&mut self, cx: &mut Context<'_>, after: Duration) -> Poll<io::Error> {
        match &mut self.0 {
            Some((length, sleep)) if *length != after => {
                *length = after;
                sleep.as_mut().reset(Instant::now() + after);
            }
            Some(_) => {}
            None => self.0 = Some((after, Box::pin(sleep(after)))),
        }
        if let Some((_, sleep)) = &mut self.0 {
            ready!(sleep.as_mut().poll(cx));
        }
        self.0 = None;
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lifeline<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = out.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, out);
        if read.is_ready() {
            if out.filled().len() > before && this.progress.is(Phase::Idle) {
                this.progress.set(Phase::Head);
                // It counts from the first byte on, however many follow.
                this.reading.clear();
            } else if !this.progress.is(Phase::Head) {
                this.reading.clear();
            }
            return read;
        }
        let after = match () {
            () if this.progress.is(Phase::Idle) => IDLE,
            () if this.progress.is(Phase::Head) => HEAD,
            () => {
                this.reading.clear();
                return Poll::Pending;
            }
        };
        this.reading.poll(cx, after).map(Err)
    }
}

impl<S: AsyncWrite + Unpin> Lifeline<S> {
    /// Nobody who takes some of an answer is idle, however long it is.
    fn goes_on(&mut self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.reading.clear();
        }
    }

    /// Gives up a peer that takes nothing.
    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() || self.progress.is(Phase::Upgraded) {
            self.writing.clear();
            return written;
        }
        self.writing.poll(cx, STUCK).map(Err)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lifeline<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.goes_on(&written);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.goes_on(&written);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() && self.progress.is(Phase::Answered) {
            self.progress.set(Phase::Idle);
        }
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, ended)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[tokio::test]
    async fn whoever_takes_a_long_answer_is_not_idle() {
        let (here, _there) = tokio::io::duplex(64);
        let (mut lifeline, progress) = Lifeline::new(here);
        let cx = &mut Context::from_waker(Waker::noop());
        progress.asked();
        progress.answered(false);
        // Some of the answer went, and hyper looks whether the client is still there.
        assert!(Pin::new(&mut lifeline).poll_flush(cx).is_ready());
        let mut bytes = [0; 8];
        assert!(Pin::new(&mut lifeline).poll_read(cx, &mut ReadBuf::new(&mut bytes)).is_pending());
        assert!(lifeline.reading.0.is_some(), "it may be idle");
        assert!(Pin::new(&mut lifeline).poll_write(cx, b"more").is_ready());
        assert!(lifeline.reading.0.is_none(), "it is not");
        // What is flushed without anything to write says nothing.
        assert!(Pin::new(&mut lifeline).poll_read(cx, &mut ReadBuf::new(&mut bytes)).is_pending());
        assert!(Pin::new(&mut lifeline).poll_flush(cx).is_ready());
        assert!(lifeline.reading.0.is_some());
    }
}
