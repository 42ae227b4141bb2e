//! What one node does for all, now and then: tasks that are overdue.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Queue;
use crate::{db::lease, error::Result};

const JOB: &str = "task sweep";

impl Queue {
    /// Sweeps until cancelled, while this node holds the job.
    pub async fn keep_sweeping(self: Arc<Self>, stop: CancellationToken) {
        let every = self.fleet.settings().sweep_interval;
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            match lease::hold(&self.db, JOB, self.fleet.node_name(), every * 3 / 2).await {
                Ok(true) => {
                    if let Err(error) = self.sweep().await {
                        tracing::warn!(%error, "sweeping tasks");
                    }
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "asking for the sweep of tasks"),
            }
        }
    }

    /// Sweeps once; returns how many tasks failed.
    pub async fn sweep(self: &Arc<Self>) -> Result<usize> {
        self.sweep_orphans().await
    }
}
