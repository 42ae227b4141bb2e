//! The agent as its daemon needs it: nothing is masked here, since the daemon starts it with this.

use serde_json::Value;

use crate::{
    db::{Tx, on},
    error::Result,
    ids::SkillId,
    protocol::task::{ClaimedAgent, ClaimedFile, ClaimedSkill},
    workspace::{agents, skills::path},
};

/// The agent with its skills.
pub(super) async fn with_skills(tx: &mut Tx, agent: &agents::Row) -> Result<ClaimedAgent> {
    Ok(ClaimedAgent {
        id: agent.id,
        name: agent.name.clone(),
        instructions: agent.instructions.clone(),
        skills: skills(tx, agent).await?,
        custom_env: agent.custom_env.0.clone(),
        custom_args: agent.custom_args.0.clone(),
        mcp_config: agent.mcp_config.as_ref().and_then(|config| given(config)),
        model: agent.model.clone(),
        thinking_level: agent.thinking_level.clone(),
        runtime_config: given(&agent.runtime_config).filter(|config| *config != serde_json::json!({})),
    })
}

fn given(value: &Value) -> Option<Value> {
    Some(value.clone()).filter(|value| !value.is_null())
}

/// A skill, or with a path one of its files.
#[derive(sqlx::FromRow)]
struct Part {
    id: SkillId,
    name: String,
    description: String,
    content: String,
    path: Option<String>,
}

/// In one statement, each text once.
async fn skills(tx: &mut Tx, agent: &agents::Row) -> Result<Vec<ClaimedSkill>> {
    let parts: Vec<Part> = on!(tx, |c| sqlx::query_as(
        "SELECT s.id, s.name, s.description, s.content, NULL AS path, 0 AS place
         FROM agent_skill b JOIN skill s ON s.id = b.skill_id WHERE b.agent_id = $1 AND s.workspace_id = $2
         UNION ALL
         SELECT s.id, s.name, '', f.content, f.path, 1
         FROM agent_skill b JOIN skill s ON s.id = b.skill_id JOIN skill_file f ON f.skill_id = s.id
         WHERE b.agent_id = $1 AND s.workspace_id = $2
         ORDER BY name, id, place, path"
    )
    .bind(agent.id)
    .bind(agent.workspace_id)
    .fetch_all(c))?;
    let mut skills: Vec<ClaimedSkill> = Vec::new();
    for Part { id, name, description, content, path } in parts {
        match (path, skills.last_mut()) {
            (None, _) => skills.push(ClaimedSkill { id, name, description, content, files: Vec::new() }),
            // Whatever way it came into the store: a path becomes a file on somebody's machine.
            (Some(path), Some(skill)) if is_fit(&path) => skill.files.push(ClaimedFile { path, content }),
            (Some(path), _) => tracing::error!(agent = %agent.id, skill = %id, path, "a file is kept from the daemon"),
        }
    }
    Ok(skills)
}

fn is_fit(path: &str) -> bool {
    path != path::MAIN && path::check(path).is_ok()
}
