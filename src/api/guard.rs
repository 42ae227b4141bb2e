//! Who calls: the credential of a request becomes a typed identity in its extensions, or the request
//! ends here. Nothing else in a request is ever read as identity.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    Api, cookies,
    extract::{Began, Caller},
};
use crate::{
    error::{Error, Result},
    identity::{Credential, Identity},
};

/// Which identities a route accepts. People show their own token, a session's as bearer, or its
/// cookie; daemons' routes take no cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody; the route answers for itself.
    Public,
    /// People.
    People,
    /// People, and agents by their task's token.
    PeopleAndAgents,
    /// People and daemon tokens.
    PeopleAndDaemons,
    /// People, agents and daemon tokens.
    Everybody,
    /// Daemons: by their owner's token, or by one of their own.
    Daemons,
}

impl Access {
    /// Whether the route takes this kind of caller, and in which words it refuses another.
    fn admit(self, identity: &Identity) -> Result<()> {
        let accepted = match identity {
            Identity::Person { .. } => true,
            Identity::Agent(_) => matches!(self, Self::PeopleAndAgents | Self::Everybody),
            Identity::Daemon(_) => matches!(self, Self::PeopleAndDaemons | Self::Everybody | Self::Daemons),
        };
        match identity {
            _ if accepted => Ok(()),
            Identity::Agent(_) if self != Self::Daemons => {
                Err(Error::forbidden("task_token_refused", "task tokens may not do this"))
            }
            _ => Err(invalid()),
        }
    }
}

/// The middleware of one route.
pub async fn guard(State((api, access)): State<(Api, Access)>, mut request: Request, next: Next) -> Response {
    let began = api.db.clock().now();
    request.extensions_mut().insert(Began(began));
    if access != Access::Public {
        match identify(&api, access, request.method(), request.headers()).await {
            Ok(Credential { identity, .. }) => {
                api.last_used.note(&identity, began);
                request.extensions_mut().insert(Caller(identity));
            }
            Err(error) => return error.into_response(),
        }
    }
    next.run(request).await
}

/// The credential of a request, by the rules of a kind of route.
pub async fn identify(api: &Api, access: Access, method: &Method, headers: &HeaderMap) -> Result<Credential> {
    let secret = secret(access, method, headers)?;
    let credential = api.credentials.resolve(&secret).await?.ok_or_else(invalid)?;
    access.admit(&credential.identity)?;
    Ok(credential)
}

/// The bearer token, or else the session's cookie where one counts.
fn secret(access: Access, method: &Method, headers: &HeaderMap) -> Result<String> {
    let (missing, malformed) = match access {
        Access::Daemons => ("missing authorization header", "invalid authorization format"),
        _ => ("missing authorization", "invalid token"),
    };
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        return value
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim().to_owned())
            .ok_or_else(|| Error::unauthenticated("invalid_authorization", malformed));
    }
    let session = cookies::session(headers)
        .filter(|_| access != Access::Daemons)
        .ok_or_else(|| Error::unauthenticated("missing_authorization", missing))?;
    cookies::check_csrf(method, headers, &session)?;
    Ok(session)
}

fn invalid() -> Error {
    Error::unauthenticated("invalid_token", "invalid token")
}
