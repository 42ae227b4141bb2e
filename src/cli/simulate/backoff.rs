//! How long to wait before the next attempt. Daemons and browsers wait differently, because the
//! programs that they stand for do.

use std::time::Duration;

const DAEMON_FIRST: Duration = Duration::from_secs(1);
const BROWSER_FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// A doubling wait.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    next: Duration,
    /// The part of a wait that chance decides, from zero to one, around or below the nominal wait.
    jitter: Jitter,
}

#[derive(Debug)]
enum Jitter {
    /// A fifth more or less.
    Fifth,
    /// Anything up to the whole.
    Full,
}

impl Backoff {
    /// The June daemon's: 1 s doubling to 30 s, a fifth more or less. A connection that held for
    /// long does not reset it; only a changed set of runtimes does.
    pub fn of_a_daemon() -> Self {
        Self { first: DAEMON_FIRST, next: DAEMON_FIRST, jitter: Jitter::Fifth }
    }

    /// A browser's: full jitter, so that a crowd that was cut off together comes back apart.
    pub fn of_a_browser() -> Self {
        Self { first: BROWSER_FIRST, next: BROWSER_FIRST, jitter: Jitter::Full }
    }

    /// The next wait; the one after it is longer.
    pub fn wait(&mut self) -> Duration {
        let nominal = self.next;
        self.next = (nominal * 2).min(LONGEST);
        match self.jitter {
            Jitter::Fifth => nominal.mul_f64(rand::random_range(0.8..1.2)),
            Jitter::Full => nominal.mul_f64(rand::random_range(0.0..1.0)),
        }
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_waits_a_second_doubling_to_thirty_and_a_fifth_more_or_less() {
        let mut backoff = Backoff::of_a_daemon();
        for nominal in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let wait = backoff.wait().as_secs_f64();
            assert!((nominal * 0.8..nominal * 1.2).contains(&wait), "{wait} for {nominal}");
        }
        backoff.reset();
        assert!(backoff.wait() < Duration::from_millis(1200));
    }

    #[test]
    fn a_browser_never_waits_longer_than_its_nominal_wait() {
        let mut backoff = Backoff::of_a_browser();
        for _ in 0..20 {
            assert!(backoff.wait() <= LONGEST);
        }
    }
}
