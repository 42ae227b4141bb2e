//! All that the ends of some tasks concern, locked in the house's order before the tasks themselves:
//! the runtimes and agents that may try them once more, the issues and chats where it is said.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    db::Tx,
    error::{Error, Result, there},
    fleet,
    ids::{AgentId, ChatSessionId, IssueId, RuntimeId, WorkspaceId},
    protocol::issue::Issue,
    tasks::{Row, workers},
    workspace::{
        agents,
        chats::{self, Row as Chat},
        issues,
    },
};

/// What is held.
#[derive(Default)]
pub(in crate::tasks) struct Held {
    /// The runtimes that were to be held, and those of them that there are.
    planned: BTreeSet<RuntimeId>,
    seats: BTreeSet<RuntimeId>,
    pub(super) agents: BTreeMap<AgentId, agents::Row>,
    pub(super) issues: BTreeMap<IssueId, Issue>,
    pub(super) chats: BTreeMap<ChatSessionId, Chat>,
}

impl Held {
    /// Locks what some tasks concern. Once it is held, how the tasks are does not change any more:
    /// every transition locks the agent.
    pub(in crate::tasks) async fn take(tx: &mut Tx, workspace: WorkspaceId, rows: &[Row]) -> Result<Self> {
        let planned: BTreeSet<RuntimeId> = rows.iter().filter_map(|row| row.runtime_id).collect();
        let runtimes: Vec<RuntimeId> = planned.iter().copied().collect();
        let seats = match runtimes.is_empty() {
            true => BTreeSet::new(),
            false => fleet::lock_seats(tx, workspace, &runtimes).await?.into_keys().collect(),
        };
        let agents: BTreeSet<AgentId> = rows.iter().map(|row| row.agent_id).collect();
        let agents: Vec<AgentId> = agents.into_iter().collect();
        let agents = workers::lock_agents(tx, workspace, &agents).await?;
        let mut held = Self {
            planned,
            seats,
            agents: agents.into_iter().map(|agent| (agent.id, agent)).collect(),
            ..Self::default()
        };
        for id in rows.iter().filter_map(|row| row.issue_id).collect::<BTreeSet<_>>() {
            if let Some(issue) = there(issues::lock(tx, workspace, id).await)? {
                held.issues.insert(id, issue);
            }
        }
        for id in rows.iter().filter_map(|row| row.chat_session_id).collect::<BTreeSet<_>>() {
            if let Some(chat) = there(chats::hold(tx, id).await)? {
                held.chats.insert(id, chat);
            }
        }
        Ok(held)
    }

    /// Begins anew, if a task was taken over by another runtime since it was looked at: that one may try
    /// it again.
    pub(in crate::tasks) fn require(&self, row: &Row) -> Result<()> {
        match row.runtime_id {
            Some(runtime) if !self.planned.contains(&runtime) => Err(Error::PlanChanged),
            _ => Ok(()),
        }
    }

    /// Whether an agent is held.
    pub(in crate::tasks) fn has(&self, agent: AgentId) -> bool {
        self.agents.contains_key(&agent)
    }

    /// The agent that tries a task once more, if there is one to do so, and somewhere and something to do
    /// it for.
    pub(super) fn agent_to_retry(&self, row: &Row) -> Option<&agents::Row> {
        row.runtime_id.filter(|runtime| self.seats.contains(runtime))?;
        let lacks_issue = row.issue_id.is_some() && self.issue_of(row).is_none();
        let lacks_chat = row.chat_session_id.is_some() && self.chat_of(row).is_none();
        if lacks_issue || lacks_chat {
            return None;
        }
        self.agents.get(&row.agent_id).filter(|agent| agent.archived_at.is_none())
    }

    /// The issue that a task is for, as long as there is one.
    pub(super) fn issue_of(&self, row: &Row) -> Option<&Issue> {
        self.issues.get(&row.issue_id?)
    }

    /// The chat that a task answers in, as long as there is one.
    pub(super) fn chat_of(&self, row: &Row) -> Option<&Chat> {
        self.chats.get(&row.chat_session_id?)
    }
}
