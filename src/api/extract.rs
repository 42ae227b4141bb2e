//! What handlers take out of a request.

use std::{net::IpAddr, time::Duration};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Query, Request},
    http::{HeaderMap, request::Parts},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::Api;
use crate::{
    db::Session,
    error::{Error, Result},
    identity::{self, Driver, Identity, Insider, members, workspaces},
    ids::{UserId, WorkspaceId},
    protocol::{event::Actor, lenient},
    time::Timestamp,
};

/// Bytes of a body at most.
const BODY: usize = 1 << 20;
/// Of one with what an agent put out.
const LARGE_BODY: usize = 16 << 20;
/// A client has this long to send a body, and so much longer for each further MiB that it may have.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who calls; put there by the guard.
#[derive(Clone)]
pub struct Caller(pub Identity);

impl Caller {
    /// The person behind the credential.
    pub fn user(&self) -> UserId {
        self.0.user()
    }

    /// In whose name changes are made.
    pub fn actor(&self) -> Actor {
        self.0.actor()
    }

    /// Whose runtimes the call is about.
    pub fn driver(&self) -> Driver {
        Driver::from(&self.0)
    }

    /// Refuses a workspace that the credential is not good for.
    pub fn confine(&self, workspace: WorkspaceId) -> Result<WorkspaceId> {
        match &self.0 {
            Identity::Agent(binding) if binding.workspace != workspace => Err(other_workspace()),
            Identity::Daemon(binding) if binding.workspace != workspace => Err(members::workspace_not_found()),
            _ => Ok(workspace),
        }
    }
}

fn other_workspace() -> Error {
    Error::forbidden("other_workspace", "task token is bound to a different workspace")
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Error::unauthenticated("not_authenticated", "user not authenticated"))
    }
}

/// When the request's head had been read, in the database's time.
#[derive(Clone, Copy)]
pub struct Began(pub Timestamp);

impl FromRequestParts<Api> for Began {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self> {
        Ok(parts.extensions.get::<Self>().copied().unwrap_or_else(|| Self(api.db.clock().now())))
    }
}

/// The address of the peer: a client, or a proxy in front of it.
#[derive(Clone, Copy)]
pub struct Remote(pub IpAddr);

impl FromRequestParts<Api> for Remote {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self> {
        let remote = parts.extensions.get::<Self>().copied();
        remote.ok_or_else(|| Error::internal("a request without a peer"))
    }
}

/// The body as it came.
pub struct Raw(pub Bytes);

impl FromRequest<Api> for Raw {
    type Rejection = Error;
    async fn from_request(request: Request, _: &Api) -> Result<Self> {
        read(request, BODY).await.map(Self)
    }
}

async fn read(request: Request, most: usize) -> Result<Bytes> {
    let declared = request
        .headers()
        .get(axum::http::header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let patience = PATIENCE * (most / BODY).max(1) as u32;
    match tokio::time::timeout(patience, axum::body::to_bytes(request.into_body(), most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_limit(&error) => Err(too_large()),
        Ok(Err(_)) => Err(bad_body()),
        Err(_) => Err(too_slow()),
    }
}

/// Waits for some of a body that is read in pieces, but not for ever.
pub async fn in_time<T>(piece: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, piece).await.map_err(|_| too_slow())
}

fn too_slow() -> Error {
    Error::invalid("body_too_slow", "the request body took too long")
}

/// The body as lenient JSON.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Api> for Body<T> {
    type Rejection = Error;
    async fn from_request(request: Request, api: &Api) -> Result<Self> {
        let Raw(bytes) = Raw::from_request(request, api).await?;
        decode(&bytes).map(Self)
    }
}

/// As [`Body`], for what an agent put out: it may be much.
pub struct Large<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Api> for Large<T> {
    type Rejection = Error;
    async fn from_request(request: Request, _: &Api) -> Result<Self> {
        let bytes = read(request, LARGE_BODY).await?;
        decode(&bytes).map(Self)
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    lenient::decode(bytes).map_err(|error| {
        tracing::debug!(%error, "a body that cannot be read");
        bad_body()
    })
}

/// The refusal of a body that is not what the route takes.
pub fn bad_body() -> Error {
    Error::invalid("invalid_body", "invalid request body")
}

/// The refusal of a body that is too long.
pub fn too_large() -> Error {
    Error::too_large("body_too_large", "request body too large")
}

fn is_limit(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("length limit exceeded") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An id in a path; `what` names it in the refusal.
pub fn id<T: std::str::FromStr>(text: &str, what: &str) -> Result<T> {
    text.parse().map_err(|_| Error::invalid("invalid_id", format!("invalid {what}")))
}

/// The parameters of a path.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Path<T> {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self> {
        let path = axum::extract::Path::from_request_parts(parts, api).await;
        path.map(|path| Self(path.0)).map_err(|_| Error::invalid("invalid_path", "invalid path"))
    }
}

