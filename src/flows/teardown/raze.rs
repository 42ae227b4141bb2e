//! Everything goes, each thing in one statement however many there are of it, and is told in the order
//! in which clients can follow: what was built on the agents, their work, they themselves, the runtimes.

use super::{
    Tools,
    plan::{Plan, Razed},
};
use crate::{
    db::Tx,
    error::Result,
    events::kinds,
    fleet,
    ids::{AgentId, UserId},
    protocol::event::Actor,
    tasks,
    workspace::{agents, autopilots, chats, squads},
};

impl Plan {
    /// Takes it apart in somebody's name.
    pub async fn carry_out(self, tx: &mut Tx, tools: &Tools, by: UserId) -> Result<Razed> {
        let Self { site, squads } = self;
        let (workspace, actor, ids) = (site.workspace, Actor::Member(by), site.agent_ids());
        if !ids.is_empty() {
            autopilots::ends::pause_all_of(tx, actor, workspace, &ids).await?;
            chats::ends::remove_all_with(tx, &ids).await?;
            squads::ends::lose(tx, actor, &squads, &ids).await?;
        }
        let tasks_cancelled = site.end_work(tx, &tools.queue, true).await?;
        let private: Vec<AgentId> =
            site.agents.iter().filter(|agent| agent.visibility == "private").map(|agent| agent.id).collect();
        tasks::let_go(tx, &site.runtime_ids(), &private).await?;
        let agents_archived = site.active().len();
        let agents_removed = site.agents.len();
        agents::ends::remove_all(tx, by, site.agents).await?;
        fleet::remove(tx, &site.runtimes).await?;
        for runtime in &site.runtimes {
            tx.emit(kinds::runtime_deleted(workspace, actor, runtime.id));
        }
        let (fleet, runtimes) = (tools.fleet.clone(), site.runtimes);
        tx.after_commit(move || {
            fleet.removed(&runtimes);
            let runtimes: Vec<_> = runtimes.iter().map(|runtime| runtime.id).collect();
            tracing::info!(
                %workspace, ?runtimes, %by, agents_archived, agents_removed, tasks_cancelled,
                squads = squads.len(),
                "runtimes removed"
            );
        });
        Ok(Razed { agents_archived, tasks_cancelled })
    }
}
