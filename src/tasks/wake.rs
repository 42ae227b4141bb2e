//! Who is woken when an agent has room again: the daemons where something of its waits. Without that
//! the next task would wait until its daemon asks by itself, half a minute later.

use std::sync::Arc;

use super::Queue;
use crate::{
    db::{
        Tx,
        sql::{Sql, Value},
    },
    error::Result,
    events::Control,
    ids::{AgentId, RuntimeId, TaskId},
};

/// The best of an agent's tasks at a runtime, of one of the two kinds that the indexes know.
macro_rules! best {
    ($kind:literal) => {
        concat!(
            "(SELECT q.id FROM task q
              WHERE q.runtime_id = p.runtime_id AND q.agent_id = p.agent_id AND q.status = 'queued' AND ",
            $kind,
            " ORDER BY q.priority DESC, q.created_at, q.id LIMIT 1)"
        )
    };
}

impl Queue {
    /// Wakes the daemons that may be able to claim a task of an agent now, once the transaction is
    /// committed.
    pub async fn wake_next(self: &Arc<Self>, tx: &mut Tx, agent: AgentId) -> Result<()> {
        self.wake_next_of(tx, &[agent]).await
    }

    /// The same for several agents.
    pub(super) async fn wake_next_of(self: &Arc<Self>, tx: &mut Tx, agents: &[AgentId]) -> Result<()> {
        let mut sql = Sql::new(
            // Where something of theirs waits, from one runtime to the next along the index: an agent that moved
            // may have work at several, and the best may still be blocked.
            "WITH RECURSIVE place (agent_id, runtime_id) AS (
                 SELECT a.id, (SELECT t.runtime_id FROM task t WHERE t.agent_id = a.id AND t.status = 'queued'
                                   AND t.runtime_id IS NOT NULL
                               ORDER BY t.runtime_id LIMIT 1)
                 FROM agent a WHERE a.id ",
        );
        sql.bind(Value::AnyOf(agents.iter().map(|id| id.0).collect()));
        sql.push(concat!(
            "    UNION ALL
                 SELECT p.agent_id, (SELECT t.runtime_id FROM task t WHERE t.agent_id = p.agent_id
                                         AND t.status = 'queued' AND t.runtime_id > p.runtime_id
                                     ORDER BY t.runtime_id LIMIT 1)
                 FROM place p WHERE p.runtime_id IS NOT NULL
             )
             SELECT n.runtime_id, (SELECT b.id FROM task b WHERE b.id IN (n.other, n.wish)
                                   ORDER BY b.priority DESC, b.created_at, b.id LIMIT 1)
             FROM (
                 SELECT p.runtime_id, ",
            best!("NOT q.is_wish"),
            " AS other, ",
            best!("q.is_wish"),
            " AS wish FROM place p WHERE p.runtime_id IS NOT NULL
             ) n",
        ));
        let waiting: Vec<(RuntimeId, TaskId)> = sql.fetch_all(tx).await?;
        for (runtime, task) in waiting {
            let queue = self.clone();
            tx.after_commit(move || queue.nodes.tell(Control::TaskAvailable { runtime, task }));
        }
        Ok(())
    }
}
