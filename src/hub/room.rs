//! One workspace's recent events as ready wire frames, and the connections that read them.
//!
//! A connection has no queue: it is a position in the ring. It copies what lies beyond its position
//! and sleeps when there is nothing; the check and the registration of the sleeper happen under one
//! lock, so no event falls between them. Only the workspace's lane appends.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use crate::ids::UserId;

/// Frames kept at most.
const RING_FRAMES: usize = 1024;
/// Bytes of frames kept at most, though always the newest frame.
const RING_BYTES: usize = 8 << 20;
/// Frames without a place in the sequence that are kept; who lags behind skips ahead.
const FLEETING: usize = 64;
/// Sleepers woken at once. Tasks run in the order in which they were woken, so whoever is woken
/// after a thousand sockets waits for a thousand writes.
const WAVE: usize = 64;
/// What the pace grows by for each follower: waking and writing to one socket costs about as much,
/// so that a large room under a steady stream gets several events with one write instead of using
/// up the machine. A first event still goes out at once.
const PACE_PER_FOLLOWER: Duration = Duration::from_micros(10);

/// One event, encoded.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Its number.
    pub seq: u64,
    /// The WebSocket frame.
    pub wire: Bytes,
    /// Whom it is the last one for.
    pub ends: Option<Ends>,
}

/// A frame without a place in the sequence, for whoever is here.
#[derive(Debug, Clone)]
pub struct Fleeting {
    /// The WebSocket frame.
    pub wire: Bytes,
    /// Only for those who follow the fleet's beats.
    pub fleet: bool,
}

/// For whom a sequence ends with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Somebody is no longer a member.
    Member(UserId),
    /// The workspace is gone.
    Everybody,
}

/// What a connection got.
#[derive(Debug, PartialEq, Eq)]
pub enum Copied {
    /// Frames up to this number.
    UpTo(u64),
    /// Nothing lies beyond the position.
    Nothing,
    /// The ring no longer has the next event; the log does.
    Behind,
    /// The sequence cannot be continued: [`Room::lose`] was called.
    Lost,
    /// The sequence is over for this connection: nothing beyond its position is for it.
    Over(Ends),
}

/// What the caller of [`Room::append`] has to do about the sleepers.
#[derive(Debug, PartialEq, Eq)]
pub enum Wake {
    /// Nothing: they were woken, or somebody is already going to.
    Nothing,
    /// After this long, call [`Room::wake`] until there are no more, with pauses for others; then
    /// ask [`Room::rest`] whether to begin again.
    After(Duration),
}

/// A workspace's ring and its followers.
pub struct Room {
    inner: Mutex<Inner>,
    /// Wake-ups are at least this far apart.
    pace: Duration,
}

struct Inner {
    frames: VecDeque<Frame>,
    bytes: usize,
    head: u64,
    fleeting: VecDeque<Fleeting>,
    /// How many there ever were.
    shown: u64,
    /// How many follow the fleet's beats; without any, those wake nobody.
    fleet_followers: usize,
    sleepers: Vec<Option<Waker>>,
    free: Vec<usize>,
    last_wake: Option<Instant>,
    /// Somebody is waking sleepers, or is going to.
    waking: bool,
    /// Something was appended since that began.
    again: bool,
    lost: bool,
    /// After which event the sequence is over for somebody. Kept for those whose admission was
    /// decided before the event and who follow after it.
    removed: HashMap<UserId, u64>,
    gone: Option<u64>,
}

impl Room {
    /// An empty ring whose next frame is `head + 1`.
    pub fn new(head: u64, pace: Duration) -> Self {
        Self {
            inner: Mutex::new(Inner {
                frames: VecDeque::new(),
                bytes: 0,
                head,
                fleeting: VecDeque::new(),
                shown: 0,
                fleet_followers: 0,
                sleepers: Vec::new(),
                free: Vec::new(),
                last_wake: None,
                waking: false,
                again: false,
                lost: false,
                removed: HashMap::new(),
                gone: None,
            }),
            pace,
        }
    }

