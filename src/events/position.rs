//! Judging a position that a client wants to continue from. The counter's row decides, never a
//! node's own position.

use uuid::Uuid;

use crate::{
    db::{Session, on},
    error::Result,
    ids::WorkspaceId,
    protocol::browser::Position,
};

/// Further behind than this, refetching is cheaper than replaying.
const RESUMABLE: u64 = 10_000;

/// What became of a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The epoch in force.
    pub epoch: String,
    /// The newest committed event.
    pub seq: u64,
    /// The event after which this client is served.
    pub from: u64,
    /// `None`: nothing was asked. `Some(false)`: refetch.
    pub recovered: Option<bool>,
}

#[derive(sqlx::FromRow)]
struct Row {
    epoch: String,
    seq: Option<i64>,
    pruned_to: Option<i64>,
    id: Option<Uuid>,
}

/// The position from before whatever is read next: who follows from there misses no change of it.
pub async fn position(db: &mut Session, workspace: WorkspaceId) -> Result<Judged> {
    judge(db, workspace, &Position::default()).await
}

/// Reads counter, epoch and the log's row at the position in one statement, and judges.
pub async fn judge(db: &mut Session, workspace: WorkspaceId, position: &Position) -> Result<Judged> {
    let since = position.since.map_or(-1, |since| i64::try_from(since).unwrap_or(i64::MAX));
    let row: Row = on!(db, |c| sqlx::query_as(
        "SELECT m.value AS epoch, c.seq, c.pruned_to, l.id
         FROM hub_meta m
         LEFT JOIN event_counter c ON c.workspace_id = $1
         LEFT JOIN event_log l ON l.workspace_id = $1 AND l.seq = $2
         WHERE m.key = 'epoch'"
    )
    .bind(workspace)
    .bind(since)
    .fetch_one(c))?;
    let seq = row.seq.unwrap_or(0) as u64;
    let pruned_to = row.pruned_to.unwrap_or(0) as u64;
    let recovered = position.since.map(|since| {
        position.epoch == row.epoch
            && since <= seq
            && since >= pruned_to
            && seq - since <= RESUMABLE
            && match row.id {
                _ if position.since_id.is_empty() => true,
                Some(id) => position.since_id.parse() == Ok(id),
                // The last event that was pruned: nothing after it is missing, and its id cannot be
                // compared any more. Position 0 has no event.
                None => since == pruned_to && since > 0,
            }
    });
    let from = match (recovered, position.since) {
        (Some(true), Some(since)) => since,
        _ => seq,
    };
    Ok(Judged { epoch: row.epoch, seq, from, recovered })
}
