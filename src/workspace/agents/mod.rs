//! Agents: who does the work. What binds one to a runtime is in `flows::agents`.

mod config;
pub mod ends;
pub mod env;
pub mod rebind;
pub mod skills;

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use sqlx::types::Json;

use super::{attachments, words};
use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    events::kinds,
    identity::Insider,
    ids::{AgentId, RuntimeId, UserId, WorkspaceId},
    protocol::{
        agent::{Agent, AgentSkill, CreateAgent, PutAgent},
        lenient::Patch,
    },
    time::Timestamp,
};

const STATUSES: &[&str] = &["idle", "working", "blocked", "error", "offline"];
const VISIBILITIES: &[&str] = &["workspace", "private"];
/// Tasks of one agent at once, unless something else is wished.
const CONCURRENT: i32 = 6;
const MOST_CONCURRENT: i32 = 1000;
const LONGEST_DESCRIPTION: usize = 255;

/// The runtime that an agent is bound to.
pub struct Binding {
    /// Which.
    pub runtime: RuntimeId,
    /// `local` or `cloud`.
    pub mode: String,
    /// What it drives.
    pub provider: String,
}

/// An agent as stored, secrets included: for this room, and for the claim of its tasks.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
#[allow(missing_docs, reason = "the table's columns")]
pub struct Row {
    pub id: AgentId,
    pub workspace_id: WorkspaceId,
    pub owner_id: UserId,
    pub runtime_id: RuntimeId,
    pub name: String,
    pub description: String,
    pub instructions: String,
    pub avatar_url: Option<String>,
    pub runtime_mode: String,
    pub runtime_config: Json<Value>,
    pub custom_env: Json<BTreeMap<String, String>>,
    pub custom_args: Json<Vec<String>>,
    pub mcp_config: Option<Json<Value>>,
    pub visibility: String,
    pub status: String,
    pub max_concurrent_tasks: i32,
    pub model: String,
    pub thinking_level: String,
    pub archived_at: Option<Timestamp>,
    pub archived_by: Option<UserId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Row {
    /// Whether somebody may see it, talk to it, and give it work.
    pub fn is_open_to(&self, who: &Insider) -> bool {
        self.visibility != "private" || who.may_use_private(self.owner_id)
    }

    /// Refuses to talk to one that was put aside.
    pub fn require_active(&self) -> Result<()> {
        if self.archived_at.is_none() {
            return Ok(());
        }
        Err(Error::invalid("agent_archived", "agent is archived"))
    }

    /// Whether somebody may change it.
    fn is_under(&self, who: &Insider) -> bool {
        who.rules() || who.user == self.owner_id
    }

    /// As everybody may see it who may see it at all; so it is in events.
    pub fn redacted(self, skills: Vec<AgentSkill>) -> Agent {
        let redacted = self.mcp_config.is_some();
        Agent { mcp_config: None, mcp_config_redacted: redacted, ..self.whole(skills) }
    }

    fn whole(self, skills: Vec<AgentSkill>) -> Agent {
        Agent {
            id: self.id,
            workspace_id: self.workspace_id,
            runtime_id: self.runtime_id,
            name: self.name,
            description: self.description,
            instructions: self.instructions,
            avatar_url: self.avatar_url,
            runtime_mode: self.runtime_mode,
            runtime_config: config::masked(self.runtime_config.0),
            custom_args: self.custom_args.0,
            mcp_config: self.mcp_config.map(|config| config.0),
            has_custom_env: !self.custom_env.is_empty(),
            custom_env_key_count: self.custom_env.len(),
            mcp_config_redacted: false,
            visibility: self.visibility,
            status: self.status,
            max_concurrent_tasks: self.max_concurrent_tasks,
            model: self.model,
            thinking_level: self.thinking_level,
            owner_id: self.owner_id,
            skills,
            created_at: self.created_at,
            updated_at: self.updated_at,
            archived_at: self.archived_at,
            archived_by: self.archived_by,
        }
    }

    /// As one caller may see it. MCP configurations hold secrets.
    fn seen_by(self, who: &Insider, always_redact: bool, skills: Vec<AgentSkill>) -> Agent {
        if always_redact || who.task.is_some() || !self.is_under(who) {
            self.redacted(skills)
        } else {
            self.whole(skills)
        }
    }
}

/// The agents that somebody may see, oldest first.
pub async fn list(db: &mut Session, who: &Insider, archived_too: bool) -> Result<Vec<Agent>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(
        "SELECT * FROM agent WHERE workspace_id = $1 AND (archived_at IS NULL OR $2) ORDER BY created_at, id"
    )
    .bind(who.workspace)
    .bind(archived_too)
    .fetch_all(c))?;
    let mut skills = skills::of_workspace(db, who.workspace).await?;
    let always_redact = always_redact(db, who.workspace).await?;
    let mut of = |agent: AgentId| skills.remove(&agent).unwrap_or_default();
    let open = rows.into_iter().filter(|row| row.is_open_to(who));
    Ok(open
        .map(|row| {
            let skills = of(row.id);
            row.seen_by(who, always_redact, skills)
        })
        .collect())
}

