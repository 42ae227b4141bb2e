//! Runtimes that nobody has come back to: offline for a week, and no agent is bound to them.

use super::{Condemned, Fleet};
use crate::{
    db::{
        Session, Tx, on,
        sql::{Sql, Value},
    },
    error::Result,
    ids::{RuntimeId, WorkspaceId},
    time::Timestamp,
};

impl Fleet {
    /// Whoever was last heard of before this is not coming back.
    pub fn forgotten_since(&self) -> Timestamp {
        self.db.clock().now().minus(self.settings.runtime_ttl)
    }
}

/// Some of them, and where they are.
pub async fn forgotten(db: &mut Session, before: Timestamp) -> Result<Vec<(WorkspaceId, RuntimeId)>> {
    on!(db, |c| sqlx::query_as(
        "SELECT workspace_id, id FROM agent_runtime r
         WHERE status = 'offline' AND COALESCE(last_seen_at, created_at) < $1
           AND NOT EXISTS (SELECT 1 FROM agent a WHERE a.runtime_id = r.id)
         ORDER BY id LIMIT 500"
    )
    .bind(before)
    .fetch_all(c))
}

/// Locks those of some runtimes that are still offline and unheard of. An agent may have been bound to them until
/// now.
pub async fn condemn_forgotten(tx: &mut Tx, ids: &[RuntimeId], before: Timestamp) -> Result<Vec<Condemned>> {
    let mut sql = Sql::new("SELECT id, workspace_id, owner_id, status FROM agent_runtime WHERE id ");
    sql.bind(Value::AnyOf(ids.iter().map(|id| id.0).collect()));
    sql.push(" AND status = 'offline' AND COALESCE(last_seen_at, created_at) < ").bind(Value::Number(before.0));
    sql.push_for(" ORDER BY id FOR UPDATE", " ORDER BY id");
    sql.fetch_all(tx).await
}
