//! What one task says, as ready wire frames, and the connections that listen to it.
//!
//! As in a [`Room`](super::Room), a listener is a position: the position of the last message that it
//! was given. Positions of a task are consecutive in the store, but what is handed in here may skip
//! some: they were lost on the way from another node, or said before anybody listened. Then the ring
//! begins anew after the gap, and whoever is before it reads the store, as do those whom the ring has
//! left behind.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::{
    Copied, Wake,
    sleepers::{Rousing, Sleepers},
};
use crate::protocol::event::Audience;

/// Messages kept at most.
const RING_FRAMES: usize = 512;
/// Bytes of them kept at most, though always the newest one.
const RING_BYTES: usize = 2 << 20;
/// Frames without a position that are kept.
const FLEETING: usize = 8;

/// A task's ring and its listeners.
pub struct Stream {
    inner: Mutex<Inner>,
}

struct Inner {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// The position of the newest message that is known of.
    head: u64,
    /// Who may hear the task, as of what it said last; everybody, if none.
    audience: Option<Audience>,
    fleeting: VecDeque<Bytes>,
    /// How many of those there ever were.
    shown: u64,
    sleepers: Sleepers,
}

impl Stream {
    /// Of a task of which nothing was heard here yet.
    pub fn new(pace: Duration) -> Self {
        let sleepers = Sleepers::new(pace);
        Self {
            inner: Mutex::new(Inner {
                frames: VecDeque::new(),
                bytes: 0,
                head: 0,
                audience: None,
                fleeting: VecDeque::new(),
                shown: 0,
                sleepers,
            }),
        }
    }

    /// Takes consecutive messages, the first of which is at position `first`.
    pub fn append(&self, first: u64, frames: &[Bytes], now: Instant) -> Wake {
        let mut inner = self.inner.lock();
        let last = first + frames.len() as u64 - 1;
        if last <= inner.head {
            return Wake::Nothing;
        }
        if first > inner.head + 1 {
            inner.forget(first - 1);
        }
        let known = (inner.head + 1 - first) as usize;
        for frame in &frames[known..] {
            inner.bytes += frame.len();
            inner.frames.push_back(frame.clone());
        }
        inner.head = last;
        while inner.frames.len() > RING_FRAMES || (inner.bytes > RING_BYTES && inner.frames.len() > 1) {
            if let Some(old) = inner.frames.pop_front() {
                inner.bytes -= old.len();
            }
        }
        rouse(inner, now)
    }

    /// Shows a frame without a position to whoever listens.
    pub fn show(&self, frame: Bytes, now: Instant) -> Wake {
        let mut inner = self.inner.lock();
        inner.shown += 1;
        inner.fleeting.push_back(frame);
        if inner.fleeting.len() > FLEETING {
            inner.fleeting.pop_front();
        }
        rouse(inner, now)
    }

    /// Who may hear the task from now on; said before anything else is.
    pub fn is_for(&self, audience: Option<Audience>) {
        self.inner.lock().audience = audience;
    }

    /// The store has messages up to here; those that are not known are read there.
    pub fn reaches(&self, head: u64, now: Instant) -> Wake {
        let mut inner = self.inner.lock();
        if head <= inner.head {
            return Wake::Nothing;
        }
        inner.forget(head);
        rouse(inner, now)
    }

    /// Adds a connection that has everything up to `position`.
    pub fn listen(self: &Arc<Self>, position: u64) -> Listener {
        let mut inner = self.inner.lock();
        let (slot, shown) = (inner.sleepers.enter(), inner.shown);
        drop(inner);
        Listener { stream: self.clone(), slot, position, shown }
    }
}

fn rouse(mut inner: MutexGuard<'_, Inner>, now: Instant) -> Wake {
    let (woken, wake) = inner.sleepers.rouse(now);
    drop(inner);
    woken.into_iter().for_each(Waker::wake);
    wake
}

impl Inner {
    fn forget(&mut self, head: u64) {
        self.frames.clear();
        self.bytes = 0;
        self.head = head;
    }

    fn floor(&self) -> u64 {
        self.head - self.frames.len() as u64
    }
}

impl Rousing for Stream {
    fn visit(&self, visit: &mut dyn FnMut(&mut Sleepers)) {
        visit(&mut self.inner.lock().sleepers);
    }
}

/// A connection's place in what a task says.
pub struct Listener {
    stream: Arc<Stream>,
    slot: usize,
    position: u64,
    shown: u64,
}

impl Listener {
    /// The position of the last message that this connection was given.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Moves on, after messages that came from the store.
    pub fn advance(&mut self, position: u64) {
        self.position = self.position.max(position);
    }

    /// Who may hear the task; everybody, if none.
    pub fn audience(&self) -> Option<Audience> {
        self.stream.inner.lock().audience
    }

    /// Whether something lies beyond the position.
    pub fn has_more(&self) -> bool {
        self.has_news(&self.stream.inner.lock())
    }

