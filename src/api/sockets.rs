//! The two upgrade requests.

use axum::{
    extract::{Query, RawQuery, Request, State},
    response::Response,
};
use serde::Deserialize;

use super::{
    Api,
    extract::{self, Caller, WorkspaceQuery},
};
use crate::{
    error::{Error, Result},
    identity::{members, workspaces},
    ids::RuntimeId,
    protocol::browser::Position,
    ws::{self, browser::Opening},
};

/// Characters of what a client says about itself that reach the log.
const CLIENT_WORD: usize = 64;

/// The browser socket's query.
#[derive(Debug, Default, Deserialize)]
pub struct BrowserQuery {
    #[serde(flatten)]
    workspace: WorkspaceQuery,
    #[serde(default)]
    since: Option<String>,
    #[serde(default)]
    epoch: Option<String>,
    #[serde(default)]
    since_id: Option<String>,
    #[serde(default)]
    client_platform: Option<String>,
    #[serde(default)]
    client_version: Option<String>,
    #[serde(default)]
    client_os: Option<String>,
}

/// `GET /ws`.
pub async fn browser(State(api): State<Api>, Query(query): Query<BrowserQuery>, request: Request) -> Result<Response> {
    let workspace = query.workspace.resolve(&api, request.headers()).await?.ok_or_else(extract::workspace_required)?;
    api.db
        .read(async move |db| workspaces::get(db, workspace).await)
        .await
        .map_err(|error| if error.is_transient() { error } else { members::workspace_not_found() })?;
    let since = query
        .since
        .map(|text| text.parse().map_err(|_| Error::invalid("invalid_since", "since must be a whole number")))
        .transpose()?;
    let position =
        Position { since, epoch: query.epoch.unwrap_or_default(), since_id: query.since_id.unwrap_or_default() };
    let words = [query.client_platform, query.client_version, query.client_os];
    let client = words.into_iter().flatten().map(|word| printable(&word)).collect::<Vec<_>>().join(" ");
    ws::browser::accept(&api.sockets, request, Opening { workspace, position, client })
}

/// `GET /api/daemon/ws`.
pub async fn daemon(
    State(api): State<Api>,
    caller: Caller,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response> {
    let runtimes = runtime_ids(query.as_deref().unwrap_or_default())?;
    ws::daemon::check(&request)?;
    for runtime in &runtimes {
        api.fleet.admit(*runtime, caller.user()).await?;
    }
    ws::daemon::accept(&api.sockets, request, caller.user(), runtimes)
}

/// The ids of `runtime_ids` and `runtime_id`, which may be repeated and hold several each.
fn runtime_ids(query: &str) -> Result<Vec<RuntimeId>> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(
        &format!("/?{query}").parse().map_err(|_| Error::invalid("invalid_query", "invalid query"))?,
    )
    .map_err(|_| Error::invalid("invalid_query", "invalid query"))?;
    let mut ids = Vec::new();
    for (_, list) in pairs.iter().filter(|(name, _)| name == "runtime_ids" || name == "runtime_id") {
        for text in list.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            ids.push(extract::id(text, "runtime_id")?);
        }
    }
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Err(Error::invalid("runtime_ids_required", "runtime_ids required"));
    }
    Ok(ids)
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(CLIENT_WORD).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_in_lists_and_repeated_and_count_once() {
        let (a, b) = (RuntimeId::fresh(), RuntimeId::fresh());
        let ids = runtime_ids(&format!("runtime_ids={a}%2C{b}&runtime_id={a}&x=1")).expect("ids");
        assert_eq!(ids, [a, b]);
        assert!(runtime_ids("").is_err());
        assert!(runtime_ids("runtime_ids=,").is_err());
        assert!(runtime_ids("runtime_ids=nonsense").is_err());
    }
}
