//! Points in time, as they are stored and as they are written on the wire.

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

/// Microseconds since the Unix epoch, UTC. The same integer on both databases, so rows compare,
/// sort and round-trip without a driver's idea of time zones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, sqlx::Type)]
#[sqlx(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The machine's own clock. Only [`crate::db::Clock`] may call this: stored times are the
    /// database's.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads it")]
    pub fn of_this_machine() -> Self {
        Self(jiff::Timestamp::now().as_microsecond())
    }

    /// The point `span` later.
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros(span)))
    }

    /// The point `span` earlier.
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(micros(span)))
    }

    /// RFC 3339 in UTC with the fraction: for cursors, which must find their row again.
    pub fn precise(self) -> String {
        self.broken_down().to_string()
    }

    /// Whole seconds since the epoch, the fraction cut off.
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Whole seconds since the epoch, a fraction counting as one.
    pub fn unix_seconds_rounded_up(self) -> i64 {
        self.0.saturating_add(999_999).div_euclid(1_000_000)
    }

    /// How long from `earlier` to here; nothing if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    fn broken_down(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC, whole seconds: `2026-11-21T01:45:26Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.broken_down().strftime("%Y-%m-%dT%H:%M:%SZ"))
    }
}

/// From RFC 3339 with any offset; fractions beyond microseconds are cut off.
impl std::str::FromStr for Timestamp {
    type Err = jiff::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<jiff::Timestamp>().map(|moment| Self(moment.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_finds_its_moment_again() {
        let moment = Timestamp(1_795_225_526_000_001);
        assert_eq!(moment.precise().parse::<Timestamp>().expect("a time"), moment);
        assert_eq!(
            "2026-11-21T02:45:26+01:00".parse::<Timestamp>().expect("a time").to_string(),
            "2026-11-21T01:45:26Z"
        );
    }

    #[test]
    fn the_wire_form_has_whole_seconds_and_a_z() {
        assert_eq!(Timestamp(1_795_225_526_999_999).to_string(), "2026-11-21T01:45:26Z");
    }
}