    /// Appends consecutive frames and wakes the sleepers, at once if they have been left alone for
    /// a pace, else the caller wakes them later.
    pub fn append(&self, frames: impl IntoIterator<Item = Frame>, now: Instant) -> Wake {
        let mut inner = self.inner.lock();
        for frame in frames {
            debug_assert_eq!(frame.seq, inner.head + 1, "a hole in the ring");
            inner.head = frame.seq;
            inner.bytes += frame.wire.len();
            match frame.ends {
                Some(Ends::Member(user)) => drop(inner.removed.insert(user, frame.seq)),
                Some(Ends::Everybody) => inner.gone = Some(frame.seq),
                None => {}
            }
            inner.frames.push_back(frame);
        }
        while inner.frames.len() > RING_FRAMES || (inner.bytes > RING_BYTES && inner.frames.len() > 1) {
            if let Some(old) = inner.frames.pop_front() {
                inner.bytes -= old.wire.len();
            }
        }
        self.rouse(inner, now)
    }

    /// Adds a frame without a place in the sequence; then as [`Room::append`].
    pub fn show(&self, frame: Fleeting, now: Instant) -> Wake {
        let mut inner = self.inner.lock();
        if frame.fleet && inner.fleet_followers == 0 {
            return Wake::Nothing;
        }
        inner.shown += 1;
        inner.fleeting.push_back(frame);
        if inner.fleeting.len() > FLEETING {
            inner.fleeting.pop_front();
        }
        self.rouse(inner, now)
    }

    fn rouse(&self, mut inner: MutexGuard<'_, Inner>, now: Instant) -> Wake {
        if inner.waking {
            inner.again = true;
            return Wake::Nothing;
        }
        let rest = inner.rest(self.pace, now);
        if !rest.is_zero() || inner.sleepers.len() > WAVE {
            inner.waking = true;
            return Wake::After(rest);
        }
        inner.last_wake = Some(now);
        let (woken, _) = inner.take_sleepers(0);
        drop(inner);
        woken.into_iter().for_each(Waker::wake);
        Wake::Nothing
    }

    /// Wakes some of those who sleep here, beginning with slot `from`, and returns where to go on.
    pub fn wake(&self, from: usize, now: Instant) -> Option<usize> {
        let mut inner = self.inner.lock();
        if from == 0 {
            inner.last_wake = Some(now);
            // Who falls asleep from here on has seen everything up to here.
            inner.again = false;
        }
        let (woken, next) = inner.take_sleepers(from);
        drop(inner);
        woken.into_iter().for_each(Waker::wake);
        next
    }

    /// After the last sleeper: how long until the next round, if there is something for one.
    pub fn rest(&self, now: Instant) -> Option<Duration> {
        let mut inner = self.inner.lock();
        inner.waking = inner.again;
        inner.again.then(|| inner.rest(self.pace, now))
    }

    /// Ends the room: positions in it mean nothing any more.
    pub fn lose(&self) {
        let mut inner = self.inner.lock();
        inner.lost = true;
        let woken: Vec<Waker> = inner.sleepers.iter_mut().filter_map(Option::take).collect();
        drop(inner);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Adds a connection that has everything up to `position`. Whether it may follow was decided on
    /// what held at `admitted`: a removal after that ends it.
    pub fn follow(self: &Arc<Self>, position: u64, user: UserId, admitted: u64) -> Follower {
        let mut inner = self.inner.lock();
        let slot = inner.free.pop().unwrap_or_else(|| {
            inner.sleepers.push(None);
            inner.sleepers.len() - 1
        });
        let shown = inner.shown;
        drop(inner);
        Follower { room: self.clone(), slot, position, shown, user, admitted, fleet: false }
    }
}

impl Inner {
    /// At most a wave of sleepers from slot `from` on, and the slot after them unless it is the end.
    fn take_sleepers(&mut self, from: usize) -> (Vec<Waker>, Option<usize>) {
        let mut woken = Vec::new();
        for (slot, sleeper) in self.sleepers.iter_mut().enumerate().skip(from) {
            if woken.len() == WAVE {
                return (woken, Some(slot));
            }
            woken.extend(sleeper.take());
        }
        (woken, None)
    }

