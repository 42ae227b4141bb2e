//! A daemon reports that a task came to an end.

use std::{collections::BTreeSet, sync::Arc};

use sqlx::types::Json;

use super::{Held, chat, issue, run};
use crate::{
    db::{Tx, on},
    error::Result,
    ids::{IssueId, TaskId},
    protocol::task::CompleteTask,
    tasks::{
        Queue, Row,
        lifecycle::{LONGEST_OUTPUT, cut, given},
        redact, row,
        status::Operation,
        tokens,
    },
    workspace::issues,
};

/// An end as it may be kept: without secrets, and no longer than anybody reads.
#[derive(Debug, Clone)]
pub struct Completion {
    kept: CompleteTask,
}

impl Completion {
    /// As its daemon reports it. Reads all of it: large ones are for a thread that has the time.
    pub fn reported(report: &CompleteTask) -> Self {
        let short = |text: &str| given(text).unwrap_or_default().to_owned();
        // Whatever is cut off is nobody's to read, but what is left must not be half a secret.
        let output = cut(&redact::text(&report.output), LONGEST_OUTPUT).to_owned();
        let kept = CompleteTask {
            pr_url: redact::text(&short(&report.pr_url)).into_owned(),
            output,
            session_id: short(&report.session_id),
            work_dir: short(&report.work_dir),
        };
        Self { kept }
    }
}

impl Queue {
    /// Its daemon reports the end. Nothing changes, if it does not run: a daemon may say so twice.
    pub async fn complete(self: &Arc<Self>, tx: &mut Tx, task: TaskId, end: &Completion) -> Result<Row> {
        let planned = row::find(tx, task).await?.ok_or_else(row::not_found)?;
        let held = Held::take(tx, planned.workspace_id, &[planned]).await?;
        let old = row::lock(tx, task).await?.ok_or_else(row::not_found)?;
        if !Operation::Complete.admits(old.status)? {
            return Ok(old);
        }
        let made =
            if old.kind() == "quick_create" { issues::made_in(tx, &old.workspace_id, task).await? } else { None };
        let row = store(tx, task, &end.kept, made).await?;
        tokens::revoke(self, tx, &[task]).await?;
        let output = &end.kept.output;
        if old.issue_id.is_some() {
            issue::completed(tx, &held, &row, output).await?;
        } else if old.chat_session_id.is_some() {
            chat::completed(tx, &held, &row, output).await?;
        }
        self.refresh_agents(tx, &BTreeSet::from([row.agent_id])).await?;
        tx.emit(row.told_of(Operation::Complete));
        run::follow(tx, std::slice::from_ref(&row)).await?;
        self.count_end(tx, &row);
        Ok(row)
    }
}

/// Where the session is now, or nowhere; and the issue that was made of a wish.
async fn store(tx: &mut Tx, task: TaskId, kept: &CompleteTask, made: Option<IssueId>) -> Result<Row> {
    let now = tx.now();
    on!(tx, |c| sqlx::query_as(
        "UPDATE task SET status = $6, completed_at = $2, result = $3, session_id = $4, work_dir = $5,
             orphan_check_at = NULL, issue_id = COALESCE(issue_id, $7)
         WHERE id = $1 RETURNING *"
    )
    .bind(task)
    .bind(now)
    .bind(Json(kept))
    .bind(given(&kept.session_id))
    .bind(given(&kept.work_dir))
    .bind(Operation::Complete.to().word())
    .bind(made)
    .fetch_one(c))
}
