//! The times that an autopilot was set off.

use serde_json::Value;
use sqlx::types::Json;

use crate::{
    db::{Arm, Session, Tx, exec, lists, on},
    error::{Error, Result},
    ids::{AgentId, AutopilotId, IssueId, RunId, SquadId, TaskId, TriggerId, WorkspaceId},
    protocol::autopilot::Run,
    time::Timestamp,
};

/// Runs on a page, unless something else is wished.
const PAGE: i64 = 20;
const LONGEST_PAGE: i64 = 100;

/// A part of the list.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    limit: i64,
    offset: i64,
}

impl Page {
    /// The wished part; what cannot be had counts as not wished.
    pub fn of(limit: Option<i64>, offset: Option<i64>) -> Self {
        let limit = limit.filter(|limit| *limit > 0).unwrap_or(PAGE).min(LONGEST_PAGE);
        Self { limit, offset: offset.unwrap_or(0).max(0) }
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    id: RunId,
    autopilot_id: AutopilotId,
    trigger_id: Option<TriggerId>,
    source: String,
    status: String,
    issue_id: Option<IssueId>,
    task_id: Option<TaskId>,
    triggered_at: Timestamp,
    completed_at: Option<Timestamp>,
    failure_reason: Option<String>,
    #[sqlx(default)]
    trigger_payload: Option<Json<Value>>,
    result: Option<Json<Value>>,
    created_at: Timestamp,
}

impl From<Row> for Run {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            autopilot_id: row.autopilot_id,
            trigger_id: row.trigger_id,
            source: row.source,
            status: row.status,
            issue_id: row.issue_id,
            task_id: row.task_id,
            triggered_at: row.triggered_at,
            completed_at: row.completed_at,
            failure_reason: row.failure_reason,
            trigger_payload: row.trigger_payload.map(|payload| payload.0),
            result: row.result.map(|result| result.0),
            created_at: row.created_at,
        }
    }
}

/// An autopilot's runs, newest first, without what set them off.
pub async fn list(db: &mut Session, autopilot: AutopilotId, page: Page) -> Result<Vec<Run>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(
        "SELECT id, autopilot_id, trigger_id, source, status, issue_id, task_id, triggered_at, completed_at,
             failure_reason, result, created_at
         FROM autopilot_run WHERE autopilot_id = $1 ORDER BY created_at DESC, id LIMIT $2 OFFSET $3"
    )
    .bind(autopilot)
    .bind(page.limit)
    .bind(page.offset)
    .fetch_all(c))?;
    Ok(rows.into_iter().map(Run::from).collect())
}

/// One of an autopilot's runs.
pub async fn get(db: &mut Session, autopilot: AutopilotId, run: RunId) -> Result<Run> {
    let row: Option<Row> =
        on!(db, |c| sqlx::query_as("SELECT * FROM autopilot_run WHERE id = $1 AND autopilot_id = $2")
            .bind(run)
            .bind(autopilot)
            .fetch_optional(c))?;
    row.map(Run::from).ok_or_else(|| Error::not_found("run_not_found", "run not found"))
}

/// Where a run of any workspace is, how it is, and when it ended.
pub async fn standing(db: &mut Session, run: RunId) -> Result<Option<(WorkspaceId, String, Option<Timestamp>)>> {
    on!(db, |c| sqlx::query_as(
        "SELECT a.workspace_id, r.status, r.completed_at FROM autopilot_run r JOIN autopilot a ON a.id = r.autopilot_id
         WHERE r.id = $1"
    )
    .bind(run)
    .fetch_optional(c))
}

/// Stores a new run, whose autopilot is locked, and that the autopilot ran. With the squad whose
/// leader it is for.
pub async fn store(tx: &mut Tx, run: &Run, squad: Option<SquadId>) -> Result<()> {
    exec!(tx, |c| sqlx::query(
        "INSERT INTO autopilot_run (id, autopilot_id, trigger_id, source, status, issue_id, task_id, squad_id,
                                    triggered_at, completed_at, failure_reason, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
    )
    .bind(run.id)
    .bind(run.autopilot_id)
    .bind(run.trigger_id)
    .bind(&run.source)
    .bind(&run.status)
    .bind(run.issue_id)
    .bind(run.task_id)
    .bind(squad)
    .bind(run.triggered_at)
    .bind(run.completed_at)
    .bind(&run.failure_reason)
    .bind(run.created_at))?;
    exec!(tx, |c| sqlx::query("UPDATE autopilot SET last_run_at = $2 WHERE id = $1")
        .bind(run.autopilot_id)
        .bind(run.triggered_at))
    .map(drop)
}

