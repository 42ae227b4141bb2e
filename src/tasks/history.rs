//! What is left of tasks when runtimes and agents go: they stay, and can be read as before.

use crate::{
    db::{Arm, Tx, lists},
    error::Result,
    ids::{AgentId, RuntimeId},
};

/// Takes tasks off runtimes that are about to go, and lets those of private agents that are about to
/// go stay as private as the agents were.
pub async fn let_go(tx: &mut Tx, runtimes: &[RuntimeId], private: &[AgentId]) -> Result<()> {
    // In the order of their ids, since others are at it for other runtimes.
    let done = match tx.arm() {
        Arm::Postgres(c) => sqlx::query(
            "WITH held AS (
                 SELECT id FROM task WHERE runtime_id = ANY($1) OR agent_id = ANY($2) ORDER BY id FOR NO KEY UPDATE
             )
             UPDATE task t
             SET runtime_id = CASE WHEN t.runtime_id = ANY($1) THEN NULL ELSE t.runtime_id END,
                 private_to = COALESCE((SELECT a.owner_id FROM agent a WHERE a.id = t.agent_id AND a.id = ANY($2)),
                                       t.private_to)
             FROM held WHERE t.id = held.id",
        )
        .bind(runtimes)
        .bind(private)
        .execute(c)
        .await
        .map(drop),
        Arm::Sqlite(c) => sqlx::query(
            "UPDATE task
             SET runtime_id = CASE WHEN runtime_id IN (SELECT unhex(value) FROM json_each($1)) THEN NULL
                              ELSE runtime_id END,
                 private_to = COALESCE((SELECT a.owner_id FROM agent a WHERE a.id = task.agent_id
                                            AND a.id IN (SELECT unhex(value) FROM json_each($2))), private_to)
             WHERE id IN (SELECT id FROM task WHERE runtime_id IN (SELECT unhex(value) FROM json_each($1))
                          UNION ALL
                          SELECT id FROM task WHERE agent_id IN (SELECT unhex(value) FROM json_each($2)))",
        )
        .bind(lists::ids(runtimes.iter().copied()))
        .bind(lists::ids(private.iter().copied()))
        .execute(c)
        .await
        .map(drop),
    };
    tx.note(done)
}
