//! What binds an agent to a runtime: whose runtime it may be, under the runtime's lock, so that an
//! agent never lands on one that is being taken apart.

use std::sync::Arc;

use crate::{
    db::Tx,
    error::{Error, Result},
    fleet,
    identity::{Insider, members},
    ids::{AgentId, RuntimeId},
    protocol::agent::{Agent, CreateAgent, PutAgent},
    tasks::{Queue, Which},
    workspace::agents::{self, Binding},
};

/// A new agent.
pub async fn create(tx: &mut Tx, who: &Insider, wish: &CreateAgent) -> Result<Agent> {
    if wish.name.trim().is_empty() {
        return Err(Error::invalid("field_required", "name is required"));
    }
    if wish.runtime_id.is_empty() {
        return Err(Error::invalid("field_required", "runtime_id is required"));
    }
    let binding = bind(tx, who, &wish.runtime_id).await?;
    agents::create(tx, who, &binding, wish).await
}

/// Changes an agent, and perhaps its runtime. What it has to do stays where it was queued.
pub async fn put(tx: &mut Tx, queue: &Arc<Queue>, who: &Insider, agent: AgentId, change: PutAgent) -> Result<Agent> {
    // Runtimes are locked before agents.
    let binding = match change.runtime_id.as_deref().filter(|text| !text.is_empty()) {
        Some(wished) => {
            let current = agents::open(tx, who, agent).await?;
            if current.runtime_id.to_string() == wished { None } else { Some(bind(tx, who, wished).await?) }
        }
        None => None,
    };
    let row = agents::lock(tx, who, agent).await?;
    let provider = fleet::provider(tx, row.runtime_id).await?;
    let room = row.max_concurrent_tasks;
    let new = agents::put(tx, who, row, binding.as_ref(), &provider, change).await?;
    if new.max_concurrent_tasks > room {
        queue.wake_next(tx, agent).await?;
    }
    Ok(new)
}

/// Puts an agent aside and ends all of its work.
pub async fn archive(tx: &mut Tx, queue: &Arc<Queue>, who: &Insider, agent: AgentId) -> Result<Agent> {
    let mut row = agents::lock(tx, who, agent).await?;
    if !queue.cancel(tx, who.workspace, Which::Agent(agent), |id| id == agent).await?.is_empty() {
        // It works no longer.
        row = agents::find(tx, who.workspace, agent).await?.ok_or_else(agents::not_found)?;
    }
    agents::archive(tx, who, row).await
}

/// Ends all of an agent's work; how much it was.
pub async fn cancel_tasks(tx: &mut Tx, queue: &Arc<Queue>, who: &Insider, agent: AgentId) -> Result<usize> {
    agents::lock(tx, who, agent).await?;
    let ended = queue.cancel(tx, who.workspace, Which::Agent(agent), |id| id == agent).await?;
    Ok(ended.len())
}

/// Takes an agent up again, on a runtime that is there to stay.
pub async fn restore(tx: &mut Tx, who: &Insider, agent: AgentId) -> Result<Agent> {
    let current = agents::open(tx, who, agent).await?;
    fleet::lock_to_bind(tx, who.workspace, current.runtime_id).await?;
    require_still_member(tx, who).await?;
    let row = agents::lock(tx, who, agent).await?;
    if row.runtime_id != current.runtime_id {
        return Err(Error::PlanChanged);
    }
    agents::restore(tx, who, row).await
}

/// The runtime that the caller may bind agents to: their own, a public one, or any for owners and
/// admins.
async fn bind(tx: &mut Tx, who: &Insider, wished: &str) -> Result<Binding> {
    let invalid = || Error::invalid("invalid_reference", "invalid runtime_id");
    let runtime: RuntimeId = wished.parse().map_err(|_| invalid())?;
    let target = fleet::lock_to_bind(tx, who.workspace, runtime).await?.ok_or_else(invalid)?;
    require_still_member(tx, who).await?;
    if !target.is_public && !who.rules() && target.owner_id != Some(who.user) {
        let text = "this runtime is private: only its owner or a workspace admin can create agents on it";
        return Err(Error::forbidden("runtime_private", text));
    }
    Ok(Binding { runtime, mode: target.runtime_mode, provider: target.provider })
}

/// Whoever loses their membership loses what is bound to their runtimes, under the runtimes' locks: who
/// had to wait for one may be them.
async fn require_still_member(tx: &mut Tx, who: &Insider) -> Result<()> {
    members::require(tx, who.workspace, who.user).await.map(drop)
}
