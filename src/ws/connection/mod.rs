//! One WebSocket connection, server side.
//!
//! Reading is tungstenite's: it parses, unmasks, enforces the limits and answers pings and closes
//! into a buffer. Writing is our own: ready frames are copied into a buffer that the thread's
//! connections share, and written at once; what the socket did not take is kept, and nothing else
//! is. So an idle connection owns no write buffer, whatever went through it before. Control frames
//! go out only between whole frames.

mod talk;
mod tap;

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::ReadBuf,
    time::{Instant, Sleep},
};
use tungstenite::{
    Error as WsError, Message,
    protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext},
};

use crate::{
    hub::{Close, Peer, wire},
    protocol::close,
};

pub use talk::{Ended, Limits, NoFrames, Signal, Source, Supply, Transport};
use tap::{Tap, ended_by};

/// Read from the socket at once.
const READ_CHUNK: usize = 16 << 10;
/// Tungstenite's own buffer; it grows for a message and is all an idle connection keeps.
const PARSE_CHUNK: usize = 512;
/// Messages waiting to be looked at, and bytes of them; reading pauses beyond it.
const INBOX: usize = 64;
const INBOX_BYTES: usize = 128 << 10;
/// Answers to pings waiting to be written; reading pauses beyond it.
const CONTROL: usize = 16 << 10;
/// Turns of reading and writing before other connections get theirs.
const TURNS: usize = 16;
/// How long a close handshake may take.
const LINGER: Duration = Duration::from_secs(2);

thread_local! {
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_CHUNK]);
    static WRITE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection.
pub struct Connection<T> {
    io: T,
    parser: WebSocketContext,
    /// Frames of the parser: pongs, our close.
    control: Vec<u8>,
    /// What the socket did not take of the last write.
    rest: Bytes,
    inbox: VecDeque<String>,
    inbox_bytes: usize,
    /// The end, while messages before it are still in the inbox.
    ended: Option<Ended>,
    limits: Limits,
    /// The parser has refused something; what still comes is only thrown away.
    deaf: bool,
    heard: Instant,
    blocked: Option<Instant>,
    next_ping: Instant,
    alarm: Option<Instant>,
    /// Rung and not told yet; as `ticked`, kept while the connection is driven for other work.
    rang: bool,
    ticked: bool,
    timer: Pin<Box<Sleep>>,
}

