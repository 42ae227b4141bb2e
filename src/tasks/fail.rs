//! The one path on which tasks fail, whoever says so: the daemon, a restart of it, or the sweep.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Queue, Row,
    lifecycle::{LONGEST_OUTPUT, cut, given, hold},
    retry,
    status::Operation,
    tokens, workers,
};
use crate::{
    db::{Tx, on},
    error::{Error, Result},
    events::kinds,
    fleet,
    ids::{AgentId, RuntimeId, TaskId, WorkspaceId},
    protocol::task::FailTask,
    workspace::agents,
};

/// What is said of a task that fails where nothing else is.
const AGENT_ERROR: &str = "agent_error";

/// How a task ended badly.
#[derive(Debug, Clone)]
pub struct Failure {
    /// In words.
    pub error: String,
    /// In one word, for programs.
    pub reason: String,
    /// Where the session is, if its daemon says so.
    pub session_id: Option<String>,
    /// And the folder.
    pub work_dir: Option<String>,
    /// Whether it is the hub that says so: then the event has the reason, and why it waited no longer
    /// counts.
    pub by_hub: bool,
}

impl Failure {
    /// As a daemon reports it.
    pub fn reported(report: &FailTask) -> Self {
        Self {
            error: report.error.clone(),
            reason: given(&report.failure_reason).unwrap_or(AGENT_ERROR).to_owned(),
            session_id: given(&report.session_id).map(str::to_owned),
            work_dir: given(&report.work_dir).map(str::to_owned),
            by_hub: false,
        }
    }
}

/// What became of tasks that failed.
#[derive(Debug, Default)]
pub struct Failed {
    /// The tasks.
    pub rows: Vec<Row>,
    /// Those that are tried once more.
    pub retried: BTreeSet<TaskId>,
}

impl Queue {
    /// Its daemon reports a bad end. Nothing changes, if it is over already.
    pub async fn fail(self: &Arc<Self>, tx: &mut Tx, task: TaskId, failure: &Failure) -> Result<Row> {
        let planned = super::find(tx, task).await?.ok_or_else(super::not_found)?;
        let seats = BTreeSet::from_iter(planned.runtime_id);
        let held = Held::take(tx, planned.workspace_id, &seats, &[planned.agent_id]).await?;
        let row = hold(tx, task).await?;
        // Taken over by another runtime meanwhile, where it may be tried again.
        if row.runtime_id != planned.runtime_id {
            return Err(Error::PlanChanged);
        }
        if !Operation::Fail.applies_to(row.status) {
            return Ok(row);
        }
        let failed = self.fail_all(tx, &held, vec![row], failure).await?;
        failed.rows.into_iter().next().ok_or_else(|| Error::internal("a task that failed is gone"))
    }

    /// Tasks fail; those that may be tried again are. The caller holds their runtimes, their agents and
    /// themselves.
    pub(super) async fn fail_all(
        self: &Arc<Self>,
        tx: &mut Tx,
        held: &Held,
        rows: Vec<Row>,
        failure: &Failure,
    ) -> Result<Failed> {
        let mut failed = Failed::default();
        for row in rows {
            failed.rows.push(store(tx, &row, failure).await?);
        }
        let ids: Vec<TaskId> = failed.rows.iter().map(|row| row.id).collect();
        tokens::revoke(self, tx, &ids).await?;
        let mut agents = BTreeSet::new();
        for row in &failed.rows {
            // The next attempt is told before the end of this one.
            if let Some(agent) = held.agent_to_retry(row)
                && retry::again(self, tx, agent, row).await?
            {
                failed.retried.insert(row.id);
            }
            agents.insert(row.agent_id);
        }
        self.refresh_agents(tx, &agents).await?;
        for row in &failed.rows {
            let mut told = row.told();
            if failure.by_hub {
                told.failure_reason = Some(failure.reason.clone());
            }
            tx.emit(kinds::task_changed("task:failed", &told));
        }
        let (queue, reason, count) = (self.clone(), failure.reason.clone(), failed.rows.len());
        tx.after_commit(move || (0..count).for_each(|_| queue.metrics.ended("failed", &reason)));
        Ok(failed)
    }
}

/// The runtimes and agents of tasks that are about to fail, locked: a retry is queued for both.
pub(super) struct Held {
    seats: BTreeSet<RuntimeId>,
    agents: BTreeMap<AgentId, agents::Row>,
}

impl Held {
    /// Locks them, in the house's order.
    pub(super) async fn take(
        tx: &mut Tx,
        workspace: WorkspaceId,
        runtimes: &BTreeSet<RuntimeId>,
        agents: &[AgentId],
    ) -> Result<Self> {
        let runtimes: Vec<RuntimeId> = runtimes.iter().copied().collect();
        let seats = fleet::lock_seats(tx, workspace, &runtimes).await?.into_keys().collect();
        let agents = workers::lock_agents(tx, workspace, agents).await?;
        Ok(Self { seats, agents: agents.into_iter().map(|agent| (agent.id, agent)).collect() })
    }

    /// Whether an agent is locked.
    pub(super) fn has(&self, agent: AgentId) -> bool {
        self.agents.contains_key(&agent)
    }

    /// The agent that tries a task once more, if there is one to do so and somewhere to do it.
    fn agent_to_retry(&self, row: &Row) -> Option<&agents::Row> {
        row.runtime_id.filter(|runtime| self.seats.contains(runtime))?;
        self.agents.get(&row.agent_id).filter(|agent| agent.archived_at.is_none())
    }
}

async fn store(tx: &mut Tx, row: &Row, failure: &Failure) -> Result<Row> {
    let now = tx.now();
    on!(tx, |c| sqlx::query_as(
        "UPDATE task SET status = $8, completed_at = $2, error = $3, failure_reason = $4,
             session_id = COALESCE($5, session_id), work_dir = COALESCE($6, work_dir), orphan_check_at = NULL,
             wait_reason = CASE WHEN $7 THEN NULL ELSE wait_reason END
         WHERE id = $1 RETURNING *"
    )
    .bind(row.id)
    .bind(now)
    .bind(cut(&failure.error, LONGEST_OUTPUT))
    .bind(&failure.reason)
    .bind(&failure.session_id)
    .bind(&failure.work_dir)
    .bind(failure.by_hub)
    .bind(Operation::Fail.to().word())
    .fetch_one(c))
}
