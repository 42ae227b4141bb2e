//! The two upgrade requests.

use axum::{
    extract::{Query, RawQuery, Request, State},
    http::header,
    response::Response,
};
use serde::Deserialize;

use super::{
    Api, Settings, cookies,
    extract::{self, Began, Caller, Remote, WorkspaceQuery},
    guard::{self, Access},
    origin, session,
};
use crate::{
    error::{Error, Result},
    identity::{members, workspaces},
    ids::{RuntimeId, UserId, WorkspaceId},
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
    delivery: Option<String>,
    #[serde(default)]
    client_platform: Option<String>,
    #[serde(default)]
    client_version: Option<String>,
    #[serde(default)]
    client_os: Option<String>,
}

/// `GET /ws`. Every refusal that can be known comes before the upgrade, because older clients take
/// an open socket for success.
pub async fn browser(State(api): State<Api>, remote: Remote, request: Request) -> Result<Response> {
    let Query(query): Query<BrowserQuery> =
        Query::try_from_uri(request.uri()).map_err(|_| Error::invalid("invalid_query", "invalid query"))?;
    let Settings { origins, proxies, .. } = &api.settings;
    let headers = request.headers();
    ws::check(&request)?;
    if !origin::admits(origins, proxies, remote.0, headers) {
        return Err(session::origin_refused(&api, headers));
    }
    let cookie = cookies::session(headers);
    if cookie.is_some() && !headers.contains_key(header::ORIGIN) {
        return Err(Error::forbidden("origin_required", "a session cookie needs an Origin"));
    }
    let client_address = proxies.client(remote.0, headers);
    api.sockets.door.look_up(client_address)?;
    let workspace = query.workspace.resolve(&api, headers).await?.ok_or_else(extract::workspace_required)?;
    let place = match cookie.is_some() {
        true => {
            let credential = guard::identify(&api, Access::People, request.method(), headers).await?;
            require_member(&api, workspace, credential.identity.user()).await?;
            None
        }
        false => {
            require_workspace(&api, workspace).await?;
            Some(api.sockets.door.wait(client_address)?)
        }
    };
    let since = query
        .since
        .map(|text| text.parse().map_err(|_| Error::invalid("invalid_since", "since must be a whole number")))
        .transpose()?;
    let position =
        Position { since, epoch: query.epoch.unwrap_or_default(), since_id: query.since_id.unwrap_or_default() };
    let firehose = match query.delivery.as_deref() {
        None | Some("" | "firehose") => true,
        Some("scoped") => false,
        Some(_) => return Err(Error::invalid("invalid_delivery", "delivery must be 'firehose' or 'scoped'")),
    };
    let words = [query.client_platform, query.client_version, query.client_os];
    let client = words.into_iter().flatten().map(|word| printable(&word)).collect::<Vec<_>>().join(" ");
    ws::browser::accept(&api.sockets, request, Opening { workspace, position, firehose, client, cookie, place })
}

/// Slugs are no secret: who has no session learns whether there is such a workspace.
async fn require_workspace(api: &Api, workspace: WorkspaceId) -> Result<()> {
    let found = api.db.read(async move |db| workspaces::get(db, workspace).await).await;
    found.map(drop)
}

/// Who has a session is told in so many words, before the upgrade.
async fn require_member(api: &Api, workspace: WorkspaceId, user: UserId) -> Result<()> {
    require_workspace(api, workspace).await?;
    let role = api.db.read(async move |db| members::role(db, workspace, user).await).await?;
    role.map(drop).ok_or_else(|| Error::forbidden("not_a_member", "not a member of this workspace"))?;
    require_room(api, user)
}

fn require_room(api: &Api, user: UserId) -> Result<()> {
    if api.sockets.registry.has_as_many(user, api.sockets.settings.max_per_user) {
        return Err(Error::too_many("too_many_sockets", "too many connections"));
    }
    Ok(())
}

/// `GET /api/daemon/ws`.
pub async fn daemon(
    State(api): State<Api>,
    caller: Caller,
    Began(began): Began,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response> {
    let runtimes = runtime_ids(query.as_deref().unwrap_or_default())?;
    ws::check(&request)?;
    let revocations = api.sockets.registry.revocations();
    let driver = caller.driver();
    api.fleet.admit(&runtimes, &driver).await?;
    require_room(&api, driver.user)?;
    let holder = caller.0.holder();
    ws::daemon::accept(&api.sockets, request, ws::daemon::Opening { driver, holder, began, runtimes, revocations })
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
