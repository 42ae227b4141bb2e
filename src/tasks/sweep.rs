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

    /// Sweeps once; returns how many tasks failed. What goes wrong in one part keeps no other from being
    /// done.
    pub async fn sweep(self: &Arc<Self>) -> Result<usize> {
        let parts = [self.sweep_orphans().await, self.sweep_forsaken().await, self.sweep_overdue().await];
        let mut count = 0;
        let mut trouble = Ok(());
        for part in parts {
            match part {
                Ok(failed) => count += failed,
                Err(error) => trouble = Err(error),
            }
        }
        trouble.map(|()| count)
    }
}
