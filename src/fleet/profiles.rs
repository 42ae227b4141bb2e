//! Runtime profiles: what a team's daemons may run beside the agent CLIs that they know themselves.
//! A profile names a command and the family whose protocol the command speaks; a daemon that finds the
//! command registers a runtime of the profile. Removing one is in `flows::profiles`.

use std::{collections::BTreeSet, sync::Arc};

use sqlx::types::Json;

use super::{Condemned, Fleet, runtimes::Row as Runtime};
use crate::{
    db::{Arm, Session, Tx, exec, lists, on},
    error::{Error, Result},
    events::{Control, Nodes, kinds},
    identity::{Driver, Insider, members},
    ids::{RuntimeId, RuntimeProfileId, UserId, WorkspaceId},
    protocol::profile::{ChangeProfile, CreateProfile, EnabledProfiles, RuntimeProfile},
    time::Timestamp,
    workspace::words,
};

/// The protocols that daemons speak.
const FAMILIES: &[&str] = &[
    "claude",
    "codebuddy",
    "codex",
    "copilot",
    "opencode",
    "openclaw",
    "hermes",
    "gemini",
    "pi",
    "cursor",
    "kimi",
    "kiro",
    "antigravity",
];
/// Profiles of one workspace at most: every daemon looks for the commands of all of them.
const MOST: i64 = 100;
/// Characters of a description.
const DESCRIPTION: usize = 2000;
/// Arguments of a command at most, and characters of each.
const ARGS: usize = 100;
const ARG: usize = 1024;

