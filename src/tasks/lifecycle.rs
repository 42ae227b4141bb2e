//! What a daemon does with a task that it has: start, wait, say where the session is, end. Each call
//! is judged by what the task itself remembers of whose it is, so that it is understood also when the
//! runtime is gone.

use std::{collections::BTreeSet, sync::Arc};

use sqlx::types::Json;

use super::{
    Queue, Row, lock_agents, row,
    status::{Operation, Status},
    tokens,
};
use crate::{
    db::{Tx, exec, on},
    error::{Error, Result},
    events::kinds,
    identity::Driver,
    ids::{TaskId, WorkspaceId},
    protocol::task::{CompleteTask, PinSession},
};

/// Bytes that are kept of what an agent put out, and of an error.
pub(super) const LONGEST_OUTPUT: usize = 1 << 20;
/// Bytes of a session's name, of a folder, and of why a daemon waits.
const LONGEST_NAME: usize = 4 << 10;

impl Queue {
    /// The workspace of a task, for the daemon that may work on it; or the refusal. No more than one
    /// statement.
    pub async fn home(&self, driver: &Driver, task: TaskId) -> Result<WorkspaceId> {
        let row = self.db.read(async move |db| row::find(db, task).await).await?.ok_or_else(row::not_found)?;
        self.fleet.require_works(row.workspace_id, row.owner_id, &row.daemon_id, driver).await?;
        Ok(row.workspace_id)
    }

    /// Its agent begins.
    pub async fn start(self: &Arc<Self>, tx: &mut Tx, task: TaskId) -> Result<Row> {
        require(Operation::Start, hold(tx, task).await?.status)?;
        let now = tx.now();
        let row: Row = on!(tx, |c| sqlx::query_as(
            "UPDATE task SET status = $3, started_at = $2, wait_reason = NULL, waiting_at = NULL,
                 orphan_check_at = NULL
             WHERE id = $1 RETURNING *"
        )
        .bind(task)
        .bind(now)
        .bind(Operation::Start.to().word())
        .fetch_one(c))?;
        tx.emit(kinds::task_changed("task:running", &row.told()));
        Ok(row)
    }

    /// Its daemon waits until a folder is free.
    pub async fn wait(self: &Arc<Self>, tx: &mut Tx, task: TaskId, reason: &str) -> Result<Row> {
        require(Operation::Wait, hold(tx, task).await?.status)?;
        let now = tx.now();
        let row: Row = on!(tx, |c| sqlx::query_as(
            "UPDATE task SET status = $4, waiting_at = $2, wait_reason = $3
             WHERE id = $1 RETURNING *"
        )
        .bind(task)
        .bind(now)
        .bind(given(reason))
        .bind(Operation::Wait.to().word())
        .fetch_one(c))?;
        tx.emit(kinds::task_changed("task:waiting_local_directory", &row.told()));
        Ok(row)
    }

    /// Its daemon says where the agent's session can be taken up again. Nothing, if it is not at work.
    pub async fn pin(&self, tx: &mut Tx, task: TaskId, session: &PinSession) -> Result<()> {
        if !hold(tx, task).await?.status.has_session() {
            return Ok(());
        }
        exec!(tx, |c| sqlx::query(
            "UPDATE task SET session_id = COALESCE($2, session_id), work_dir = COALESCE($3, work_dir) WHERE id = $1"
        )
        .bind(task)
        .bind(given(&session.session_id))
        .bind(given(&session.work_dir)))
        .map(drop)
    }

    /// Its daemon reports the end. Nothing changes, if it does not run: a daemon may say so twice.
    pub async fn complete(self: &Arc<Self>, tx: &mut Tx, task: TaskId, report: &CompleteTask) -> Result<Row> {
        let old = hold(tx, task).await?;
        if !Operation::Complete.applies_to(old.status) {
            return Ok(old);
        }
        let now = tx.now();
        let short = |text: &str| given(text).unwrap_or_default().to_owned();
        let kept = CompleteTask {
            pr_url: short(&report.pr_url),
            output: cut(&report.output, LONGEST_OUTPUT).to_owned(),
            session_id: short(&report.session_id),
            work_dir: short(&report.work_dir),
        };
        // Where the session is now, or nowhere.
        let row: Row = on!(tx, |c| sqlx::query_as(
            "UPDATE task SET status = $6, completed_at = $2, result = $3, session_id = $4, work_dir = $5,
                 orphan_check_at = NULL
             WHERE id = $1 RETURNING *"
        )
        .bind(task)
        .bind(now)
        .bind(Json(&kept))
        .bind(given(&report.session_id))
        .bind(given(&report.work_dir))
        .bind(Operation::Complete.to().word())
        .fetch_one(c))?;
        tokens::revoke(self, tx, &[task]).await?;
        self.refresh_agents(tx, &BTreeSet::from([row.agent_id])).await?;
        tx.emit(kinds::task_changed("task:completed", &row.told()));
        let queue = self.clone();
        tx.after_commit(move || queue.metrics.ended("completed", ""));
        Ok(row)
    }
}

/// A task under its agent's lock and its own.
pub(super) async fn hold(tx: &mut Tx, task: TaskId) -> Result<Row> {
    let row = row::find(tx, task).await?.ok_or_else(row::not_found)?;
    lock_agents(tx, row.workspace_id, &[row.agent_id]).await?;
    row::lock(tx, task).await?.ok_or_else(row::not_found)
}

fn require(operation: Operation, status: Status) -> Result<()> {
    if operation.applies_to(status) {
        return Ok(());
    }
    let verb = match operation {
        Operation::Start => "started",
        _ => "made to wait",
    };
    Err(Error::invalid("illegal_transition", format!("task cannot be {verb}: it is {}", status.word())))
}

/// A name that was given, within reason.
pub(super) fn given(text: &str) -> Option<&str> {
    Some(cut(text.trim(), LONGEST_NAME)).filter(|text| !text.is_empty())
}

/// The first so many bytes of a text, whole characters only.
pub(super) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}
