//! One workspace's recent events as ready wire frames, and the connections that read them.
//!
//! A connection has no queue: it is a position in the ring. It copies what lies beyond its position
//! and sleeps when there is nothing; the check and the registration of the sleeper happen under one
//! lock, so no event falls between them. Only the workspace's lane appends.

mod follower;

use std::{
    collections::{HashMap, VecDeque},
    task::Waker,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    Effect, Ends, Fleeting, Frame, Wake,
    sleepers::{Rousing, Sleepers},
};
use crate::{ids::UserId, protocol::event::Reader};

pub use follower::{Copied, Follower};

/// Frames kept at most.
const RING_FRAMES: usize = 1024;
/// Bytes of frames kept at most, though always the newest frame.
const RING_BYTES: usize = 8 << 20;
/// Frames without a place in the sequence that are kept; who lags behind skips ahead.
const FLEETING: usize = 64;
/// A workspace's ring and its followers.
pub struct Room {
    inner: Mutex<Inner>,
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
    sleepers: Sleepers,
    lost: bool,
    /// After which event the sequence is over for somebody. Kept for those whose admission was
    /// decided before the event and who follow after it.
    removed: HashMap<UserId, u64>,
    /// Since which event somebody is an owner or admin, or is not; kept for the same reason.
    rules: HashMap<UserId, (u64, bool)>,
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
                sleepers: Sleepers::new(pace),
                lost: false,
                removed: HashMap::new(),
                rules: HashMap::new(),
                gone: None,
            }),
        }
    }

    /// Appends consecutive frames and wakes the sleepers, at once if they have been left alone for
    /// a pace, else the caller wakes them later.
    pub fn append(&self, frames: impl IntoIterator<Item = Frame>, now: Instant) -> Wake {
        let mut inner = self.inner.lock();
        for frame in frames {
            debug_assert_eq!(frame.seq, inner.head + 1, "a hole in the ring");
            inner.head = frame.seq;
            inner.bytes += frame.size();
            match frame.effect {
                Some(Effect::Ends(Ends::Member(user))) => drop(inner.removed.insert(user, frame.seq)),
                Some(Effect::Ends(Ends::Everybody)) => inner.gone = Some(frame.seq),
                Some(Effect::Rules(user, rules)) => drop(inner.rules.insert(user, (frame.seq, rules))),
                None => {}
            }
            inner.frames.push_back(frame);
        }
        while inner.frames.len() > RING_FRAMES || (inner.bytes > RING_BYTES && inner.frames.len() > 1) {
            if let Some(old) = inner.frames.pop_front() {
                inner.bytes -= old.size();
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
        let (woken, wake) = inner.sleepers.rouse(now);
        drop(inner);
        woken.into_iter().for_each(Waker::wake);
        wake
    }

    /// Ends the room: positions in it mean nothing any more.
    pub fn lose(&self) {
        let mut inner = self.inner.lock();
        inner.lost = true;
        let woken = inner.sleepers.all();
        drop(inner);
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Rousing for Room {
    fn visit(&self, visit: &mut dyn FnMut(&mut Sleepers)) {
        visit(&mut self.inner.lock().sleepers);
    }
}

impl Inner {
    /// The last event for somebody admitted at a position, if there is one.
    fn end(&self, user: UserId, admitted: u64) -> Option<(u64, Ends)> {
        let removed = self.removed.get(&user).map(|seq| (*seq, Ends::Member(user)));
        let gone = self.gone.map(|seq| (seq, Ends::Everybody));
        [removed, gone].into_iter().flatten().filter(|(seq, _)| *seq > admitted).min_by_key(|(seq, _)| *seq)
    }

    /// As whom somebody reads who was admitted at a position.
    fn reader(&self, reader: Reader, admitted: u64) -> Reader {
        let since = self.rules.get(&reader.user).filter(|(seq, _)| *seq > admitted);
        since.map_or(reader, |(_, rules)| Reader { rules: *rules, ..reader })
    }

    /// Everything up to here is no longer in the ring.
    fn floor(&self) -> u64 {
        self.head - self.frames.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Wake as TaskWake},
    };

    use bytes::Bytes;

    use super::{super::sleepers::WAVE, *};
    use crate::protocol::event::Audience;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl TaskWake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn somebody() -> Reader {
        Reader { user: UserId::fresh(), rules: false }
    }

    fn frames(range: std::ops::RangeInclusive<u64>) -> Vec<Frame> {
        range
            .map(|seq| Frame { seq, wire: Bytes::copy_from_slice(&seq.to_be_bytes()), reduced: None, effect: None })
            .collect()
    }

    fn read(follower: &mut Follower, max: usize) -> (Copied, Vec<u64>) {
        let mut out = Vec::new();
        let copied = follower.copy(max, usize::MAX, &mut out);
        (copied, out.chunks(8).map(|b| u64::from_be_bytes(b.try_into().expect("8"))).collect())
    }

    #[test]
    fn a_follower_reads_what_lies_beyond_it_in_order_and_once() {
        let room = Arc::new(Room::new(10, Duration::ZERO));
        let mut follower = room.follow(10, somebody(), 10);
        assert_eq!(read(&mut follower, 64).0, Copied::Nothing);
        room.append(frames(11..=15), Instant::now());
        assert_eq!(read(&mut follower, 3), (Copied::UpTo(13), vec![11, 12, 13]));
        assert_eq!(read(&mut follower, 64), (Copied::UpTo(15), vec![14, 15]));
        assert_eq!(read(&mut follower, 64).0, Copied::Nothing);
    }

    #[test]
    fn a_follower_older_than_the_ring_is_behind_and_recovers_from_the_log() {
        let room = Arc::new(Room::new(0, Duration::ZERO));
        let mut follower = room.follow(0, somebody(), 0);
        let last = RING_FRAMES as u64 + 5;
        room.append(frames(1..=last), Instant::now());
        assert_eq!(read(&mut follower, 1).0, Copied::Behind);
        follower.advance(5);
        assert_eq!(read(&mut follower, 1), (Copied::UpTo(6), vec![6]), "the floor itself is readable from");
    }

    #[test]
    fn the_first_event_wakes_at_once_and_a_second_one_a_pace_later() {
        let room = Arc::new(Room::new(0, Duration::from_millis(2)));
        let mut follower = room.follow(0, somebody(), 0);
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
        let followers: Vec<_> = (0..2 * WAVE + 1).map(|_| room.follow(0, somebody(), 0)).collect();
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
        let mut follower = room.follow(0, somebody(), 0);
        let mut of_the_fleet = room.follow(0, somebody(), 0);
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
        let (gone, other) = (somebody(), somebody());
        let removed = gone.user;
        let mut before = room.follow(0, gone, 0);
        let mut stays = room.follow(0, other, 0);
        let mut batch = frames(1..=5);
        batch[2].effect = Some(Effect::Ends(Ends::Member(removed)));
        room.append(batch, Instant::now());
        assert_eq!(read(&mut before, 64), (Copied::UpTo(3), vec![1, 2, 3]), "the removal is the last");
        assert_eq!(before.limit().0, 3);
        assert_eq!(read(&mut before, 64).0, Copied::Over(Ends::Member(removed)));
        assert_eq!(read(&mut stays, 64).0, Copied::UpTo(5));
        // Admitted on what held before the removal, following after it.
        let mut late = room.follow(2, gone, 2);
        assert_eq!(read(&mut late, 64), (Copied::UpTo(3), vec![3]));
        assert_eq!(read(&mut late, 64).0, Copied::Over(Ends::Member(removed)));
        // Added again, and replayed from before the removal.
        let mut again = room.follow(1, gone, 4);
        assert_eq!(read(&mut again, 64).0, Copied::UpTo(5));

        let mut last = frames(6..=7);
        last[0].effect = Some(Effect::Ends(Ends::Everybody));
        room.append(last, Instant::now());
        assert_eq!(read(&mut stays, 64), (Copied::UpTo(6), vec![6]));
        assert_eq!(read(&mut stays, 64).0, Copied::Over(Ends::Everybody));
    }

    #[test]
    fn who_is_outside_an_audience_gets_the_reduced_form_and_roles_count_from_their_change_on() {
        let room = Arc::new(Room::new(0, Duration::ZERO));
        let (owner, admin, other) = (somebody(), Reader { rules: true, ..somebody() }, somebody());
        let private = |seq: u64, audience| {
            let reduced = Bytes::copy_from_slice(&(1000 + seq).to_be_bytes());
            Frame { reduced: Some(Box::new((audience, reduced))), ..frames(seq..=seq).remove(0) }
        };
        let change =
            |seq, user, rules| Frame { effect: Some(Effect::Rules(user, rules)), ..frames(seq..=seq).remove(0) };
        let mut followers: Vec<Follower> = [owner, admin, other].iter().map(|who| room.follow(0, *who, 0)).collect();
        let mut seen = |batch: Vec<Frame>| {
            room.append(batch, Instant::now());
            followers.iter_mut().map(|follower| read(follower, 64).1).collect::<Vec<_>>()
        };
        let both = vec![private(1, Audience::Only(owner.user)), private(2, Audience::OwnerAndAdmins(owner.user))];
        assert_eq!(seen(both), [vec![1, 2], vec![1001, 2], vec![1001, 1002]]);
        let roles = vec![
            change(3, admin.user, false),
            change(4, other.user, true),
            private(5, Audience::OwnerAndAdmins(owner.user)),
        ];
        assert_eq!(seen(roles), [vec![3, 4, 5], vec![3, 4, 1005], vec![3, 4, 5]]);
        // Who was admitted after the change brings the role it led to.
        let mut late = room.follow(4, Reader { rules: true, ..other }, 5);
        assert_eq!(read(&mut late, 64).1, [5]);
        let mut demoted = room.follow(4, Reader { rules: false, ..other }, 6);
        assert_eq!(read(&mut demoted, 64).1, [1005]);
    }

    #[test]
    fn who_waits_for_an_event_is_not_ready_for_what_is_only_shown() {
        let room = Arc::new(Room::new(0, Duration::ZERO));
        let follower = room.follow(0, somebody(), 0);
        let waker = Waker::from(Arc::new(Count::default()));
        let mut context = Context::from_waker(&waker);
        room.show(Fleeting { wire: Bytes::from_static(b"shown"), fleet: false }, Instant::now());
        assert!(follower.poll_beyond(&mut context).is_ready());
        assert!(follower.poll_event(&mut context).is_pending());
        room.append(frames(1..=1), Instant::now());
        assert!(follower.poll_event(&mut context).is_ready());
    }

    #[test]
    fn a_follower_that_leaves_keeps_no_waker() {
        let room = Arc::new(Room::new(0, Duration::ZERO));
        let follower = room.follow(0, somebody(), 0);
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        assert!(follower.poll_beyond(&mut Context::from_waker(&waker)).is_pending());
        drop(follower);
        drop(waker);
        assert_eq!(Arc::strong_count(&count), 1, "the room still holds the task");
    }
}
