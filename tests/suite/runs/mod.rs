//! Runs: what daemons report of tasks, how tasks end, and who hears of it.

mod cancel;
mod complete;
mod daemon_calls;
mod fail;
mod ground;
mod listening;
mod messages;
mod questions;
mod redis_away;
mod runs_of_issues;
mod sweeps;
mod transitions;
