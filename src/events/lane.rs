//! One workspace's ordered stream on this node: the only one to append to its room.
//!
//! Commits hand over concurrently and so, now and then, in the wrong order. A lane knows its
//! position; it drops what it has, passes on what comes next and holds what is ahead.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::{pages::Pages, talk::missed};
use crate::{
    hub::{Firehose, Fleeting, Frame, Room, Rousing, Spoken, Wake},
    ids::{TaskId, WorkspaceId},
};

/// What a lane needs after it was handed something.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    Nothing,
    /// Something ahead is held: if it still is after a while, the gap has to be read from the log.
    Patience,
}

/// A workspace's lane.
pub struct Lane {
    /// Whose.
    pub workspace: WorkspaceId,
    pub(super) pages: Pages,
    /// What its tasks say, for those who want to hear everything.
    pub(super) firehose: Arc<Firehose>,
    /// Its first follower reads the position, the others wait for that.
    pub(super) starting: tokio::sync::Mutex<()>,
    order: Mutex<Order>,
    /// Somebody is reading a gap.
    healing: AtomicBool,
    pace: Duration,
    /// The runtime of the sockets: commits hand over on the store's threads, which are not for
    /// waking crowds.
    followers: Handle,
}

struct Order {
    stage: Stage,
    position: u64,
    held: BTreeMap<u64, Vec<Frame>>,
}

enum Stage {
    /// The position is not known yet: everything is held.
    Starting,
    Live(Arc<Room>),
    /// Given up: nothing is passed on or held any more. The next follower starts another lane.
    Lost(Arc<Room>),
}

impl Lane {
    /// Made in a follower's task.
    pub(super) fn new(workspace: WorkspaceId, pace: Duration) -> Self {
        Self {
            workspace,
            pages: Pages::default(),
            firehose: Arc::new(Firehose::new(pace, missed)),
            starting: tokio::sync::Mutex::default(),
            order: Mutex::new(Order { stage: Stage::Starting, position: 0, held: BTreeMap::new() }),
            healing: AtomicBool::new(false),
            pace,
            followers: Handle::current(),
        }
    }

    /// What the workspace's tasks say.
    pub fn firehose(&self) -> &Arc<Firehose> {
        &self.firehose
    }

    /// The number of the last event passed on.
    pub fn position(&self) -> u64 {
        self.order.lock().position
    }

    /// The position of a lane that is live.
    pub(super) fn live_position(&self) -> Option<u64> {
        let order = self.order.lock();
        matches!(order.stage, Stage::Live(_)).then_some(order.position)
    }

    /// Its room, once there is one.
    pub(super) fn room(&self) -> Option<Arc<Room>> {
        match &self.order.lock().stage {
            Stage::Starting => None,
            Stage::Live(room) | Stage::Lost(room) => Some(room.clone()),
        }
    }

    /// Takes the counter as position. What was held meanwhile follows with the next hand-over.
    pub(super) fn start(&self, position: u64) -> Arc<Room> {
        let room = Arc::new(Room::new(position, self.pace));
        let mut order = self.order.lock();
        order.position = position;
        order.stage = Stage::Live(room.clone());
        room
    }

    /// Gives the lane up, if it is live: its sockets are told to refetch.
    pub(super) fn lose(&self) {
        let mut order = self.order.lock();
        if let Stage::Live(room) = &order.stage {
            room.lose();
            order.stage = Stage::Lost(room.clone());
            order.held.clear();
        }
    }

    /// Whether something is held that cannot be passed on.
    pub(super) fn holds(&self) -> bool {
        !self.order.lock().held.is_empty()
    }

    /// Takes consecutive frames from a commit, the relay or the log.
    pub(super) fn hand_over(&self, frames: Vec<Frame>) -> Need {
        let mut order = self.order.lock();
        let room = match &order.stage {
            Stage::Live(room) => Some(room.clone()),
            // The starter calls again.
            Stage::Starting => None,
            Stage::Lost(_) => return Need::Nothing,
        };
        if let Some(first) = frames.first().map(|frame| frame.seq) {
            let held = order.held.entry(first).or_default();
            if held.len() < frames.len() {
                *held = frames;
            }
        }
        let Some(room) = room else { return Need::Nothing };
        let mut ready = Vec::new();
        while let Some(batch) = order.next() {
            ready.extend(batch);
        }
        if !ready.is_empty() {
            // Under the lane's lock: the room takes frames in the order in which they are passed.
            if let Wake::After(rest) = room.append(ready, Instant::now()) {
                self.followers.spawn(wake(room, rest));
            }
        }
        if order.held.is_empty() { Need::Nothing } else { Need::Patience }
    }

    /// Shows a frame without a place in the sequence to whoever follows.
    pub(super) fn show(&self, frame: Fleeting) {
        if let Some(room) = self.room()
            && let Wake::After(rest) = room.show(frame, Instant::now())
        {
            self.followers.spawn(wake(room, rest));
        }
    }

