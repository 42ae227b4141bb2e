//! How far a conversation has come, for whoever waits for it and may stop waiting.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Error, Result};

/// Nothing it did is there yet.
const OPEN: u8 = 0;
/// COMMIT may have been sent.
const COMMITTING: u8 = 1;
/// Nobody waits any more, and was told that nothing was changed.
const CALLED_OFF: u8 = 2;

/// A conversation's course.
#[derive(Default)]
pub(super) struct Course(AtomicU8);

impl Course {
    /// Before each run of a body. An error if nobody waits for it any more.
    pub(super) fn begin(&self) -> Result<()> {
        // An earlier run ended with a definite no.
        let _ = self.0.compare_exchange(COMMITTING, OPEN, Ordering::SeqCst, Ordering::SeqCst);
        if self.0.load(Ordering::SeqCst) == CALLED_OFF { Err(called_off()) } else { Ok(()) }
    }

    /// Before COMMIT is sent. An error if it must not be.
    pub(super) fn commit(&self) -> Result<()> {
        let begun = self.0.compare_exchange(OPEN, COMMITTING, Ordering::SeqCst, Ordering::SeqCst);
        begun.map(drop).map_err(|_| called_off())
    }

    /// Nobody waits any more: what they are told.
    pub(super) fn call_off(&self) -> Error {
        match self.0.compare_exchange(OPEN, CALLED_OFF, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) | Err(CALLED_OFF) => called_off(),
            Err(_) => Error::OutcomeUnknown("the database did not answer COMMIT in time".into()),
        }
    }
}

fn called_off() -> Error {
    Error::Unavailable("the database does not answer in time".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_called_off_is_not_committed_and_what_may_be_committed_is_not_called_off() {
        let course = Course::default();
        assert!(course.begin().is_ok());
        assert!(matches!(course.call_off(), Error::Unavailable(_)));
        assert!(course.commit().is_err());
        assert!(course.begin().is_err());

        let course = Course::default();
        assert!(course.begin().is_ok() && course.commit().is_ok());
        assert!(matches!(course.call_off(), Error::OutcomeUnknown(_)));

        let course = Course::default();
        assert!(course.begin().is_ok() && course.commit().is_ok());
        // A deadlock: the next run can be called off again.
        assert!(course.begin().is_ok());
        assert!(matches!(course.call_off(), Error::Unavailable(_)));
        assert!(course.commit().is_err());
    }
}