/// A profile as stored.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
#[allow(missing_docs, reason = "the table's columns")]
pub struct Row {
    pub id: RuntimeProfileId,
    pub workspace_id: WorkspaceId,
    pub display_name: String,
    pub protocol_family: String,
    pub command_name: String,
    pub description: Option<String>,
    pub fixed_args: Json<Vec<String>>,
    pub visibility: String,
    pub created_by: Option<UserId>,
    pub enabled: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Row {
    fn wire(self) -> RuntimeProfile {
        RuntimeProfile {
            id: self.id,
            workspace_id: self.workspace_id,
            display_name: self.display_name,
            protocol_family: self.protocol_family,
            command_name: self.command_name,
            description: self.description,
            fixed_args: self.fixed_args.0,
            visibility: self.visibility,
            created_by: self.created_by,
            enabled: self.enabled,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

/// The refusal for profiles that are not there or not the workspace's.
pub fn not_found() -> Error {
    Error::not_found("runtime_profile_not_found", "runtime profile not found")
}

/// A workspace's profiles, oldest first; at most a hundred.
pub async fn list(db: &mut Session, workspace: WorkspaceId) -> Result<Vec<RuntimeProfile>> {
    let rows: Vec<Row> =
        on!(db, |c| sqlx::query_as("SELECT * FROM runtime_profile WHERE workspace_id = $1 ORDER BY created_at, id")
            .bind(workspace)
            .fetch_all(c))?;
    Ok(rows.into_iter().map(Row::wire).collect())
}

/// One of a workspace's profiles.
pub async fn get(db: &mut Session, workspace: WorkspaceId, profile: RuntimeProfileId) -> Result<RuntimeProfile> {
    let row: Option<Row> =
        on!(db, |c| sqlx::query_as("SELECT * FROM runtime_profile WHERE id = $1 AND workspace_id = $2")
            .bind(profile)
            .bind(workspace)
            .fetch_optional(c))?;
    row.map(Row::wire).ok_or_else(not_found)
}

/// A new one; for owners and admins.
pub async fn create(tx: &mut Tx, nodes: &Arc<Nodes>, who: &Insider, wish: &CreateProfile) -> Result<RuntimeProfile> {
    who.require_rule()?;
    let name = words::name("display_name", &wish.display_name)?;
    let family = family(&wish.protocol_family)?;
    let command = words::name("command_name", &wish.command_name)?;
    let description = description(wish.description.as_deref())?;
    check_args(&wish.fixed_args)?;
    // Others who make one wait here, so that all of them together keep to the limit.
    members::lock_workspace(tx, who.workspace).await?;
    let count: i64 = on!(tx, |c| sqlx::query_scalar("SELECT COUNT(*) FROM runtime_profile WHERE workspace_id = $1")
        .bind(who.workspace)
        .fetch_one(c))?;
    if count >= MOST {
        return Err(Error::conflict(
            "too_many_runtime_profiles",
            format!("a workspace has at most {MOST} runtime profiles"),
        ));
    }
    let now = tx.now();
    let row: Option<Row> = on!(tx, |c| sqlx::query_as(
        "INSERT INTO runtime_profile (id, workspace_id, display_name, protocol_family, command_name, description,
                                      fixed_args, created_by, enabled, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)
         ON CONFLICT (workspace_id, display_name) DO NOTHING RETURNING *"
    )
    .bind(RuntimeProfileId::fresh())
    .bind(who.workspace)
    .bind(name)
    .bind(family)
    .bind(command)
    .bind(description)
    .bind(Json(&wish.fixed_args))
    .bind(who.user)
    .bind(wish.enabled.unwrap_or(true))
    .bind(now)
    .fetch_optional(c))?;
    let row = row.ok_or_else(name_taken)?;
    tx.emit(kinds::profile_changed(who.workspace, who.actor(), row.id));
    tell_daemons(tx, nodes, who.workspace, row.id, Vec::new());
    Ok(row.wire())
}

/// Changes one; for owners and admins.
pub async fn change(
    tx: &mut Tx,
    nodes: &Arc<Nodes>,
    who: &Insider,
    profile: RuntimeProfileId,
    change: &ChangeProfile,
) -> Result<RuntimeProfile> {
    who.require_rule()?;
    let old: Option<Row> = on!(
        tx,
        pg "SELECT * FROM runtime_profile WHERE id = $1 AND workspace_id = $2 FOR NO KEY UPDATE",
        lite "SELECT * FROM runtime_profile WHERE id = $1 AND workspace_id = $2",
        |c, sql| sqlx::query_as(sql).bind(profile).bind(who.workspace).fetch_optional(c)
    )?;
    let old = old.ok_or_else(not_found)?;
    if change.protocol_family.as_deref().is_some_and(|wished| wished.trim() != old.protocol_family) {
        // Its runtimes run, and their agents were set up, for the family that it has.
        return Err(Error::invalid("protocol_family_immutable", "protocol_family cannot be changed"));
    }
    let name = change.display_name.as_deref().map(|wished| words::name("display_name", wished)).transpose()?;
    let command = change.command_name.as_deref().map(|wished| words::name("command_name", wished)).transpose()?;
    change.fixed_args.as_deref().map(check_args).transpose()?;
    let new = Row {
        display_name: name.unwrap_or(&old.display_name).to_owned(),
        command_name: command.unwrap_or(&old.command_name).to_owned(),
        description: match &change.description {
            Some(wished) => description(Some(wished))?.map(str::to_owned),
            None => old.description.clone(),
        },
        fixed_args: change.fixed_args.clone().map_or_else(|| old.fixed_args.clone(), Json),
        enabled: change.enabled.unwrap_or(old.enabled),
        ..old.clone()
    };
    if new == old {
        return Ok(old.wire());
    }
    if new.display_name != old.display_name && is_taken(tx, who.workspace, &new.display_name).await? {
        return Err(name_taken());
    }
    let new = Row { updated_at: tx.now(), ..new };
    exec!(tx, |c| sqlx::query(
        "UPDATE runtime_profile SET display_name = $2, command_name = $3, description = $4, fixed_args = $5,
             enabled = $6, updated_at = $7
         WHERE id = $1"
    )
    .bind(new.id)
    .bind(&new.display_name)
    .bind(&new.command_name)
    .bind(&new.description)
    .bind(&new.fixed_args)
    .bind(new.enabled)
    .bind(new.updated_at))?;
    tx.emit(kinds::profile_changed(who.workspace, who.actor(), new.id));
    tell_daemons(tx, nodes, who.workspace, new.id, Vec::new());
    Ok(new.wire())
}

/// Locks one, and then its runtimes, so that nobody registers or binds anything to them any more;
/// gives the runtimes, by id.
pub async fn lock_to_remove(tx: &mut Tx, workspace: WorkspaceId, profile: RuntimeProfileId) -> Result<Vec<Condemned>> {
    let found: Option<i32> = on!(
        tx,
        pg "SELECT 1 FROM runtime_profile WHERE id = $1 AND workspace_id = $2 FOR UPDATE",
        lite "SELECT 1 FROM runtime_profile WHERE id = $1 AND workspace_id = $2",
        |c, sql| sqlx::query_scalar(sql).bind(profile).bind(workspace).fetch_optional(c)
    )?;
    found.ok_or_else(not_found)?;
    let rows: Vec<Runtime> = on!(
        tx,
        pg "SELECT * FROM agent_runtime WHERE profile_id = $1 ORDER BY id FOR UPDATE",
        lite "SELECT * FROM agent_runtime WHERE profile_id = $1 ORDER BY id",
        |c, sql| sqlx::query_as(sql).bind(profile).fetch_all(c)
    )?;
    Ok(rows.iter().map(Condemned::from).collect())
}

/// Removes one that has no runtimes any more; the flow around it sees to that, and says which there were.
pub async fn delete(
    tx: &mut Tx,
    nodes: &Arc<Nodes>,
    who: &Insider,
    profile: RuntimeProfileId,
    gone: Vec<RuntimeId>,
) -> Result<()> {
    exec!(tx, |c| sqlx::query("DELETE FROM runtime_profile WHERE id = $1").bind(profile))?;
    tx.emit(kinds::profile_deleted(who.workspace, who.actor(), profile));
    tell_daemons(tx, nodes, who.workspace, profile, gone);
    Ok(())
}

/// Locks the profiles that a registration names, by id, so that none is changed or removed before its
/// runtimes are stored. Those that are not the workspace's are left out.
pub(super) async fn hold(
    tx: &mut Tx,
    workspace: WorkspaceId,
    profiles: &BTreeSet<RuntimeProfileId>,
) -> Result<Vec<Row>> {
    if profiles.is_empty() {
        return Ok(Vec::new());
    }
    let rows = match tx.arm() {
        Arm::Postgres(c) => {
            sqlx::query_as(
                "SELECT * FROM runtime_profile WHERE id = ANY($1) AND workspace_id = $2 ORDER BY id FOR SHARE",
            )
            .bind(profiles.iter().copied().collect::<Vec<_>>())
            .bind(workspace)
            .fetch_all(c)
            .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_as(
                "SELECT * FROM runtime_profile
                 WHERE id IN (SELECT unhex(value) FROM json_each($1)) AND workspace_id = $2",
            )
            .bind(lists::ids(profiles.iter().copied()))
            .bind(workspace)
            .fetch_all(c)
            .await
        }
    };
    tx.note(rows)
}

impl Fleet {
    /// What a daemon of a member may run in a workspace.
    pub async fn enabled_profiles(&self, workspace: WorkspaceId, driver: &Driver) -> Result<EnabledProfiles> {
        self.require_member(workspace, driver).await?;
        let mut profiles = self.db.read(async move |db| list(db, workspace).await).await?;
        profiles.retain(|profile| profile.enabled);
        Ok(EnabledProfiles { workspace_id: workspace, runtime_profiles: profiles })
    }
}

fn tell_daemons(
    tx: &mut Tx,
    nodes: &Arc<Nodes>,
    workspace: WorkspaceId,
    profile: RuntimeProfileId,
    gone: Vec<RuntimeId>,
) {
    let nodes = nodes.clone();
    tx.after_commit(move || nodes.tell(Control::ProfilesChanged { workspace, profile, gone }));
}

async fn is_taken(db: &mut Session, workspace: WorkspaceId, name: &str) -> Result<bool> {
    let found: Option<i32> =
        on!(db, |c| sqlx::query_scalar("SELECT 1 FROM runtime_profile WHERE workspace_id = $1 AND display_name = $2")
            .bind(workspace)
            .bind(name)
            .fetch_optional(c))?;
    Ok(found.is_some())
}

fn name_taken() -> Error {
    Error::conflict("runtime_profile_name_taken", "a runtime profile with this display_name already exists")
}

fn family(wished: &str) -> Result<&str> {
    words::one_of("protocol_family", FAMILIES, words::required("protocol_family", wished)?)
}

/// A description; an empty one is none.
fn description(wished: Option<&str>) -> Result<Option<&str>> {
    let wished = wished.map(str::trim).filter(|wished| !wished.is_empty());
    wished.map(|wished| at_most("description", wished, DESCRIPTION)).transpose()
}

fn at_most<'t>(field: &str, text: &'t str, most: usize) -> Result<&'t str> {
    if text.chars().count() <= most {
        return Ok(text);
    }
    Err(Error::invalid("text_too_long", format!("{field} must be {most} characters or fewer")))
}

fn check_args(args: &[String]) -> Result<()> {
    if args.len() > ARGS {
        return Err(Error::invalid("too_many_args", format!("fixed_args has at most {ARGS} entries")));
    }
    for (index, arg) in args.iter().enumerate() {
        if arg.trim().is_empty() {
            return Err(Error::invalid("blank_arg", format!("fixed_args[{index}] is blank")));
        }
        at_most(&format!("fixed_args[{index}]"), arg, ARG)?;
    }
    Ok(())
}
