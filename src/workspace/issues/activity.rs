//! What happened to an issue beside comments: changes of its status and of its assignee.

use serde_json::{Value, json};
use sqlx::types::Json;
use uuid::Uuid;

use super::Row;
use crate::{
    db::{Session, Tx, exec, on},
    error::Result,
    ids::IssueId,
    protocol::{comment::TimelineActivity, event::Actor},
    time::Timestamp,
};

#[derive(sqlx::FromRow)]
struct Stored {
    id: Uuid,
    actor_type: String,
    actor_id: Option<Uuid>,
    action: String,
    details: Json<Value>,
    created_at: Timestamp,
}

/// An issue's activity, oldest first.
pub async fn list(db: &mut Session, issue: IssueId) -> Result<Vec<TimelineActivity>> {
    let rows: Vec<Stored> = on!(db, |c| sqlx::query_as(
        "SELECT id, actor_type, actor_id, action, details, created_at FROM issue_activity
         WHERE issue_id = $1 ORDER BY created_at, id"
    )
    .bind(issue)
    .fetch_all(c))?;
    Ok(rows
        .into_iter()
        .map(|row| TimelineActivity {
            id: row.id,
            actor_type: row.actor_type,
            actor_id: row.actor_id.unwrap_or_default(),
            action: row.action,
            details: row.details.0,
            created_at: row.created_at,
        })
        .collect())
}

/// Takes note of what of a change belongs into the timeline.
pub(super) async fn note(tx: &mut Tx, actor: Actor, old: &Row, new: &Row) -> Result<()> {
    if old.status != new.status {
        insert(tx, actor, new, "status_changed", json!({ "from": old.status, "to": new.status })).await?;
    }
    if (&old.assignee_type, old.assignee_id) != (&new.assignee_type, new.assignee_id) {
        let details = json!({
            "from_type": old.assignee_type, "from_id": old.assignee_id,
            "to_type": new.assignee_type, "to_id": new.assignee_id,
        });
        insert(tx, actor, new, "assignee_changed", details).await?;
    }
    Ok(())
}

async fn insert(tx: &mut Tx, actor: Actor, issue: &Row, action: &'static str, details: Value) -> Result<()> {
    let now = tx.now();
    exec!(tx, |c| sqlx::query(
        "INSERT INTO issue_activity (id, workspace_id, issue_id, actor_type, actor_id, action, details, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
    )
    .bind(Uuid::now_v7())
    .bind(issue.workspace_id)
    .bind(issue.id)
    .bind(actor.kind())
    .bind(actor.id())
    .bind(action)
    .bind(Json(details))
    .bind(now))
    .map(drop)
}
