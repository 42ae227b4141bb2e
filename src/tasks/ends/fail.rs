//! The one path on which tasks fail, whoever says so: the daemon, a restart of it, or the sweep.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Held, chat, issue, run};
use crate::{
    db::{Tx, on},
    error::{Error, Result},
    events::Control,
    ids::{IssueId, TaskId},
    protocol::task::FailTask,
    tasks::{
        Queue, Row,
        lifecycle::{LONGEST_OUTPUT, cut, given},
        reasons, redact, retry, row,
        status::{Operation, Status},
        tokens,
    },
};

/// How a daemon begins to say that a task could not even be started.
const NOT_STARTED: &str = "start task failed:";

/// How a task ended badly.
#[derive(Debug, Clone)]
pub struct Failure {
    /// In words, without secrets.
    error: String,
    /// In one word, for programs.
    reason: String,
    /// Where the session is, if its daemon says so.
    session_id: Option<String>,
    /// And the folder.
    work_dir: Option<String>,
    /// Whether it is the hub that says so: then its daemon has yet to hear of it.
    by_hub: bool,
}

impl Failure {
    /// As a daemon reports it. Reads all of it: large ones are for a thread that has the time.
    pub fn reported(report: &FailTask) -> Self {
        Self {
            error: cut(&redact::text(&report.error), LONGEST_OUTPUT).to_owned(),
            reason: given(&report.failure_reason).unwrap_or_else(|| reasons::classify(&report.error)).to_owned(),
            session_id: given(&report.session_id).map(str::to_owned),
            work_dir: given(&report.work_dir).map(str::to_owned),
            by_hub: false,
        }
    }

    /// What is said of it.
    pub(in crate::tasks) fn in_words(&self) -> &str {
        &self.error
    }

    /// As the hub finds it.
    pub(in crate::tasks) fn found(error: &str, reason: &str) -> Self {
        Self { error: error.to_owned(), reason: reason.to_owned(), session_id: None, work_dir: None, by_hub: true }
    }
}

/// What became of tasks that failed.
#[derive(Debug, Default)]
pub(in crate::tasks) struct Failed {
    /// The tasks.
    pub rows: Vec<Row>,
    /// Those that are tried once more.
    pub retried: BTreeSet<TaskId>,
}

/// Its daemon reports a bad end. Nothing changes, if it is over already.
pub async fn fail_reported(queue: &Arc<Queue>, tx: &mut Tx, task: TaskId, failure: &Failure) -> Result<Row> {
    let planned = row::find(tx, task).await?.ok_or_else(row::not_found)?;
    let held = Held::take(tx, planned.workspace_id, &[planned]).await?;
    let row = row::lock(tx, task).await?.ok_or_else(row::not_found)?;
    if !Operation::Fail.admits(row.status)? {
        return Ok(row);
    }
    let mut failure = failure.clone();
    if failure.error.starts_with(NOT_STARTED) && !has_begun(tx, &row).await? {
        // The agent never ran: that is no fault of the work.
        failure.reason = reasons::START_FAILED.to_owned();
    }
    let failed = queue.fail_all(tx, &held, vec![row], &failure).await?;
    failed.rows.into_iter().next().ok_or_else(|| Error::internal("a task that failed is gone"))
}

/// Whether anything came of a task since it was started.
async fn has_begun(tx: &mut Tx, row: &Row) -> Result<bool> {
    let Some(started) = row.started_at.filter(|_| row.status == Status::Running) else { return Ok(false) };
    on!(tx, |c| sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM task_message WHERE task_id = $1 AND created_at >= $2)"
    )
    .bind(row.id)
    .bind(started)
    .fetch_one(c))
}

impl Queue {
    /// Tasks fail; those that may be tried again are. The caller holds what they concern.
    pub(in crate::tasks) async fn fail_all(
        self: &Arc<Self>,
        tx: &mut Tx,
        held: &Held,
        rows: Vec<Row>,
        failure: &Failure,
    ) -> Result<Failed> {
        let mut failed = Failed::default();
        for row in rows {
            held.require(&row)?;
            failed.rows.push(store(tx, &row, failure).await?);
        }
        let ids: Vec<TaskId> = failed.rows.iter().map(|row| row.id).collect();
        tokens::revoke(self, tx, &ids).await?;
        let mut agents = BTreeSet::new();
        for row in &failed.rows {
            chat::failed(tx, held, row).await?;
            // The next attempt is told before the end of this one.
            if let Some(agent) = held.agent_to_retry(row)
                && retry::again(self, tx, agent, row).await?
            {
                failed.retried.insert(row.id);
            } else {
                issue::failed(tx, held, row).await?;
                chat::given_up(tx, held, row).await?;
            }
            agents.insert(row.agent_id);
        }
        self.refresh_agents(tx, &agents).await?;
        let idle = idle_issues(tx, &failed).await?;
        if reasons::resets_issue(&failure.reason) {
            for issue in idle.keys() {
                issue::reset(tx, *issue, held).await?;
            }
        }
        for row in &failed.rows {
            tx.emit(row.told_of(Operation::Fail));
        }
        run::follow(tx, &failed.rows).await?;
        for (issue, row) in idle {
            run::give_up(tx, row, issue).await?;
        }
        for row in &failed.rows {
            self.count_end(tx, row);
            if failure.by_hub {
                self.tell_daemon(tx, row, &failure.reason);
            }
        }
        Ok(failed)
    }

    /// The daemon that has a task hears that it is over, on whichever node its socket is.
    pub(in crate::tasks) fn tell_daemon(self: &Arc<Self>, tx: &mut Tx, row: &Row, reason: &str) {
        let Some(runtime) = row.runtime_id.filter(|_| row.dispatched_at.is_some()) else { return };
        let (queue, task, reason) = (self.clone(), row.id, reason.to_owned());
        tx.after_commit(move || queue.nodes.tell(Control::TaskEnded { runtime, task, reason }));
    }

    /// Counts an end once it is committed.
    pub(in crate::tasks) fn count_end(self: &Arc<Self>, tx: &mut Tx, row: &Row) {
        let (queue, status) = (self.clone(), row.status.word());
        let reason = reasons::counted(row.failure_reason.as_deref().unwrap_or_default());
        let ran = row.started_at.zip(row.completed_at).map(|(started, ended)| ended.since(started));
        tx.after_commit(move || queue.metrics.ended(status, reason, ran));
    }
}

/// The issues that nobody works on any more, each with the last of the tasks that failed for it.
async fn idle_issues<'f>(tx: &mut Tx, failed: &'f Failed) -> Result<BTreeMap<IssueId, &'f Row>> {
    let mut last: BTreeMap<IssueId, &Row> = BTreeMap::new();
    failed.rows.iter().for_each(|row| {
        row.issue_id.map(|issue| last.insert(issue, row));
    });
    let mut idle = BTreeMap::new();
    for (issue, row) in last {
        if !issue::is_active(tx, issue).await? {
            idle.insert(issue, row);
        }
    }
    Ok(idle)
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
    .bind(&failure.error)
    .bind(&failure.reason)
    .bind(&failure.session_id)
    .bind(&failure.work_dir)
    .bind(failure.by_hub)
    .bind(Operation::Fail.to().word())
    .fetch_one(c))
}
