//! What a node believes about runtimes, so that a beat costs no statement. Dropped by control
//! messages, by the flush's answer and by the touch's; a belief that was read before it was dropped
//! is not stored.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::{
    drops::Drops,
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
pub(super) struct Facts(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    known: HashMap<RuntimeId, Fact>,
    drops: Drops<RuntimeId>,
}

impl Facts {
    pub(super) fn get(&self, runtime: RuntimeId) -> Option<Fact> {
        self.0.lock().known.get(&runtime).cloned()
    }

    /// To be taken before the row is read, and given to [`Facts::learn`].
    pub(super) fn before_reading(&self) -> u64 {
        self.0.lock().drops.mark()
    }

    /// Stores what was read, unless it was dropped meanwhile.
    pub(super) fn learn(&self, runtime: RuntimeId, fact: Fact, before_reading: u64) {
        let mut inner = self.0.lock();
        if inner.drops.since(before_reading, |dropped| *dropped == runtime) {
            return;
        }
        if inner.known.len() >= MOST {
            inner.known.clear();
        }
        inner.known.insert(runtime, fact);
    }

    /// The row was written for a beat at this time.
    pub(super) fn written(&self, runtime: RuntimeId, at: Timestamp) {
        if let Some(fact) = self.0.lock().known.get_mut(&runtime) {
            fact.written = fact.written.max(Some(at));
        }
    }

    #[cfg(feature = "test-hooks")]
    pub(super) fn drop_all(&self) {
        let mut inner = self.0.lock();
        inner.drops.note_all();
        inner.known.clear();
    }

    pub(super) fn drop_all_of(&self, runtimes: &[RuntimeId]) {
        let mut inner = self.0.lock();
        for runtime in runtimes {
            inner.drops.note(*runtime);
            inner.known.remove(runtime);
        }
    }
}
