//! The work of agents: the queue, the claim, and a task's life from there on.
//!
//! ```text
//! wish ──▶ enqueue ──▶ task:queued, wake-up ──▶ claim ──▶ start ──▶ complete, fail
//!                                                 └──▶ cancel, at any time ──▶ the next one is woken
//! ```
//!
//! Every transition locks the task's agent before the task: an agent's capacity, and what it may run
//! beside what, are decided under that lock alone.

mod agent_status;
pub mod claim;
mod ends;
mod enqueue;
mod history;
mod lifecycle;
mod list;
pub mod messages;
mod metrics;
mod orphans;
mod overdue;
mod reasons;
mod reconcile;
mod redact;
mod resume;
mod retry;
mod row;
pub mod status;
mod sweep;
mod tokens;
mod usage;
mod voice;
mod wake;
mod workers;

use std::sync::Arc;

use crate::{
    db::Db,
    events::{Lanes, Nodes},
    fleet::Fleet,
};

pub use ends::{Completion, Failure, Torn, Which, Withdrawn, agents_of, fail_reported, finish_cancelled};
pub use enqueue::{Trigger, Wish, Work, priority_of, summary};
pub use history::let_go;
pub use list::{
    active_of_issue, has_woken, last_begun, newest_of, newest_of_chat, of_agent, of_issue, pending_of_runtime,
    queued_of_chat, snapshot,
};
pub use metrics::Metrics;
pub use row::{Row, find, not_found};
pub use voice::{Voice, voice_in};
pub use workers::{Worker, Workers, lock_agents, lock_workers};

/// What the queue's rules need of the rest.
pub struct Queue {
    db: Db,
    nodes: Arc<Nodes>,
    lanes: Arc<Lanes>,
    fleet: Arc<Fleet>,
    metrics: Metrics,
}

impl Queue {
    /// Joins the parts.
    pub fn new(db: Db, nodes: Arc<Nodes>, lanes: Arc<Lanes>, fleet: Arc<Fleet>, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { db, nodes, lanes, fleet, metrics })
    }
}
