//! A runtime as far as queueing and claiming work for it is concerned.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::types::Json;

use super::runtimes::ONLINE;
use crate::{
    db::{Arm, Tx, lists},
    error::Result,
    ids::{RuntimeId, UserId, WorkspaceId},
};

/// Where agents run.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "the table's columns")]
pub struct Seat {
    pub id: RuntimeId,
    pub workspace_id: WorkspaceId,
    pub owner_id: Option<UserId>,
    pub daemon_id: String,
    pub status: String,
    pub metadata: Json<Value>,
}

impl Seat {
    /// Whether its daemon is there.
    pub fn is_online(&self) -> bool {
        self.status == ONLINE
    }

    /// The version of the CLI that its daemon is, as it says.
    pub fn cli_version(&self) -> &str {
        self.metadata.get("cli_version").and_then(Value::as_str).unwrap_or_default()
    }
}

/// Locks runtimes of a workspace against being removed, in the order of their ids.
pub async fn lock_seats(
    tx: &mut Tx,
    workspace: WorkspaceId,
    runtimes: &[RuntimeId],
) -> Result<HashMap<RuntimeId, Seat>> {
    let rows: sqlx::Result<Vec<Seat>> = match tx.arm() {
        Arm::Postgres(c) => {
            sqlx::query_as(
                "SELECT id, workspace_id, owner_id, daemon_id, status, metadata FROM agent_runtime
                 WHERE id = ANY($1) AND workspace_id = $2 ORDER BY id FOR KEY SHARE",
            )
            .bind(runtimes)
            .bind(workspace)
            .fetch_all(c)
            .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_as(
                "SELECT id, workspace_id, owner_id, daemon_id, status, metadata FROM agent_runtime
                 WHERE id IN (SELECT unhex(value) FROM json_each($1)) AND workspace_id = $2",
            )
            .bind(lists::ids(runtimes.iter().copied()))
            .bind(workspace)
            .fetch_all(c)
            .await
        }
    };
    Ok(tx.note(rows)?.into_iter().map(|seat| (seat.id, seat)).collect())
}
