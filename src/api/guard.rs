//! Who calls: the credential of a request becomes a typed identity in its extensions, or the request
//! ends here. Nothing else in a request is ever read as identity.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    Api,
    extract::{Began, Caller},
};
use crate::{
    error::{Error, Result},
    identity::{Identity, tokens},
};

/// Which identities a route accepts, and in whose words it refuses the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Public,
    /// People, by their own token.
    Person,
    /// Daemons, by their owner's token.
    Daemon,
}

/// The middleware of one route.
pub async fn guard(State((api, access)): State<(Api, Access)>, mut request: Request, next: Next) -> Response {
    let began = api.db.clock().now();
    request.extensions_mut().insert(Began(began));
    if access != Access::Public {
        match identify(&api, access, request.headers()).await {
            Ok(identity) => {
                let Identity::Person { token, .. } = identity;
                api.last_used.note(token, began);
                request.extensions_mut().insert(Caller(identity));
            }
            Err(error) => return error.into_response(),
        }
    }
    next.run(request).await
}

/// The identity behind a request's headers, by the rules of a kind of route.
pub async fn identify(api: &Api, access: Access, headers: &HeaderMap) -> Result<Identity> {
    let (missing, malformed) = match access {
        Access::Daemon => ("missing authorization header", "invalid authorization format"),
        _ => ("missing authorization", "invalid token"),
    };
    let header =
        headers.get(header::AUTHORIZATION).ok_or_else(|| Error::unauthenticated("missing_authorization", missing))?;
    let token = header
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| Error::unauthenticated("invalid_authorization", malformed))?;
    tokens::resolve(&api.db, token).await?.ok_or_else(|| Error::unauthenticated("invalid_token", "invalid token"))
}
