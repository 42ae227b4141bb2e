//! Which agents have something that they may do now, and what.
//!
//! An agent runs as many tasks at once as its limit allows, and of one issue, one chat, or its wishes
//! only one; the key of those is in the task's row.

use super::super::{
    Row,
    status::{Operation, active, in_flight},
};
use crate::{
    db::{Session, Tx, on},
    error::Result,
    fleet::Seat,
    ids::{AgentId, RuntimeId, WorkspaceId},
    time::Timestamp,
    workspace::agents,
};

/// Agents that are tried after one look at most.
pub(super) const MOST: usize = 16;

/// An agent that probably has something, and the runtime's workspace: that a task is of the same is
/// looked at when it is given.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub(super) struct Candidate {
    pub agent_id: AgentId,
    pub workspace_id: WorkspaceId,
}

/// A task that is a daemon's from here on.
pub(super) struct Taken {
    pub row: Row,
    /// Whether it was given before.
    pub again: bool,
}

/// The best task at a runtime, `$1`, that an agent may do now and that is no wish. Few can be in its way: of
/// an issue or a chat little waits.
macro_rules! next {
    ($agent:literal) => {
        concat!(
            "(SELECT q.id FROM task q
              WHERE q.runtime_id = $1 AND q.agent_id = ",
            $agent,
            " AND q.status = 'queued' AND NOT q.is_wish
                AND NOT EXISTS (SELECT 1 FROM task f
                                WHERE f.agent_id = q.agent_id AND f.serial_key = q.serial_key AND f.status IN ",
            in_flight!(),
            ") ORDER BY q.priority DESC, q.created_at, q.id LIMIT 1)"
        )
    };
}

/// The same of its wishes: none of them while one is in flight, however many there are.
macro_rules! next_wish {
    ($agent:literal) => {
        concat!(
            "CASE WHEN EXISTS (SELECT 1 FROM task f WHERE f.agent_id = ",
            $agent,
            " AND f.serial_key = ",
            $agent,
            " AND f.status IN ",
            in_flight!(),
            ") THEN NULL
             ELSE (SELECT q.id FROM task q
                   WHERE q.runtime_id = $1 AND q.agent_id = ",
            $agent,
            " AND q.status = 'queued' AND q.is_wish
                   ORDER BY q.priority DESC, q.created_at, q.id LIMIT 1) END"
        )
    };
}

/// The agents, best first: what was given and never started before all else, then by each one's best
/// task. One statement, also when there is nothing.
pub(super) async fn find(db: &mut Session, runtime: RuntimeId, undelivered: Timestamp) -> Result<Vec<Candidate>> {
    on!(db, |c| {
        sqlx::query_as(concat!(
            // Who has something waiting, from one agent to the next along the index: what that costs does not grow
            // with what is waiting.
            "WITH RECURSIVE waiting (agent_id) AS (
             SELECT (SELECT agent_id FROM task WHERE runtime_id = $1 AND status = 'queued' ORDER BY agent_id LIMIT 1)
             UNION ALL
             SELECT (SELECT t.agent_id FROM task t
                     WHERE t.runtime_id = $1 AND t.status = 'queued' AND t.agent_id > w.agent_id
                     ORDER BY t.agent_id LIMIT 1)
             FROM waiting w WHERE w.agent_id IS NOT NULL
         )
         SELECT turns.agent_id, r.workspace_id FROM (
             SELECT t.agent_id, 0 AS turn, MAX(t.priority) AS priority, MIN(t.dispatched_at) AS since
             FROM task t JOIN agent a ON a.id = t.agent_id
             WHERE t.runtime_id = $1 AND t.status = 'dispatched' AND t.dispatched_at < $2 AND t.status IN ",
            // For the index.
            active!(),
            "
             GROUP BY t.agent_id
             UNION ALL
             SELECT best.agent_id, 1, best.priority, best.created_at
             FROM (SELECT two.agent_id,
                       (SELECT b.id FROM task b WHERE b.id IN (two.other, two.wish)
                        ORDER BY b.priority DESC, b.created_at, b.id LIMIT 1) AS task_id
                   FROM (SELECT a.id AS agent_id, ",
            next!("a.id"),
            " AS other, ",
            next_wish!("a.id"),
            " AS wish
                   FROM waiting w JOIN agent a ON a.id = w.agent_id
                   WHERE a.archived_at IS NULL
                     AND (SELECT COUNT(*) FROM task f WHERE f.agent_id = a.id AND f.status IN ",
            in_flight!(),
            ") < a.max_concurrent_tasks) two) open
             JOIN task best ON best.id = open.task_id
         ) turns JOIN agent_runtime r ON r.id = $1 ORDER BY turn, priority DESC, since, turns.agent_id LIMIT $3"
        ))
        .bind(runtime)
        .bind(undelivered)
        .bind(MOST as i64)
        .fetch_all(c)
    })
}

/// Takes the best that an agent, which is locked, may do now at a runtime. From here on the task is
/// that of the runtime's owner and daemon as they are today.
pub(super) async fn take(
    tx: &mut Tx,
    seat: &Seat,
    agent: &agents::Row,
    undelivered: Timestamp,
) -> Result<Option<Taken>> {
    let now = tx.now();
    let again: Option<Row> = on!(tx, |c| sqlx::query_as(concat!(
        "UPDATE task SET status = $5, dispatched_at = $4, origin_runtime_id = $1, owner_id = $6, daemon_id = $7
         WHERE id = (SELECT id FROM task
                     WHERE runtime_id = $1 AND agent_id = $2 AND status = 'dispatched' AND dispatched_at < $3
                       AND status IN ",
        active!(),
        "
                     ORDER BY priority DESC, dispatched_at, id LIMIT 1)
         RETURNING *"
    ))
    .bind(seat.id)
    .bind(agent.id)
    .bind(undelivered)
    .bind(now)
    .bind(Operation::Redeliver.to().word())
    .bind(seat.owner_id)
    .bind(&seat.daemon_id)
    .fetch_optional(c))?;
    if let Some(row) = again {
        return Ok(Some(Taken { row, again: true }));
    }
    if agent.archived_at.is_some() {
        return Ok(None);
    }
    let row: Option<Row> = on!(tx, |c| sqlx::query_as(concat!(
        "UPDATE task SET status = $5, dispatched_at = $4, origin_runtime_id = $1, owner_id = $6, daemon_id = $7
         WHERE id = (SELECT b.id FROM task b WHERE b.id IN (",
        next!("$2"),
        ", ",
        next_wish!("$2"),
        ")
                       AND (SELECT COUNT(*) FROM task f WHERE f.agent_id = $2 AND f.status IN ",
        in_flight!(),
        ") < $3
                     ORDER BY b.priority DESC, b.created_at, b.id LIMIT 1)
         RETURNING *"
    ))
    .bind(seat.id)
    .bind(agent.id)
    .bind(i64::from(agent.max_concurrent_tasks))
    .bind(now)
    .bind(Operation::Claim.to().word())
    .bind(seat.owner_id)
    .bind(&seat.daemon_id)
    .fetch_optional(c))?;
    Ok(row.map(|row| Taken { row, again: false }))
}
