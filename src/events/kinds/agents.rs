//! Agents. Whoever may not see a private one gets its id.

use serde::Serialize;
use serde_json::{Value, json};

use crate::protocol::{
    agent::Agent,
    event::{Actor, Audience, Event},
    skill::SkillSummary,
};

/// There is a new agent.
pub fn agent_created(actor: Actor, agent: &Agent) -> Event {
    about("agent:created", actor, agent, json!({ "agent": agent }))
}

/// An agent's own fields changed.
pub fn agent_changed(actor: Actor, agent: &Agent) -> Event {
    about("agent:status", actor, agent, json!({ "agent": agent }))
}

/// An agent has other skills.
pub fn agent_skills_changed(actor: Actor, agent: &Agent, skills: &[SkillSummary]) -> Event {
    about("agent:status", actor, agent, json!({ "agent_id": agent.id, "skills": skills }))
}

/// An agent was put aside.
pub fn agent_archived(actor: Actor, agent: &Agent) -> Event {
    about("agent:archived", actor, agent, json!({ "agent": agent }))
}

/// An agent was taken up again.
pub fn agent_restored(actor: Actor, agent: &Agent) -> Event {
    about("agent:restored", actor, agent, json!({ "agent": agent }))
}

fn about(kind: &'static str, actor: Actor, agent: &Agent, payload: Value) -> Event {
    #[derive(Serialize)]
    struct Reduced {
        agent_id: crate::ids::AgentId,
    }
    let event = Event::new(agent.workspace_id, kind, actor, &payload);
    if agent.visibility != "private" {
        return event;
    }
    event.in_full_for(Audience::OwnerAndAdmins(agent.owner_id), &Reduced { agent_id: agent.id })
}
