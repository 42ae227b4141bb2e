//! The rhythm of the fleet. One constant sets it, the beat interval; every other limit is a multiple
//! of it, and the chain that ties them is checked when the configuration is read: broken, it would
//! call living runtimes dead.

use std::time::Duration;

use crate::settings::{Key, Unusable, Values};

const BEAT: Key = Key {
    name: "fleet.beat_interval",
    env: "HEARTWIRE_BEAT_INTERVAL",
    default: "15s",
    doc: "How often daemons beat for each runtime; told to them in every answer.",
};
const FLUSH_AFTER: Key = Key {
    name: "fleet.flush_after",
    env: "HEARTWIRE_FLUSH_AFTER",
    default: "60s",
    doc: "A runtime's row is written again when its last_seen_at is this old. Until then its lease says\nthat it is alive.",
};
const FLUSH_TICK: Key = Key {
    name: "fleet.flush_tick",
    env: "HEARTWIRE_FLUSH_TICK",
    default: "30s",
    doc: "Between two writes of all rows that are due, in one statement.",
};
const LEASE_TTL: Key = Key {
    name: "fleet.lease_ttl",
    env: "HEARTWIRE_LEASE_TTL",
    default: "90s",
    doc: "How long a beat keeps a lease alive.",
};
const STALE_AFTER: Key = Key {
    name: "fleet.stale_after",
    env: "HEARTWIRE_STALE_AFTER",
    default: "150s",
    doc: "The sweep takes a runtime offline whose row is this old and whose lease is gone.",
};
const SWEEP_INTERVAL: Key =
    Key { name: "fleet.sweep_interval", env: "HEARTWIRE_SWEEP_INTERVAL", default: "30s", doc: "Between two sweeps." };
const PEER_GRACE: Key = Key {
    name: "fleet.peer_grace",
    env: "HEARTWIRE_PEER_GRACE",
    default: "30s",
    doc: "A runtime whose socket's end was seen goes offline after this, unless anything is heard of it.",
};
const SILENT_GRACE: Key = Key {
    name: "fleet.silent_grace",
    env: "HEARTWIRE_SILENT_GRACE",
    default: "60s",
    doc: "One whose socket the hub ended for silence goes offline this long after its last contact: the\ndaemon may not know, and beats over HTTP only after its last answer has become old.",
};
const RUNTIME_TTL: Key = Key {
    name: "fleet.runtime_ttl",
    env: "HEARTWIRE_RUNTIME_TTL",
    default: "7d",
    doc: "An offline runtime that no agent is bound to is removed after this; what others left to do there\nis cancelled.",
};

/// What the silent grace needs beyond three beats.
const SILENT_MARGIN: Duration = Duration::from_secs(10);

/// The keys.
pub const KEYS: &[Key] =
    &[BEAT, FLUSH_AFTER, FLUSH_TICK, LEASE_TTL, STALE_AFTER, SWEEP_INTERVAL, PEER_GRACE, SILENT_GRACE, RUNTIME_TTL];

/// The limits.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Between two beats of a runtime.
    pub beat_interval: Duration,
    /// Age at which a row is due.
    pub flush_after: Duration,
    /// Between two bulk writes.
    pub flush_tick: Duration,
    /// Life of a lease.
    pub lease_ttl: Duration,
    /// Age at which a row is stale.
    pub stale_after: Duration,
    /// Between two sweeps.
    pub sweep_interval: Duration,
    /// After a socket's end was seen.
    pub peer_grace: Duration,
    /// After the last contact, when a socket was ended for silence.
    pub silent_grace: Duration,
    /// After which offline runtimes are removed.
    pub runtime_ttl: Duration,
}

