//! Time, as the database tells it. Every stored time comes from here, so that two nodes whose own
//! clocks differ still write comparable times, and so that tests can move it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use crate::time::Timestamp;

/// A clock with an offset; clones share it.
#[derive(Clone, Default)]
pub struct Clock {
    /// Microseconds to add to this machine's clock.
    offset: Arc<AtomicI64>,
    /// Microseconds a test has added.
    moved: Arc<AtomicI64>,
}

impl Clock {
    /// Now, in the database's time.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.unmoved().0 + self.moved.load(Ordering::Relaxed))
    }

    /// The same without what a test has added: tests move the time, not the program through it.
    pub fn unmoved(&self) -> Timestamp {
        Timestamp(Timestamp::of_this_machine().0 + self.offset.load(Ordering::Relaxed))
    }

    /// Takes over what the database said, `round_trip` after it was asked.
    pub(super) fn learn(&self, database: Timestamp, round_trip: Duration) -> Duration {
        let middle = Timestamp::of_this_machine().minus(round_trip / 2);
        let offset = database.0 - middle.0;
        self.offset.store(offset, Ordering::Relaxed);
        Duration::from_micros(offset.unsigned_abs())
    }

    /// As if this machine had been asleep: the time has gone on, and the program has not.
    #[cfg(feature = "test-hooks")]
    pub fn oversleep(&self, by: Duration) {
        self.offset.fetch_add(by.as_micros() as i64, Ordering::Relaxed);
    }

    /// Moves the clock ahead; for tests.
    pub fn advance(&self, by: Duration) {
        self.moved.fetch_add(by.as_micros() as i64, Ordering::Relaxed);
    }
}