    /// What is left of the pace.
    fn rest(&self, pace: Duration, now: Instant) -> Duration {
        let followers = (self.sleepers.len() - self.free.len()) as u32;
        let pace = pace.max(PACE_PER_FOLLOWER * followers);
        self.last_wake.map_or(Duration::ZERO, |at| pace.saturating_sub(now.saturating_duration_since(at)))
    }

    /// The last event for somebody admitted at a position, if there is one.
    fn end(&self, user: UserId, admitted: u64) -> Option<(u64, Ends)> {
        let removed = self.removed.get(&user).map(|seq| (*seq, Ends::Member(user)));
        let gone = self.gone.map(|seq| (seq, Ends::Everybody));
        [removed, gone].into_iter().flatten().filter(|(seq, _)| *seq > admitted).min_by_key(|(seq, _)| *seq)
    }

    /// Everything up to here is no longer in the ring.
    fn floor(&self) -> u64 {
        self.head - self.frames.len() as u64
    }
}

/// A connection's place in a room.
pub struct Follower {
    room: Arc<Room>,
    slot: usize,
    position: u64,
    shown: u64,
    user: UserId,
    admitted: u64,
    fleet: bool,
}

impl Follower {
    /// The number of the last event this connection was given.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Moves on, after frames that came from the log.
    pub fn advance(&mut self, position: u64) {
        self.position = position;
    }

    /// Whether it is shown the fleet's beats.
    pub fn follow_fleet(&mut self, fleet: bool) {
        if self.fleet != fleet {
            self.fleet = fleet;
            let mut inner = self.room.inner.lock();
            if fleet {
                inner.fleet_followers += 1;
            } else {
                inner.fleet_followers -= 1;
            }
        }
    }

    /// How far it may be given events now: to the newest one, or to the last that is for it.
    pub fn limit(&self) -> u64 {
        let inner = self.room.inner.lock();
        inner.end(self.user, self.admitted).map_or(inner.head, |(seq, _)| seq.min(inner.head))
    }

    /// Appends the frames beyond the position to `out`, at most `max_frames` and, after the first,
    /// at most `max_bytes`, and moves on.
    pub fn copy(&mut self, max_frames: usize, max_bytes: usize, out: &mut Vec<u8>) -> Copied {
        let room = self.room.clone();
        let inner = room.inner.lock();
        if inner.lost {
            return Copied::Lost;
        }
        let end = inner.end(self.user, self.admitted);
        if let Some((seq, ends)) = end
            && self.position >= seq
        {
            return Copied::Over(ends);
        }
        if self.position >= inner.head {
            return self.copy_fleeting(&inner, out);
        }
        let Some(index) = self.position.checked_sub(inner.floor()) else {
            return Copied::Behind;
        };
        let start = out.len();
        for frame in inner.frames.range(index as usize..).take(max_frames) {
            let full = out.len() > start && out.len() - start + frame.wire.len() > max_bytes;
            if full || end.is_some_and(|(seq, _)| frame.seq > seq) {
                break;
            }
            out.extend_from_slice(&frame.wire);
            self.position = frame.seq;
        }
        Copied::UpTo(self.position)
    }

    /// What was shown since the last look, as far as it is still kept. Only for who has caught up.
    fn copy_fleeting(&mut self, inner: &Inner, out: &mut Vec<u8>) -> Copied {
        let new = (inner.shown - self.shown).min(inner.fleeting.len() as u64) as usize;
        self.shown = inner.shown;
        let before = out.len();
        for frame in inner.fleeting.range(inner.fleeting.len() - new..) {
            if self.fleet || !frame.fleet {
                out.extend_from_slice(&frame.wire);
            }
        }
        if out.len() > before { Copied::UpTo(self.position) } else { Copied::Nothing }
    }

