//! The end of the chats with agents that go.

use super::Row;
use crate::{
    db::{
        Tx,
        sql::{Sql, Value},
    },
    error::Result,
    events::kinds,
    ids::AgentId,
};

/// Removes everybody's chats with some locked agents, with what was said and attached in them, and
/// tells of each. The flow around it ends their work.
pub async fn remove_all_with(tx: &mut Tx, agents: &[AgentId]) -> Result<()> {
    let mut sql = Sql::new("DELETE FROM chat_session WHERE ");
    sql.push_for("id IN (SELECT id FROM chat_session WHERE agent_id ", "agent_id ");
    sql.bind(Value::AnyOf(agents.iter().map(|id| id.0).collect()));
    sql.push_for(" ORDER BY id FOR UPDATE) RETURNING *", " RETURNING *");
    let mut gone: Vec<Row> = sql.fetch_all(tx).await?;
    gone.sort_unstable_by_key(|row| (row.created_at, row.id));
    for row in gone {
        tx.emit(kinds::chat_session_deleted(row.workspace_id, row.creator_id, row.id));
    }
    Ok(())
}
