//! Skills: what agents know beside their instructions, as a text and files.

pub mod files;
pub mod path;

use serde_json::Value;
use sqlx::types::Json;

use super::words;
use crate::{
    db::{Arm, Session, Tx, exec, lists, on},
    error::{Error, Result},
    events::kinds,
    identity::Insider,
    ids::{AgentId, SkillId, UserId, WorkspaceId},
    protocol::skill::{CreateSkill, PutSkill, Skill, SkillSummary},
    time::Timestamp,
};

#[derive(sqlx::FromRow)]
struct Row {
    id: SkillId,
    workspace_id: WorkspaceId,
    name: String,
    description: String,
    config: Json<Value>,
    created_by: Option<UserId>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Row> for SkillSummary {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            workspace_id: row.workspace_id,
            name: row.name,
            description: row.description,
            config: row.config.0,
            created_by: row.created_by,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

macro_rules! summaries {
    ($rest:literal) => {
        concat!(
            "SELECT s.id, s.workspace_id, s.name, s.description, s.config, s.created_by, s.created_at, s.updated_at
             FROM skill s ",
            $rest
        )
    };
}

/// A workspace's skills, by name.
pub async fn list(db: &mut Session, workspace: WorkspaceId) -> Result<Vec<SkillSummary>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(summaries!("WHERE s.workspace_id = $1 ORDER BY s.name"))
        .bind(workspace)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(SkillSummary::from).collect())
}

/// An agent's skills, by name.
pub async fn of_agent(db: &mut Session, agent: AgentId) -> Result<Vec<SkillSummary>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(summaries!(
        "JOIN agent_skill b ON b.skill_id = s.id WHERE b.agent_id = $1 ORDER BY s.name"
    ))
    .bind(agent)
    .fetch_all(c))?;
    Ok(rows.into_iter().map(SkillSummary::from).collect())
}

/// One of a workspace's skills, with content and files.
pub async fn get(db: &mut Session, workspace: WorkspaceId, skill: SkillId) -> Result<Skill> {
    let summary = summary(db, workspace, skill).await?;
    let content: String =
        on!(db, |c| sqlx::query_scalar("SELECT content FROM skill WHERE id = $1").bind(skill).fetch_one(c))?;
    Ok(Skill { summary, content, files: files::list(db, skill).await? })
}

async fn summary(db: &mut Session, workspace: WorkspaceId, skill: SkillId) -> Result<SkillSummary> {
    let row: Option<Row> = on!(db, |c| sqlx::query_as(summaries!("WHERE s.id = $1 AND s.workspace_id = $2"))
        .bind(skill)
        .bind(workspace)
        .fetch_optional(c))?;
    row.map(SkillSummary::from).ok_or_else(not_found)
}

/// Refuses unless all of these (each once) are skills of the workspace; holds them where they are.
pub async fn require_all(tx: &mut Tx, workspace: WorkspaceId, skills: &[SkillId]) -> Result<()> {
    let found: Result<Vec<SkillId>, sqlx::Error> = match tx.arm() {
        Arm::Postgres(c) => {
            sqlx::query_scalar(
                "SELECT id FROM skill WHERE id = ANY($1) AND workspace_id = $2 ORDER BY id FOR KEY SHARE",
            )
            .bind(skills)
            .bind(workspace)
            .fetch_all(c)
            .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_scalar(
                "SELECT id FROM skill WHERE id IN (SELECT unhex(value) FROM json_each($1)) AND workspace_id = $2",
            )
            .bind(lists::ids(skills.iter().copied()))
            .bind(workspace)
            .fetch_all(c)
            .await
        }
    };
    if tx.note(found)?.len() == skills.len() { Ok(()) } else { Err(not_found()) }
}

/// A new one.
pub async fn create(tx: &mut Tx, who: &Insider, wish: &CreateSkill) -> Result<Skill> {
    let name = checked_name(&wish.name)?;
    let config = config(wish.config.clone())?;
    let (id, now) = (SkillId::fresh(), tx.now());
    let made = exec!(tx, |c| {
        sqlx::query(
        "INSERT INTO skill (id, workspace_id, name, description, content, config, created_by, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT (workspace_id, name) DO NOTHING"
    )
    .bind(id)
    .bind(who.workspace)
    .bind(name)
    .bind(&wish.description)
    .bind(&wish.content)
    .bind(Json(config))
    .bind(who.user)
    .bind(now)
    })?;
    if made == 0 {
        return Err(name_taken());
    }
    files::replace(tx, id, &wish.files).await?;
    let skill = get(tx, who.workspace, id).await?;
    tx.emit(kinds::skill_created(who.actor(), &skill));
    Ok(skill)
}