    /// Ready when something lies beyond the position; else wakes the task when it does.
    pub fn poll_beyond(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.room.inner.lock();
        if inner.lost || inner.head > self.position || inner.shown > self.shown {
            return Poll::Ready(());
        }
        match &mut inner.sleepers[self.slot] {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            slot => *slot = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut inner = self.room.inner.lock();
        inner.sleepers[self.slot] = None;
        inner.free.push(self.slot);
        inner.fleet_followers -= usize::from(self.fleet);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake as TaskWake,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl TaskWake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn frames(range: std::ops::RangeInclusive<u64>) -> Vec<Frame> {
        range.map(|seq| Frame { seq, wire: Bytes::copy_from_slice(&seq.to_be_bytes()), ends: None }).collect()
    }

    fn read(follower: &mut Follower, max: usize) -> (Copied, Vec<u64>) {
        let mut out = Vec::new();
        let copied = follower.copy(max, usize::MAX, &mut out);
        (copied, out.chunks(8).map(|b| u64::from_be_bytes(b.try_into().expect("8"))).collect())
    }

    #[test]
    fn a_follower_reads_what_lies_beyond_it_in_order_and_once() {
        let room = Arc::new(Room::new(10, Duration::ZERO));
        let mut follower = room.follow(10, UserId::fresh(), 10);
        assert_eq!(read(&mut follower, 64).0, Copied::Nothing);
        room.append(frames(11..=15), Instant::now());
        assert_eq!(read(&mut follower, 3), (Copied::UpTo(13), vec![11, 12, 13]));
        assert_eq!(read(&mut follower, 64), (Copied::UpTo(15), vec![14, 15]));
        assert_eq!(read(&mut follower, 64).0, Copied::Nothing);
    }

    #[test]
    fn a_follower_older_than_the_ring_is_behind_and_recovers_from_the_log() {
        let room = Arc::new(Room::new(0, Duration::ZERO));
        let mut follower = room.follow(0, UserId::fresh(), 0);
        let last = RING_FRAMES as u64 + 5;
        room.append(frames(1..=last), Instant::now());
        assert_eq!(read(&mut follower, 1).0, Copied::Behind);
        follower.advance(5);
        assert_eq!(read(&mut follower, 1), (Copied::UpTo(6), vec![6]), "the floor itself is readable from");
    }

    #[test]
    fn the_first_event_wakes_at_once_and_a_second_one_a_pace_later() {
        let room = Arc::new(Room::new(0, Duration::from_millis(2)));
        let mut follower = room.follow(0, UserId::fresh(), 0);
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let start = Instant::now();
        assert!(follower.poll_beyond(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(room.append(frames(1..=1), start), Wake::Nothing);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);

        read(&mut follower, 64);
        assert!(follower.poll_beyond(&mut Context::from_waker(&waker)).is_pending());
        let soon = start + Duration::from_millis(1);
        assert_eq!(room.append(frames(2..=2), soon), Wake::After(Duration::from_millis(1)));
        assert_eq!(room.append(frames(3..=3), soon), Wake::Nothing, "one wake-up serves all");
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(room.wake(0, start + Duration::from_millis(2)), None);
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
        assert_eq!(room.rest(start + Duration::from_millis(2)), None);
    }

    #[test]
    fn many_sleepers_are_woken_in_waves_and_what_comes_meanwhile_begins_another_round() {
        let room = Arc::new(Room::new(0, Duration::from_millis(2)));
        let followers: Vec<_> = (0..2 * WAVE + 1).map(|_| room.follow(0, UserId::fresh(), 0)).collect();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        for follower in &followers {
            assert!(follower.poll_beyond(&mut Context::from_waker(&waker)).is_pending());
        }
        let start = Instant::now();
        assert_eq!(room.append(frames(1..=1), start), Wake::After(Duration::ZERO));
        assert_eq!(room.wake(0, start), Some(WAVE));
        assert_eq!(count.0.load(Ordering::SeqCst), WAVE);
        assert_eq!(room.append(frames(2..=2), start), Wake::Nothing, "a round is under way");
        assert_eq!(room.wake(WAVE, start), Some(2 * WAVE));
        assert_eq!(room.wake(2 * WAVE, start), None);
        assert_eq!(count.0.load(Ordering::SeqCst), followers.len());
        assert_eq!(room.rest(start), Some(Duration::from_millis(2)), "event 2 came after some had been woken");
        assert_eq!(room.append(frames(3..=3), start), Wake::Nothing, "the next round is due");
        assert_eq!(room.wake(0, start + Duration::from_millis(2)), None, "nobody has gone to sleep again");
        assert_eq!(room.rest(start + Duration::from_millis(2)), None);
        assert_eq!(room.append(frames(4..=4), start + Duration::from_secs(1)), Wake::After(Duration::ZERO));
    }

    #[test]
    fn what_is_shown_reaches_whoever_has_caught_up_and_skips_ahead_of_who_has_not() {
        let room = Arc::new(Room::new(0, Duration::ZERO));
        let shown = |n: u64, fleet| Fleeting { wire: Bytes::copy_from_slice(&(1000 + n).to_be_bytes()), fleet };
        room.show(shown(0, false), Instant::now());
        assert_eq!(room.show(shown(0, true), Instant::now()), Wake::Nothing, "nobody follows the fleet");
        let mut follower = room.follow(0, UserId::fresh(), 0);
        let mut of_the_fleet = room.follow(0, UserId::fresh(), 0);
        of_the_fleet.follow_fleet(true);
        assert_eq!(read(&mut follower, 64).0, Copied::Nothing, "what was shown before is over");
        room.append(frames(1..=2), Instant::now());
        room.show(shown(1, false), Instant::now());
        room.show(shown(2, true), Instant::now());
        assert_eq!(read(&mut follower, 64), (Copied::UpTo(2), vec![1, 2]), "events first");
        assert_eq!(read(&mut follower, 64), (Copied::UpTo(2), vec![1001]));
        assert_eq!(read(&mut follower, 64).0, Copied::Nothing);
        read(&mut of_the_fleet, 64);
        assert_eq!(read(&mut of_the_fleet, 64).1, vec![1001, 1002]);
        for n in 0..100 {
            room.show(shown(n, false), Instant::now());
        }
        assert_eq!(read(&mut follower, 64).1.len(), FLEETING);
    }

    #[test]
    fn the_sequence_ends_for_the_removed_with_their_removal_and_for_nobody_else() {
        let room = Arc::new(Room::new(0, Duration::ZERO));
        let (removed, other) = (UserId::fresh(), UserId::fresh());
        let mut before = room.follow(0, removed, 0);
        let mut stays = room.follow(0, other, 0);
        let mut batch = frames(1..=5);
        batch[2].ends = Some(Ends::Member(removed));
        room.append(batch, Instant::now());
        assert_eq!(read(&mut before, 64), (Copied::UpTo(3), vec![1, 2, 3]), "the removal is the last");
        assert_eq!(before.limit(), 3);
        assert_eq!(read(&mut before, 64).0, Copied::Over(Ends::Member(removed)));
        assert_eq!(read(&mut stays, 64).0, Copied::UpTo(5));
        // Admitted on what held before the removal, following after it.
        let mut late = room.follow(2, removed, 2);
        assert_eq!(read(&mut late, 64), (Copied::UpTo(3), vec![3]));
        assert_eq!(read(&mut late, 64).0, Copied::Over(Ends::Member(removed)));
        // Added again, and replayed from before the removal.
        let mut again = room.follow(1, removed, 4);
        assert_eq!(read(&mut again, 64).0, Copied::UpTo(5));

        let mut last = frames(6..=7);
        last[0].ends = Some(Ends::Everybody);
        room.append(last, Instant::now());
        assert_eq!(read(&mut stays, 64), (Copied::UpTo(6), vec![6]));
        assert_eq!(read(&mut stays, 64).0, Copied::Over(Ends::Everybody));
    }

    #[test]
    fn a_follower_that_leaves_keeps_no_waker() {
        let room = Arc::new(Room::new(0, Duration::ZERO));
        let follower = room.follow(0, UserId::fresh(), 0);
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        assert!(follower.poll_beyond(&mut Context::from_waker(&waker)).is_pending());
        drop(follower);
        drop(waker);
        assert_eq!(Arc::strong_count(&count), 1, "the room still holds the task");
    }
}
