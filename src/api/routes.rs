//! The route table: every address, and who may call it. A route cannot be added without saying so.

use axum::{
    Router,
    extract::Request,
    http::Method,
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, get, patch, post, put},
};

use super::{
    Api, daemon, events,
    guard::{Access, guard},
    health, me, pages, request_log, runtimes, sockets, tokens, workspaces,
};
use crate::error::Error;

/// One entry of the table.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The address, with its parameters in braces.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    handler: MethodRouter<Api>,
}

/// Every route.
pub fn table() -> Vec<Route> {
    use Access::{Daemon, Person, Public};
    let mut table = Vec::new();
    let mut add = |method: Method, path, access, handler| table.push(Route { method, path, access, handler });

    add(Method::GET, "/health", Public, get(health::process));
    add(Method::GET, "/readyz", Public, get(health::ready));

    // Answers for itself: the credential comes in the first frame.
    add(Method::GET, "/ws", Public, get(sockets::browser));

    add(Method::GET, "/", Public, get(pages::home));
    add(Method::GET, "/assets/{name}", Public, get(pages::asset));

    add(Method::GET, "/api/events", Person, get(events::poll));

    add(Method::GET, "/api/me", Person, get(me::get));
    add(Method::PATCH, "/api/me", Person, patch(me::patch));

    add(Method::GET, "/api/tokens", Person, get(tokens::list));
    add(Method::POST, "/api/tokens", Person, post(tokens::create));
    add(Method::POST, "/api/tokens/current/renew", Person, post(tokens::renew));
    add(Method::DELETE, "/api/tokens/{id}", Person, delete(tokens::revoke));

    add(Method::GET, "/api/workspaces", Person, get(workspaces::list));
    add(Method::POST, "/api/workspaces", Person, post(workspaces::create));
    add(Method::GET, "/api/workspaces/{id}", Person, get(workspaces::get));
    add(Method::PATCH, "/api/workspaces/{id}", Person, patch(workspaces::patch));
    add(Method::PUT, "/api/workspaces/{id}", Person, put(workspaces::patch));
    add(Method::GET, "/api/workspaces/{id}/members", Person, get(workspaces::members));

    add(Method::GET, "/api/runtimes", Person, get(runtimes::list));
    add(Method::PATCH, "/api/runtimes/{id}", Person, patch(runtimes::patch));
    add(Method::DELETE, "/api/runtimes/{id}", Person, delete(runtimes::delete));

    add(Method::POST, "/api/daemon/register", Daemon, post(daemon::register));
    add(Method::POST, "/api/daemon/deregister", Daemon, post(daemon::deregister));
    add(Method::POST, "/api/daemon/heartbeat", Daemon, post(daemon::heartbeat));
    add(Method::GET, "/api/daemon/ws", Daemon, get(sockets::daemon));
    add(Method::GET, "/api/daemon/workspaces/{id}/repos", Daemon, get(daemon::repos));
    add(Method::GET, "/api/daemon/workspaces/{id}/runtime-profiles", Daemon, get(daemon::runtime_profiles));
    add(Method::POST, "/api/daemon/runtimes/{id}/recover-orphans", Daemon, post(daemon::recover_orphans));
    add(Method::POST, "/api/daemon/runtimes/{id}/tasks/claim", Daemon, post(daemon::claim));
    table
}

/// The router over the table.
pub fn router(api: Api) -> Router {
    let mut router = Router::new();
    for route in table() {
        tracing::trace!(method = %route.method, path = route.path, access = ?route.access, "route");
        let guarded = route.handler.layer(middleware::from_fn_with_state((api.clone(), route.access), guard));
        router = router.route(route.path, guarded);
    }
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(request_log::log))
        .with_state(api)
}

async fn unknown() -> Error {
    Error::not_found("route_not_found", "404 page not found")
}

/// Newer daemons fall back to older calls on a 404, so a wrong method is one as well for them.
async fn wrong_method(request: Request) -> Response {
    if request.uri().path().starts_with("/api/daemon") {
        return unknown().await.into_response();
    }
    Error::wrong_method("method_not_allowed", "method not allowed").into_response()
}
