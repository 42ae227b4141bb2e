//! The stream for clients whose proxy lets no WebSocket through: the same positions, judged by the
//! same rules, one answer at a time.

use std::{future::poll_fn, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Judged, Lanes, judge, log};
use crate::{
    db::{Db, Session},
    error::Result,
    ids::WorkspaceId,
    protocol::{
        browser::Position,
        event::{Event, Reader},
    },
};

/// Bytes of payloads of one answer, about.
const ANSWER_BYTES: usize = 4 << 20;

/// What a client missed.
pub struct Missed {
    /// The verdict on its position.
    pub judged: Judged,
    /// The events after it, if it could be continued; at most as many as were asked for.
    pub events: Vec<(u64, Event)>,
    /// The position after the last of them.
    pub seq: u64,
}

/// Judges a position and reads up to `limit` events after it.
pub async fn missed(db: &mut Session, workspace: WorkspaceId, position: &Position, limit: u64) -> Result<Missed> {
    let judged = judge(db, workspace, position).await?;
    if judged.recovered != Some(true) {
        return Ok(Missed { seq: judged.seq, events: Vec::new(), judged });
    }
    let events =
        log::read_some(db, workspace, judged.from, judged.from.saturating_add(limit), ANSWER_BYTES as i64).await?;
    let whole = events.iter().zip(judged.from + 1..).all(|((seq, _), expected)| *seq == expected);
    if !whole || (events.is_empty() && judged.seq > judged.from) {
        // Pruned between the two statements.
        let judged = Judged { recovered: Some(false), ..judged };
        return Ok(Missed { seq: judged.seq, events: Vec::new(), judged });
    }
    let seq = events.last().map_or(judged.from, |(seq, _)| *seq);
    Ok(Missed { judged, events, seq })
}

/// Waits until something lies beyond `seq`, at most so long, and not once it is `enough`.
pub async fn wait_beyond(
    db: &Db,
    lanes: &Lanes,
    workspace: WorkspaceId,
    reader: Reader,
    seq: u64,
    at_most: Duration,
    enough: &CancellationToken,
) -> Result<()> {
    let (_lane, room) = lanes.follow(db, workspace).await?;
    let follower = room.follow(seq, reader, seq);
    // Only the sleep is cut short; nothing here talks to the database.
    let beyond = poll_fn(|cx| follower.poll_event(cx));
    let _ = tokio::time::timeout(at_most, enough.run_until_cancelled(beyond)).await;
    Ok(())
}
