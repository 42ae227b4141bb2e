//! What becomes of squads when agents go: those that they led go with them, from the others they are
//! missing.

use std::collections::BTreeSet;

use super::Row;
use crate::{
    db::{
        Tx,
        sql::{Sql, Value},
    },
    error::Result,
    events::kinds,
    ids::{AgentId, SquadId, WorkspaceId},
    protocol::event::Actor,
};

/// Locks the squads that some agents lead or are in, in the order of their ids. The agents are locked,
/// so none of them comes to lead another one.
pub async fn lock_all_of(tx: &mut Tx, workspace: WorkspaceId, agents: &[AgentId]) -> Result<Vec<Row>> {
    let mut sql = Sql::new("SELECT * FROM squad WHERE workspace_id = ");
    sql.bind(Value::Id(workspace.0)).push(" AND (leader_id ").bind(any_of(agents));
    sql.push(" OR id IN (SELECT squad_id FROM squad_member WHERE member_type = 'agent' AND member_id ");
    sql.bind(any_of(agents)).push_for(")) ORDER BY id FOR UPDATE", ")) ORDER BY id");
    sql.fetch_all(tx).await
}

/// Removes the squads among some locked ones that locked agents lead, all of them archived, and takes
/// the agents out of the others.
pub async fn lose(tx: &mut Tx, actor: Actor, squads: &[Row], agents: &[AgentId]) -> Result<()> {
    let (led, joined): (Vec<&Row>, Vec<&Row>) =
        squads.iter().partition(|squad| agents.binary_search(&squad.leader_id).is_ok());
    if !led.is_empty() {
        let mut sql = Sql::new("DELETE FROM squad WHERE id ");
        sql.bind(Value::AnyOf(led.iter().map(|squad| squad.id.0).collect())).push(" RETURNING id");
        let _: Vec<(SquadId,)> = sql.fetch_all(tx).await?;
    }
    for squad in led {
        tx.emit(kinds::squad_deleted(squad.workspace_id, actor, squad.id, squad.leader_id));
    }
    if joined.is_empty() {
        return Ok(());
    }
    let mut sql = Sql::new("DELETE FROM squad_member WHERE member_type = 'agent' AND member_id ");
    sql.bind(any_of(agents)).push(" AND squad_id ");
    sql.bind(Value::AnyOf(joined.iter().map(|squad| squad.id.0).collect())).push(" RETURNING squad_id");
    let left: Vec<(SquadId,)> = sql.fetch_all(tx).await?;
    let left: BTreeSet<SquadId> = left.into_iter().map(|(squad,)| squad).collect();
    // Nobody lists one that is archived.
    for squad in joined.iter().filter(|squad| squad.archived_at.is_none() && left.contains(&squad.id)) {
        tx.emit(kinds::squad_members_changed(squad.workspace_id, actor, squad.id));
    }
    Ok(())
}

fn any_of(agents: &[AgentId]) -> Value {
    Value::AnyOf(agents.iter().map(|id| id.0).collect())
}
