//! Which earlier session of an agent a task takes up.

use super::{Row, reasons::session_spoiling};
use crate::{
    db::{Session, on},
    error::Result,
    ids::{ChatSessionId, IssueId, RuntimeId},
};

/// An earlier run.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Prior {
    /// The agent's session, if it can be taken up where the task runs.
    pub session_id: Option<String>,
    /// The folder.
    pub work_dir: Option<String>,
}

/// Where it was.
#[derive(sqlx::FromRow)]
pub(super) struct Run {
    pub session_id: Option<String>,
    pub work_dir: Option<String>,
    pub runtime_id: Option<RuntimeId>,
}

impl Run {
    /// A session lives where it was; the folder may be looked for anywhere.
    fn at(self, runtime: Option<RuntimeId>) -> Prior {
        let there = self.runtime_id.is_some() && self.runtime_id == runtime;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Prior { session_id: given(self.session_id).filter(|_| there), work_dir: given(self.work_dir) }
    }
}

/// The last run of which a session is left that is of use; `$in` finds a text in another.
macro_rules! last_run {
    ($of:literal, $in:literal) => {
        concat!(
            "SELECT session_id, work_dir, runtime_id FROM task WHERE ",
            $of,
            " AND session_id IS NOT NULL AND status IN ('completed', 'failed')
             AND (status = 'completed'
                  OR (COALESCE(failure_reason, '') NOT IN ",
            session_spoiling!(),
            "
                      AND NOT (",
            $in,
            "(COALESCE(error, ''), '400') > 0 AND ",
            $in,
            "(COALESCE(error, ''), 'invalid_request_error') > 0)))
             ORDER BY completed_at DESC LIMIT 1"
        )
    };
}

/// What a task for an issue takes up: the agent's last run for it. Nothing, if it is to begin afresh.
pub(super) async fn of_issue(db: &mut Session, task: &Row, issue: IssueId) -> Result<Prior> {
    if task.force_fresh_session {
        return Ok(Prior::default());
    }
    let run: Option<Run> = on!(
        db,
        pg last_run!("agent_id = $1 AND issue_id = $2", "strpos"),
        lite last_run!("agent_id = $1 AND issue_id = $2", "instr"),
        |c, sql| sqlx::query_as(sql).bind(task.agent_id).bind(issue).fetch_optional(c)
    )?;
    Ok(run.map(|run| run.at(task.runtime_id)).unwrap_or_default())
}

/// What a task in a chat takes up. The chat remembers where it was; what it does not know, or knows of
/// another runtime, its tasks may.
pub(super) async fn of_chat(db: &mut Session, task: &Row, chat: ChatSessionId, kept: Run) -> Result<Prior> {
    if task.force_fresh_session {
        return Ok(Prior::default());
    }
    let kept = kept.at(task.runtime_id);
    if kept.session_id.is_some() && kept.work_dir.is_some() {
        return Ok(kept);
    }
    let run: Option<Run> = on!(
        db,
        pg last_run!("chat_session_id = $1", "strpos"),
        lite last_run!("chat_session_id = $1", "instr"),
        |c, sql| sqlx::query_as(sql).bind(chat).fetch_optional(c)
    )?;
    let last = run.map(|run| run.at(task.runtime_id)).unwrap_or_default();
    Ok(Prior { session_id: kept.session_id.or(last.session_id), work_dir: kept.work_dir.or(last.work_dir) })
}
