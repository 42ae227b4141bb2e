//! What a daemon does with a task that it has: start, wait, say where the session is. How it ends is in
//! `ends`.

use std::sync::Arc;

use super::{Queue, Row, lock_agents, row, status::Operation};
use crate::{
    db::{Tx, exec, on},
    error::Result,
    ids::TaskId,
    protocol::task::PinSession,
};

/// Bytes that are kept of what an agent put out, and of an error.
pub(super) const LONGEST_OUTPUT: usize = 1 << 20;
/// Bytes of a session's name, of a folder, and of why a daemon waits.
const LONGEST_NAME: usize = 4 << 10;

impl Queue {
    /// Its agent begins. A daemon asks for that once; what became of a try of ours that it does not know
    /// of (`doubtful`) is its answer.
    pub async fn start(self: &Arc<Self>, tx: &mut Tx, task: TaskId, doubtful: bool) -> Result<Row> {
        let old = hold(tx, task).await?;
        if doubtful && old.status == Operation::Start.to() {
            return Ok(old);
        }
        Operation::Start.admits(old.status)?;
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
        tx.emit(row.told_of(Operation::Start));
        Ok(row)
    }

    /// Its daemon waits until a folder is free; see [`Queue::start`].
    pub async fn wait(self: &Arc<Self>, tx: &mut Tx, task: TaskId, reason: &str, doubtful: bool) -> Result<Row> {
        let old = hold(tx, task).await?;
        if doubtful && old.status == Operation::Wait.to() {
            return Ok(old);
        }
        Operation::Wait.admits(old.status)?;
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
        tx.emit(row.told_of(Operation::Wait));
        Ok(row)
    }

    /// Its daemon says where the agent's session can be taken up again. Nothing, if it is not at work.
    pub async fn pin(&self, tx: &mut Tx, task: TaskId, session: &PinSession) -> Result<()> {
        if !Operation::Pin.admits(hold(tx, task).await?.status)? {
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
}

/// A task under its agent's lock and its own.
pub(super) async fn hold(tx: &mut Tx, task: TaskId) -> Result<Row> {
    let row = row::find(tx, task).await?.ok_or_else(row::not_found)?;
    lock_agents(tx, row.workspace_id, &[row.agent_id]).await?;
    row::lock(tx, task).await?.ok_or_else(row::not_found)
}

/// A name that was given, within reason.
pub(super) fn given(text: &str) -> Option<&str> {
    Some(cut(text.trim(), LONGEST_NAME)).filter(|text| !text.is_empty())
}

/// The first so many bytes of a text, whole characters only.
pub(super) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}
