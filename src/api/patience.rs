//! Daemons' calls wait instead of failing. A daemon says once that a task starts, and what it says of a
//! task while it runs is said once, too: a database that is away for a moment, or busy, must not end
//! the task or lose its words. What waits too long is told to come back, as everything else is at once.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::{Error, Result};

/// Beyond this a daemon has given up on a call that decides about its task: it waits for 30 s.
pub const LONG: Duration = Duration::from_secs(20);
/// The same of a call that a daemon waits for no longer than 5 s.
pub const SHORT: Duration = Duration::from_secs(4);
/// Between two tries: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Tries until something comes of it, at most so long. Each try is told whether one before it may have
/// been carried out without our knowing.
pub async fn patiently<T, A>(limit: Duration, mut attempt: impl FnMut(bool) -> A) -> Result<T>
where
    A: Future<Output = Result<T>>,
{
    let until = Instant::now() + limit;
    let (mut pause, mut doubtful) = (FIRST_PAUSE, false);
    loop {
        let error = match tokio::time::timeout_at(until, attempt(doubtful)).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error,
            // The database has not even said no; what was asked of it goes on without us.
            Err(_) => return Err(Error::Unavailable("the database does not answer in time".into())),
        };
        doubtful |= matches!(error, Error::OutcomeUnknown(_));
        let passes = error.is_transient() || error.wants_another_run() || matches!(error, Error::OutcomeUnknown(_));
        if !passes || Instant::now() + pause >= until {
            return Err(error);
        }
        tracing::debug!(%error, "a daemon's call is tried again");
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    fn away() -> Error {
        Error::Unavailable("away".into())
    }

    #[tokio::test]
    async fn what_passes_is_waited_for_and_a_refusal_is_not() {
        let mut tries = 0;
        let done = patiently(SHORT, |_| {
            tries += 1;
            ready(if tries < 3 { Err(away()) } else { Ok(tries) })
        });
        assert_eq!(done.await.expect("it passed"), 3);
        let mut tries = 0;
        let refused: Result<()> = patiently(SHORT, |_| {
            tries += 1;
            ready(Err(Error::invalid("no", "no")))
        })
        .await;
        assert!(refused.is_err());
        assert_eq!(tries, 1);
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_the_daemon_does() {
        let limit = FIRST_PAUSE / 2;
        let never: Result<()> = patiently(limit, |_| ready(Err(away()))).await;
        assert!(never.is_err());
        let silent: Result<()> = patiently(limit, |_| std::future::pending()).await;
        assert!(matches!(silent, Err(Error::Unavailable(_))));
    }

    #[tokio::test]
    async fn a_try_knows_of_one_before_it_that_nobody_knows_the_outcome_of() {
        let mut seen = Vec::new();
        let done = patiently(SHORT, |doubtful| {
            seen.push(doubtful);
            ready(match seen.len() {
                1 => Err(away()),
                2 => Err(Error::OutcomeUnknown("lost".into())),
                _ => Ok(()),
            })
        });
        assert!(done.await.is_ok());
        assert_eq!(seen, [false, false, true]);
    }
}