/// One that somebody may see.
pub async fn get(db: &mut Session, who: &Insider, agent: AgentId) -> Result<Agent> {
    let row = open(db, who, agent).await?;
    seen(db, who, row).await
}

/// The row of one that somebody may see.
pub async fn open(db: &mut Session, who: &Insider, agent: AgentId) -> Result<Row> {
    let row = find(db, who.workspace, agent).await?.ok_or_else(not_found)?;
    if row.is_open_to(who) { Ok(row) } else { Err(no_access()) }
}

/// The refusal for agents that are not there or not the workspace's.
pub fn not_found() -> Error {
    Error::not_found("agent_not_found", "agent not found")
}

/// The refusal of those who may not see a private agent.
pub fn no_access() -> Error {
    Error::forbidden("agent_private", "you do not have access to this agent")
}

/// The row of one of the workspace's agents.
pub async fn find(db: &mut Session, workspace: WorkspaceId, agent: AgentId) -> Result<Option<Row>> {
    on!(db, |c| sqlx::query_as("SELECT * FROM agent WHERE id = $1 AND workspace_id = $2")
        .bind(agent)
        .bind(workspace)
        .fetch_optional(c))
}

/// The row of one of the workspace's agents, which nobody changes until the transaction ends.
pub async fn hold(tx: &mut Tx, workspace: WorkspaceId, agent: AgentId) -> Result<Option<Row>> {
    on!(
        tx,
        pg "SELECT * FROM agent WHERE id = $1 AND workspace_id = $2 FOR SHARE",
        lite "SELECT * FROM agent WHERE id = $1 AND workspace_id = $2",
        |c, sql| sqlx::query_as(sql).bind(agent).bind(workspace).fetch_optional(c)
    )
}

/// The row under a lock that other changes of it wait for, if the caller may change it.
pub async fn lock(tx: &mut Tx, who: &Insider, agent: AgentId) -> Result<Row> {
    let row = locked(tx, who.workspace, agent).await?;
    if row.is_under(who) {
        return Ok(row);
    }
    // Who may not even see it learns no more than that.
    if row.is_open_to(who) {
        return Err(Error::forbidden("not_agent_owner", "only the agent owner or a workspace admin can do this"));
    }
    Err(no_access())
}

/// As [`lock`], for those who may see it and are about to give it work, or to end some.
pub async fn lock_open(tx: &mut Tx, who: &Insider, agent: AgentId) -> Result<Row> {
    let row = locked(tx, who.workspace, agent).await?;
    if row.is_open_to(who) { Ok(row) } else { Err(no_access()) }
}

async fn locked(tx: &mut Tx, workspace: WorkspaceId, agent: AgentId) -> Result<Row> {
    let row: Option<Row> = on!(
        tx,
        pg "SELECT * FROM agent WHERE id = $1 AND workspace_id = $2 FOR NO KEY UPDATE",
        lite "SELECT * FROM agent WHERE id = $1 AND workspace_id = $2",
        |c, sql| sqlx::query_as(sql).bind(agent).bind(workspace).fetch_optional(c)
    )?;
    row.ok_or_else(not_found)
}

