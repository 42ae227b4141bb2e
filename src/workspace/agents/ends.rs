//! The ends of many agents at once: what their runtimes take along. The flows around these end their
//! work first.

use super::{Row, skills};
use crate::{
    db::{
        Session, Tx,
        sql::{Sql, Value},
    },
    error::Result,
    events::kinds,
    ids::{AgentId, RuntimeId, UserId},
    protocol::event::Actor,
};

/// The agents that are bound to some runtimes, put aside or not.
pub async fn bound_to(db: &mut Session, runtimes: &[RuntimeId]) -> Result<Vec<AgentId>> {
    let mut sql = Sql::new("SELECT id FROM agent WHERE runtime_id ");
    sql.bind(Value::AnyOf(runtimes.iter().map(|id| id.0).collect()));
    let found: Vec<(AgentId,)> = sql.fetch_all(db).await?;
    Ok(found.into_iter().map(|(agent,)| agent).collect())
}

/// Locks agents, in the order of their ids, so that nobody changes them, gives them work or names them
/// in anything new. Those that are not there are left out.
pub async fn lock_all(tx: &mut Tx, agents: &[AgentId]) -> Result<Vec<Row>> {
    let mut sql = Sql::new("SELECT * FROM agent WHERE id ");
    sql.bind(any_of(agents)).push_for(" ORDER BY id FOR UPDATE", " ORDER BY id");
    sql.fetch_all(tx).await
}

/// Puts those of some locked agents aside that are not, and tells of each.
pub async fn archive_all(tx: &mut Tx, by: UserId, agents: &[AgentId]) -> Result<usize> {
    let now = tx.now();
    let mut sql = Sql::new("UPDATE agent SET archived_by = ");
    sql.bind(Value::Id(by.0)).push(", archived_at = ").bind(Value::Number(now.0));
    sql.push(", updated_at = ").bind(Value::Number(now.0));
    sql.push(" WHERE archived_at IS NULL AND id ").bind(any_of(agents)).push(" RETURNING *");
    let archived: Vec<Row> = sql.fetch_all(tx).await?;
    let count = archived.len();
    tell_archived(tx, by, archived).await?;
    Ok(count)
}

/// Removes locked agents, and tells of those that were not put aside before that they are.
pub async fn remove_all(tx: &mut Tx, by: UserId, agents: Vec<Row>) -> Result<()> {
    if agents.is_empty() {
        return Ok(());
    }
    let ids: Vec<AgentId> = agents.iter().map(|row| row.id).collect();
    let now = tx.now();
    let put_aside = agents.into_iter().filter(|row| row.archived_at.is_none()).map(|row| Row {
        archived_at: Some(now),
        archived_by: Some(by),
        updated_at: now,
        // What it worked on has ended.
        status: if row.status == "working" { "idle".to_owned() } else { row.status },
        ..row
    });
    tell_archived(tx, by, put_aside.collect()).await?;
    let mut sql = Sql::new("DELETE FROM agent WHERE id ");
    sql.bind(any_of(&ids)).push(" RETURNING id");
    let _: Vec<(AgentId,)> = sql.fetch_all(tx).await?;
    Ok(())
}

/// The oldest first.
async fn tell_archived(tx: &mut Tx, by: UserId, mut rows: Vec<Row>) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    rows.sort_unstable_by_key(|row| (row.created_at, row.id));
    let ids: Vec<AgentId> = rows.iter().map(|row| row.id).collect();
    let mut skills = skills::of_all(tx, &ids).await?;
    for row in rows {
        let known = skills.remove(&row.id).unwrap_or_default();
        tx.emit(kinds::agent_archived(Actor::Member(by), &row.redacted(known)));
    }
    Ok(())
}

fn any_of(agents: &[AgentId]) -> Value {
    Value::AnyOf(agents.iter().map(|id| id.0).collect())
}
