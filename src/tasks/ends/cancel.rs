//! Ending work that nobody wants any more.

use std::{collections::BTreeSet, sync::Arc};

use super::run;
use crate::{
    db::{
        Session, Tx,
        sql::{Sql, Value},
    },
    error::{Error, Result},
    ids::{AgentId, ChatSessionId, CommentId, IssueId, RunId, RuntimeId, TaskId, WorkspaceId},
    tasks::{
        Queue, Row, agent_status,
        status::{Operation, active},
        tokens,
    },
};

/// What daemons are told of a task that was cancelled.
const CANCELLED: &str = "cancelled";

/// Whose work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// One task.
    Task(TaskId),
    /// Everything for an issue.
    Issue(IssueId),
    /// What one agent has to do for an issue.
    IssueOf(IssueId, AgentId),
    /// Everything that an agent has to do.
    Agent(AgentId),
    /// Everything in a chat.
    Chat(ChatSessionId),
    /// Everything that a comment asked for.
    Comment(CommentId),
    /// A run of an autopilot.
    Run(RunId),
    /// What is taken apart.
    Torn(Torn<'a>),
}

/// Everything that waits or is at work at some runtimes, and everything that some agents have to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn<'a> {
    /// The runtimes.
    pub runtimes: &'a [RuntimeId],
    /// The agents, in the order of their ids.
    pub agents: &'a [AgentId],
    /// Whether the agents go as well: then nobody is told how they are.
    pub agents_go: bool,
}

impl Torn<'_> {
    fn narrow(self, sql: &mut Sql) {
        sql.push(" AND (runtime_id ").bind(Value::AnyOf(self.runtimes.iter().map(|id| id.0).collect()));
        sql.push(" OR agent_id ").bind(Value::AnyOf(self.agents.iter().map(|id| id.0).collect())).push(")");
    }
}

impl Which<'_> {
    /// Whether it is told how an agent is that lost work.
    fn is_told_of(self, agent: AgentId) -> bool {
        !matches!(self, Self::Torn(torn) if torn.agents_go && torn.agents.binary_search(&agent).is_ok())
    }

    fn narrow(self, sql: &mut Sql) {
        let (column, id) = match self {
            Self::Torn(torn) => return torn.narrow(sql),
            Self::Task(id) => (" AND id = ", id.0),
            Self::Issue(id) | Self::IssueOf(id, _) => (" AND issue_id = ", id.0),
            Self::Agent(id) => (" AND agent_id = ", id.0),
            Self::Chat(id) => (" AND chat_session_id = ", id.0),
            Self::Comment(id) => (" AND trigger_comment_id = ", id.0),
            Self::Run(id) => (" AND autopilot_run_id = ", id.0),
        };
        sql.push(column).bind(Value::Id(id));
        if let Self::IssueOf(_, agent) = self {
            sql.push(" AND agent_id = ").bind(Value::Id(agent.0));
        }
    }
}

/// The agents whose work it is: to be locked before it is ended.
pub async fn agents_of(db: &mut Session, workspace: WorkspaceId, which: Which<'_>) -> Result<Vec<AgentId>> {
    let mut sql = Sql::new(concat!("SELECT DISTINCT agent_id FROM task WHERE status IN ", active!()));
    sql.push(" AND workspace_id = ").bind(Value::Id(workspace.0));
    which.narrow(&mut sql);
    let found: Vec<(AgentId,)> = sql.fetch_all(db).await?;
    Ok(found.into_iter().map(|(agent,)| agent).collect())
}

impl Queue {
    /// Ends work that has not ended, and tells of each task, the oldest first. `locked` says which
    /// agents' locks the caller holds: work of another one has turned up since they were looked up, and
    /// then everything begins anew.
    pub async fn cancel(
        self: &Arc<Self>,
        tx: &mut Tx,
        workspace: WorkspaceId,
        which: Which<'_>,
        locked: impl Fn(AgentId) -> bool,
    ) -> Result<Vec<Row>> {
        let now = tx.now();
        let mut sql = Sql::new("UPDATE task SET status = ");
        sql.bind(Value::Text(Operation::Cancel.to().word().to_owned()));
        sql.push(", orphan_check_at = NULL, completed_at = ");
        sql.bind(Value::Number(now.0));
        // In the order of their ids: several runtimes may be taken apart at once.
        sql.push_for(
            concat!(" WHERE id IN (SELECT id FROM task WHERE status IN ", active!()),
            concat!(" WHERE status IN ", active!()),
        );
        sql.push(" AND workspace_id = ").bind(Value::Id(workspace.0));
        which.narrow(&mut sql);
        sql.push_for(" ORDER BY id FOR NO KEY UPDATE) RETURNING *", " RETURNING *");
        let mut rows: Vec<Row> = sql.fetch_all(tx).await?;
        if rows.iter().any(|row| !locked(row.agent_id)) {
            return Err(Error::PlanChanged);
        }
        rows.sort_by_key(|row| (row.created_at, row.id));
        self.told_cancelled(tx, &rows, which).await?;
        Ok(rows)
    }

    async fn told_cancelled(self: &Arc<Self>, tx: &mut Tx, rows: &[Row], which: Which<'_>) -> Result<()> {
        let had: Vec<&Row> = rows.iter().filter(|row| row.dispatched_at.is_some()).collect();
        let tasks: Vec<TaskId> = had.iter().map(|row| row.id).collect();
        tokens::revoke(self, tx, &tasks).await?;
        let agents = had.iter().map(|row| row.agent_id).filter(|agent| which.is_told_of(*agent));
        let agents: BTreeSet<AgentId> = agents.collect();
        let status_first = !matches!(which, Which::Agent(_));
        if status_first {
            self.refresh_agents(tx, &agents).await?;
        }
        for (place, row) in rows.iter().enumerate() {
            // Others' transactions run on the same threads.
            if place % 256 == 255 {
                tokio::task::yield_now().await;
            }
            tx.emit(row.told_of(Operation::Cancel));
        }
        run::follow(tx, rows).await?;
        if !status_first {
            self.refresh_agents(tx, &agents).await?;
        }
        for row in rows {
            self.count_end(tx, row);
            self.tell_daemon(tx, row, CANCELLED);
        }
        Ok(())
    }

    /// Agents that lost work may have room again.
    pub(in crate::tasks) async fn refresh_agents(
        self: &Arc<Self>,
        tx: &mut Tx,
        agents: &BTreeSet<AgentId>,
    ) -> Result<()> {
        if agents.is_empty() {
            return Ok(());
        }
        let agents: Vec<AgentId> = agents.iter().copied().collect();
        agent_status::refresh(tx, &agents).await?;
        self.wake_next_of(tx, &agents).await
    }
}
