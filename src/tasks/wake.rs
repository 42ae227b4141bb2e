//! Who is woken when an agent has room again: the daemons where something of its waits. Without that
//! the next task would wait until its daemon asks by itself, half a minute later.

use std::sync::Arc;

use super::Queue;
use crate::{
    db::{Tx, on},
    error::Result,
    events::Control,
    ids::{AgentId, RuntimeId, TaskId},
};

impl Queue {
    /// Wakes the daemons that may be able to claim a task of an agent now, once the transaction is
    /// committed.
    pub async fn wake_next(self: &Arc<Self>, tx: &mut Tx, agent: AgentId) -> Result<()> {
        // An agent that moved may have work at several runtimes, and the best may still be blocked.
        let waiting: Vec<(RuntimeId, TaskId)> = on!(tx, |c| sqlx::query_as(
            "SELECT runtime_id, id FROM (
                 SELECT runtime_id, id,
                     ROW_NUMBER() OVER (PARTITION BY runtime_id ORDER BY priority DESC, created_at, id) AS place
                 FROM task WHERE agent_id = $1 AND status = 'queued' AND runtime_id IS NOT NULL
             ) q WHERE place = 1"
        )
        .bind(agent)
        .fetch_all(c))?;
        for (runtime, task) in waiting {
            let queue = self.clone();
            tx.after_commit(move || queue.nodes.tell(Control::TaskAvailable { runtime, task }));
        }
        Ok(())
    }
}
