//! `/api/runtimes`, as people use it.

use axum::{
    extract::{Query, State},
    response::Response,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    Api,
    answer::{at_position, ok},
    extract::{self, Caller, Raw, Segment, Selected},
};
use crate::{
    error::{Error, Result},
    ids::RuntimeId,
    protocol::lenient,
};

/// `?owner=me` keeps the caller's own; other values mean nothing.
#[derive(Deserialize)]
pub struct Filter {
    #[serde(default)]
    owner: Option<String>,
}

#[derive(Default, Deserialize)]
struct Change {
    #[serde(default)]
    visibility: Option<String>,
}

/// The runtimes of the selected workspace.
pub async fn list(
    State(api): State<Api>,
    caller: Caller,
    selected: Selected,
    Query(filter): Query<Filter>,
) -> Result<Response> {
    let mine = filter.owner.as_deref() == Some("me");
    let (position, runtimes) = api.fleet.list(selected.required()?, caller.user(), mine).await?;
    Ok(at_position(&position, ok(runtimes)))
}

/// Changes the visibility.
pub async fn patch(
    State(api): State<Api>,
    caller: Caller,
    selected: Selected,
    segment: Segment,
    Raw(body): Raw,
) -> Result<Response> {
    let read_body = move || {
        lenient::decode::<Change>(&body)
            .map(|change| change.visibility)
            .map_err(|_| Error::invalid("invalid_body", "invalid JSON body"))
    };
    api.fleet.set_visibility(id(&segment)?, caller.user(), selected.0, read_body).await.map(ok)
}

/// Removes one.
pub async fn delete(State(api): State<Api>, caller: Caller, selected: Selected, segment: Segment) -> Result<Response> {
    api.fleet.delete(id(&segment)?, caller.user(), selected.0).await?;
    Ok(ok(json!({ "status": "ok" })))
}

fn id(segment: &str) -> Result<RuntimeId> {
    extract::id(segment, "runtime_id")
}
