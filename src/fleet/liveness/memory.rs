//! Leases in this process. Always well; gone with it, which the rules take for "nothing known".

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;

use super::{Health, Lease, Picture, Touched};
use crate::{db::Clock, ids::RuntimeId, time::Timestamp};

/// Whenever there are a multiple of so many marks, those that are over go.
const MARKS: usize = 256;

/// See the module.
pub struct Memory {
    leases: Mutex<HashMap<RuntimeId, (Lease, Timestamp)>>,
    /// When each was noted, and until when that counts.
    marks: Mutex<HashMap<String, (Timestamp, Timestamp)>>,
    ttl: Duration,
    clock: Clock,
    began: Timestamp,
}

impl Memory {
    pub(super) fn new(ttl: Duration, clock: Clock) -> Self {
        let began = clock.now();
        Self { leases: Mutex::default(), marks: Mutex::default(), ttl, clock, began }
    }

    pub(super) fn touch(&self, runtime: RuntimeId, lease: Lease) -> Touched {
        let now = self.clock.now();
        let before = self.leases.lock().insert(runtime, (lease, now.plus(self.ttl)));
        Touched::Was(before.and_then(|held| living(held, now)))
    }

    pub(super) fn keep(&self, runtime: RuntimeId) -> Touched {
        let now = self.clock.now();
        let mut leases = self.leases.lock();
        let held = leases.get_mut(&runtime).filter(|held| living(**held, now).is_some());
        Touched::Was(held.map(|held| {
            held.1 = now.plus(self.ttl);
            held.0
        }))
    }

    pub(super) fn read(&self, runtimes: &[RuntimeId]) -> Picture {
        let now = self.clock.now();
        let leases = self.leases.lock();
        Picture(runtimes.iter().map(|id| leases.get(id).and_then(|held| living(*held, now))).collect())
    }

    pub(super) fn swap(&self, runtime: RuntimeId, expected: Option<Lease>, new: Lease) -> bool {
        let now = self.clock.now();
        let mut leases = self.leases.lock();
        let same = leases.get(&runtime).and_then(|held| living(*held, now)) == expected;
        if same {
            leases.insert(runtime, (new, now.plus(self.ttl)));
        }
        same
    }

    pub(super) fn forget(&self, runtimes: &[RuntimeId]) {
        let now = self.clock.now();
        let mut leases = self.leases.lock();
        for id in runtimes {
            leases.remove(id);
        }
        // What nobody forgot has ended by itself.
        leases.retain(|_, held| living(*held, now).is_some());
    }

    pub(super) fn mark(&self, name: String, ttl: Duration) {
        let now = self.clock.now();
        let mut marks = self.marks.lock();
        marks.insert(name, (now, now.plus(ttl)));
        if marks.len().is_multiple_of(MARKS) {
            marks.retain(|_, (_, until)| *until > now);
        }
    }

    pub(super) fn marked(&self, names: &[String]) -> Vec<Option<Timestamp>> {
        let now = self.clock.now();
        let marks = self.marks.lock();
        let counts = |(noted, until): &(Timestamp, Timestamp)| (*until > now).then_some(*noted);
        names.iter().map(|name| marks.get(name).and_then(counts)).collect()
    }

    pub(super) fn health(&self) -> Health {
        Health { well: true, changes: 0, well_since: self.began, lost_at: self.began }
    }
}

fn living((lease, until): (Lease, Timestamp), now: Timestamp) -> Option<Lease> {
    (until > now).then_some(lease)
}
