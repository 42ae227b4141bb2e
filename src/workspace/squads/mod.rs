//! Squads: agents and people who work together, led by an agent. Every member sees them; owners and
//! admins make and change them. What a squad's end means for its work is in `flows::squads`.

pub mod ends;
pub mod evaluations;
pub mod members;

use std::collections::HashMap;

use members::Crew;

use super::{agents, attachments, references, words};
use crate::{
    db::{
        Session, Tx, exec, on,
        sql::{Sql, Value},
    },
    error::{Error, Result},
    events::kinds,
    identity::Insider,
    ids::{AgentId, SquadId, UserId, WorkspaceId},
    protocol::squad::{CreateSquad, PutSquad, Squad},
    time::Timestamp,
};

/// A squad as stored.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
#[allow(missing_docs, reason = "the table's columns")]
pub struct Row {
    pub id: SquadId,
    pub workspace_id: WorkspaceId,
    pub name: String,
    pub description: String,
    pub instructions: String,
    pub avatar_url: Option<String>,
    pub leader_id: AgentId,
    pub creator_id: UserId,
    pub archived_at: Option<Timestamp>,
    pub archived_by: Option<UserId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Row {
    fn with(self, crew: Crew) -> Squad {
        Squad {
            id: self.id,
            workspace_id: self.workspace_id,
            name: self.name,
            description: self.description,
            instructions: self.instructions,
            avatar_url: self.avatar_url,
            leader_id: self.leader_id,
            creator_id: self.creator_id,
            created_at: self.created_at,
            updated_at: self.updated_at,
            archived_at: self.archived_at,
            archived_by: self.archived_by,
            member_count: crew.count,
            member_preview: crew.preview,
        }
    }

    fn require_active(self) -> Result<Self> {
        if self.archived_at.is_some() {
            return Err(Error::invalid("squad_archived", "squad is archived"));
        }
        Ok(self)
    }
}

/// A workspace's squads but for the archived ones, oldest first.
pub async fn list(db: &mut Session, workspace: WorkspaceId) -> Result<Vec<Squad>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(
        "SELECT * FROM squad WHERE workspace_id = $1 AND archived_at IS NULL ORDER BY created_at, id"
    )
    .bind(workspace)
    .fetch_all(c))?;
    let mut crews = members::crews(db, workspace).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let crew = crews.remove(&row.id).unwrap_or_default();
            row.with(crew)
        })
        .collect())
}

/// One of a workspace's squads, archived or not.
pub async fn get(db: &mut Session, workspace: WorkspaceId, squad: SquadId) -> Result<Squad> {
    let row = find(db, workspace, squad).await?;
    shown(db, row).await
}

/// The row of one of a workspace's squads, archived or not.
pub async fn find(db: &mut Session, workspace: WorkspaceId, squad: SquadId) -> Result<Row> {
    let row: Option<Row> = on!(db, |c| sqlx::query_as("SELECT * FROM squad WHERE id = $1 AND workspace_id = $2")
        .bind(squad)
        .bind(workspace)
        .fetch_optional(c))?;
    row.ok_or_else(not_found)
}

/// Who leads which of some squads. Those that are archived or not the workspace's are left out.
pub async fn leaders(
    db: &mut Session,
    workspace: WorkspaceId,
    squads: &[SquadId],
) -> Result<HashMap<SquadId, AgentId>> {
    if squads.is_empty() {
        return Ok(HashMap::new());
    }
    let mut sql = Sql::new("SELECT id, leader_id FROM squad WHERE id ");
    sql.bind(Value::AnyOf(squads.iter().map(|squad| squad.0).collect()));
    sql.push(" AND workspace_id = ").bind(Value::Id(workspace.0)).push(" AND archived_at IS NULL");
    let found: Vec<(SquadId, AgentId)> = sql.fetch_all(db).await?;
    Ok(found.into_iter().collect())
}

/// A new one, whose leader is its first member; for owners and admins.
pub async fn create(tx: &mut Tx, who: &Insider, wish: &CreateSquad) -> Result<Squad> {
    who.require_rule()?;
    let name = words::name("name", &wish.name)?;
    let leader = hold_leader(tx, who, &wish.leader_id).await?;
    require_fit(who, &leader)?;
    let now = tx.now();
    let row: Row = on!(tx, |c| sqlx::query_as(
        "INSERT INTO squad (id, workspace_id, name, description, instructions, avatar_url, leader_id, creator_id,
                            created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9) RETURNING *"
    )
    .bind(SquadId::fresh())
    .bind(who.workspace)
    .bind(name)
    .bind(&wish.description)
    .bind(&wish.instructions)
    .bind(&wish.avatar_url)
    .bind(leader.id)
    .bind(who.user)
    .bind(now)
    .fetch_one(c))?;
    members::join_as_leader(tx, row.id, leader.id).await?;
    attachments::show_as_avatar(tx, who, row.avatar_url.as_deref()).await?;
    let squad = shown(tx, row).await?;
    tx.emit(kinds::squad_created(who.actor(), &squad));
    Ok(squad)
}

