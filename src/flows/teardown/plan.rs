//! What is to go, agreed upon; or why it cannot.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::site::Site;
use crate::{
    db::Tx,
    error::{Error, Result},
    ids::AgentId,
    protocol::agent::SlimAgent,
    workspace::{
        agents,
        squads::{self, ends},
    },
};

/// Bytes of an answer that every client reads.
const ANSWER: usize = 4096;

/// A site, all of which may go.
pub struct Plan {
    pub(super) site: Site,
    /// Squads that the agents led or are in, locked. Those that they led are archived.
    pub(super) squads: Vec<squads::Row>,
}

/// What went, beside the runtimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Razed {
    /// Agents that were not put aside before.
    pub agents_archived: usize,
    /// Tasks that had not ended.
    pub tasks_cancelled: usize,
}

impl Plan {
    /// Nobody is to lose an active agent; `what` is to go, in a word.
    pub async fn for_nobody(tx: &mut Tx, site: Site, what: &str) -> Result<Self> {
        let active = site.active();
        if !active.is_empty() {
            let text = format!(
                "cannot delete {what}: it has active agents bound to it. Archive or reassign the agents first."
            );
            return Err(with_agents("runtime_has_active_agents", text, &active));
        }
        Self::unless_they_lead(tx, site, what, "archived agents").await
    }

    /// Exactly these active agents are to go.
    pub async fn for_confirmed(tx: &mut Tx, site: Site, confirmed: &[AgentId]) -> Result<Self> {
        const TEXT: &str = "the active agent set changed; please review and confirm again.";
        let active = site.active();
        let now: BTreeSet<AgentId> = active.iter().map(|agent| agent.id).collect();
        if now != confirmed.iter().copied().collect() {
            return Err(with_agents("runtime_delete_plan_changed", TEXT.to_owned(), &active));
        }
        Self::unless_they_lead(tx, site, "runtime", "its agents").await
    }

    async fn unless_they_lead(tx: &mut Tx, site: Site, what: &str, they: &str) -> Result<Self> {
        if site.agents.is_empty() {
            return Ok(Self { site, squads: Vec::new() });
        }
        let agents = site.agent_ids();
        let squads = ends::lock_all_of(tx, site.workspace, &agents).await?;
        let led = squads.iter().filter(|squad| squad.archived_at.is_none() && agents.contains(&squad.leader_id));
        let mut led: Vec<&squads::Row> = led.collect();
        if led.is_empty() {
            return Ok(Self { site, squads });
        }
        led.sort_unstable_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        let led: Vec<Value> = led
            .iter()
            .map(|squad| json!({ "id": squad.id, "name": squad.name, "leader_id": squad.leader_id }))
            .collect();
        let text = format!(
            "cannot delete {what}: it has active squads led by {they}. \
             Archive those squads or assign them a new leader first."
        );
        Err(Error::conflict("runtime_has_active_squads", text).with("active_squads", &led))
    }
}

/// A refusal that names agents; in few words, if clients would not read it to its end otherwise.
fn with_agents(code: &'static str, text: String, active: &[&agents::Row]) -> Error {
    let whole: Vec<SlimAgent> = active
        .iter()
        .map(|agent| SlimAgent {
            id: agent.id,
            name: agent.name.clone(),
            status: agent.status.clone(),
            avatar_url: agent.avatar_url.clone(),
        })
        .collect();
    let refusal = || Error::conflict(code, text.clone());
    let answer = json!({ "error": text, "code": code, "active_agents": whole });
    if answer.to_string().len() <= ANSWER {
        return refusal().with("active_agents", &whole);
    }
    let few: Vec<Value> = active.iter().map(|agent| json!({ "id": agent.id, "name": agent.name })).collect();
    refusal().with("active_agents", &few)
}
