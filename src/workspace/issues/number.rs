//! The numbers of a workspace's issues, from 1, each given once. The row's lock also puts creations
//! of one workspace in order, so that two of the same title see each other.

use crate::{
    db::{Tx, on},
    error::Result,
    ids::WorkspaceId,
};

/// Waits for other creations and moves, and keeps them waiting.
pub(super) async fn hold(tx: &mut Tx, workspace: WorkspaceId) -> Result<()> {
    on!(
        tx,
        pg "SELECT last FROM issue_number WHERE workspace_id = $1 FOR UPDATE",
        lite "SELECT last FROM issue_number WHERE workspace_id = $1",
        |c, sql| sqlx::query_scalar::<_, i64>(sql).bind(workspace).fetch_optional(c)
    )
    .map(drop)
}

/// The next one.
pub(super) async fn next(tx: &mut Tx, workspace: WorkspaceId) -> Result<i64> {
    on!(tx, |c| sqlx::query_scalar(
        "INSERT INTO issue_number AS n (workspace_id, last) VALUES ($1, 1)
         ON CONFLICT (workspace_id) DO UPDATE SET last = n.last + 1 RETURNING last"
    )
    .bind(workspace)
    .fetch_one(c))
}
