//! Agents that a change may give work to or take it from, held before the change is made: what comes
//! out of it is known only under the record's lock, and that one is taken later.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::{
    db::{Session, Tx},
    error::{Error, Result},
    ids::{AgentId, SquadId, WorkspaceId},
    protocol::issue::Issue,
    tasks::{self, Worker, Workers},
    workspace::squads,
};

/// The agents, locked.
pub(super) struct Held {
    /// All that were asked for, also ids that are no agent's.
    planned: BTreeSet<AgentId>,
    workers: Workers,
}

impl Held {
    /// Locks them.
    pub(super) async fn take(
        tx: &mut Tx,
        workspace: WorkspaceId,
        agents: impl IntoIterator<Item = AgentId>,
    ) -> Result<Self> {
        let planned: BTreeSet<AgentId> = agents.into_iter().collect();
        let workers = tasks::lock_workers(tx, workspace, planned.iter().copied()).await?;
        Ok(Self { planned, workers })
    }

    /// Whether nobody who was not asked for is meant.
    pub(super) fn has(&self, agent: AgentId) -> bool {
        self.planned.contains(&agent)
    }

    /// One of them that can be given work. An agent that nobody thought of when the locks were taken
    /// makes everything begin anew.
    pub(super) fn active(&self, agent: AgentId) -> Result<Option<&Worker>> {
        if !self.has(agent) {
            return Err(Error::PlanChanged);
        }
        if !self.workers.has(agent) {
            return Ok(None);
        }
        self.workers.get(agent).map(|worker| Some(worker).filter(|worker| worker.is_active()))
    }
}

/// An agent that is to work on an issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// Which.
    pub agent: AgentId,
    /// Whether it is asked as a squad's leader.
    pub leads: bool,
}

/// The agent behind an assignee: itself, or a squad's leader.
pub(super) async fn behind(
    db: &mut Session,
    workspace: WorkspaceId,
    kind: Option<&str>,
    id: Option<Uuid>,
) -> Result<Option<Asked>> {
    match (kind, id) {
        (Some("agent"), Some(id)) => Ok(Some(Asked { agent: AgentId(id), leads: false })),
        (Some("squad"), Some(id)) => {
            let leader = squads::leaders(db, workspace, &[SquadId(id)]).await?.remove(&SquadId(id));
            Ok(leader.map(|agent| Asked { agent, leads: true }))
        }
        _ => Ok(None),
    }
}

/// The agent that is to work on an issue as it is assigned.
pub(super) async fn assigned(db: &mut Session, issue: &Issue) -> Result<Option<Asked>> {
    behind(db, issue.workspace_id, issue.assignee_type.as_deref(), issue.assignee_id).await
}
