//! Simulated work: people who wish for it in every way there is and take some of it back, daemons that
//! claim and do it, and the comparison of what they said with what the hub says at the end.

mod cancels;
mod ledger;
mod people;
mod run;
mod running;
mod script;
mod tally;
mod verify;
mod work;

pub use people::People;
pub use tally::TaskFigures;
pub use verify::verify;
pub use work::Workers;

use std::time::Duration;

use tokio_util::task::TaskTracker;

use self::{cancels::Cancels, ledger::Ledger, tally::Tally};
use super::client::Hub;
use crate::error::Result;

/// What work is simulated.
pub struct Plan {
    /// Wishes a second.
    pub rate: f64,
    /// How it is done.
    pub habits: Habits,
    /// Where people call: this hub, or another node of it.
    pub at: Option<Hub>,
    /// Whether the hub is asked at the end what became of it.
    pub verify: bool,
}

/// How agents work, and how often people change their minds.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    /// How long a task takes, on average.
    pub work: Duration,
    /// What one task says.
    pub messages: usize,
    /// Messages of one call at most.
    pub batch: usize,
    /// The part of the tasks that people cancel, from 0 to 1.
    pub cancel: f64,
}

/// What those who wish for work and those who do it share.
pub struct Tasks {
    habits: Habits,
    /// The hub, as people call it.
    people: Hub,
    tally: Tally,
    ledger: Ledger,
    cancels: Cancels,
    /// People who are about to call something off.
    pub errands: TaskTracker,
}

impl Tasks {
    /// Nothing was wished for yet.
    pub fn new(habits: Habits, people: Hub) -> Result<Self> {
        let errands = TaskTracker::new();
        errands.close();
        Ok(Self { habits, people, tally: Tally::new()?, ledger: Ledger::default(), cancels: Cancels::new()?, errands })
    }

    /// The figures of so many seconds.
    pub fn figures(&self, seconds: f64) -> TaskFigures {
        self.tally.figures(seconds, self.cancels.figures())
    }
}