/// A new one on a runtime that the caller may use.
pub async fn create(tx: &mut Tx, who: &Insider, binding: &Binding, wish: &CreateAgent) -> Result<Agent> {
    let name = words::name("name", &wish.name)?;
    check_description(&wish.description)?;
    words::text("instructions", &wish.instructions)?;
    let visibility = words::one_of_or("visibility", VISIBILITIES, &wish.visibility, "private")?;
    let concurrent = match wish.max_concurrent_tasks {
        0 => CONCURRENT,
        wished => check_concurrent(wished)?,
    };
    config::check_thinking_level(&binding.provider, &wish.thinking_level)?;
    env::check(&wish.custom_env)?;
    let runtime_config = config::unmasked(object(wish.runtime_config.clone())?, &Value::Null);
    let now = tx.now();
    let row: Option<Row> = on!(tx, |c| sqlx::query_as(
        "INSERT INTO agent (id, workspace_id, owner_id, runtime_id, name, description, instructions, avatar_url,
                            runtime_mode, runtime_config, custom_env, custom_args, mcp_config, visibility,
                            max_concurrent_tasks, model, thinking_level, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $18)
         ON CONFLICT (workspace_id, name) DO NOTHING RETURNING *"
    )
    .bind(AgentId::fresh())
    .bind(who.workspace)
    .bind(who.user)
    .bind(binding.runtime)
    .bind(name)
    .bind(&wish.description)
    .bind(&wish.instructions)
    .bind(&wish.avatar_url)
    .bind(&binding.mode)
    .bind(Json(runtime_config))
    .bind(Json(&wish.custom_env))
    .bind(Json(&wish.custom_args))
    .bind(wish.mcp_config.as_ref().map(Json))
    .bind(visibility)
    .bind(concurrent)
    .bind(&wish.model)
    .bind(&wish.thinking_level)
    .bind(now)
    .fetch_optional(c))?;
    let row = row.ok_or_else(name_taken)?;
    attachments::show_as_avatar(tx, who, row.avatar_url.as_deref()).await?;
    tx.emit(kinds::agent_created(who.actor(), &row.clone().redacted(Vec::new())));
    seen(tx, who, row).await
}

/// Changes one; `binding` is the runtime that it is moved to, `provider` that of the one it is on.
pub async fn put(
    tx: &mut Tx,
    who: &Insider,
    old: Row,
    binding: Option<&Binding>,
    provider: &str,
    change: PutAgent,
) -> Result<Agent> {
    if !change.custom_env.is_absent() {
        let text = "custom_env cannot be changed here; use PUT /api/agents/{id}/env";
        return Err(Error::invalid("custom_env_elsewhere", text));
    }
    let name = change.name.as_deref().map(|name| words::name("name", name)).transpose()?;
    change.description.as_deref().map(check_description).transpose()?;
    words::optional_text("instructions", change.instructions.as_deref())?;
    let visibility =
        change.visibility.as_deref().map(|word| words::one_of("visibility", VISIBILITIES, word)).transpose()?;
    let status = change.status.as_deref().map(|word| words::one_of("status", STATUSES, word)).transpose()?;
    let concurrent = change.max_concurrent_tasks.map(check_concurrent).transpose()?;
    attachments::show_as_avatar(tx, who, change.avatar_url.as_deref()).await?;
    let mut new = Row {
        name: name.unwrap_or(&old.name).to_owned(),
        description: change.description.unwrap_or_else(|| old.description.clone()),
        instructions: change.instructions.unwrap_or_else(|| old.instructions.clone()),
        avatar_url: change.avatar_url.or_else(|| old.avatar_url.clone()),
        custom_args: change.custom_args.map_or_else(|| old.custom_args.clone(), Json),
        mcp_config: match change.mcp_config {
            Patch::Absent => old.mcp_config.clone(),
            Patch::Null => None,
            Patch::Value(config) => Some(Json(config)),
        },
        visibility: visibility.unwrap_or(&old.visibility).to_owned(),
        status: status.unwrap_or(&old.status).to_owned(),
        max_concurrent_tasks: concurrent.unwrap_or(old.max_concurrent_tasks),
        model: change.model.unwrap_or_else(|| old.model.clone()),
        thinking_level: change.thinking_level.unwrap_or_else(|| old.thinking_level.clone()),
        ..old.clone()
    };
    if let Some(wished) = change.runtime_config {
        new.runtime_config = Json(config::unmasked(object(Some(wished))?, &old.runtime_config));
    }
    if let Some(binding) = binding {
        new.runtime_id = binding.runtime;
        new.runtime_mode.clone_from(&binding.mode);
        if config::is_foreign_model(&binding.provider, &new.model) {
            new.model.clear();
        }
    }
    config::check_thinking_level(binding.map_or(provider, |binding| &binding.provider), &new.thinking_level)?;
    if new == old {
        return seen(tx, who, old).await;
    }
    if new.name != old.name && is_taken(tx, who.workspace, &new.name).await? {
        return Err(name_taken());
    }
    new.updated_at = tx.now();
    exec!(tx, |c| sqlx::query(
        "UPDATE agent SET runtime_id = $2, name = $3, description = $4, instructions = $5, avatar_url = $6,
             runtime_mode = $7, runtime_config = $8, custom_args = $9, mcp_config = $10, visibility = $11,
             status = $12, max_concurrent_tasks = $13, model = $14, thinking_level = $15, updated_at = $16
         WHERE id = $1"
    )
    .bind(new.id)
    .bind(new.runtime_id)
    .bind(&new.name)
    .bind(&new.description)
    .bind(&new.instructions)
    .bind(&new.avatar_url)
    .bind(&new.runtime_mode)
    .bind(&new.runtime_config)
    .bind(&new.custom_args)
    .bind(&new.mcp_config)
    .bind(&new.visibility)
    .bind(&new.status)
    .bind(new.max_concurrent_tasks)
    .bind(&new.model)
    .bind(&new.thinking_level)
    .bind(new.updated_at))?;
    announce(tx, who, &new).await?;
    seen(tx, who, new).await
}

