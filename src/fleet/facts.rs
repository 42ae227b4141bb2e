//! What a node believes about runtimes, so that a beat costs no statement. Dropped by control
//! messages, by the flush's answer and by the touch's; a belief that was read before it was dropped
//! is not stored.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    ids::{RuntimeId, UserId, WorkspaceId},
    time::Timestamp,
};

/// Beliefs kept at most; beyond it they are read again.
const MOST: usize = 200_000;

/// What a beat has to know of its runtime.
#[derive(Debug, Clone)]
pub(super) struct Fact {
    pub workspace: WorkspaceId,
    pub owner: Option<UserId>,
    pub daemon_id: Arc<str>,
    pub online: bool,
    /// The row's `last_seen_at`.
    pub written: Option<Timestamp>,
}

/// The beliefs.
#[derive(Default)]
pub(super) struct Facts {
    known: Mutex<HashMap<RuntimeId, Fact>>,
    dropped: AtomicU64,
}

impl Facts {
    pub(super) fn get(&self, runtime: RuntimeId) -> Option<Fact> {
        self.known.lock().get(&runtime).cloned()
    }

    /// To be taken before the row is read, and given to [`Facts::learn`].
    pub(super) fn before_reading(&self) -> u64 {
        self.dropped.load(Ordering::SeqCst)
    }

    /// Stores what was read, unless something was dropped meanwhile.
    pub(super) fn learn(&self, runtime: RuntimeId, fact: Fact, before_reading: u64) {
        let mut known = self.known.lock();
        if self.dropped.load(Ordering::SeqCst) == before_reading {
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(runtime, fact);
        }
    }

    /// The row was written for a beat at this time.
    pub(super) fn written(&self, runtime: RuntimeId, at: Timestamp) {
        if let Some(fact) = self.known.lock().get_mut(&runtime) {
            fact.written = fact.written.max(Some(at));
        }
    }

    #[cfg(feature = "test-hooks")]
    pub(super) fn drop_all(&self) {
        let mut known = self.known.lock();
        self.dropped.fetch_add(1, Ordering::SeqCst);
        known.clear();
    }

    pub(super) fn drop_all_of(&self, runtimes: &[RuntimeId]) {
        let mut known = self.known.lock();
        self.dropped.fetch_add(1, Ordering::SeqCst);
        runtimes.iter().for_each(|id| drop(known.remove(id)));
    }
}
