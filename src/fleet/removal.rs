//! The end of runtimes that nobody has come back to: offline for a week, no agent is bound to them,
//! and nothing waits there.

use std::collections::BTreeMap;

use super::Fleet;
use crate::{
    db::{
        Arm, Session, Tx, lists, on,
        sql::{Sql, Value},
    },
    error::Result,
    events::{Control, kinds},
    ids::{RuntimeId, TaskId, WorkspaceId},
    protocol::event::Actor,
    time::Timestamp,
};

impl Fleet {
    /// Removes them, some at a time; returns how many went.
    pub(super) async fn remove_forgotten(&self) -> Result<usize> {
        let before = self.db.clock().now().minus(self.settings.runtime_ttl);
        let forgotten = self.db.read(async move |db| forgotten(db, before).await).await?;
        let mut by_workspace: BTreeMap<WorkspaceId, Vec<RuntimeId>> = BTreeMap::new();
        forgotten.into_iter().for_each(|(id, workspace)| by_workspace.entry(workspace).or_default().push(id));
        let mut count = 0;
        for (workspace, ids) in by_workspace {
            match self.remove_from(workspace, ids, before).await {
                Ok(0) => {}
                Ok(removed) => {
                    tracing::info!(%workspace, runtimes = removed, "removed: offline for too long");
                    count += removed;
                }
                Err(error) => tracing::warn!(%workspace, %error, "removing runtimes that nobody came back to"),
            }
        }
        Ok(count)
    }

    async fn remove_from(&self, workspace: WorkspaceId, ids: Vec<RuntimeId>, before: Timestamp) -> Result<usize> {
        let nodes = self.nodes.clone();
        self.db
            .write(workspace, async move |tx| {
                tx.allow_long_statements().await?;
                let removed = remove(tx, &ids, before).await?;
                if !removed.is_empty() {
                    let_go(tx, &removed).await?;
                    tx.emit(kinds::runtimes_changed(workspace, Actor::System, "runtime_gc", &removed));
                    let (nodes, ids) = (nodes.clone(), removed.clone());
                    tx.after_commit(move || nodes.tell(Control::RuntimesGone { ids }));
                }
                Ok(removed.len())
            })
            .await
    }
}

/// What was done there stays, on no runtime.
async fn let_go(tx: &mut Tx, gone: &[RuntimeId]) -> Result<()> {
    let mut sql = Sql::new("UPDATE task SET runtime_id = NULL WHERE ");
    sql.push_for("id IN (SELECT id FROM task WHERE runtime_id ", "runtime_id ");
    sql.bind(Value::AnyOf(gone.iter().map(|id| id.0).collect()));
    sql.push_for(" ORDER BY id FOR NO KEY UPDATE) RETURNING id", " RETURNING id");
    let _: Vec<(TaskId,)> = sql.fetch_all(tx).await?;
    Ok(())
}

async fn forgotten(db: &mut Session, before: Timestamp) -> Result<Vec<(RuntimeId, WorkspaceId)>> {
    on!(db, |c| sqlx::query_as(
        "SELECT id, workspace_id FROM agent_runtime r
         WHERE status = 'offline' AND COALESCE(last_seen_at, created_at) < $1
           AND NOT EXISTS (SELECT 1 FROM agent a WHERE a.runtime_id = r.id)
           AND NOT EXISTS (SELECT 1 FROM task t WHERE t.runtime_id = r.id
               AND t.status IN ('queued', 'dispatched', 'running', 'waiting_local_directory'))
         ORDER BY id LIMIT 500"
    )
    .bind(before)
    .fetch_all(c))
}

async fn remove(tx: &mut Tx, ids: &[RuntimeId], before: Timestamp) -> Result<Vec<RuntimeId>> {
    let rows: sqlx::Result<Vec<RuntimeId>> = match tx.arm() {
        Arm::Postgres(c) => {
            sqlx::query_scalar(
                "WITH held AS (
                     SELECT id FROM agent_runtime
                     WHERE id = ANY($1) AND status = 'offline' AND COALESCE(last_seen_at, created_at) < $2
                       AND NOT EXISTS (SELECT 1 FROM agent a WHERE a.runtime_id = agent_runtime.id)
                       AND NOT EXISTS (SELECT 1 FROM task t WHERE t.runtime_id = agent_runtime.id
                           AND t.status IN ('queued', 'dispatched', 'running', 'waiting_local_directory'))
                     ORDER BY id FOR UPDATE
                 )
                 DELETE FROM agent_runtime r USING held WHERE r.id = held.id RETURNING r.id",
            )
            .bind(ids)
            .bind(before)
            .fetch_all(c)
            .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_scalar(
                "DELETE FROM agent_runtime
                 WHERE id IN (SELECT unhex(value) FROM json_each($1))
                   AND status = 'offline' AND COALESCE(last_seen_at, created_at) < $2
                   AND NOT EXISTS (SELECT 1 FROM agent a WHERE a.runtime_id = agent_runtime.id)
                       AND NOT EXISTS (SELECT 1 FROM task t WHERE t.runtime_id = agent_runtime.id
                           AND t.status IN ('queued', 'dispatched', 'running', 'waiting_local_directory'))
                 RETURNING id",
            )
            .bind(lists::ids(ids.iter().copied()))
            .bind(before)
            .fetch_all(c)
            .await
        }
    };
    tx.note(rows)
}