/// The runs of an autopilot that are tasks of their own and have not ended, the oldest first, each
/// with the agent whose task it is.
pub async fn running(db: &mut Session, autopilot: AutopilotId) -> Result<Vec<(RunId, AgentId)>> {
    on!(db, |c| sqlx::query_as(
        "SELECT DISTINCT r.id, t.agent_id FROM autopilot_run r JOIN task t ON t.autopilot_run_id = r.id
         WHERE r.autopilot_id = $1 AND r.status = 'running'
           AND t.status IN ('queued', 'dispatched', 'running', 'waiting_local_directory')
         ORDER BY r.id"
    )
    .bind(autopilot)
    .fetch_all(c))
}

/// How a run ended.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'o> {
    /// With this to show for it.
    Completed(Option<&'o Value>),
    /// Why nothing came of it.
    Failed(&'o str),
}

/// Characters of a result that a run keeps; the task has all of it.
const LONGEST_RESULT: usize = 64 << 10;

impl Outcome<'_> {
    fn status(&self) -> &'static str {
        match self {
            Self::Completed(_) => "completed",
            Self::Failed(_) => "failed",
        }
    }

    fn result(&self) -> Option<Json<&Value>> {
        match self {
            Self::Completed(result) => result.filter(|result| result.to_string().len() <= LONGEST_RESULT).map(Json),
            Self::Failed(_) => None,
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::Completed(_) => None,
            Self::Failed(reason) => Some(&reason[..reason.floor_char_boundary(LONGEST_RESULT)]),
        }
    }
}

/// Ends runs that are tasks of their own; those that had not ended, and are there, by the time they
/// began.
pub async fn end(tx: &mut Tx, runs: &[RunId], outcome: &Outcome<'_>) -> Result<Vec<Run>> {
    let now = tx.now();
    let rows: sqlx::Result<Vec<Row>> = match tx.arm() {
        Arm::Postgres(c) => {
            sqlx::query_as(
                "UPDATE autopilot_run SET status = $2, completed_at = $3, failure_reason = $4, result = $5
                 WHERE id IN (SELECT id FROM autopilot_run WHERE id = ANY($1) AND status = 'running'
                              ORDER BY id FOR NO KEY UPDATE) RETURNING *",
            )
            .bind(runs)
            .bind(outcome.status())
            .bind(now)
            .bind(outcome.reason())
            .bind(outcome.result())
            .fetch_all(c)
            .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_as(
                "UPDATE autopilot_run SET status = $2, completed_at = $3, failure_reason = $4, result = $5
                 WHERE id IN (SELECT unhex(value) FROM json_each($1)) AND status = 'running' RETURNING *",
            )
            .bind(lists::ids(runs.iter().copied()))
            .bind(outcome.status())
            .bind(now)
            .bind(outcome.reason())
            .bind(outcome.result())
            .fetch_all(c)
            .await
        }
    };
    let mut ended: Vec<Run> = tx.note(rows)?.into_iter().map(Run::from).collect();
    ended.sort_by_key(|run| (run.triggered_at, run.id));
    Ok(ended)
}

/// Ends the runs that made an issue and go on with it.
pub async fn end_of_issue(tx: &mut Tx, issue: IssueId, outcome: &Outcome<'_>) -> Result<Vec<Run>> {
    let now = tx.now();
    let rows: Vec<Row> = on!(tx, |c| sqlx::query_as(
        "UPDATE autopilot_run SET status = $2, completed_at = $3, failure_reason = $4, result = $5
         WHERE issue_id = $1 AND status = 'issue_created' RETURNING *"
    )
    .bind(issue)
    .bind(outcome.status())
    .bind(now)
    .bind(outcome.reason())
    .bind(outcome.result())
    .fetch_all(c))?;
    Ok(rows.into_iter().map(Run::from).collect())
}
