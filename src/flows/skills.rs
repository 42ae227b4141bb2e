//! Skills change and go, and the agents that have them are shown with other ones.

use crate::{
    db::Tx,
    error::Result,
    events::kinds,
    identity::Insider,
    ids::SkillId,
    protocol::skill::{PutSkill, Skill},
    workspace::{agents, skills},
};

/// Changes a skill.
pub async fn put(tx: &mut Tx, who: &Insider, skill: SkillId, change: &PutSkill) -> Result<Skill> {
    let before = skills::get(tx, who.workspace, skill).await?.summary;
    let after = skills::put(tx, who, skill, change).await?;
    // What agents' objects have of it.
    if (&before.name, &before.description) != (&after.summary.name, &after.summary.description) {
        let agents = agents::skills::holders(tx, skill).await?;
        tell(tx, who, agents).await?;
    }
    Ok(after)
}

/// Removes a skill.
pub async fn delete(tx: &mut Tx, who: &Insider, skill: SkillId) -> Result<()> {
    let agents = agents::skills::holders(tx, skill).await?;
    skills::delete(tx, who, skill).await?;
    tell(tx, who, agents).await
}

async fn tell(tx: &mut Tx, who: &Insider, agents: Vec<agents::Row>) -> Result<()> {
    for agent in agents {
        let skills = agents::skills::list(tx, agent.id).await?;
        tx.emit(kinds::agent_skills_changed(who.actor(), &agent.redacted(Vec::new()), &skills));
    }
    Ok(())
}
