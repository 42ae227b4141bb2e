//! What all tasks of a workspace say, for the connections that want everything. It has no place in
//! the sequence, and whoever lags behind skips ahead: they are told which tasks they missed something
//! of, and ask for that.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::{
    Wake,
    sleepers::{Rousing, Sleepers},
};
use crate::{
    ids::TaskId,
    protocol::event::{Audience, Reader},
};

/// Frames kept at most.
const RING_FRAMES: usize = 1024;
/// Bytes of them kept at most, though always the newest one.
const RING_BYTES: usize = 4 << 20;
/// Tasks of which it is known how far they were heard.
const TALKERS: usize = 4096;

/// What one task says at once.
#[derive(Debug)]
pub struct Spoken {
    /// Which task.
    pub task: TaskId,
    /// The position of the first message; 0 for what has no position.
    pub first: u64,
    /// The frames.
    pub frames: Vec<Bytes>,
    /// For whom they are, and the one frame that everybody else is given.
    pub private: Option<(Audience, Bytes)>,
}

/// A workspace's ring, and those who follow it.
pub struct Firehose {
    inner: Mutex<Inner>,
    /// Makes the frame that says of which task something was missed.
    missed: fn(TaskId) -> Bytes,
}

struct Inner {
    frames: VecDeque<Kept>,
    bytes: usize,
    /// How many there ever were.
    head: u64,
    talkers: HashMap<TaskId, Talker>,
    sleepers: Sleepers,
}

struct Kept {
    task: TaskId,
    wire: Bytes,
    audience: Option<Audience>,
    /// For those outside the audience; once for all that is said at once.
    reduced: Option<Bytes>,
}

struct Talker {
    /// Its newest frame here.
    number: u64,
    /// The position of its newest message.
    position: u64,
}

impl Firehose {
    /// An empty ring.
    pub fn new(pace: Duration, missed: fn(TaskId) -> Bytes) -> Self {
        let inner = Inner {
            frames: VecDeque::new(),
            bytes: 0,
            head: 0,
            talkers: HashMap::new(),
            sleepers: Sleepers::new(pace),
        };
        Self { inner: Mutex::new(inner), missed }
    }

    /// Whether anybody would hear it.
    pub fn is_followed(&self) -> bool {
        self.inner.lock().sleepers.len() > 0
    }

    /// Takes what a task says.
    pub fn append(&self, spoken: &Spoken, now: Instant) -> Wake {
        let mut inner = self.inner.lock();
        let known = inner.talkers.get(&spoken.task).map_or(0, |talker| talker.position);
        if spoken.first > 0 && known > 0 && spoken.first > known + 1 {
            // Lost on the way from another node.
            inner.push(Kept { task: spoken.task, wire: (self.missed)(spoken.task), audience: None, reduced: None });
        }
        let (audience, mut reduced) = spoken.private.clone().unzip();
        for wire in &spoken.frames {
            inner.push(Kept { task: spoken.task, wire: wire.clone(), audience, reduced: reduced.take() });
        }
        let last = (spoken.first + spoken.frames.len() as u64).saturating_sub(1);
        inner.note(spoken.task, if spoken.first > 0 { last.max(known) } else { known });
        rouse(inner, now)
    }

    /// A task said something up to a position that is not to be had here.
    pub fn miss(&self, task: TaskId, position: u64, now: Instant) -> Wake {
        let mut inner = self.inner.lock();
        inner.push(Kept { task, wire: (self.missed)(task), audience: None, reduced: None });
        inner.note(task, position);
        rouse(inner, now)
    }

    /// Adds a connection, which hears what is said from now on.
    pub fn follow(self: &Arc<Self>) -> Sprayed {
        let mut inner = self.inner.lock();
        let (slot, position) = (inner.sleepers.enter(), inner.head);
        drop(inner);
        Sprayed { firehose: self.clone(), slot, position }
    }
}

fn rouse(mut inner: MutexGuard<'_, Inner>, now: Instant) -> Wake {
    let (woken, wake) = inner.sleepers.rouse(now);
    drop(inner);
    woken.into_iter().for_each(Waker::wake);
    wake
}

impl Inner {
    /// How far a task was heard.
    fn note(&mut self, task: TaskId, position: u64) {
        self.talkers.insert(task, Talker { number: self.head, position });
        if self.talkers.len() > TALKERS {
            self.forget_silent_ones();
        }
    }

    fn push(&mut self, frame: Kept) {
        self.head += 1;
        self.bytes += frame.size();
        self.frames.push_back(frame);
        while self.frames.len() > RING_FRAMES || (self.bytes > RING_BYTES && self.frames.len() > 1) {
            if let Some(old) = self.frames.pop_front() {
                self.bytes -= old.size();
            }
        }
    }

    fn floor(&self) -> u64 {
        self.head - self.frames.len() as u64
    }

    /// Forgets the half of the tasks that were heard of least lately.
    fn forget_silent_ones(&mut self) {
        let mut numbers: Vec<u64> = self.talkers.values().map(|talker| talker.number).collect();
        numbers.sort_unstable();
        let middle = numbers[numbers.len() / 2];
        self.talkers.retain(|_, talker| talker.number > middle);
    }
}

impl Kept {
    fn size(&self) -> usize {
        self.wire.len() + self.reduced.as_ref().map_or(0, Bytes::len)
    }

    fn wire_for(&self, reader: Reader) -> Option<&Bytes> {
        match self.audience {
            Some(audience) if !audience.has(reader) => self.reduced.as_ref(),
            _ => Some(&self.wire),
        }
    }
}

