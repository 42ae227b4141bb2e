//! Whether an agent works: it does while a daemon has a task of its.

use super::status::in_flight;
use crate::{
    db::{
        Tx, exec,
        sql::{Sql, Value},
    },
    error::Result,
    events::kinds,
    ids::AgentId,
    workspace::agents,
};

/// Stores and tells whether agents that are locked work, of those for which that changed.
pub(super) async fn refresh(tx: &mut Tx, agents: &[AgentId]) -> Result<()> {
    macro_rules! busy {
        () => {
            concat!(
                "CASE WHEN EXISTS (SELECT 1 FROM task t WHERE t.agent_id = agent.id AND t.status IN ",
                in_flight!(),
                ") THEN 'working' ELSE 'idle' END"
            )
        };
    }
    let now = tx.now();
    let mut sql = Sql::new(concat!("UPDATE agent SET status = ", busy!(), ", updated_at = "));
    sql.bind(Value::Number(now.0)).push(" WHERE id ").bind(Value::AnyOf(agents.iter().map(|id| id.0).collect()));
    sql.push(concat!(" AND status <> ", busy!(), " RETURNING *"));
    let mut rows: Vec<agents::Row> = sql.fetch_all(tx).await?;
    rows.sort_unstable_by_key(|row| row.id);
    for row in rows {
        tx.emit(kinds::agent_worked(&row.redacted(Vec::new())));
    }
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
