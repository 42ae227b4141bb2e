//! Who is woken when an agent has room again: the daemons where something of its waits. Without that
//! the next task would wait until its daemon asks by itself, half a minute later.

use std::sync::Arc;

use super::{Queue, status::active};
use crate::{
    db::{
        Tx,
        sql::{Sql, Value},
    },
    error::Result,
    events::Control,
    ids::{AgentId, RuntimeId, TaskId},
};

impl Queue {
    /// Wakes the daemons that may be able to claim a task of an agent now, once the transaction is
    /// committed.
    pub async fn wake_next(self: &Arc<Self>, tx: &mut Tx, agent: AgentId) -> Result<()> {
        self.wake_next_of(tx, &[agent]).await
    }

    /// The same for several agents.
    pub(super) async fn wake_next_of(self: &Arc<Self>, tx: &mut Tx, agents: &[AgentId]) -> Result<()> {
        // An agent that moved may have work at several runtimes, and the best may still be blocked.
        let mut sql = Sql::new(concat!(
            "SELECT runtime_id, id FROM (
                 SELECT runtime_id, id,
                     ROW_NUMBER() OVER (PARTITION BY agent_id, runtime_id ORDER BY priority DESC, created_at, id) AS place
                 FROM task WHERE status = 'queued' AND runtime_id IS NOT NULL AND status IN ",
            // For the index.
            active!(),
            " AND agent_id ",
        ));
        sql.bind(Value::AnyOf(agents.iter().map(|id| id.0).collect())).push(") q WHERE place = 1");
        let waiting: Vec<(RuntimeId, TaskId)> = sql.fetch_all(tx).await?;
        for (runtime, task) in waiting {
            let queue = self.clone();
            tx.after_commit(move || queue.nodes.tell(Control::TaskAvailable { runtime, task }));
        }
        Ok(())
    }
}
