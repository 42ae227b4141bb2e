//! Which skills an agent has.

use std::collections::HashMap;

use super::lock;
use crate::{
    db::{
        Arm, Session, Tx, exec, lists, on,
        sql::{Sql, Value},
    },
    error::{Error, Result},
    events::kinds,
    identity::Insider,
    ids::{AgentId, SkillId, WorkspaceId},
    protocol::{agent::AgentSkill, skill::SkillSummary},
    workspace::skills,
};

/// Skills of one agent at most.
const MOST: usize = 200;

#[derive(sqlx::FromRow)]
struct Row {
    agent_id: AgentId,
    id: SkillId,
    name: String,
    description: String,
}

/// The skills of all agents of a workspace.
pub(super) async fn of_workspace(
    db: &mut Session,
    workspace: WorkspaceId,
) -> Result<HashMap<AgentId, Vec<AgentSkill>>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(
        "SELECT b.agent_id, s.id, s.name, s.description
         FROM skill s JOIN agent_skill b ON b.skill_id = s.id
         WHERE s.workspace_id = $1 ORDER BY s.name"
    )
    .bind(workspace)
    .fetch_all(c))?;
    Ok(by_agent(rows))
}

/// The skills of some agents.
pub(super) async fn of_all(db: &mut Session, agents: &[AgentId]) -> Result<HashMap<AgentId, Vec<AgentSkill>>> {
    let mut sql = Sql::new(
        "SELECT b.agent_id, s.id, s.name, s.description
         FROM agent_skill b JOIN skill s ON s.id = b.skill_id WHERE b.agent_id ",
    );
    sql.bind(Value::AnyOf(agents.iter().map(|id| id.0).collect())).push(" ORDER BY s.name");
    Ok(by_agent(sql.fetch_all(db).await?))
}

fn by_agent(rows: Vec<Row>) -> HashMap<AgentId, Vec<AgentSkill>> {
    let mut skills: HashMap<AgentId, Vec<AgentSkill>> = HashMap::new();
    for Row { agent_id, id, name, description } in rows {
        skills.entry(agent_id).or_default().push(AgentSkill { id, name, description });
    }
    skills
}

/// One agent's skills, by name, as the agent's object has them.
pub async fn of(db: &mut Session, agent: AgentId) -> Result<Vec<AgentSkill>> {
    let skills = list(db, agent).await?;
    Ok(skills
        .into_iter()
        .map(|skill| AgentSkill { id: skill.id, name: skill.name, description: skill.description })
        .collect())
}

/// One agent's skills, by name.
pub async fn list(db: &mut Session, agent: AgentId) -> Result<Vec<SkillSummary>> {
    skills::of_agent(db, agent).await
}

/// The agents that have a skill, oldest first.
pub async fn holders(db: &mut Session, skill: SkillId) -> Result<Vec<super::Row>> {
    on!(db, |c| sqlx::query_as(
        "SELECT a.* FROM agent a JOIN agent_skill b ON b.agent_id = a.id WHERE b.skill_id = $1
         ORDER BY a.created_at, a.id"
    )
    .bind(skill)
    .fetch_all(c))
}

/// Gives an agent these skills, and no others if `replace` is set.
pub async fn set(
    tx: &mut Tx,
    who: &Insider,
    agent: AgentId,
    wished: &[String],
    replace: bool,
) -> Result<Vec<SkillSummary>> {
    lock(tx, who, agent).await?;
    if wished.len() > MOST {
        return Err(Error::invalid("too_many_skills", "an agent has at most 200 skills"));
    }
    let mut ids: Vec<SkillId> = Vec::with_capacity(wished.len());
    for text in wished {
        let id = text.parse().map_err(|_| Error::invalid("invalid_reference", "invalid skill_ids"))?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    skills::require_all(tx, who.workspace, &ids).await?;
    let before = list(tx, agent).await?;
    if replace {
        exec!(tx, |c| sqlx::query("DELETE FROM agent_skill WHERE agent_id = $1").bind(agent))?;
    }
    insert(tx, agent, &ids).await?;
    let after = list(tx, agent).await?;
    if after != before {
        let row = super::find(tx, who.workspace, agent).await?.ok_or_else(super::not_found)?;
        tx.emit(kinds::agent_skills_changed(who.actor(), &row.redacted(Vec::new()), &after));
    }
    Ok(after)
}

async fn insert(tx: &mut Tx, agent: AgentId, ids: &[SkillId]) -> Result<()> {
    let now = tx.now();
    let inserted = match tx.arm() {
        Arm::Postgres(c) => sqlx::query(
            "INSERT INTO agent_skill (agent_id, skill_id, created_at) SELECT $1, id, $3 FROM UNNEST($2::uuid[]) AS id
             ON CONFLICT DO NOTHING",
        )
        .bind(agent)
        .bind(ids)
        .bind(now)
        .execute(c)
        .await
        .map(drop),
        Arm::Sqlite(c) => sqlx::query(
            "INSERT INTO agent_skill (agent_id, skill_id, created_at) SELECT $1, unhex(value), $3 FROM json_each($2)
             WHERE true ON CONFLICT DO NOTHING",
        )
        .bind(agent)
        .bind(lists::ids(ids.iter().copied()))
        .bind(now)
        .execute(c)
        .await
        .map(drop),
    };
    tx.note(inserted)
}