/// Changes one; for who made it, and for owners and admins.
pub async fn put(tx: &mut Tx, who: &Insider, skill: SkillId, change: &PutSkill) -> Result<Skill> {
    lock(tx, who, skill).await?;
    let old = get(tx, who.workspace, skill).await?;
    let name = change.name.as_deref().map(checked_name).transpose()?;
    let config = change.config.clone().map(|wished| config(Some(wished))).transpose()?;
    let name = name.unwrap_or(&old.summary.name);
    if name != old.summary.name && is_taken(tx, who.workspace, name).await? {
        return Err(name_taken());
    }
    exec!(tx, |c| sqlx::query(
        "UPDATE skill SET name = $2, description = $3, content = $4, config = $5 WHERE id = $1"
    )
    .bind(skill)
    .bind(name)
    .bind(change.description.as_ref().unwrap_or(&old.summary.description))
    .bind(change.content.as_ref().unwrap_or(&old.content))
    .bind(Json(config.as_ref().unwrap_or(&old.summary.config))))?;
    if let Some(wished) = &change.files {
        files::replace(tx, skill, wished).await?;
    }
    let new = get(tx, who.workspace, skill).await?;
    if new == old {
        return Ok(old);
    }
    touch(tx, who, skill).await
}

/// Removes one with its files, from its agents as well; for who made it, and for owners and admins.
pub async fn delete(tx: &mut Tx, who: &Insider, skill: SkillId) -> Result<()> {
    lock(tx, who, skill).await?;
    exec!(tx, |c| sqlx::query("DELETE FROM skill WHERE id = $1").bind(skill))?;
    tx.emit(kinds::skill_deleted(who.workspace, who.actor(), skill));
    Ok(())
}

/// Marks one as changed, and tells of it.
async fn touch(tx: &mut Tx, who: &Insider, skill: SkillId) -> Result<Skill> {
    let now = tx.now();
    exec!(tx, |c| sqlx::query("UPDATE skill SET updated_at = $2 WHERE id = $1").bind(skill).bind(now))?;
    let skill = get(tx, who.workspace, skill).await?;
    tx.emit(kinds::skill_updated(who.actor(), &skill));
    Ok(skill)
}

/// Locks one that the caller may change.
async fn lock(tx: &mut Tx, who: &Insider, skill: SkillId) -> Result<()> {
    let made_by: Option<Option<UserId>> = on!(
        tx,
        pg "SELECT created_by FROM skill WHERE id = $1 AND workspace_id = $2 FOR UPDATE",
        lite "SELECT created_by FROM skill WHERE id = $1 AND workspace_id = $2",
        |c, sql| sqlx::query_scalar(sql).bind(skill).bind(who.workspace).fetch_optional(c)
    )?;
    match made_by {
        None => Err(not_found()),
        Some(made_by) if who.rules() || made_by.is_some_and(|user| who.is(user)) => Ok(()),
        Some(_) => {
            Err(Error::forbidden("not_skill_creator", "only the skill creator or a workspace admin can do this"))
        }
    }
}

async fn is_taken(db: &mut Session, workspace: WorkspaceId, name: &str) -> Result<bool> {
    let found: Option<i32> =
        on!(db, |c| sqlx::query_scalar("SELECT 1 FROM skill WHERE workspace_id = $1 AND name = $2")
            .bind(workspace)
            .bind(name)
            .fetch_optional(c))?;
    Ok(found.is_some())
}

/// Names that begin like this are the hub's own.
const RESERVED: &str = "multica-";

fn checked_name(name: &str) -> Result<&str> {
    let name = words::name("name", name)?;
    if name.to_lowercase().starts_with(RESERVED) {
        return Err(Error::invalid("reserved_name", "skill names beginning with multica- are reserved"));
    }
    Ok(name)
}

fn config(wished: Option<Value>) -> Result<Value> {
    match wished {
        None | Some(Value::Null) => Ok(Value::Object(serde_json::Map::new())),
        Some(object @ Value::Object(_)) => Ok(object),
        Some(_) => Err(Error::invalid("invalid_config", "config must be an object")),
    }
}

fn not_found() -> Error {
    Error::not_found("skill_not_found", "skill not found")
}

fn name_taken() -> Error {
    Error::conflict("skill_name_taken", "a skill with this name already exists")
}