/// Changes one; for owners and admins. A new leader becomes a member, the old one stays one.
pub async fn put(tx: &mut Tx, who: &Insider, squad: SquadId, change: &PutSquad) -> Result<Squad> {
    who.require_rule()?;
    // Agents are locked before squads.
    let wished = match &change.leader_id {
        Some(wished) => {
            find(tx, who.workspace, squad).await?.require_active()?;
            Some(hold_leader(tx, who, wished).await?)
        }
        None => None,
    };
    let old = lock(tx, who, squad).await?;
    let name = change.name.as_deref().map(|name| words::name("name", name)).transpose()?;
    // One who leads already may be archived.
    let leader = wished.filter(|leader| leader.id != old.leader_id);
    if let Some(leader) = &leader {
        require_fit(who, leader)?;
    }
    attachments::show_as_avatar(tx, who, change.avatar_url.as_deref()).await?;
    let new = Row {
        name: name.unwrap_or(&old.name).to_owned(),
        description: change.description.as_ref().unwrap_or(&old.description).clone(),
        instructions: change.instructions.as_ref().unwrap_or(&old.instructions).clone(),
        avatar_url: change.avatar_url.as_ref().or(old.avatar_url.as_ref()).cloned(),
        leader_id: leader.as_ref().map_or(old.leader_id, |leader| leader.id),
        ..old.clone()
    };
    if new == old {
        return shown(tx, old).await;
    }
    let new = Row { updated_at: tx.now(), ..new };
    exec!(tx, |c| sqlx::query(
        "UPDATE squad SET name = $2, description = $3, instructions = $4, avatar_url = $5, leader_id = $6,
             updated_at = $7
         WHERE id = $1"
    )
    .bind(squad)
    .bind(&new.name)
    .bind(&new.description)
    .bind(&new.instructions)
    .bind(&new.avatar_url)
    .bind(new.leader_id)
    .bind(new.updated_at))?;
    if let Some(leader) = leader {
        members::join_as_leader(tx, squad, leader.id).await?;
    }
    let squad = shown(tx, new).await?;
    tx.emit(kinds::squad_updated(who.actor(), &squad));
    Ok(squad)
}

/// Puts one aside, under its lock. The flow around it moves its work first.
pub async fn archive(tx: &mut Tx, who: &Insider, row: &Row) -> Result<()> {
    let now = tx.now();
    exec!(tx, |c| sqlx::query("UPDATE squad SET archived_at = $2, archived_by = $3, updated_at = $2 WHERE id = $1")
        .bind(row.id)
        .bind(now)
        .bind(who.user))?;
    tx.emit(kinds::squad_deleted(who.workspace, who.actor(), row.id, row.leader_id));
    Ok(())
}

/// The row under a lock that other changes of it, of its members and of its work wait for. Refuses
/// an archived one.
pub async fn lock(tx: &mut Tx, who: &Insider, squad: SquadId) -> Result<Row> {
    let row: Option<Row> = on!(
        tx,
        pg "SELECT * FROM squad WHERE id = $1 AND workspace_id = $2 FOR UPDATE",
        lite "SELECT * FROM squad WHERE id = $1 AND workspace_id = $2",
        |c, sql| sqlx::query_as(sql).bind(squad).bind(who.workspace).fetch_optional(c)
    )?;
    row.ok_or_else(not_found)?.require_active()
}

/// The refusal for squads that are not there or not the workspace's.
pub fn not_found() -> Error {
    Error::not_found("squad_not_found", "squad not found")
}

async fn shown(db: &mut Session, row: Row) -> Result<Squad> {
    let crew = members::crew(db, row.id).await?;
    Ok(row.with(crew))
}

/// An agent that a body names as leader, held as it is.
async fn hold_leader(tx: &mut Tx, who: &Insider, text: &str) -> Result<agents::Row> {
    let leader = references::id("leader_id", text)?;
    agents::hold(tx, who.workspace, leader).await?.ok_or_else(|| references::invalid("leader_id"))
}

/// Refuses an agent that cannot be made a leader.
fn require_fit(who: &Insider, leader: &agents::Row) -> Result<()> {
    if !leader.is_open_to(who) {
        return Err(agents::no_access());
    }
    if leader.archived_at.is_some() {
        return Err(Error::invalid("leader_archived", "an archived agent cannot lead a squad"));
    }
    Ok(())
}
