//! Who is to do an issue: a person, an agent, or a squad by its leader.

use uuid::Uuid;

use crate::{
    db::{Tx, on},
    error::{Error, Result},
    identity::Insider,
    ids::{AgentId, UserId},
    workspace::{agents, references, words},
};

/// An issue's assignee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignee {
    /// `member`, `agent` or `squad`.
    pub kind: String,
    /// The person's, the agent's or the squad's.
    pub id: Uuid,
}

#[derive(sqlx::FromRow)]
struct Led {
    archived: bool,
    leader_archived: bool,
    leader_visibility: String,
    leader_owner: UserId,
}

/// The assignee that a body names: both members of the pair, or none. Held as it is, so this comes
/// before the issue is locked.
pub(super) async fn wished(
    tx: &mut Tx,
    who: &Insider,
    kind: Option<&str>,
    id: Option<&str>,
) -> Result<Option<Assignee>> {
    let (kind, text) = match (kind.filter(|kind| !kind.is_empty()), id.filter(|id| !id.is_empty())) {
        (None, None) => return Ok(None),
        (Some(kind), Some(id)) => (kind, id),
        _ => return Err(Error::invalid("half_an_assignee", "assignee_type and assignee_id go together")),
    };
    words::one_of("assignee_type", &["member", "agent", "squad"], kind)?;
    let id: Uuid = references::id("assignee_id", text)?;
    match kind {
        "member" => drop(references::member_or_agent(tx, who.workspace, kind, text, "assignee_id").await?),
        "agent" => check_agent(tx, who, AgentId(id)).await?,
        _ => check_squad(tx, who, id).await?,
    }
    Ok(Some(Assignee { kind: kind.to_owned(), id }))
}

async fn check_agent(tx: &mut Tx, who: &Insider, agent: AgentId) -> Result<()> {
    let agent = agents::hold(tx, who.workspace, agent).await?.ok_or_else(|| references::invalid("assignee_id"))?;
    if agent.archived_at.is_some() {
        return Err(Error::invalid("agent_archived", "cannot assign to an archived agent"));
    }
    if !agent.is_open_to(who) {
        return Err(Error::forbidden("agent_private", "cannot assign to private agent"));
    }
    Ok(())
}

async fn check_squad(tx: &mut Tx, who: &Insider, squad: Uuid) -> Result<()> {
    let squad: Option<Led> = on!(
        tx,
        pg "SELECT s.archived_at IS NOT NULL AS archived, a.archived_at IS NOT NULL AS leader_archived,
                   a.visibility AS leader_visibility, a.owner_id AS leader_owner
            FROM squad s JOIN agent a ON a.id = s.leader_id WHERE s.id = $1 AND s.workspace_id = $2
            FOR KEY SHARE OF s",
        lite "SELECT s.archived_at IS NOT NULL AS archived, a.archived_at IS NOT NULL AS leader_archived,
                     a.visibility AS leader_visibility, a.owner_id AS leader_owner
              FROM squad s JOIN agent a ON a.id = s.leader_id WHERE s.id = $1 AND s.workspace_id = $2",
        |c, sql| sqlx::query_as(sql).bind(squad).bind(who.workspace).fetch_optional(c)
    )?;
    let squad = squad.ok_or_else(|| references::invalid("assignee_id"))?;
    if squad.archived {
        return Err(Error::invalid("squad_archived", "cannot assign to an archived squad"));
    }
    if squad.leader_archived {
        return Err(Error::invalid("leader_archived", "cannot assign to a squad with an archived leader"));
    }
    if squad.leader_visibility == "private" && !who.may_use_private(squad.leader_owner) {
        return Err(Error::forbidden("leader_private", "cannot assign to squad with private leader"));
    }
    Ok(())
}