/// Puts one aside. The flow around it ends its work first.
pub async fn archive(tx: &mut Tx, who: &Insider, row: Row) -> Result<Agent> {
    if row.archived_at.is_some() {
        return Err(Error::conflict("agent_archived", "agent is already archived"));
    }
    let now = tx.now();
    let row = Row { archived_at: Some(now), archived_by: Some(who.user), updated_at: now, ..row };
    store_archived(tx, &row).await?;
    let agent = row.clone().redacted(skills::of(tx, row.id).await?);
    tx.emit(kinds::agent_archived(who.actor(), &agent));
    seen(tx, who, row).await
}

/// Takes one up again.
pub async fn restore(tx: &mut Tx, who: &Insider, row: Row) -> Result<Agent> {
    if row.archived_at.is_none() {
        return Err(Error::conflict("agent_not_archived", "agent is not archived"));
    }
    let row = Row { archived_at: None, archived_by: None, updated_at: tx.now(), ..row };
    store_archived(tx, &row).await?;
    let agent = row.clone().redacted(skills::of(tx, row.id).await?);
    tx.emit(kinds::agent_restored(who.actor(), &agent));
    seen(tx, who, row).await
}

async fn store_archived(tx: &mut Tx, row: &Row) -> Result<()> {
    exec!(tx, |c| sqlx::query("UPDATE agent SET archived_at = $2, archived_by = $3, updated_at = $4 WHERE id = $1")
        .bind(row.id)
        .bind(row.archived_at)
        .bind(row.archived_by)
        .bind(row.updated_at))
    .map(drop)
}

/// Tells of a change.
async fn announce(tx: &mut Tx, who: &Insider, row: &Row) -> Result<()> {
    let agent = row.clone().redacted(skills::of(tx, row.id).await?);
    tx.emit(kinds::agent_changed(who.actor(), &agent));
    Ok(())
}

async fn seen(db: &mut Session, who: &Insider, row: Row) -> Result<Agent> {
    let skills = skills::of(db, row.id).await?;
    let always_redact = row.mcp_config.is_some() && always_redact(db, who.workspace).await?;
    Ok(row.seen_by(who, always_redact, skills))
}

/// The workspace's `always_redact_env`.
async fn always_redact(db: &mut Session, workspace: WorkspaceId) -> Result<bool> {
    let settings: Option<Json<HashMap<String, Value>>> =
        on!(db, |c| sqlx::query_scalar("SELECT settings FROM workspace WHERE id = $1")
            .bind(workspace)
            .fetch_optional(c))?;
    Ok(settings.is_some_and(|settings| settings.get("always_redact_env") == Some(&Value::Bool(true))))
}

async fn is_taken(db: &mut Session, workspace: WorkspaceId, name: &str) -> Result<bool> {
    let found: Option<i32> =
        on!(db, |c| sqlx::query_scalar("SELECT 1 FROM agent WHERE workspace_id = $1 AND name = $2")
            .bind(workspace)
            .bind(name)
            .fetch_optional(c))?;
    Ok(found.is_some())
}

fn name_taken() -> Error {
    Error::conflict("agent_name_taken", "an agent with this name already exists")
}

fn check_description(text: &str) -> Result<()> {
    if text.chars().count() <= LONGEST_DESCRIPTION {
        return Ok(());
    }
    Err(Error::invalid("description_too_long", "description must be 255 characters or fewer"))
}

fn check_concurrent(wished: i32) -> Result<i32> {
    if (1..=MOST_CONCURRENT).contains(&wished) {
        return Ok(wished);
    }
    Err(Error::invalid("invalid_limit", format!("max_concurrent_tasks must be between 1 and {MOST_CONCURRENT}")))
}

fn object(wished: Option<Value>) -> Result<Value> {
    match wished {
        None | Some(Value::Null) => Ok(Value::Object(serde_json::Map::new())),
        Some(object @ Value::Object(_)) => Ok(object),
        Some(_) => Err(Error::invalid("invalid_runtime_config", "runtime_config must be an object")),
    }
}
