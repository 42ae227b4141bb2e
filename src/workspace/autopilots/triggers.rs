//! What sets an autopilot off: schedules. Webhooks are not built; what an older store has of them is
//! shown, and can be named, disabled and removed.

use std::collections::HashMap;

use super::{
    super::words,
    lock,
    schedule::{self, Schedule},
};
use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    events::kinds,
    identity::Insider,
    ids::{AutopilotId, TriggerId, WorkspaceId},
    protocol::autopilot::{CreateTrigger, PatchTrigger, Trigger},
    time::Timestamp,
};

const SCHEDULE: &str = "schedule";

#[derive(sqlx::FromRow)]
struct Row {
    id: TriggerId,
    autopilot_id: AutopilotId,
    kind: String,
    enabled: bool,
    cron_expression: Option<String>,
    timezone: Option<String>,
    next_run_at: Option<Timestamp>,
    label: Option<String>,
    last_fired_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Row> for Trigger {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            autopilot_id: row.autopilot_id,
            kind: row.kind,
            enabled: row.enabled,
            cron_expression: row.cron_expression,
            timezone: row.timezone,
            next_run_at: row.next_run_at,
            label: row.label,
            last_fired_at: row.last_fired_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
            webhook_token: None,
            event_filters: None,
        }
    }
}

/// An autopilot's triggers, oldest first.
pub async fn list(db: &mut Session, autopilot: AutopilotId) -> Result<Vec<Trigger>> {
    let rows: Vec<Row> =
        on!(db, |c| sqlx::query_as("SELECT * FROM autopilot_trigger WHERE autopilot_id = $1 ORDER BY created_at, id")
            .bind(autopilot)
            .fetch_all(c))?;
    Ok(rows.into_iter().map(Trigger::from).collect())
}

/// The kinds of triggers that each of a workspace's autopilots has.
pub(super) async fn kinds(db: &mut Session, workspace: WorkspaceId) -> Result<HashMap<AutopilotId, Vec<String>>> {
    let pairs: Vec<(AutopilotId, String)> = on!(db, |c| sqlx::query_as(
        "SELECT DISTINCT t.autopilot_id, t.kind
         FROM autopilot a JOIN autopilot_trigger t ON t.autopilot_id = a.id
         WHERE a.workspace_id = $1 ORDER BY t.kind"
    )
    .bind(workspace)
    .fetch_all(c))?;
    let mut kinds: HashMap<AutopilotId, Vec<String>> = HashMap::new();
    for (autopilot, kind) in pairs {
        kinds.entry(autopilot).or_default().push(kind);
    }
    Ok(kinds)
}

/// Adds one.
pub async fn create(tx: &mut Tx, who: &Insider, autopilot: AutopilotId, wish: &CreateTrigger) -> Result<Trigger> {
    let parent = lock(tx, who, autopilot).await?;
    if wish.kind == "webhook" {
        return Err(Error::invalid("webhooks_not_supported", "webhook triggers are not supported"));
    }
    words::one_of("kind", &[SCHEDULE], &wish.kind)?;
    let now = tx.now();
    let (expression, zone) = (wish.cron_expression.trim(), zone(&wish.timezone)?);
    // What would never come due is refused even while it is disabled.
    let first = Schedule::parse(expression, zone.as_deref())?.first(now)?;
    let enabled = wish.enabled.unwrap_or(true);
    let row: Row = on!(tx, |c| sqlx::query_as(
        "INSERT INTO autopilot_trigger (id, autopilot_id, kind, enabled, cron_expression, timezone, next_run_at,
                                        label, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9) RETURNING *"
    )
    .bind(TriggerId::fresh())
    .bind(autopilot)
    .bind(SCHEDULE)
    .bind(enabled)
    .bind(expression)
    .bind(&zone)
    .bind(enabled.then_some(first))
    .bind(given(&wish.label))
    .bind(now)
    .fetch_one(c))?;
    let trigger = Trigger::from(row);
    tx.emit(kinds::autopilot_trigger_changed(who.actor(), &parent, &trigger));
    Ok(trigger)
}

