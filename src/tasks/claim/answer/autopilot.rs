//! An autopilot's run without an issue.

use serde_json::Value;
use sqlx::types::Json;

use super::ClaimedTask;
use crate::{
    db::{Tx, on},
    error::Result,
    ids::{AutopilotId, RunId, WorkspaceId},
};

/// A run and its autopilot, wherever that lies.
#[derive(sqlx::FromRow)]
pub(super) struct Found {
    pub workspace_id: WorkspaceId,
    id: AutopilotId,
    title: String,
    description: Option<String>,
    source: String,
    trigger_payload: Option<Json<Value>>,
}

pub(super) async fn find(tx: &mut Tx, run: RunId) -> Result<Option<Found>> {
    on!(tx, |c| sqlx::query_as(
        "SELECT p.workspace_id, p.id, p.title, p.description, r.source, r.trigger_payload
         FROM autopilot_run r JOIN autopilot p ON p.id = r.autopilot_id WHERE r.id = $1"
    )
    .bind(run)
    .fetch_optional(c))
}

pub(super) fn tell(found: Found, task: &mut ClaimedTask) {
    let about = &mut task.about;
    about.thread_name.clone_from(&found.title);
    about.autopilot_id = Some(found.id);
    about.autopilot_title = Some(found.title);
    about.autopilot_description = found.description.filter(|text| !text.is_empty());
    about.autopilot_source = Some(found.source);
    about.autopilot_trigger_payload = found.trigger_payload.map(|payload| payload.0).filter(|value| !value.is_null());
}
