//! Simulated work: people who wish for it in every way there is, and daemons that claim and do it.

mod people;
mod tally;
mod work;

pub use people::People;
pub use tally::{Tally, TaskFigures};
pub use work::Workers;

use std::time::Duration;

use super::client::Hub;

/// What work is simulated.
pub struct Plan {
    /// Wishes a second.
    pub rate: f64,
    /// How long a task takes, on average.
    pub work: Duration,
    /// Where people make their wishes: this hub, or another node of it.
    pub at: Option<Hub>,
}
