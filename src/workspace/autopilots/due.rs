//! Schedules that have come due.

use uuid::Uuid;

use super::{brief::Moment, schedule::Schedule};
use crate::{
    db::{Session, Tx, exec, on},
    error::Result,
    ids::{AutopilotId, TriggerId, WorkspaceId},
    time::Timestamp,
};

/// A schedule that seems to have come due.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub struct Due {
    /// Where.
    pub workspace_id: WorkspaceId,
    /// Whose.
    pub autopilot_id: AutopilotId,
    /// Which.
    pub id: TriggerId,
    /// Since when.
    pub next_run_at: Timestamp,
}

/// What came due by `now`, the longest overdue first: some of it, those after `last`.
pub async fn list(db: &mut Session, now: Timestamp, last: Option<Due>, most: i64) -> Result<Vec<Due>> {
    let (at, id) = last.map_or((Timestamp(i64::MIN), TriggerId(Uuid::nil())), |last| (last.next_run_at, last.id));
    on!(db, |c| sqlx::query_as(
        "SELECT a.workspace_id, t.autopilot_id, t.id, t.next_run_at
         FROM autopilot_trigger t JOIN autopilot a ON a.id = t.autopilot_id JOIN workspace w ON w.id = a.workspace_id
         WHERE t.enabled AND t.kind = 'schedule' AND t.next_run_at <= $1 AND (t.next_run_at, t.id) > ($2, $3)
           AND a.status = 'active' AND w.deleted_at IS NULL
         ORDER BY t.next_run_at, t.id LIMIT $4"
    )
    .bind(now)
    .bind(at)
    .bind(id)
    .bind(most)
    .fetch_all(c))
}

/// A schedule that did come due, and waits for its next time already.
#[derive(Debug)]
pub struct Taken {
    /// What its run goes by.
    pub moment: Moment,
    /// Why it can never come due again, if it says what nobody understands.
    pub fault: Option<String>,
}

/// Takes one that is still due, and lets it wait for its next time after now: what it missed before
/// that is made up for by this one run. The autopilot is locked. `None` if another has taken it, or it
/// is no longer to run.
pub async fn take(tx: &mut Tx, due: &Due) -> Result<Option<Taken>> {
    let now = tx.now();
    let found: Option<(Option<String>, Option<String>, Timestamp)> = on!(tx, |c| sqlx::query_as(
        "SELECT t.cron_expression, t.timezone, t.next_run_at
         FROM autopilot_trigger t JOIN autopilot a ON a.id = t.autopilot_id JOIN workspace w ON w.id = a.workspace_id
         WHERE t.id = $1 AND t.enabled AND t.kind = 'schedule' AND t.next_run_at <= $2
           AND a.status = 'active' AND w.deleted_at IS NULL"
    )
    .bind(due.id)
    .bind(now)
    .fetch_optional(c))?;
    let Some((expression, zone, since)) = found else { return Ok(None) };
    let schedule = Schedule::parse(expression.as_deref().unwrap_or_default(), zone.as_deref());
    let (next, due_at, fault) = match &schedule {
        // A run that stands for several is dated by when it is.
        Ok(schedule) => {
            let stands_for_more = schedule.next(since).is_some_and(|second| second <= now);
            (schedule.next(now), if stands_for_more { now } else { since }, None)
        }
        Err(error) => (None, since, Some(error.to_string())),
    };
    exec!(tx, |c| sqlx::query("UPDATE autopilot_trigger SET next_run_at = $2, last_fired_at = $3 WHERE id = $1")
        .bind(due.id)
        .bind(next)
        .bind(now))?;
    Ok(Some(Taken { moment: Moment { zone, due: due_at, now }, fault }))
}
