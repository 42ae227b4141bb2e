//! Who is given work, or loses some: agents with their runtimes, locked in the house's order before
//! anything that they work on.

use std::collections::BTreeMap;

use crate::{
    db::{Arm, Session, Tx, lists},
    error::{Error, Result},
    fleet::{self, Seat},
    ids::{AgentId, RuntimeId, WorkspaceId},
    workspace::agents,
};

/// An agent and the runtime that it is bound to.
#[derive(Debug, Clone)]
pub struct Worker {
    /// The agent.
    pub agent: agents::Row,
    /// Its runtime.
    pub seat: Seat,
}

impl Worker {
    /// Whether it can be given work at all.
    pub fn is_active(&self) -> bool {
        self.agent.archived_at.is_none()
    }

    /// Whether its runtime is there, too.
    pub fn is_ready(&self) -> bool {
        self.is_active() && self.seat.is_online()
    }
}

/// Workers that are locked until the transaction ends.
#[derive(Debug, Default)]
pub struct Workers(BTreeMap<AgentId, Worker>);

impl Workers {
    /// One of them. An agent that is not among them turned up after the locks were taken: then the
    /// transaction begins anew.
    pub fn get(&self, agent: AgentId) -> Result<&Worker> {
        self.0.get(&agent).ok_or(Error::PlanChanged)
    }

    /// Whether an agent is among them.
    pub fn has(&self, agent: AgentId) -> bool {
        self.0.contains_key(&agent)
    }
}

/// Locks a workspace's agents to give them work or end some, and before them their runtimes so that
/// none is removed. Agents that are not there are left out.
pub async fn lock_workers(
    tx: &mut Tx,
    workspace: WorkspaceId,
    agents: impl IntoIterator<Item = AgentId>,
) -> Result<Workers> {
    let mut ids: Vec<AgentId> = agents.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(Workers::default());
    }
    let mut runtimes = runtimes_of(tx, workspace, &ids).await?;
    runtimes.sort_unstable();
    runtimes.dedup();
    let seats = fleet::lock_seats(tx, workspace, &runtimes).await?;
    let mut workers = BTreeMap::new();
    for agent in lock_agents(tx, workspace, &ids).await? {
        // Bound to another one since they were looked up.
        let seat = seats.get(&agent.runtime_id).ok_or(Error::PlanChanged)?.clone();
        workers.insert(agent.id, Worker { agent, seat });
    }
    Ok(Workers(workers))
}

async fn runtimes_of(db: &mut Session, workspace: WorkspaceId, agents: &[AgentId]) -> Result<Vec<RuntimeId>> {
    let found = match db.arm() {
        Arm::Postgres(c) => {
            sqlx::query_scalar("SELECT runtime_id FROM agent WHERE id = ANY($1) AND workspace_id = $2")
                .bind(agents)
                .bind(workspace)
                .fetch_all(c)
                .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_scalar(
                "SELECT runtime_id FROM agent
                 WHERE id IN (SELECT unhex(value) FROM json_each($1)) AND workspace_id = $2",
            )
            .bind(lists::ids(agents.iter().copied()))
            .bind(workspace)
            .fetch_all(c)
            .await
        }
    };
    db.note(found)
}

/// Locks agents in the order of their ids: enough to end some of their work.
pub async fn lock_agents(tx: &mut Tx, workspace: WorkspaceId, agents: &[AgentId]) -> Result<Vec<agents::Row>> {
    let rows = match tx.arm() {
        Arm::Postgres(c) => {
            sqlx::query_as("SELECT * FROM agent WHERE id = ANY($1) AND workspace_id = $2 ORDER BY id FOR NO KEY UPDATE")
                .bind(agents)
                .bind(workspace)
                .fetch_all(c)
                .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_as(
                "SELECT * FROM agent WHERE id IN (SELECT unhex(value) FROM json_each($1)) AND workspace_id = $2
                 ORDER BY id",
            )
            .bind(lists::ids(agents.iter().copied()))
            .bind(workspace)
            .fetch_all(c)
            .await
        }
    };
    tx.note(rows)
}
