//! What silence means.
//!
//! An old row or a missing lease says that a runtime is gone only if a beat could have been heard and
//! kept: by a database and a lease store that answered, and by a node that did not stand still
//! itself. After trouble with any of them such evidence is old, and waits for a stale window. An
//! outage counts from one beat interval on: a shorter one costs a runtime at most one beat, which
//! no limit rests on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Fleet, Settings, liveness::Liveness};
use crate::{db::Db, time::Timestamp};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// What verdicts rest on.
pub(super) struct Evidence {
    db: Db,
    liveness: Arc<Liveness>,
    stale_after: Duration,
    /// An outage of this length counts.
    counts: Duration,
    /// Two looks that lie this far apart mean that the node stood still in between.
    standstill: Duration,
    flush_fails: AtomicBool,
    seen: Mutex<Seen>,
    #[cfg(feature = "test-hooks")]
    trusted: AtomicBool,
}

struct Seen {
    /// By the clock that tests do not move.
    looked_at: Timestamp,
    database: Outages,
    leases: Outages,
    /// How often this node stood still, and when it last began to listen.
    standstills: u64,
    listening_since: Timestamp,
}

/// What a verdict must find unchanged from beginning to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    store: u64,
    standstills: u64,
}

impl Evidence {
    pub(super) fn new(db: Db, liveness: Arc<Liveness>, settings: &Settings) -> Self {
        let now = db.clock().now();
        let seen = Seen {
            looked_at: db.clock().unmoved(),
            database: Outages::new(now),
            leases: Outages::new(now),
            standstills: 0,
            listening_since: now,
        };
        Self {
            db,
            liveness,
            stale_after: settings.stale_after,
            counts: settings.beat_interval,
            standstill: (settings.beat_interval / 3).max(LOOK * 4),
            flush_fails: AtomicBool::new(false),
            seen: Mutex::new(seen),
            #[cfg(feature = "test-hooks")]
            trusted: AtomicBool::new(false),
        }
    }

    /// Takes note of how things are, and gives the time. Whoever judges looks first: after a pause of
    /// the whole process it may be the first to run.
    pub(super) fn look(&self) -> Timestamp {
        let clock = self.db.clock();
        let (now, unmoved) = (clock.now(), clock.unmoved());
        let (rows, leases) = (self.db.answers() && !self.flush_fails(), self.liveness.health().well);
        let mut seen = self.seen.lock();
        let pause = unmoved.since(seen.looked_at);
        seen.looked_at = unmoved;
        if pause >= self.standstill {
            tracing::warn!(
                ?pause,
                "this node stood still: it heard nobody, and says nothing about silence for a while"
            );
            seen.standstills += 1;
            seen.listening_since = now;
        }
        seen.database.see(rows, now, unmoved, self.counts);
        seen.leases.see(leases, now, unmoved, self.counts);
        now
    }

    /// Until when rows and leases that are not there say nothing.
    pub(super) fn old_until(&self) -> Timestamp {
        #[cfg(feature = "test-hooks")]
        if self.trusted.load(Ordering::SeqCst) {
            return Timestamp(0);
        }
        let lost_at = self.liveness.health().lost_at;
        let seen = self.seen.lock();
        let trouble = [seen.listening_since, seen.database.disturbed_at, seen.leases.disturbed_at];
        trouble.into_iter().fold(lost_at, Timestamp::max).plus(self.stale_after)
    }

    /// As if nothing had been the matter for long.
    #[cfg(feature = "test-hooks")]
    pub(super) fn trust(&self) {
        self.trusted.store(true, Ordering::SeqCst);
    }

    /// See [`Generation`].
    pub(super) fn generation(&self) -> Generation {
        Generation { store: self.liveness.health().changes, standstills: self.seen.lock().standstills }
    }

    /// Since when this node has been listening without a pause.
    pub(super) fn listening_since(&self) -> Timestamp {
        self.seen.lock().listening_since
    }

    /// Whether the lease store has been away for so long that it no longer counts.
    pub(super) fn leases_stay_away(&self, now: Timestamp) -> bool {
        self.seen.lock().leases.away.is_some_and(|away| now.since(away.since) >= self.stale_after)
    }

    /// How the last flush went: whether rows are as fresh as they are taken to be.
    pub(super) fn flushed(&self, well: bool) {
        self.flush_fails.store(!well, Ordering::Relaxed);
    }

    /// Whether the last flush failed.
    pub(super) fn flush_fails(&self) -> bool {
        self.flush_fails.load(Ordering::Relaxed)
    }
}

impl Fleet {
    /// Looks until cancelled.
    pub async fn keep_looking(self: Arc<Self>, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(look.tick()).await.is_some() {
            self.evidence.look();
        }
    }
}

/// The outages of one store.
struct Outages {
    away: Option<Away>,
    /// When one that counts began, or ended.
    disturbed_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Away {
    since: Timestamp,
    /// The same by the clock that tests do not move.
    unmoved: Timestamp,
}

impl Outages {
    fn new(now: Timestamp) -> Self {
        Self { away: None, disturbed_at: now }
    }

    fn see(&mut self, well: bool, now: Timestamp, unmoved: Timestamp, counts: Duration) {
        let Some(away) = self.away else {
            self.away = (!well).then_some(Away { since: now, unmoved });
            return;
        };
        if unmoved.since(away.unmoved) >= counts {
            self.disturbed_at = if well { now } else { self.disturbed_at.max(away.since) };
        }
        if well {
            self.away = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_secs(15);

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    fn see(outages: &mut Outages, well: bool, second: i64) {
        outages.see(well, at(second), at(second), BEAT);
    }

    #[test]
    fn short_outages_count_for_nothing_however_many_there_are() {
        let mut outages = Outages::new(at(0));
        (1..600).for_each(|second| see(&mut outages, second % 10 == 0, second));
        assert_eq!(outages.disturbed_at, at(0));
    }

    #[test]
    fn a_long_outage_counts_from_its_beginning_and_again_from_its_end() {
        let mut outages = Outages::new(at(0));
        see(&mut outages, false, 100);
        see(&mut outages, false, 114);
        assert_eq!(outages.disturbed_at, at(0), "not yet");
        see(&mut outages, false, 115);
        assert_eq!(outages.disturbed_at, at(100));
        see(&mut outages, false, 400);
        assert_eq!(outages.disturbed_at, at(100), "it is not renewed meanwhile");
        see(&mut outages, true, 500);
        assert_eq!((outages.disturbed_at, outages.away), (at(500), None));
        see(&mut outages, true, 600);
        assert_eq!(outages.disturbed_at, at(500));
    }
}