impl Settings {
    /// Reads the room's part and checks the chain.
    pub fn read(values: &Values) -> Result<Self, Unusable> {
        let settings = Self {
            beat_interval: values.duration(&BEAT)?,
            flush_after: values.duration(&FLUSH_AFTER)?,
            flush_tick: values.duration(&FLUSH_TICK)?,
            lease_ttl: values.duration(&LEASE_TTL)?,
            stale_after: values.duration(&STALE_AFTER)?,
            sweep_interval: values.duration(&SWEEP_INTERVAL)?,
            peer_grace: values.duration(&PEER_GRACE)?,
            silent_grace: values.duration(&SILENT_GRACE)?,
            runtime_ttl: values.duration(&RUNTIME_TTL)?,
        };
        match settings.broken_links().into_iter().next() {
            Some(broken) => Err(Unusable(broken)),
            None => Ok(settings),
        }
    }

    /// The chain, each link as a sentence with its numbers, and whether it holds.
    pub fn chain(&self) -> Vec<(String, bool)> {
        let Self {
            beat_interval: beat,
            flush_after,
            flush_tick: tick,
            lease_ttl: lease,
            stale_after: stale,
            sweep_interval: sweep,
            peer_grace: peer,
            silent_grace: silent,
            ..
        } = self;
        let seconds = |span: &Duration| format!("{span:?}");
        let (beat_s, tick_s, stale_s) = (seconds(beat), seconds(tick), seconds(stale));
        vec![
            (
                format!(
                    "beat_interval ({beat_s}), flush_tick ({tick_s}) and sweep_interval ({}) above 0",
                    seconds(sweep)
                ),
                [beat, tick, sweep].iter().all(|span| !span.is_zero()),
            ),
            (
                format!(
                    "flush_after ({}) + beat_interval ({beat_s}) + 2 x flush_tick ({tick_s}) <= stale_after ({stale_s})",
                    seconds(flush_after)
                ),
                *flush_after + *beat + *tick * 2 <= *stale,
            ),
            (format!("lease_ttl ({}) < stale_after ({stale_s})", seconds(lease)), lease < stale),
            (format!("lease_ttl ({}) >= 2 x beat_interval ({beat_s})", seconds(lease)), *lease >= *beat * 2),
            (format!("peer_grace ({}) >= 2 x beat_interval ({beat_s})", seconds(peer)), *peer >= *beat * 2),
            (
                format!("silent_grace ({}) >= 3 x beat_interval ({beat_s}) + {SILENT_MARGIN:?}", seconds(silent)),
                *silent >= *beat * 3 + SILENT_MARGIN,
            ),
        ]
    }

    fn broken_links(&self) -> Vec<String> {
        let broken = self.chain().into_iter().filter(|(_, holds)| !holds);
        broken.map(|(link, _)| format!("the chain of fleet limits is broken: {link} does not hold")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Origin;

    fn with(key: &Key, value: &str) -> Result<Settings, Unusable> {
        let mut values = Values::default();
        values.put(key, value.into(), Origin::File);
        Settings::read(&values)
    }

    #[test]
    fn the_defaults_hold_and_each_broken_link_is_named_with_its_numbers() {
        assert!(Settings::read(&Values::default()).is_ok());
        for (key, value, says) in [
            (&FLUSH_TICK, "120s", "2 x flush_tick (120s) <= stale_after (150s)"),
            (&FLUSH_AFTER, "120s", "flush_after (120s) + beat_interval (15s)"),
            (&LEASE_TTL, "150s", "lease_ttl (150s) < stale_after (150s)"),
            (&LEASE_TTL, "20s", "lease_ttl (20s) >= 2 x beat_interval (15s)"),
            (&PEER_GRACE, "29s", "peer_grace (29s) >= 2 x beat_interval (15s)"),
            (&SILENT_GRACE, "54s", "silent_grace (54s) >= 3 x beat_interval (15s) + 10s"),
            (&BEAT, "0", "above 0"),
        ] {
            let error = with(key, value).expect_err(value);
            assert!(error.0.contains(says), "{value}: {error}");
        }
    }
}
