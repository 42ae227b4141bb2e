//! Locked runtimes, and everybody who has to do with them.

use std::collections::BTreeSet;

use crate::{
    db::Tx,
    error::{Error, Result},
    fleet::Condemned,
    ids::{AgentId, RuntimeId, UserId, WorkspaceId},
    tasks::{self, Queue, Torn, Which},
    workspace::agents,
};

/// Runtimes of one workspace that are about to lose their agents and their work, or to go; with those
/// agents, and the agents that have moved elsewhere and left work here. All of them are locked.
pub struct Site {
    /// Where.
    pub workspace: WorkspaceId,
    /// The runtimes.
    pub runtimes: Vec<Condemned>,
    /// The agents that are bound to them, put aside or not, in the order of their ids.
    pub agents: Vec<agents::Row>,
    locked: BTreeSet<AgentId>,
}

impl Site {
    /// Locks whoever has to do with some locked runtimes, one at least, all of one workspace.
    pub async fn survey(tx: &mut Tx, runtimes: Vec<Condemned>) -> Result<Self> {
        let workspace = runtimes.first().ok_or_else(|| Error::internal("nothing to take apart"))?.workspace_id;
        let ids: Vec<RuntimeId> = runtimes.iter().map(|runtime| runtime.id).collect();
        // Nobody can come any more, so whoever is found now is everybody.
        let bound = agents::ends::bound_to(tx, &ids).await?;
        let all_here = Which::Torn(Torn { runtimes: &ids, agents: &[], agents_go: false });
        let left_work = tasks::agents_of(tx, workspace, all_here).await?;
        let locked: BTreeSet<AgentId> = bound.into_iter().chain(left_work).collect();
        let planned: Vec<AgentId> = locked.iter().copied().collect();
        let mut agents = agents::ends::lock_all(tx, &planned).await?;
        // Some may have moved elsewhere until they were locked.
        agents.retain(|agent| ids.contains(&agent.runtime_id));
        Ok(Self { workspace, runtimes, agents, locked })
    }

    /// The runtimes' ids.
    pub fn runtime_ids(&self) -> Vec<RuntimeId> {
        self.runtimes.iter().map(|runtime| runtime.id).collect()
    }

    /// The agents' ids, in their order.
    pub fn agent_ids(&self) -> Vec<AgentId> {
        self.agents.iter().map(|agent| agent.id).collect()
    }

    /// The agents that are not put aside, by name.
    pub fn active(&self) -> Vec<&agents::Row> {
        let mut active: Vec<&agents::Row> = self.agents.iter().filter(|agent| agent.archived_at.is_none()).collect();
        active.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        active
    }

    /// Ends all work on the runtimes and of their agents; how much it was. `agents_go` if they will not
    /// be there afterwards.
    pub async fn end_work(&self, tx: &mut Tx, queue: &std::sync::Arc<Queue>, agents_go: bool) -> Result<usize> {
        let (runtimes, agents) = (self.runtime_ids(), self.agent_ids());
        let which = Which::Torn(Torn { runtimes: &runtimes, agents: &agents, agents_go });
        let ended = queue.cancel(tx, self.workspace, which, |agent| self.locked.contains(&agent)).await?;
        Ok(ended.len())
    }

    /// Puts the active agents aside in somebody's name; how many there were.
    pub async fn archive(&self, tx: &mut Tx, by: UserId) -> Result<usize> {
        agents::ends::archive_all(tx, by, &self.agent_ids()).await
    }
}
