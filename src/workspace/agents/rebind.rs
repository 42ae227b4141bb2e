//! Agents whose runtime goes on under another name: they follow it.

use std::collections::BTreeSet;

use super::{Row, skills};
use crate::{
    db::{Arm, Session, Tx, lists, on},
    error::Result,
    events::kinds,
    ids::{AgentId, RuntimeId},
    protocol::event::Actor,
};

/// The agents of a runtime: those that are bound to it, put aside or not, and those that have moved
/// elsewhere and left unfinished work there.
pub async fn concerned(db: &mut Session, runtime: RuntimeId) -> Result<Vec<AgentId>> {
    on!(db, |c| sqlx::query_scalar(
        "SELECT id FROM agent WHERE runtime_id = $1
         UNION
         SELECT agent_id FROM task WHERE runtime_id = $1
             AND status IN ('queued', 'dispatched', 'running', 'waiting_local_directory')"
    )
    .bind(runtime)
    .fetch_all(c))
}

/// Locks agents, by id: nothing of theirs begins or ends until the transaction does.
pub async fn lock(tx: &mut Tx, agents: &BTreeSet<AgentId>) -> Result<()> {
    if agents.is_empty() {
        return Ok(());
    }
    let locked: sqlx::Result<Vec<AgentId>> = match tx.arm() {
        Arm::Postgres(c) => {
            sqlx::query_scalar("SELECT id FROM agent WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE")
                .bind(agents.iter().copied().collect::<Vec<_>>())
                .fetch_all(c)
                .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_scalar("SELECT id FROM agent WHERE id IN (SELECT unhex(value) FROM json_each($1))")
                .bind(lists::ids(agents.iter().copied()))
                .fetch_all(c)
                .await
        }
    };
    tx.note(locked).map(drop)
}

/// Binds all agents of one runtime to another of the same provider, without a word; see [`announce`].
/// Both runtimes and the agents are locked.
pub async fn rebind(tx: &mut Tx, from: RuntimeId, to: RuntimeId, mode: &str) -> Result<Vec<Row>> {
    let now = tx.now();
    on!(tx, |c| sqlx::query_as(
        "UPDATE agent SET runtime_id = $2, runtime_mode = $3, updated_at = $4 WHERE runtime_id = $1 RETURNING *"
    )
    .bind(from)
    .bind(to)
    .bind(mode)
    .bind(now)
    .fetch_all(c))
}

/// Tells of agents that follow their runtime, each by itself, by id.
pub async fn announce(tx: &mut Tx, mut agents: Vec<Row>) -> Result<()> {
    if agents.is_empty() {
        return Ok(());
    }
    agents.sort_by_key(|agent| agent.id);
    let ids: Vec<AgentId> = agents.iter().map(|agent| agent.id).collect();
    let mut skills = skills::of_all(tx, &ids).await?;
    for agent in agents {
        let skills = skills.remove(&agent.id).unwrap_or_default();
        tx.emit(kinds::agent_changed(Actor::System, &agent.redacted(skills)));
    }
    Ok(())
}
