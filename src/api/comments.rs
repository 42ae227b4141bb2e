//! `/api/issues/{id}/comments` and `/api/comments`.

use axum::{extract::State, http::HeaderValue, response::Response};
use serde::Deserialize;

use super::{
    Api,
    answer::{at_position, created, nothing, ok},
    extract::{self, Asked, Body, Door, Path, Segment},
};
use crate::{
    error::{Error, Result},
    events, flows,
    ids::CommentId,
    protocol::comment::{CreateComment, PutComment},
    time::Timestamp,
    workspace::{
        comments::{
            self,
            list::{Filter, Page},
        },
        issues,
    },
};

/// The query of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Query {
    since: String,
    thread: String,
    tail: String,
    recent: String,
    before: String,
    before_id: String,
    roots_only: String,
    summary: String,
}

impl Query {
    fn read(self) -> Result<Filter> {
        let invalid = |name: &str| Error::invalid("invalid_query", format!("invalid {name} parameter"));
        let number = |name: &str, text: &str| -> Result<Option<i64>> {
            if text.is_empty() {
                return Ok(None);
            }
            text.parse().ok().filter(|number| *number >= 0).map(Some).ok_or_else(|| invalid(name))
        };
        let time = |name: &str, text: &str| -> Result<Option<Timestamp>> {
            if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| invalid(name)) }
        };
        let before = match (time("before", &self.before)?, self.before_id.as_str()) {
            (None, "") => None,
            (Some(at), id) if !id.is_empty() => Some((at, extract::id(id, "before_id")?)),
            _ => return Err(Error::invalid("contradictory_query", "before and before_id go together")),
        };
        let thread = match self.thread.as_str() {
            "" => None,
            text => Some(extract::id(text, "thread")?),
        };
        Ok(Filter {
            since: time("since", &self.since)?,
            thread,
            tail: number("tail", &self.tail)?,
            recent: number("recent", &self.recent)?,
            before,
            roots_only: self.roots_only == "true",
            summary: self.summary == "true",
        })
    }
}

/// What was said about an issue.
pub async fn list(
    State(api): State<Api>,
    door: Door,
    Path(reference): Segment,
    Asked(query): Asked<Query>,
) -> Result<Response> {
    let filter = query.read()?;
    let (position, Page { comments, next }) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            let issue = issues::resolve(db, who.workspace, &reference).await?;
            Ok((position, comments::list::list(db, issue, &filter).await?))
        })
        .await?;
    let mut response = at_position(&position, ok(comments));
    if let Some((at, id)) = next {
        for (name, value) in [("x-multica-next-before", at.precise()), ("x-multica-next-before-id", id.to_string())] {
            response.headers_mut().insert(name, HeaderValue::from_str(&value).map_err(Error::internal)?);
        }
    }
    Ok(response)
}

/// Says something about an issue.
pub async fn create(
    State(api): State<Api>,
    door: Door,
    Path(reference): Segment,
    Body(wish): Body<CreateComment>,
) -> Result<Response> {
    let queue = api.queue.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        let issue = issues::resolve(tx, who.workspace, &reference).await?;
        flows::comments::create(tx, &queue, &who, issue, &wish).await
    });
    write.await.map(created)
}

/// Says something else instead.
pub async fn put(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Body(change): Body<PutComment>,
) -> Result<Response> {
    let comment = id(&segment)?;
    let queue = api.queue.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::comments::put(tx, &queue, &who, comment, &change).await
    });
    write.await.map(ok)
}

/// Takes back what was said.
pub async fn delete(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let comment = id(&segment)?;
    let queue = api.queue.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::comments::delete(tx, &queue, &who, comment).await
    });
    write.await.map(|()| nothing())
}

/// Settles a thread.
pub async fn resolve(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    settle(api, door, id(&segment)?, true).await
}

/// Opens a thread again.
pub async fn unresolve(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    settle(api, door, id(&segment)?, false).await
}

async fn settle(api: Api, door: Door, comment: CommentId, settled: bool) -> Result<Response> {
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        comments::resolve(tx, &who, comment, settled).await
    });
    write.await.map(ok)
}

fn id(segment: &str) -> Result<CommentId> {
    extract::id(segment, "comment_id")
}