/// Changes one.
pub async fn patch(
    tx: &mut Tx,
    who: &Insider,
    autopilot: AutopilotId,
    trigger: TriggerId,
    change: PatchTrigger,
) -> Result<Trigger> {
    let parent = lock(tx, who, autopilot).await?;
    let old = get(tx, autopilot, trigger).await?;
    let is_timed = old.kind == SCHEDULE;
    if !is_timed && (change.cron_expression.is_some() || change.timezone.is_some()) {
        let text = "cron_expression and timezone belong to schedule triggers";
        return Err(Error::invalid("not_a_schedule", text));
    }
    let mut new = Trigger {
        enabled: change.enabled.unwrap_or(old.enabled),
        cron_expression: change
            .cron_expression
            .map(|text| text.trim().to_owned())
            .or_else(|| old.cron_expression.clone()),
        timezone: match &change.timezone {
            Some(name) => zone(name)?,
            None => old.timezone.clone(),
        },
        label: match &change.label {
            Some(label) => given(label).map(str::to_owned),
            None => old.label.clone(),
        },
        ..old.clone()
    };
    if new == old {
        return Ok(old);
    }
    let now = tx.now();
    let timed_anew = (&new.cron_expression, &new.timezone) != (&old.cron_expression, &old.timezone);
    if is_timed && (timed_anew || new.enabled != old.enabled) {
        let schedule = Schedule::parse(new.cron_expression.as_deref().unwrap_or(""), new.timezone.as_deref());
        // Disabling one is never refused, whatever it says.
        new.next_run_at = match schedule.and_then(|schedule| schedule.first(now)) {
            Err(_) if !timed_anew && !new.enabled => None,
            first => Some(first?).filter(|_| new.enabled),
        };
    }
    new.updated_at = now;
    exec!(tx, |c| sqlx::query(
        "UPDATE autopilot_trigger SET enabled = $2, cron_expression = $3, timezone = $4, next_run_at = $5, label = $6,
             updated_at = $7
         WHERE id = $1"
    )
    .bind(trigger)
    .bind(new.enabled)
    .bind(&new.cron_expression)
    .bind(&new.timezone)
    .bind(new.next_run_at)
    .bind(&new.label)
    .bind(new.updated_at))?;
    tx.emit(kinds::autopilot_trigger_changed(who.actor(), &parent, &new));
    Ok(new)
}

/// Takes one away.
pub async fn delete(tx: &mut Tx, who: &Insider, autopilot: AutopilotId, trigger: TriggerId) -> Result<()> {
    let parent = lock(tx, who, autopilot).await?;
    get(tx, autopilot, trigger).await?;
    exec!(tx, |c| sqlx::query("DELETE FROM autopilot_trigger WHERE id = $1").bind(trigger))?;
    tx.emit(kinds::autopilot_trigger_deleted(who.actor(), &parent, trigger));
    Ok(())
}

/// Lets pass what came due while an autopilot did not run, so that taking it up again does not set
/// it off at once. The autopilot is locked.
pub(super) async fn skip_missed(tx: &mut Tx, autopilot: AutopilotId) -> Result<()> {
    let now = tx.now();
    for trigger in list(tx, autopilot).await? {
        if !trigger.enabled || trigger.kind != SCHEDULE || trigger.next_run_at.is_some_and(|at| at > now) {
            continue;
        }
        let expression = trigger.cron_expression.as_deref().unwrap_or("");
        let next = Schedule::parse(expression, trigger.timezone.as_deref()).ok().and_then(|it| it.next(now));
        exec!(tx, |c| sqlx::query("UPDATE autopilot_trigger SET next_run_at = $2 WHERE id = $1")
            .bind(trigger.id)
            .bind(next))?;
    }
    Ok(())
}

async fn get(db: &mut Session, autopilot: AutopilotId, trigger: TriggerId) -> Result<Trigger> {
    let row: Option<Row> =
        on!(db, |c| sqlx::query_as("SELECT * FROM autopilot_trigger WHERE id = $1 AND autopilot_id = $2")
            .bind(trigger)
            .bind(autopilot)
            .fetch_optional(c))?;
    row.map(Trigger::from).ok_or_else(|| Error::not_found("trigger_not_found", "trigger not found"))
}

/// A zone as it is stored; none stands for UTC.
fn zone(name: &str) -> Result<Option<String>> {
    given(name).map(schedule::zone_name).transpose()
}

fn given(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}