    /// Passes on what a task says.
    pub(super) fn say(&self, spoken: &Spoken) {
        if let Wake::After(rest) = self.firehose.append(spoken, Instant::now()) {
            self.followers.spawn(wake(self.firehose.clone(), rest));
        }
    }

    /// Says that a task said something which is only in the store.
    pub(super) fn say_missed(&self, task: TaskId, last: u64) {
        if let Wake::After(rest) = self.firehose.miss(task, last, Instant::now()) {
            self.followers.spawn(wake(self.firehose.clone(), rest));
        }
    }

    /// Marks a gap reader as started; false when there is one.
    pub(super) fn begin_healing(&self) -> bool {
        !self.healing.swap(true, Ordering::AcqRel)
    }

    pub(super) fn end_healing(&self) {
        self.healing.store(false, Ordering::Release);
    }
}

impl Order {
    /// The next batch that continues the position, without what was already passed on.
    fn next(&mut self) -> Option<Vec<Frame>> {
        loop {
            let (first, batch) = self.held.pop_first()?;
            let last = first + batch.len() as u64 - 1;
            if last <= self.position {
                continue;
            }
            if first > self.position + 1 {
                self.held.insert(first, batch);
                return None;
            }
            let known = (self.position + 1 - first) as usize;
            self.position = last;
            return Some(batch.into_iter().skip(known).collect());
        }
    }
}

/// Wakes a ring's sleepers, some at a time, until everybody has been told of everything.
pub(super) async fn wake(room: Arc<impl Rousing>, mut rest: Duration) {
    loop {
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
        let mut from = 0;
        while let Some(next) = room.wake(from, Instant::now()) {
            from = next;
            tokio::task::yield_now().await;
        }
        match room.rest(Instant::now()) {
            Some(more) => rest = more,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{ids::UserId, protocol::event::Reader};

    fn frames(range: std::ops::RangeInclusive<u64>) -> Vec<Frame> {
        range
            .map(|seq| Frame { seq, wire: Bytes::copy_from_slice(&seq.to_be_bytes()), reduced: None, effect: None })
            .collect()
    }

    fn started(position: u64) -> Arc<Lane> {
        let lane = Arc::new(Lane::new(WorkspaceId::fresh(), Duration::ZERO));
        lane.start(position);
        lane
    }

    fn seen(lane: &Arc<Lane>, from: u64) -> Vec<u64> {
        let mut out = Vec::new();
        lane.room().expect("started").follow(from, Reader { user: UserId::fresh(), rules: false }, from).copy(
            1000,
            usize::MAX,
            &mut out,
        );
        out.chunks(8).map(|b| u64::from_be_bytes(b.try_into().expect("8"))).collect()
    }

    #[tokio::test]
    async fn what_comes_early_waits_and_what_comes_twice_is_dropped() {
        let lane = started(5);
        assert_eq!(lane.hand_over(frames(8..=9)), Need::Patience);
        assert_eq!(lane.hand_over(frames(7..=7)), Need::Patience);
        assert_eq!(lane.hand_over(frames(6..=6)), Need::Nothing);
        assert_eq!(lane.hand_over(frames(4..=6)), Need::Nothing);
        assert_eq!(lane.hand_over(frames(6..=11)), Need::Nothing, "an overlap gives only its end");
        assert_eq!(seen(&lane, 5), [6, 7, 8, 9, 10, 11]);
    }

    #[tokio::test]
    async fn a_shorter_batch_with_the_same_start_loses_nothing_of_the_longer() {
        let lane = started(0);
        assert_eq!(lane.hand_over(frames(3..=6)), Need::Patience);
        assert_eq!(lane.hand_over(frames(3..=4)), Need::Patience);
        assert_eq!(lane.hand_over(frames(1..=2)), Need::Nothing);
        assert_eq!(lane.position(), 6);
    }

    #[tokio::test]
    async fn everything_is_held_until_the_position_is_known() {
        let lane = Arc::new(Lane::new(WorkspaceId::fresh(), Duration::ZERO));
        lane.hand_over(frames(3..=4));
        lane.start(3);
        lane.hand_over(frames(5..=5));
        assert_eq!(seen(&lane, 3), [4, 5]);
    }

    #[tokio::test]
    async fn a_lane_that_was_given_up_holds_and_needs_nothing() {
        let lane = started(5);
        assert_eq!(lane.hand_over(frames(8..=9)), Need::Patience);
        lane.lose();
        assert!(!lane.holds());
        assert_eq!(lane.hand_over(Vec::new()), Need::Nothing, "nobody is to look for a gap again");
        assert_eq!(lane.hand_over(frames(6..=12)), Need::Nothing);
        assert!(!lane.holds() && lane.live_position().is_none());
        assert_eq!(lane.position(), 5, "it keeps what proves that the counter went back");
    }
}
