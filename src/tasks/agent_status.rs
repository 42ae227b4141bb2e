//! Whether an agent works: it does while a daemon has a task of its.

use super::status::in_flight;
use crate::{
    db::{Tx, exec, on},
    error::Result,
    events::kinds,
    ids::AgentId,
    workspace::agents,
};

/// Stores and tells whether an agent that is locked works, if that changed.
pub(super) async fn refresh(tx: &mut Tx, agent: AgentId) -> Result<()> {
    let found: Option<(String, bool)> = on!(tx, |c| sqlx::query_as(concat!(
        "SELECT status, EXISTS (SELECT 1 FROM task WHERE agent_id = $1 AND status IN ",
        in_flight!(),
        ") FROM agent WHERE id = $1"
    ))
    .bind(agent)
    .fetch_optional(c))?;
    // One that is gone has no status.
    let Some((status, busy)) = found else { return Ok(()) };
    let wanted = if busy { "working" } else { "idle" };
    if status == wanted {
        return Ok(());
    }
    let now = tx.now();
    let row: agents::Row =
        on!(tx, |c| sqlx::query_as("UPDATE agent SET status = $2, updated_at = $3 WHERE id = $1 RETURNING *")
            .bind(agent)
            .bind(wanted)
            .bind(now)
            .fetch_one(c))?;
    tx.emit(kinds::agent_worked(&row.redacted(Vec::new())));
    Ok(())
}

/// The same, where nobody needs to look: a task of its was just claimed.
pub(super) async fn is_working(tx: &mut Tx, agent: &agents::Row) -> Result<()> {
    if agent.status == "working" {
        return Ok(());
    }
    let now = tx.now();
    exec!(tx, |c| sqlx::query("UPDATE agent SET status = 'working', updated_at = $2 WHERE id = $1")
        .bind(agent.id)
        .bind(now))?;
    let row = agents::Row { status: "working".to_owned(), updated_at: now, ..agent.clone() };
    tx.emit(kinds::agent_worked(&row.redacted(Vec::new())));
    Ok(())
}
