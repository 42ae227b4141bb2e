//! Keeping the log bounded, per workspace by age, number and bytes, whichever is reached first. The
//! counter's row says how far the log is gone before a row of it goes, so a reader never takes a
//! shortened log for a whole one.

use crate::{
    db::{Db, exec, on},
    error::Result,
    ids::WorkspaceId,
    time::Timestamp,
};

use super::Settings;

/// Rows removed per transaction.
const CHUNK: i64 = 1000;

#[derive(sqlx::FromRow, Clone, Copy)]
struct Extent {
    workspace_id: WorkspaceId,
    seq: i64,
    pruned_to: i64,
    log_bytes: i64,
}

/// Removes what is over the limits, everywhere; returns how many events went.
pub async fn prune(db: &Db, settings: &Settings) -> Result<u64> {
    let max_events = settings.max_events as i64;
    let max_bytes = settings.max_bytes as i64;
    let horizon = db.clock().now().minus(settings.retention);
    let over: Vec<Extent> = db
        .read(async move |db| {
            on!(db, |c| sqlx::query_as(
                "SELECT c.workspace_id, c.seq, c.pruned_to, c.log_bytes
                 FROM event_counter c
                 WHERE c.seq > c.pruned_to
                   AND (c.seq - c.pruned_to > $1 OR c.log_bytes > $2
                        OR (SELECT l.created_at FROM event_log l
                            WHERE l.workspace_id = c.workspace_id AND l.seq > c.pruned_to
                            ORDER BY l.seq LIMIT 1) < $3)"
            )
            .bind(max_events)
            .bind(max_bytes)
            .bind(horizon)
            .fetch_all(c))
        })
        .await?;
    let mut removed = 0;
    for extent in over {
        loop {
            let gone = prune_chunk(db, extent.workspace_id, max_events, max_bytes, horizon).await?;
            removed += gone;
            if gone < CHUNK as u64 {
                break;
            }
        }
    }
    Ok(removed)
}

/// Finds the oldest events that are over a limit, at most a chunk, and removes them.
async fn prune_chunk(
    db: &Db,
    workspace: WorkspaceId,
    max_events: i64,
    max_bytes: i64,
    horizon: Timestamp,
) -> Result<u64> {
    let floor = db
        .write(workspace, async move |tx| {
            let extent: Option<Extent> = on!(
                tx,
                pg "SELECT workspace_id, seq, pruned_to, log_bytes FROM event_counter WHERE workspace_id = $1 FOR UPDATE",
                lite "SELECT workspace_id, seq, pruned_to, log_bytes FROM event_counter WHERE workspace_id = $1",
                |c, sql| sqlx::query_as(sql).bind(workspace).fetch_optional(c)
            )?;
            let Some(extent) = extent else { return Ok(None) };
            let oldest: Vec<(i64, i64, Timestamp)> = on!(tx, |c| sqlx::query_as(
                "SELECT seq, CAST(octet_length(payload) + COALESCE(octet_length(reduced), 0) AS bigint), created_at
                 FROM event_log
                 WHERE workspace_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"
            )
            .bind(workspace)
            .bind(extent.pruned_to)
            .bind(CHUNK)
            .fetch_all(c))?;
            let mut floor = extent.pruned_to;
            let mut bytes = extent.log_bytes;
            for (seq, size, created_at) in oldest {
                if extent.seq - floor <= max_events && bytes <= max_bytes && created_at >= horizon {
                    break;
                }
                floor = seq;
                bytes -= size;
            }
            if floor == extent.pruned_to {
                return Ok(None);
            }
            // An empty log has no bytes, whatever was counted.
            let bytes = if floor == extent.seq { 0 } else { bytes.max(0) };
            exec!(tx, |c| sqlx::query(
                "UPDATE event_counter SET pruned_to = $2, log_bytes = $3 WHERE workspace_id = $1"
            )
            .bind(workspace)
            .bind(floor)
            .bind(bytes))?;
            Ok(Some((extent.pruned_to, floor)))
        })
        .await?;
    let Some((_, floor)) = floor else { return Ok(0) };
    db.write(workspace, async move |tx| {
        exec!(tx, |c| sqlx::query("DELETE FROM event_log WHERE workspace_id = $1 AND seq <= $2")
            .bind(workspace)
            .bind(floor))
    })
    .await
}
