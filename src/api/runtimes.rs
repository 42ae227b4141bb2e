//! `/api/runtimes`, as people use it.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use serde_json::json;

use super::{
    Api,
    answer::{at_position, ok},
    extract::{self, Asked, Caller, Raw, Segment, Selected},
};
use crate::{
    error::{Error, Result},
    fleet::runtime_not_found,
    flows::teardown::{self, Wish},
    ids::{AgentId, RuntimeId, WorkspaceId},
    protocol::{lenient, runtime::ConfirmedAgents},
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
    Asked(filter): Asked<Filter>,
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

/// Removes one that no active agent is bound to.
pub async fn delete(State(api): State<Api>, caller: Caller, selected: Selected, segment: Segment) -> Result<Response> {
    let wish = Wish { runtime: id(&segment)?, by: caller.user(), selected: selected.0 };
    let (workspace, tools) = (home(&api, wish.runtime).await?, api.tools());
    api.db.write(workspace, async move |tx| teardown::delete(tx, &tools, wish).await).await?;
    forget(&api, wish.runtime).await;
    Ok(ok(json!({ "status": "ok" })))
}

/// Removes one with its agents. The body is read before it is looked whether there is such a runtime.
pub async fn archive_agents_and_delete(
    State(api): State<Api>,
    caller: Caller,
    selected: Selected,
    segment: Segment,
    Raw(body): Raw,
) -> Result<Response> {
    let wish = Wish { runtime: id(&segment)?, by: caller.user(), selected: selected.0 };
    let confirmed: ConfirmedAgents = lenient::decode(&body).map_err(|_| extract::bad_body())?;
    let confirmed = confirmed.expected_active_agent_ids.iter().map(|text| text.parse());
    let confirmed: Vec<AgentId> = confirmed
        .collect::<Result<_, _>>()
        .map_err(|_| Error::invalid("invalid_agent_ids", "expected_active_agent_ids must be a list of valid UUIDs"))?;
    let (workspace, tools) = (home(&api, wish.runtime).await?, api.tools());
    let razed = api
        .db
        .write(workspace, async move |tx| teardown::delete_with_agents(tx, &tools, wish, &confirmed).await)
        .await?;
    forget(&api, wish.runtime).await;
    Ok(ok(json!({
        "status": "ok",
        "agents_archived": razed.agents_archived,
        "tasks_cancelled": razed.tasks_cancelled,
    })))
}

/// The workspace on whose behalf a runtime is changed.
async fn home(api: &Api, runtime: RuntimeId) -> Result<WorkspaceId> {
    api.fleet.homes(&[runtime]).await?.remove(&runtime).ok_or_else(runtime_not_found)
}

/// Whoever had it removed may rely on it that no beat finds its lease; without them it happens as well,
/// a moment later.
async fn forget(api: &Api, runtime: RuntimeId) {
    api.fleet.forget_leases(&[runtime]).await;
}

fn id(segment: &str) -> Result<RuntimeId> {
    extract::id(segment, "runtime_id")
}