impl<T> std::ops::Deref for Path<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// The single parameter of a path.
pub type Segment = Path<String>;

/// A workspace as a request may name it.
#[derive(Debug, Default, Clone, Deserialize)]
pub struct WorkspaceQuery {
    #[serde(default)]
    workspace_slug: Option<String>,
    #[serde(default)]
    workspace_id: Option<String>,
}

impl WorkspaceQuery {
    /// Looks the named workspace up: query slug, header slug, query id, header id, in this order.
    /// `None` when none is named. Membership is not asked for.
    pub async fn resolve(&self, api: &Api, headers: &HeaderMap) -> Result<Option<WorkspaceId>> {
        let header = |name: &str| {
            headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(slug) = given(&self.workspace_slug).or_else(|| header("x-workspace-slug")) {
            // PostgreSQL has no U+0000, and no slug has one.
            if slug.contains('\0') {
                return Err(members::workspace_not_found());
            }
            let found = api.db.read(async move |db| workspaces::find(db, &slug).await).await?;
            return found.map(Some).ok_or_else(members::workspace_not_found);
        }
        match given(&self.workspace_id).or_else(|| header("x-workspace-id")) {
            Some(text) => id(&text, "workspace_id").map(Some),
            None => Ok(None),
        }
    }
}

/// The workspace a request selected, if it did; not yet checked for membership.
pub struct Selected(pub Option<WorkspaceId>);

impl Selected {
    /// The workspace, where one is needed.
    pub fn required(&self) -> Result<WorkspaceId> {
        self.0.ok_or_else(workspace_required)
    }
}

/// Where a request about a workspace's records is meant to act, and for whom; they have yet to
/// enter.
#[derive(Clone)]
pub struct Door {
    caller: Caller,
    workspace: WorkspaceId,
}

impl Door {
    /// A door that the request did not name itself.
    pub fn new(caller: Caller, workspace: WorkspaceId) -> Self {
        Self { caller, workspace }
    }

    /// The workspace.
    pub fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    /// Lets the caller in, or refuses.
    pub async fn enter(&self, db: &mut Session) -> Result<Insider> {
        identity::enter(db, &self.caller.0, self.workspace).await
    }
}

impl FromRequestParts<Api> for Door {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self> {
        let workspace = Selected::from_request_parts(parts, api).await?.required()?;
        Ok(Self { caller: Caller::from_request_parts(parts, api).await?, workspace })
    }
}

/// A query of a route; what is not understood is refused.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Asked<T> {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self> {
        let invalid = || Error::invalid("invalid_query", "invalid query");
        // PostgreSQL has no U+0000, and nothing that is asked for has one.
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(invalid());
        }
        Query::try_from_uri(&parts.uri).map(|Query(query)| Self(query)).map_err(|_| invalid())
    }
}

/// The refusal of a request that names no workspace where one is needed.
pub fn workspace_required() -> Error {
    Error::invalid("workspace_required", "workspace_id or workspace_slug is required")
}

impl FromRequestParts<Api> for Selected {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self> {
        let Query(query) = Query::<WorkspaceQuery>::try_from_uri(&parts.uri)
            .map_err(|_| Error::invalid("invalid_query", "invalid query"))?;
        let caller = Caller::from_request_parts(parts, api).await?;
        let selected = query.resolve(api, &parts.headers).await;
        let Some(bound) = caller.0.confined_to() else { return selected.map(Self) };
        match selected {
            Ok(None) => Ok(Self(Some(bound))),
            Ok(Some(workspace)) => caller.confine(workspace).map(|workspace| Self(Some(workspace))),
            // Not even whether it exists.
            Err(Error::Refused(_)) => Err(other_workspace()),
            Err(error) => Err(error),
        }
    }
}
