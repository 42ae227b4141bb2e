//! The times that an autopilot was set off.

use serde_json::Value;
use sqlx::types::Json;

use crate::{
    db::{Session, on},
    error::{Error, Result},
    ids::{AutopilotId, IssueId, RunId, TaskId, TriggerId},
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
