//! `/api/events`: the browser socket's stream by long polling.

use std::time::Duration;

use axum::{
    extract::{Query, State},
    http::{HeaderMap, Method},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Api,
    answer::ok,
    extract::{Caller, Selected},
    guard,
};
use crate::{
    error::{Error, Result},
    events::{self, Missed},
    identity::members,
    ids::{UserId, WorkspaceId},
    protocol::{browser::Position, event::Reader},
};

/// Events of one answer at most, and unless the client asks for fewer.
const LIMIT: u64 = 500;
/// A poll is answered after this long at the latest; proxies cut off what takes longer.
const WAIT_MS: u64 = 25_000;

/// The query.
#[derive(Debug, Default, Deserialize)]
pub struct Poll {
    #[serde(default)]
    since: Option<u64>,
    #[serde(default)]
    epoch: Option<String>,
    #[serde(default)]
    since_id: Option<String>,
    #[serde(default)]
    limit: Option<u64>,
    #[serde(default)]
    wait_ms: Option<u64>,
}

#[derive(Serialize)]
struct Answer {
    epoch: String,
    events: Vec<Box<RawValue>>,
    /// The position after the last event here.
    seq: u64,
    recovered: Option<bool>,
}

/// What lies after a position; waits for it if asked to.
pub async fn poll(
    State(api): State<Api>,
    caller: Caller,
    selected: Selected,
    headers: HeaderMap,
    query: Result<Query<Poll>, axum::extract::rejection::QueryRejection>,
) -> Result<Response> {
    let Query(query) = query.map_err(|_| Error::invalid("invalid_query", "invalid query"))?;
    let workspace = selected.required()?;
    let position = Position {
        since: query.since,
        epoch: query.epoch.unwrap_or_default(),
        since_id: query.since_id.unwrap_or_default(),
    };
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, LIMIT);
    let (mut missed, mut reader) = read(&api, workspace, caller.user(), &position, limit).await?;
    let wait = Duration::from_millis(query.wait_ms.unwrap_or(0).min(WAIT_MS));
    if missed.judged.recovered == Some(true) && missed.events.is_empty() && !wait.is_zero() {
        events::wait_beyond(&api.db, &api.sockets.lanes, workspace, reader, missed.seq, wait, &api.sockets.draining)
            .await?;
        // The wait was long enough to lose token or membership in.
        guard::identify(&api, guard::Access::People, &Method::GET, &headers).await?;
        (missed, reader) = read(&api, workspace, caller.user(), &position, limit).await?;
    }
    let events = missed
        .events
        .iter()
        .map(|(seq, event)| RawValue::from_string(event.frame_for(*seq, reader)))
        .collect::<Result<_, _>>()
        .map_err(Error::internal)?;
    Ok(ok(Answer { epoch: missed.judged.epoch, events, seq: missed.seq, recovered: missed.judged.recovered }))
}

/// Reads, and only then asks whether the caller may have read.
async fn read(
    api: &Api,
    workspace: WorkspaceId,
    user: UserId,
    position: &Position,
    limit: u64,
) -> Result<(Missed, Reader)> {
    let position = position.clone();
    api.db
        .read(async move |db| {
            let missed = events::missed(db, workspace, &position, limit).await?;
            let role = members::require(db, workspace, user).await?;
            Ok((missed, role.reader(user)))
        })
        .await
}