impl<T: Transport> Connection<T> {
    /// A connection over a stream whose handshake is done; `early` is what was read beyond it.
    pub fn new(io: T, early: &[u8], limits: Limits) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(PARSE_CHUNK)
            .write_buffer_size(0)
            .max_write_buffer_size(CONTROL)
            .max_message_size(Some(limits.max_message))
            .max_frame_size(Some(limits.max_message));
        let now = Instant::now();
        let mut connection = Self {
            io,
            parser: WebSocketContext::new(Role::Server, Some(config)),
            control: Vec::new(),
            rest: Bytes::new(),
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            ended: None,
            limits,
            deaf: false,
            heard: now,
            blocked: None,
            next_ping: now + limits.ping,
            alarm: None,
            rang: false,
            ticked: false,
            timer: Box::pin(tokio::time::sleep_until(now + limits.ping)),
        };
        connection.ended = connection.parse(early).err();
        connection
    }

    /// The next thing to know, reading and writing meanwhile. May be dropped and called again.
    pub async fn next(&mut self, mail: &Peer, source: &mut impl Source) -> Signal {
        poll_fn(|cx| self.poll(cx, mail, source)).await
    }

    /// Keeps the connection alive (pongs, pings, its mailbox) until `work` is done.
    pub async fn drive<F: Future>(&mut self, mail: &Peer, work: F) -> Result<F::Output, Signal> {
        let mut work = std::pin::pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            // Messages that come meanwhile wait in the inbox.
            loop {
                match self.poll_io(cx, mail, &mut NoFrames) {
                    Poll::Ready(Some(signal @ (Signal::Close(_) | Signal::Ended(_)))) => {
                        return Poll::Ready(Err(signal));
                    }
                    Poll::Ready(_) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Asks for one [`Signal::Alarm`] at a time; `None` for none.
    pub fn wake_at(&mut self, at: Option<Instant>) {
        self.alarm = at;
        let deadline = self.deadline();
        if deadline < self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
        }
    }

    /// Queues a frame of this session's own.
    pub fn send(&mut self, text: &str) {
        wire::push_text(text, &mut self.control);
    }

    /// Says goodbye and waits a moment for the peer's answer.
    pub async fn finish(mut self, goodbye: Option<Close>) {
        if let Some(close) = goodbye {
            let frame = CloseFrame { code: close.code.into(), reason: close.reason.into() };
            let _ = self.parser.close(&mut Tap { input: &[], output: &mut self.control }, Some(frame));
        }
        let farewell = poll_fn(|cx| {
            // Everything still owed goes first; then the peer has the word.
            loop {
                let wrote = self.poll_rest(cx);
                match wrote {
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(())) if !self.control.is_empty() => {
                        self.rest = std::mem::take(&mut self.control).into();
                        continue;
                    }
                    _ => {}
                }
                if wrote.is_ready() && !self.parser.can_read() {
                    return Poll::Ready(());
                }
                self.inbox.clear();
                self.inbox_bytes = 0;
                if wrote.is_pending() && self.control.len() >= CONTROL {
                    return Poll::Pending;
                }
                match self.poll_read(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) if self.rest.is_empty() && self.control.is_empty() => return Poll::Ready(()),
                    Poll::Ready(Err(Ended::Gone(_))) => return Poll::Ready(()),
                    Poll::Ready(Err(_)) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        let _ = tokio::time::timeout(LINGER, farewell).await;
        let _ = tokio::time::timeout(LINGER, tokio::io::AsyncWriteExt::shutdown(&mut self.io)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>, mail: &Peer, source: &mut impl Source) -> Poll<Signal> {
        loop {
            // What is answered to it has to find room.
            if self.control.len() < CONTROL
                && let Some(text) = self.inbox.pop_front()
            {
                self.inbox_bytes -= text.len();
                return Poll::Ready(Signal::Text(text));
            }
            if let Some(ended) = self.ended.take() {
                return Poll::Ready(Signal::Ended(ended));
            }
            if std::mem::take(&mut self.rang) {
                return Poll::Ready(Signal::Alarm);
            }
            if std::mem::take(&mut self.ticked) {
                return Poll::Ready(Signal::Tick);
            }
            let io = self.poll_io(cx, mail, source);
            if io.is_pending() && !self.inbox.is_empty() && self.control.len() < CONTROL {
                continue;
            }
            match ready!(io) {
                // What was read before the end counts.
                Some(Signal::Ended(ended)) if !self.inbox.is_empty() => self.ended = Some(ended),
                Some(signal) => return Poll::Ready(signal),
                None => {}
            }
        }
    }

    /// Reads and writes. `None` means that there is something to tell that was not there before: a
    /// message in the inbox, or that it is time.
    fn poll_io(&mut self, cx: &mut Context<'_>, mail: &Peer, source: &mut impl Source) -> Poll<Option<Signal>> {
        if let Poll::Ready(ended) = self.poll_time(cx) {
            return Poll::Ready(ended.map(Signal::Ended));
        }
        let waiting = self.inbox.len();
        for _ in 0..TURNS {
            let has_room = self.inbox.len() < INBOX && self.inbox_bytes < INBOX_BYTES;
            let read = if has_room && self.control.len() < CONTROL { self.poll_read(cx) } else { Poll::Pending };
            if let Poll::Ready(Err(ended)) = read {
                return Poll::Ready(Some(Signal::Ended(ended)));
            }
            let wrote = self.poll_write(cx, mail, source);
            if let Poll::Ready(Some(signal)) = wrote {
                return Poll::Ready(Some(signal));
            }
            if self.inbox.len() > waiting {
                return Poll::Ready(None);
            }
            if read.is_pending() && wrote.is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Looks at the clock when the timer says so. Ready when there is something to tell.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        let mut due = false;
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.blocked.is_some_and(|since| now >= since + self.limits.stuck) {
                let close = Close::new(close::SLOW_CONSUMER, "accepted no byte for too long");
                return Poll::Ready(Some(Ended::ByUs(close)));
            }
            if now >= self.heard + self.limits.silence {
                let close = Close::new(close::SILENT, "nothing heard for too long");
                return Poll::Ready(Some(Ended::ByUs(close)));
            }
            if now >= self.next_ping {
                wire::push_ping(&mut self.control);
                self.next_ping = now + self.limits.ping;
                self.ticked = true;
                due = true;
            }
            if self.alarm.is_some_and(|at| now >= at) {
                self.alarm = None;
                self.rang = true;
                due = true;
            }
            let next = self.deadline();
            self.timer.as_mut().reset(next);
        }
        if due { Poll::Ready(None) } else { Poll::Pending }
    }

    fn deadline(&self) -> Instant {
        let heard = self.heard + self.limits.silence;
        let stuck = self.blocked.map_or(heard, |since| since + self.limits.stuck);
        let deadline = self.next_ping.min(heard).min(stuck);
        self.alarm.map_or(deadline, |at| at.min(deadline))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        READ.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer)) {
                Err(error) => Poll::Ready(Err(Ended::Gone(error.to_string()))),
                Ok(()) if buffer.filled().is_empty() => Poll::Ready(Err(Ended::Gone("end of stream".into()))),
                Ok(()) => {
                    self.heard = Instant::now();
                    Poll::Ready(self.parse(buffer.filled()))
                }
            }
        })
    }

    /// Gives bytes to the parser and takes the messages they complete.
    fn parse(&mut self, mut input: &[u8]) -> Result<(), Ended> {
        if self.deaf {
            return Ok(());
        }
        loop {
            let mut tap = Tap { input, output: &mut self.control };
            let read = self.parser.read(&mut tap);
            input = tap.input;
            match read {
                Ok(Message::Text(text)) => {
                    self.inbox_bytes += text.len();
                    self.inbox.push_back(text.as_str().to_owned());
                }
                Ok(Message::Binary(_)) => {
                    return Err(Ended::ByUs(Close::new(close::VIOLATION, "text frames only")));
                }
                Ok(Message::Close(frame)) => {
                    // The parser has queued the answer.
                    let _ = self.parser.flush(&mut Tap { input: &[], output: &mut self.control });
                    return Err(Ended::ByPeer(frame.map(|frame| frame.code.into())));
                }
                Ok(_) => {}
                Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => {
                    self.deaf = true;
                    return Err(ended_by(&error));
                }
            }
        }
    }

    /// Writes what there is. `None` means that something was written.
    fn poll_write(&mut self, cx: &mut Context<'_>, mail: &Peer, source: &mut impl Source) -> Poll<Option<Signal>> {
        let mut wrote = false;
        if !self.rest.is_empty() {
            // A peer that takes a byte now and then does not postpone its own end.
            if let Poll::Ready(close) = mail.poll_close(cx) {
                return Poll::Ready(Some(Signal::Close(close)));
            }
            if let Err(ended) = ready!(self.poll_rest(cx)) {
                return Poll::Ready(Some(Signal::Ended(ended)));
            }
            wrote = true;
        }
        WRITE.with_borrow_mut(|scratch| {
            scratch.clear();
            if !self.control.is_empty() {
                scratch.append(&mut self.control);
                self.control = Vec::new();
            }
            let mut signal = None;
            match mail.poll_mail(cx, scratch) {
                Poll::Ready(Some(close)) => signal = Some(Signal::Close(close)),
                Poll::Ready(None) => {}
                Poll::Pending => match source.poll_frames(cx, scratch) {
                    Poll::Ready(Supply::Behind) => signal = Some(Signal::Behind),
                    Poll::Ready(Supply::Lost) => signal = Some(Signal::Lost),
                    Poll::Ready(Supply::Over(code)) => signal = Some(Signal::Close(Close::new(code, "over"))),
                    Poll::Ready(Supply::Frames) | Poll::Pending => {}
                },
            }
            if !scratch.is_empty() {
                match Pin::new(&mut self.io).poll_write(cx, scratch) {
                    Poll::Ready(Ok(taken)) if taken > 0 => {
                        self.blocked = None;
                        self.rest = Bytes::copy_from_slice(&scratch[taken..]);
                        wrote = true;
                    }
                    Poll::Ready(Ok(_)) => signal = Some(gone("the stream takes no more")),
                    Poll::Ready(Err(error)) => signal = Some(gone(&error.to_string())),
                    Poll::Pending => {
                        self.rest = Bytes::copy_from_slice(scratch);
                        self.note_blocked();
                    }
                }
                // One large page must not stay in every thread for ever.
                if scratch.capacity() > 1 << 20 {
                    *scratch = Vec::new();
                }
            }
            match signal {
                Some(signal) => Poll::Ready(Some(signal)),
                None if wrote => Poll::Ready(None),
                None => Poll::Pending,
            }
        })
    }

    /// Writes the rest of the last write.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        while !self.rest.is_empty() {
            match Pin::new(&mut self.io).poll_write(cx, &self.rest) {
                Poll::Ready(Ok(taken)) if taken > 0 => {
                    self.blocked = None;
                    self.rest.advance(taken);
                }
                Poll::Ready(Ok(_)) => return Poll::Ready(Err(Ended::Gone("the stream takes no more".into()))),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Ended::Gone(error.to_string()))),
                Poll::Pending => {
                    self.note_blocked();
                    return Poll::Pending;
                }
            }
        }
        self.rest = Bytes::new();
        Poll::Ready(Ok(()))
    }

    fn note_blocked(&mut self) {
        if self.blocked.is_none() {
            self.blocked = Some(Instant::now());
            let deadline = self.deadline();
            if deadline < self.timer.deadline() {
                self.timer.as_mut().reset(deadline);
            }
        }
    }
}

fn gone(why: &str) -> Signal {
    Signal::Ended(Ended::Gone(why.to_owned()))
}
