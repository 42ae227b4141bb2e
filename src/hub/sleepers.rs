//! Those who wait for something new in a ring, and how they are woken: the first time at once, then
//! at most once in a pace, and some at a time.

use std::{
    task::{Context, Waker},
    time::{Duration, Instant},
};

/// Sleepers woken at once. Tasks run in the order in which they were woken, so whoever is woken
/// after a thousand sockets waits for a thousand writes.
pub(super) const WAVE: usize = 64;
/// What the pace grows by for each follower: waking and writing to one socket costs about as much,
/// so that a large room under a steady stream gets several events with one write instead of using
/// up the machine. A first event still goes out at once.
const PACE_PER_FOLLOWER: Duration = Duration::from_micros(10);

/// What whoever put something into a ring has to do about the sleepers.
#[derive(Debug, PartialEq, Eq)]
pub enum Wake {
    /// Nothing: they were woken, or somebody is already going to.
    Nothing,
    /// After this long, call [`Rousing::wake`] until there are no more, with pauses for others; then
    /// ask [`Rousing::rest`] whether to begin again.
    After(Duration),
}

/// A ring whose sleepers are woken by whoever was told [`Wake::After`].
pub trait Rousing: Send + Sync + 'static {
    /// Lets somebody at the sleepers, under the ring's lock.
    fn visit(&self, visit: &mut dyn FnMut(&mut Sleepers));

    /// Wakes some of those who sleep here, beginning with slot `from`, and returns where to go on.
    fn wake(&self, from: usize, now: Instant) -> Option<usize> {
        let (mut woken, mut next) = (Vec::new(), None);
        self.visit(&mut |sleepers| (woken, next) = sleepers.wave(from, now));
        woken.into_iter().for_each(Waker::wake);
        next
    }

    /// After the last sleeper: how long until the next round, if there is something for one.
    fn rest(&self, now: Instant) -> Option<Duration> {
        let mut rest = None;
        self.visit(&mut |sleepers| rest = sleepers.rest(now));
        rest
    }
}

/// The sleepers of one ring.
#[derive(Default)]
pub struct Sleepers {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
    last_wake: Option<Instant>,
    /// Somebody is waking sleepers, or is going to.
    waking: bool,
    /// Something was put into the ring since that began.
    again: bool,
    /// Wake-ups are at least this far apart.
    pace: Duration,
}

impl Sleepers {
    /// Nobody follows yet.
    pub(super) fn new(pace: Duration) -> Self {
        Self { pace, ..Self::default() }
    }

    /// A place for one more follower.
    pub(super) fn enter(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        })
    }

    /// Gives a place up.
    pub(super) fn leave(&mut self, slot: usize) {
        self.slots[slot] = None;
        self.free.push(slot);
    }

    /// How many follow.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Wakes the task of this place with the next thing that comes.
    pub(super) fn sleep(&mut self, slot: usize, cx: &Context<'_>) {
        match &mut self.slots[slot] {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            slot => *slot = Some(cx.waker().clone()),
        }
    }

    /// Something is new: who is to be woken at once, outside the ring's lock, and what is to be done
    /// about the others.
    pub(super) fn rouse(&mut self, now: Instant) -> (Vec<Waker>, Wake) {
        if self.waking {
            self.again = true;
            return (Vec::new(), Wake::Nothing);
        }
        let rest = self.rest_of_pace(now);
        if !rest.is_zero() || self.slots.len() > WAVE {
            self.waking = true;
            return (Vec::new(), Wake::After(rest));
        }
        self.last_wake = Some(now);
        (self.take(0).0, Wake::Nothing)
    }

    /// The next wave, from slot `from` on, and the slot after it unless it was the last.
    pub(super) fn wave(&mut self, from: usize, now: Instant) -> (Vec<Waker>, Option<usize>) {
        if from == 0 {
            self.last_wake = Some(now);
            // Who falls asleep from here on has seen everything up to here.
            self.again = false;
        }
        self.take(from)
    }

    /// See [`Rousing::rest`].
    pub(super) fn rest(&mut self, now: Instant) -> Option<Duration> {
        self.waking = self.again;
        self.again.then(|| self.rest_of_pace(now))
    }

    /// Everybody at once: the ring is over.
    pub(super) fn all(&mut self) -> Vec<Waker> {
        self.slots.iter_mut().filter_map(Option::take).collect()
    }

    fn take(&mut self, from: usize) -> (Vec<Waker>, Option<usize>) {
        let mut woken = Vec::new();
        for (slot, sleeper) in self.slots.iter_mut().enumerate().skip(from) {
            if woken.len() == WAVE {
                return (woken, Some(slot));
            }
            woken.extend(sleeper.take());
        }
        (woken, None)
    }

    fn rest_of_pace(&self, now: Instant) -> Duration {
        let pace = self.pace.max(PACE_PER_FOLLOWER * self.len() as u32);
        self.last_wake.map_or(Duration::ZERO, |at| pace.saturating_sub(now.saturating_duration_since(at)))
    }
}