    fn has_news(&self, inner: &Inner) -> bool {
        inner.head > self.position || inner.shown > self.shown
    }

    /// Whether what lies beyond the position has to be read from the store.
    pub fn is_behind(&self) -> bool {
        self.position < self.stream.inner.lock().floor()
    }

    /// Does without what it lacks.
    pub fn give_up(&mut self) {
        self.position = self.stream.inner.lock().head;
    }

    /// Appends what lies beyond the position to `out`, within the limits, and moves on.
    pub fn copy(&mut self, max_frames: usize, max_bytes: usize, out: &mut Vec<u8>) -> Copied {
        let stream = self.stream.clone();
        let inner = stream.inner.lock();
        if self.position >= inner.head {
            return self.copy_fleeting(&inner, out);
        }
        let Some(index) = self.position.checked_sub(inner.floor()) else {
            return Copied::Behind;
        };
        let start = out.len();
        for frame in inner.frames.range(index as usize..).take(max_frames) {
            if out.len() > start && out.len() - start + frame.len() > max_bytes {
                break;
            }
            out.extend_from_slice(frame);
            self.position += 1;
        }
        Copied::UpTo(self.position)
    }

    fn copy_fleeting(&mut self, inner: &Inner, out: &mut Vec<u8>) -> Copied {
        let new = (inner.shown - self.shown).min(inner.fleeting.len() as u64) as usize;
        self.shown = inner.shown;
        if new == 0 {
            return Copied::Nothing;
        }
        inner.fleeting.range(inner.fleeting.len() - new..).for_each(|frame| out.extend_from_slice(frame));
        Copied::UpTo(self.position)
    }

    /// Ready when something lies beyond the position; else wakes the task when it does.
    pub fn poll_beyond(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.stream.inner.lock();
        if self.has_news(&inner) {
            return Poll::Ready(());
        }
        inner.sleepers.sleep(self.slot, cx);
        Poll::Pending
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stream.inner.lock().sleepers.leave(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(range: std::ops::RangeInclusive<u64>) -> Vec<Bytes> {
        range.map(|pos| Bytes::copy_from_slice(&pos.to_be_bytes())).collect()
    }

    fn read(listener: &mut Listener, max: usize) -> (Copied, Vec<u64>) {
        let mut out = Vec::new();
        let copied = listener.copy(max, usize::MAX, &mut out);
        (copied, out.chunks(8).map(|b| u64::from_be_bytes(b.try_into().expect("8"))).collect())
    }

    #[test]
    fn a_listener_hears_what_lies_beyond_it_in_order_and_once() {
        let stream = Arc::new(Stream::new(Duration::ZERO));
        let mut listener = stream.listen(4);
        stream.append(5, &frames(5..=7), Instant::now());
        stream.append(6, &frames(6..=8), Instant::now());
        stream.append(5, &frames(5..=6), Instant::now());
        assert_eq!(read(&mut listener, 2), (Copied::UpTo(6), vec![5, 6]));
        assert_eq!(read(&mut listener, 9), (Copied::UpTo(8), vec![7, 8]));
        assert_eq!(read(&mut listener, 9).0, Copied::Nothing);
    }

    #[test]
    fn what_was_missed_or_left_behind_is_read_from_the_store() {
        let stream = Arc::new(Stream::new(Duration::ZERO));
        let mut listener = stream.listen(4);
        stream.append(7, &frames(7..=8), Instant::now());
        assert_eq!(read(&mut listener, 9).0, Copied::Behind, "5 and 6 never came");
        listener.advance(6);
        assert_eq!(read(&mut listener, 9).1, [7, 8]);

        let last = 8 + RING_FRAMES as u64 + 1;
        stream.append(9, &frames(9..=last), Instant::now());
        assert_eq!(read(&mut listener, 9).0, Copied::Behind);
        stream.reaches(last + 3, Instant::now());
        listener.advance(last);
        assert_eq!(read(&mut listener, 9).0, Copied::Behind, "the newest is known to be there only");
        stream.reaches(last, Instant::now());
        stream.append(last + 4, &frames(last + 4..=last + 4), Instant::now());
        listener.advance(last + 3);
        assert_eq!(read(&mut listener, 9).1, [last + 4]);
    }

    #[test]
    fn what_is_only_shown_comes_after_the_messages() {
        let stream = Arc::new(Stream::new(Duration::ZERO));
        let mut listener = stream.listen(0);
        stream.show(frames(1000..=1000).remove(0), Instant::now());
        stream.append(1, &frames(1..=1), Instant::now());
        assert_eq!(read(&mut listener, 9).1, [1]);
        assert_eq!(read(&mut listener, 9).1, [1000]);
        assert_eq!(read(&mut listener, 9).0, Copied::Nothing);
        let mut late = stream.listen(1);
        assert_eq!(read(&mut late, 9).0, Copied::Nothing, "what was shown before is over");
    }
}
