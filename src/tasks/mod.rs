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
mod cancel;
pub mod claim;
mod enqueue;
mod fail;
mod history;
mod lifecycle;
mod list;
mod metrics;
mod orphans;
mod resume;
mod retry;
mod row;
mod status;
mod sweep;
mod tokens;
mod wake;
mod workers;

use std::sync::Arc;

use crate::{db::Db, events::Nodes, fleet::Fleet};

pub use cancel::{Torn, Which, agents_of};
pub use enqueue::{Trigger, Wish, Work, priority_of, summary};
pub use fail::Failure;
pub use history::let_go;
pub use list::{
    active_of_issue, newest_of, newest_of_chat, of_agent, of_issue, pending_of_runtime, queued_of_chat, snapshot,
};
pub use metrics::Metrics;
pub use row::{Row, find, not_found};
pub use workers::{Worker, Workers, lock_agents, lock_workers};

/// What the queue's rules need of the rest.
pub struct Queue {
    db: Db,
    nodes: Arc<Nodes>,
    fleet: Arc<Fleet>,
    metrics: Metrics,
}

impl Queue {
    /// Joins the parts.
    pub fn new(db: Db, nodes: Arc<Nodes>, fleet: Arc<Fleet>, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { db, nodes, fleet, metrics })
    }
}
