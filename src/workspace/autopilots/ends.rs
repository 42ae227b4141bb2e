//! What becomes of autopilots when the agents that do their work go: they rest until somebody gives
//! the work to another.

use std::collections::HashMap;

use super::{Row, selected, subscribers};
use crate::{
    db::{
        Tx,
        sql::{Sql, Value},
    },
    error::Result,
    events::kinds,
    ids::{AgentId, AutopilotId, WorkspaceId},
    protocol::event::Actor,
};

/// Pauses the autopilots that are assigned to some locked agents, and tells of each that was active.
/// What they say stays as private as the agents were.
pub async fn pause_all_of(tx: &mut Tx, actor: Actor, workspace: WorkspaceId, agents: &[AgentId]) -> Result<()> {
    let mut sql =
        Sql::new("SELECT id, status = 'active' FROM autopilot WHERE assignee_type = 'agent' AND assignee_id ");
    sql.bind(Value::AnyOf(agents.iter().map(|id| id.0).collect()));
    sql.push_for(" ORDER BY id FOR NO KEY UPDATE", " ORDER BY id");
    let found: Vec<(AutopilotId, bool)> = sql.fetch_all(tx).await?;
    if found.is_empty() {
        return Ok(());
    }
    let ids = |active_only: bool| {
        Value::AnyOf(found.iter().filter(|(_, active)| *active || !active_only).map(|(id, _)| id.0).collect())
    };
    let now = tx.now();
    let mut sql = Sql::new("UPDATE autopilot SET updated_at = CASE WHEN status = 'active' THEN ");
    sql.bind(Value::Number(now.0)).push(
        " ELSE updated_at END,
             status = CASE WHEN status = 'active' THEN 'paused' ELSE status END,
             was_private_to = (SELECT g.owner_id FROM agent g
                               WHERE g.id = autopilot.assignee_id AND g.visibility = 'private')
         WHERE id ",
    );
    sql.bind(ids(false)).push(" RETURNING id");
    let _: Vec<(AutopilotId,)> = sql.fetch_all(tx).await?;
    let mut sql = Sql::new(selected!("", "WHERE a.id "));
    sql.bind(ids(true)).push(" ORDER BY a.created_at, a.id");
    let paused: Vec<Row> = sql.fetch_all(tx).await?;
    let paused_ids: Vec<AutopilotId> = paused.iter().map(|row| row.id).collect();
    let mut subscribers: HashMap<_, _> = subscribers::of_all(tx, workspace, &paused_ids).await?;
    for row in paused {
        let known = subscribers.remove(&row.id).unwrap_or_default();
        tx.emit(kinds::autopilot_updated(actor, &row.with(known)));
    }
    Ok(())
}
