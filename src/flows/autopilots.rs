//! What binds an autopilot to a project and to whoever does its work: whose they may be, under their
//! locks, so that an autopilot never lands on what is being taken apart.

use std::{collections::BTreeSet, sync::Arc};

use uuid::Uuid;

use crate::{
    db::{Tx, on},
    error::{Error, Result},
    identity::Insider,
    ids::{AgentId, AutopilotId, ProjectId, WorkspaceId},
    protocol::{
        autopilot::{Autopilot, CreateAutopilot, PatchAutopilot},
        lenient::Patch,
    },
    tasks::{self, Queue, Which},
    workspace::{
        agents,
        autopilots::{self, Assignee, Parents, runs},
        projects,
    },
};

/// A new autopilot.
pub async fn create(tx: &mut Tx, who: &Insider, wish: &CreateAutopilot) -> Result<Autopilot> {
    autopilots::check(wish)?;
    let project = project(tx, who.workspace, &wish.project_id).await?;
    let kind = autopilots::assignee_type(&wish.assignee_type, "agent")?;
    let (assignee, admitted) = assignee(tx, who, kind, &wish.assignee_id).await?;
    admitted?;
    autopilots::create(tx, who, wish, project, &assignee).await
}

/// Changes an autopilot, and perhaps what it is bound to.
pub async fn patch(tx: &mut Tx, who: &Insider, id: AutopilotId, change: PatchAutopilot) -> Result<Autopilot> {
    // Projects, agents and squads are locked before autopilots.
    let current = autopilots::open(tx, who, id).await?;
    let project = match &change.project_id {
        Patch::Absent => None,
        Patch::Null => Some(None),
        Patch::Value(wished) => Some(project(tx, who.workspace, wished).await?),
    };
    let kind = change.assignee_type.as_deref().unwrap_or_default();
    let assignee = match &change.assignee_id {
        Some(wished) => {
            let kind = autopilots::assignee_type(kind, &current.assignee_type)?;
            Some(assignee(tx, who, kind, wished).await?)
        }
        None if kind.is_empty() => None,
        None => return Err(Error::invalid("half_an_assignee", "assignee_type goes together with assignee_id")),
    };
    autopilots::patch(tx, who, id, change, Parents { project, assignee }).await
}

/// Removes an autopilot; what its runs have an agent do ends before it.
pub async fn delete(tx: &mut Tx, queue: &Arc<Queue>, who: &Insider, id: AutopilotId) -> Result<()> {
    autopilots::open(tx, who, id).await?;
    let agents: BTreeSet<AgentId> = runs::running(tx, id).await?.into_iter().map(|(_, agent)| agent).collect();
    let agents: Vec<AgentId> = agents.into_iter().collect();
    tasks::lock_agents(tx, who.workspace, &agents).await?;
    autopilots::lock(tx, who, id).await?;
    let mut last = None;
    for (run, _) in runs::running(tx, id).await? {
        // One that was tried more than once is there more than once.
        if last.replace(run) != Some(run) {
            queue.cancel(tx, who.workspace, Which::Run(run), |agent| agents.contains(&agent)).await?;
        }
    }
    autopilots::delete(tx, who, id).await
}

/// A project of the workspace, kept from being removed; nothing stands for none.
async fn project(tx: &mut Tx, workspace: WorkspaceId, wished: &str) -> Result<Option<ProjectId>> {
    if wished.is_empty() {
        return Ok(None);
    }
    let wished: ProjectId = wished.parse().map_err(|_| invalid("project_id"))?;
    if projects::exists(tx, workspace, wished).await? { Ok(Some(wished)) } else { Err(invalid("project_id")) }
}

/// An agent or squad of the workspace, kept from being removed; and whether the caller may give it
/// work, which whoever has the work already need not be asked.
async fn assignee(tx: &mut Tx, who: &Insider, kind: &str, wished: &str) -> Result<(Assignee, Result<()>)> {
    let wished: Uuid = wished.parse::<AgentId>().map_err(|_| invalid("assignee_id"))?.into();
    let admitted = match kind {
        "squad" => admit_squad(tx, who, wished).await,
        _ => admit_agent(tx, who, AgentId(wished)).await,
    };
    match admitted {
        Ok(()) | Err(Error::Refused(_)) => Ok((Assignee(kind.to_owned(), wished), admitted)),
        Err(error) => Err(error),
    }
}

async fn admit_agent(tx: &mut Tx, who: &Insider, agent: AgentId) -> Result<()> {
    let found: Option<agents::Row> = on!(
        tx,
        pg "SELECT * FROM agent WHERE id = $1 AND workspace_id = $2 FOR KEY SHARE",
        lite "SELECT * FROM agent WHERE id = $1 AND workspace_id = $2",
        |c, sql| sqlx::query_as(sql).bind(agent).bind(who.workspace).fetch_optional(c)
    )?;
    let found = found.ok_or_else(|| invalid("assignee_id"))?;
    admit(who, &found, "agent_archived", "agent is archived")
}

/// The lock keeps a squad from being archived, too: then its autopilots go to its leader.
async fn admit_squad(tx: &mut Tx, who: &Insider, squad: Uuid) -> Result<()> {
    let found: Option<(AgentId, bool)> = on!(
        tx,
        pg "SELECT leader_id, archived_at IS NOT NULL FROM squad WHERE id = $1 AND workspace_id = $2 FOR SHARE",
        lite "SELECT leader_id, archived_at IS NOT NULL FROM squad WHERE id = $1 AND workspace_id = $2",
        |c, sql| sqlx::query_as(sql).bind(squad).bind(who.workspace).fetch_optional(c)
    )?;
    let (leader, archived) = found.ok_or_else(|| invalid("assignee_id"))?;
    if archived {
        return Err(Error::unprocessable("squad_archived", "squad is archived"));
    }
    // A squad's leader cannot go before it, so it needs no lock. One that is archived meanwhile has
    // its runs skipped.
    let leader = agents::find(tx, who.workspace, leader).await?.ok_or_else(|| invalid("assignee_id"))?;
    admit(who, &leader, "squad_leader_archived", "squad leader is archived")
}

/// Lets an agent be given work by whoever may use it, as long as it is not put aside.
fn admit(who: &Insider, agent: &agents::Row, code: &'static str, text: &'static str) -> Result<()> {
    if !agent.is_open_to(who) {
        return Err(agents::no_access());
    }
    if agent.archived_at.is_some() { Err(Error::unprocessable(code, text)) } else { Ok(()) }
}

fn invalid(field: &str) -> Error {
    Error::invalid("invalid_reference", format!("invalid {field}"))
}
