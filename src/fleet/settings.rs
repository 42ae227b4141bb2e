//! What can be set about the fleet.

use std::time::Duration;

use crate::settings::{Key, Unusable, Values};

const BEAT_INTERVAL: Key = Key {
    name: "fleet.beat_interval",
    env: "HEARTWIRE_BEAT_INTERVAL",
    default: "15s",
    doc: "How often a daemon beats for each runtime. Told to daemons in every ack; existing ones beat\nevery 15s whatever is said here.",
};

/// The keys.
pub const KEYS: &[Key] = &[BEAT_INTERVAL];

/// The fleet's rhythm.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Between two beats of a runtime.
    pub beat_interval: Duration,
}

impl Settings {
    /// Reads the room's part.
    pub fn read(values: &Values) -> Result<Self, Unusable> {
        Ok(Self { beat_interval: values.duration(&BEAT_INTERVAL)? })
    }
}
