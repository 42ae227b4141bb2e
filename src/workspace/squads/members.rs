//! Who is in a squad.

use std::collections::HashMap;

use uuid::Uuid;

use super::super::{references, words};
use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    events::kinds,
    identity::Insider,
    ids::{AgentId, SquadId, SquadMemberId, WorkspaceId},
    protocol::squad::{PreviewedMember, SquadMember, WishedMember},
    time::Timestamp,
};

const TYPES: &[&str] = &["agent", "member"];

#[derive(sqlx::FromRow)]
struct Row {
    id: SquadMemberId,
    squad_id: SquadId,
    member_type: String,
    member_id: Uuid,
    role: String,
    created_at: Timestamp,
}

impl From<Row> for SquadMember {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            squad_id: row.squad_id,
            member_type: row.member_type,
            member_id: row.member_id,
            role: row.role,
            created_at: row.created_at,
        }
    }
}

/// What a squad's own object says of its members.
#[derive(Default)]
pub(super) struct Crew {
    /// How many there are.
    pub count: i64,
    /// The leader and those who came first.
    pub preview: Vec<PreviewedMember>,
}

#[derive(sqlx::FromRow)]
struct Previewed {
    squad_id: SquadId,
    member_type: String,
    member_id: Uuid,
    role: String,
    total: i64,
}

/// The three members that some squads are shown with, and how many each squad has.
macro_rules! previews {
    ($squads:literal) => {
        concat!(
            "SELECT squad_id, member_type, member_id, role, total FROM (
                 SELECT m.squad_id, m.member_type, m.member_id, m.role,
                     COUNT(*) OVER (PARTITION BY m.squad_id) AS total,
                     ROW_NUMBER() OVER (PARTITION BY m.squad_id ORDER BY
                         CASE WHEN m.member_type = 'agent' AND m.member_id = s.leader_id THEN 0 ELSE 1 END,
                         m.created_at, m.id) AS place
                 FROM squad s JOIN squad_member m ON m.squad_id = s.id WHERE ",
            $squads,
            ") placed WHERE place <= 3 ORDER BY squad_id, place"
        )
    };
}

/// The crews of a workspace's squads but for the archived ones.
pub(super) async fn crews(db: &mut Session, workspace: WorkspaceId) -> Result<HashMap<SquadId, Crew>> {
    let rows: Vec<Previewed> = on!(db, |c| sqlx::query_as(previews!("s.workspace_id = $1 AND s.archived_at IS NULL"))
        .bind(workspace)
        .fetch_all(c))?;
    let mut crews: HashMap<SquadId, Crew> = HashMap::new();
    for Previewed { squad_id, member_type, member_id, role, total } in rows {
        let crew = crews.entry(squad_id).or_default();
        crew.count = total;
        crew.preview.push(PreviewedMember { member_type, member_id, role });
    }
    Ok(crews)
}

/// One squad's crew.
pub(super) async fn crew(db: &mut Session, squad: SquadId) -> Result<Crew> {
    let rows: Vec<Previewed> = on!(db, |c| sqlx::query_as(previews!("s.id = $1")).bind(squad).fetch_all(c))?;
    let count = rows.first().map_or(0, |row| row.total);
    let preview = rows.into_iter().map(|Previewed { member_type, member_id, role, .. }| PreviewedMember {
        member_type,
        member_id,
        role,
    });
    Ok(Crew { count, preview: preview.collect() })
}

/// A squad's members, in the order in which they came.
pub async fn list(db: &mut Session, squad: SquadId) -> Result<Vec<SquadMember>> {
    let rows: Vec<Row> =
        on!(db, |c| sqlx::query_as("SELECT * FROM squad_member WHERE squad_id = $1 ORDER BY created_at, id")
            .bind(squad)
            .fetch_all(c))?;
    Ok(rows.into_iter().map(SquadMember::from).collect())
}

/// Adds somebody; for owners and admins.
pub async fn add(tx: &mut Tx, who: &Insider, squad: SquadId, wish: &WishedMember) -> Result<SquadMember> {
    who.require_rule()?;
    super::lock(tx, who, squad).await?;
    let kind = words::one_of("member_type", TYPES, &wish.member_type)?;
    let member = references::member_or_agent(tx, who.workspace, kind, &wish.member_id, "member_id").await?;
    let row = insert(tx, squad, kind, member, &wish.role).await?;
    let row = row.ok_or_else(|| Error::conflict("already_in_squad", "already a member of this squad"))?;
    tx.emit(kinds::squad_members_changed(who.workspace, who.actor(), squad));
    Ok(row.into())
}

/// Takes somebody out, but never the leader; for owners and admins.
pub async fn remove(tx: &mut Tx, who: &Insider, squad: SquadId, wish: &WishedMember) -> Result<()> {
    who.require_rule()?;
    let row = super::lock(tx, who, squad).await?;
    let kind = words::one_of("member_type", TYPES, &wish.member_type)?;
    let member: Uuid = references::id("member_id", &wish.member_id)?;
    if kind == "agent" && member == row.leader_id.0 {
        return Err(Error::invalid("squad_leader", "the squad's leader cannot be removed; choose another one first"));
    }
    let removed = exec!(tx, |c| sqlx::query(
        "DELETE FROM squad_member WHERE squad_id = $1 AND member_type = $2 AND member_id = $3"
    )
    .bind(squad)
    .bind(kind)
    .bind(member))?;
    if removed == 0 {
        return Err(Error::not_found("squad_member_not_found", "squad member not found"));
    }
    tx.emit(kinds::squad_members_changed(who.workspace, who.actor(), squad));
    Ok(())
}

/// Makes its leader a member, without a word. One who is a member already keeps the role.
pub(super) async fn join_as_leader(tx: &mut Tx, squad: SquadId, leader: AgentId) -> Result<()> {
    insert(tx, squad, "agent", leader.0, "leader").await.map(drop)
}

async fn insert(tx: &mut Tx, squad: SquadId, kind: &str, member: Uuid, role: &str) -> Result<Option<Row>> {
    let now = tx.now();
    on!(tx, |c| sqlx::query_as(
        "INSERT INTO squad_member (id, squad_id, member_type, member_id, role, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (squad_id, member_type, member_id) DO NOTHING RETURNING *"
    )
    .bind(SquadMemberId::fresh())
    .bind(squad)
    .bind(kind)
    .bind(member)
    .bind(role)
    .bind(now)
    .fetch_optional(c))
}