impl Rousing for Firehose {
    fn visit(&self, visit: &mut dyn FnMut(&mut Sleepers)) {
        visit(&mut self.inner.lock().sleepers);
    }
}

/// A connection's place in it.
pub struct Sprayed {
    firehose: Arc<Firehose>,
    slot: usize,
    position: u64,
}

impl Sprayed {
    /// Appends what lies beyond the position to `out`, as far as it is for `reader` and not of a task
    /// that the connection listens to anyway, within the limits, and moves on. Whether anything was
    /// passed; then there may be more.
    pub fn copy(
        &mut self,
        reader: Reader,
        listens_to: &dyn Fn(TaskId) -> bool,
        max_frames: usize,
        max_bytes: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let firehose = self.firehose.clone();
        let inner = firehose.inner.lock();
        if self.position >= inner.head {
            return false;
        }
        let floor = inner.floor();
        if self.position < floor {
            let missed = inner
                .talkers
                .iter()
                .filter(|(task, talker)| talker.number > self.position && talker.position > 0 && !listens_to(**task));
            missed.for_each(|(task, _)| out.extend_from_slice(&(firehose.missed)(*task)));
            self.position = floor;
        }
        let start = out.len();
        for frame in inner.frames.range((self.position - floor) as usize..).take(max_frames) {
            if let Some(wire) = frame.wire_for(reader).filter(|_| !listens_to(frame.task)) {
                if out.len() > start && out.len() - start + wire.len() > max_bytes {
                    break;
                }
                out.extend_from_slice(wire);
            }
            self.position += 1;
        }
        true
    }

    /// Whether something lies beyond the position.
    pub fn is_behind(&self) -> bool {
        self.firehose.inner.lock().head > self.position
    }

    /// Ready when something lies beyond the position; else wakes the task when it does.
    pub fn poll_beyond(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.firehose.inner.lock();
        if inner.head > self.position {
            return Poll::Ready(());
        }
        inner.sleepers.sleep(self.slot, cx);
        Poll::Pending
    }
}

impl Drop for Sprayed {
    fn drop(&mut self) {
        self.firehose.inner.lock().sleepers.leave(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;

    fn missed(_: TaskId) -> Bytes {
        Bytes::from_static(b"missed;")
    }

    fn firehose() -> Arc<Firehose> {
        Arc::new(Firehose::new(Duration::ZERO, missed))
    }

    fn somebody() -> Reader {
        Reader { user: UserId::fresh(), rules: false }
    }

    fn spoken(task: TaskId, first: u64, frames: &[&'static str]) -> Spoken {
        Spoken {
            task,
            first,
            frames: frames.iter().map(|text| Bytes::from_static(text.as_bytes())).collect(),
            private: None,
        }
    }

    fn read(follower: &mut Sprayed, reader: Reader) -> String {
        let mut out = Vec::new();
        while follower.copy(reader, &|_| false, 64, usize::MAX, &mut out) {}
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_follower_hears_everybody_from_now_on() {
        let (firehose, a, b) = (firehose(), TaskId::fresh(), TaskId::fresh());
        firehose.append(&spoken(a, 1, &["old;"]), Instant::now());
        let mut follower = firehose.follow();
        firehose.append(&spoken(a, 2, &["a;"]), Instant::now());
        firehose.append(&spoken(b, 7, &["b;", "b;"]), Instant::now());
        firehose.append(&spoken(a, 0, &["progress;"]), Instant::now());
        firehose.append(&spoken(a, 3, &["a;"]), Instant::now());
        let mut deaf_to_b = firehose.follow();
        assert_eq!(read(&mut follower, somebody()), "a;b;b;progress;a;");
        firehose.append(&spoken(b, 9, &["b;"]), Instant::now());
        let mut out = Vec::new();
        assert!(deaf_to_b.copy(somebody(), &|task| task == b, 64, usize::MAX, &mut out));
        assert!(out.is_empty(), "it listens to that one anyway");
    }

    #[test]
    fn others_than_the_audience_get_one_frame_without_the_words() {
        let (firehose, task) = (firehose(), TaskId::fresh());
        let (creator, other) = (somebody(), somebody());
        let mut followers = [firehose.follow(), firehose.follow()];
        let private = Some((Audience::Only(creator.user), Bytes::from_static(b"ids;")));
        firehose.append(&Spoken { private, ..spoken(task, 1, &["a;", "b;"]) }, Instant::now());
        assert_eq!(read(&mut followers[0], creator), "a;b;");
        assert_eq!(read(&mut followers[1], other), "ids;");
    }

    #[test]
    fn who_lags_or_loses_something_on_the_way_is_told_of_which_task() {
        let (firehose, a, b) = (firehose(), TaskId::fresh(), TaskId::fresh());
        let mut follower = firehose.follow();
        firehose.append(&spoken(a, 1, &["a;"]), Instant::now());
        for pos in 1..=RING_FRAMES as u64 {
            firehose.append(&spoken(b, pos, &["."]), Instant::now());
        }
        let all = read(&mut follower, somebody());
        assert!(all.starts_with("missed;missed;."), "{all}");
        assert_eq!(all.len(), 14 + RING_FRAMES);

        firehose.append(&spoken(a, 3, &["a;"]), Instant::now());
        assert_eq!(read(&mut follower, somebody()), "missed;a;", "2 never came");
        firehose.miss(a, 9, Instant::now());
        firehose.append(&spoken(a, 10, &["a;"]), Instant::now());
        assert_eq!(read(&mut follower, somebody()), "missed;a;", "once");
    }
}
