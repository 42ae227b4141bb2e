//! What can be set about events.

use std::time::Duration;

use crate::settings::{Key, Unusable, Values};

const PACE: Key = Key {
    name: "events.pace",
    env: "HEARTWIRE_EVENTS_PACE",
    default: "2ms",
    doc: "Sockets are woken at once for a first event and then at most this often (never more often than\n10 us per follower); more of it is fewer writes and more delay.",
};
const RETENTION: Key = Key {
    name: "events.retention",
    env: "HEARTWIRE_EVENTS_RETENTION",
    default: "24h",
    doc: "How long an event stays in the log, and so how long a client may be away and still resume.",
};
const MAX_EVENTS: Key = Key {
    name: "events.max_events",
    env: "HEARTWIRE_EVENTS_MAX_EVENTS",
    default: "50000",
    doc: "Events of one workspace in the log at most.",
};
const MAX_BYTES: Key = Key {
    name: "events.max_bytes",
    env: "HEARTWIRE_EVENTS_MAX_BYTES",
    default: "64MiB",
    doc: "Payload bytes of one workspace in the log at most.",
};

/// The keys.
pub const KEYS: &[Key] = &[PACE, RETENTION, MAX_EVENTS, MAX_BYTES];

/// How events are paced and kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Between two wake-ups of a workspace's sockets.
    pub pace: Duration,
    /// Age at which an event leaves the log.
    pub retention: Duration,
    /// Events per workspace.
    pub max_events: u64,
    /// Payload bytes per workspace.
    pub max_bytes: usize,
}

impl Settings {
    /// Reads the room's part.
    pub fn read(values: &Values) -> Result<Self, Unusable> {
        Ok(Self {
            pace: values.duration(&PACE)?,
            retention: values.duration(&RETENTION)?,
            max_events: values.number(&MAX_EVENTS, 1, 100_000_000)?,
            max_bytes: values.size(&MAX_BYTES)?,
        })
    }
}
