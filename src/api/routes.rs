//! The route table: every address, and who may call it. A route cannot be added without saying so.

use std::time::Duration;

use axum::{
    Router,
    extract::Request,
    http::{HeaderName, Method, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, get, patch, post, put},
};

use tower_http::cors::CorsLayer;

use super::{
    Api, Settings, agents, attachments, autopilots, chats, comments, daemon, daemon_tasks, daemon_tokens, events,
    gc_checks,
    guard::{Access, guard},
    health, issues, me, members, metrics, pages, profiles, projects, quick_create, request_log, runtimes, session,
    skills, sockets, squads, tasks, tokens, workspaces,
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
    use Access::{Daemons, Everybody, People, PeopleAndAgents, PeopleAndDaemons, Public};
    let mut table = Vec::new();
    let mut add = |method: Method, path, access, handler| table.push(Route { method, path, access, handler });

    add(Method::GET, "/health", Public, get(health::process));
    add(Method::GET, "/readyz", Public, get(health::ready));
    // Answers for itself: this machine, or a token of its own.
    add(Method::GET, "/metrics", Public, get(metrics::show));
    add(Method::GET, "/api/config", Public, get(session::config));

    // Answers for itself: by the cookie before the upgrade, or by the first frame after it.
    add(Method::GET, "/ws", Public, get(sockets::browser));

    add(Method::GET, "/", Public, get(pages::home));
    add(Method::GET, "/assets/{name}", Public, get(pages::asset));

    // Answers for itself: the credential is in the body.
    add(Method::POST, "/auth/session", Public, post(session::sign_in));
    add(Method::DELETE, "/auth/session", People, delete(session::sign_out));
    add(Method::POST, "/auth/logout", People, post(session::log_out));
    add(Method::POST, "/api/cli-token", People, post(session::cli_token));

    add(Method::GET, "/api/events", People, get(events::poll));

    add(Method::GET, "/api/me", PeopleAndAgents, get(me::get));
    add(Method::PATCH, "/api/me", People, patch(me::patch));

    add(Method::GET, "/api/tokens", People, get(tokens::list));
    add(Method::POST, "/api/tokens", People, post(tokens::create));
    add(Method::POST, "/api/tokens/current/renew", PeopleAndDaemons, post(tokens::renew));
    add(Method::DELETE, "/api/tokens/{id}", People, delete(tokens::revoke));

    add(Method::GET, "/api/workspaces", Everybody, get(workspaces::list));
    add(Method::POST, "/api/workspaces", People, post(workspaces::create));
    add(Method::GET, "/api/workspaces/{id}", PeopleAndAgents, get(workspaces::get));
    add(Method::PATCH, "/api/workspaces/{id}", People, patch(workspaces::patch));
    add(Method::PUT, "/api/workspaces/{id}", People, put(workspaces::patch));
    add(Method::DELETE, "/api/workspaces/{id}", People, delete(workspaces::delete));
    add(Method::POST, "/api/workspaces/{id}/leave", People, post(workspaces::leave));
    add(Method::GET, "/api/workspaces/{id}/members", PeopleAndAgents, get(members::list));
    add(Method::POST, "/api/workspaces/{id}/members", People, post(members::add));
    add(Method::PATCH, "/api/workspaces/{id}/members/{member}", People, patch(members::set_role));
    add(Method::DELETE, "/api/workspaces/{id}/members/{member}", People, delete(members::remove));
    add(Method::GET, "/api/workspaces/{id}/daemon-tokens", People, get(daemon_tokens::list));
    add(Method::POST, "/api/workspaces/{id}/daemon-tokens", People, post(daemon_tokens::create));
    add(Method::DELETE, "/api/workspaces/{id}/daemon-tokens/{token}", People, delete(daemon_tokens::revoke));
    add(Method::GET, "/api/workspaces/{id}/runtime-profiles", PeopleAndAgents, get(profiles::list));
    add(Method::POST, "/api/workspaces/{id}/runtime-profiles", People, post(profiles::create));
    add(Method::GET, "/api/workspaces/{id}/runtime-profiles/{profile}", PeopleAndAgents, get(profiles::get));
    add(Method::PATCH, "/api/workspaces/{id}/runtime-profiles/{profile}", People, patch(profiles::patch));
    add(Method::PUT, "/api/workspaces/{id}/runtime-profiles/{profile}", People, put(profiles::patch));
    add(Method::DELETE, "/api/workspaces/{id}/runtime-profiles/{profile}", People, delete(profiles::delete));

    add(Method::GET, "/api/agents", PeopleAndAgents, get(agents::list));
    add(Method::POST, "/api/agents", People, post(agents::create));
    add(Method::GET, "/api/agents/{id}", PeopleAndAgents, get(agents::get));
    add(Method::PUT, "/api/agents/{id}", People, put(agents::put));
    add(Method::POST, "/api/agents/{id}/archive", People, post(agents::archive));
    add(Method::POST, "/api/agents/{id}/restore", People, post(agents::restore));
    add(Method::POST, "/api/agents/{id}/cancel-tasks", People, post(agents::cancel_tasks));
    add(Method::GET, "/api/agents/{id}/tasks", PeopleAndAgents, get(agents::list_tasks));
    add(Method::GET, "/api/agents/{id}/skills", PeopleAndAgents, get(agents::list_skills));
    add(Method::PUT, "/api/agents/{id}/skills", People, put(agents::put_skills));
    add(Method::POST, "/api/agents/{id}/skills/add", People, post(agents::add_skills));
    add(Method::GET, "/api/agents/{id}/env", People, get(agents::get_env));
    add(Method::PUT, "/api/agents/{id}/env", People, put(agents::put_env));

    add(Method::GET, "/api/skills", PeopleAndAgents, get(skills::list));
    add(Method::POST, "/api/skills", PeopleAndAgents, post(skills::create));
    add(Method::GET, "/api/skills/{id}", PeopleAndAgents, get(skills::get));
    add(Method::PUT, "/api/skills/{id}", PeopleAndAgents, put(skills::put));
    add(Method::DELETE, "/api/skills/{id}", PeopleAndAgents, delete(skills::delete));
    add(Method::GET, "/api/skills/{id}/files", PeopleAndAgents, get(skills::list_files));
    add(Method::PUT, "/api/skills/{id}/files", PeopleAndAgents, put(skills::put_file));
    add(Method::DELETE, "/api/skills/{id}/files/{file}", PeopleAndAgents, delete(skills::delete_file));

    add(Method::GET, "/api/issues", PeopleAndAgents, get(issues::list));
    add(Method::POST, "/api/issues", PeopleAndAgents, post(issues::create));
    add(Method::GET, "/api/issues/{id}", PeopleAndAgents, get(issues::get));
    add(Method::PUT, "/api/issues/{id}", PeopleAndAgents, put(issues::put));
    add(Method::DELETE, "/api/issues/{id}", PeopleAndAgents, delete(issues::delete));
    add(Method::POST, "/api/issues/{id}/rerun", PeopleAndAgents, post(issues::rerun));
    add(Method::POST, "/api/issues/{id}/squad-evaluated", PeopleAndAgents, post(issues::evaluate));
    add(Method::GET, "/api/issues/{id}/children", PeopleAndAgents, get(issues::children));
    add(Method::GET, "/api/issues/{id}/timeline", PeopleAndAgents, get(issues::timeline));
    add(Method::GET, "/api/issues/{id}/metadata", PeopleAndAgents, get(issues::get_metadata));
    add(Method::PUT, "/api/issues/{id}/metadata/{key}", PeopleAndAgents, put(issues::put_metadata));
    add(Method::DELETE, "/api/issues/{id}/metadata/{key}", PeopleAndAgents, delete(issues::delete_metadata));
    add(Method::GET, "/api/issues/{id}/comments", PeopleAndAgents, get(comments::list));
    add(Method::POST, "/api/issues/{id}/comments", PeopleAndAgents, post(comments::create));
    add(Method::PUT, "/api/comments/{id}", PeopleAndAgents, put(comments::put));
    add(Method::DELETE, "/api/comments/{id}", PeopleAndAgents, delete(comments::delete));
    add(Method::POST, "/api/comments/{id}/resolve", PeopleAndAgents, post(comments::resolve));
    add(Method::DELETE, "/api/comments/{id}/resolve", PeopleAndAgents, delete(comments::unresolve));

    add(Method::POST, "/api/issues/quick-create", PeopleAndAgents, post(quick_create::ask));
    add(Method::GET, "/api/issues/{id}/active-task", PeopleAndAgents, get(tasks::active_of_issue));
    add(Method::GET, "/api/issues/{id}/task-runs", PeopleAndAgents, get(tasks::of_issue));
    add(Method::POST, "/api/issues/{id}/tasks/{task}/cancel", PeopleAndAgents, post(tasks::cancel_of_issue));
    add(Method::GET, "/api/tasks/{id}/messages", PeopleAndAgents, get(tasks::messages));
    add(Method::POST, "/api/tasks/{id}/cancel", PeopleAndAgents, post(tasks::cancel));
    add(Method::GET, "/api/agent-task-snapshot", PeopleAndAgents, get(tasks::snapshot));

    add(Method::GET, "/api/projects", PeopleAndAgents, get(projects::list));
    add(Method::POST, "/api/projects", PeopleAndAgents, post(projects::create));
    add(Method::GET, "/api/projects/{id}", PeopleAndAgents, get(projects::get));
    add(Method::PUT, "/api/projects/{id}", PeopleAndAgents, put(projects::put));
    add(Method::DELETE, "/api/projects/{id}", PeopleAndAgents, delete(projects::delete));
    add(Method::GET, "/api/projects/{id}/resources", PeopleAndAgents, get(projects::list_resources));
    add(Method::POST, "/api/projects/{id}/resources", PeopleAndAgents, post(projects::create_resource));
    add(Method::PUT, "/api/projects/{id}/resources/{resource}", PeopleAndAgents, put(projects::put_resource));
    add(Method::DELETE, "/api/projects/{id}/resources/{resource}", PeopleAndAgents, delete(projects::delete_resource));

    add(Method::GET, "/api/squads", PeopleAndAgents, get(squads::list));
    add(Method::POST, "/api/squads", PeopleAndAgents, post(squads::create));
    add(Method::GET, "/api/squads/{id}", PeopleAndAgents, get(squads::get));
    add(Method::PUT, "/api/squads/{id}", PeopleAndAgents, put(squads::put));
    add(Method::DELETE, "/api/squads/{id}", PeopleAndAgents, delete(squads::delete));
    add(Method::GET, "/api/squads/{id}/members", PeopleAndAgents, get(squads::list_members));
    add(Method::POST, "/api/squads/{id}/members", PeopleAndAgents, post(squads::add_member));
    add(Method::DELETE, "/api/squads/{id}/members", PeopleAndAgents, delete(squads::remove_member));

    add(Method::POST, "/api/upload-file", PeopleAndAgents, post(attachments::upload));
    add(Method::GET, "/api/attachments/{id}", PeopleAndAgents, get(attachments::get));
    add(Method::GET, "/api/attachments/{id}/content", PeopleAndAgents, get(attachments::content));
    add(Method::DELETE, "/api/attachments/{id}", PeopleAndAgents, delete(attachments::delete));

    add(Method::GET, "/api/chat/sessions", People, get(chats::list));
    add(Method::POST, "/api/chat/sessions", People, post(chats::create));
    add(Method::GET, "/api/chat/sessions/{id}", People, get(chats::get));
    add(Method::PATCH, "/api/chat/sessions/{id}", People, patch(chats::rename));
    add(Method::DELETE, "/api/chat/sessions/{id}", People, delete(chats::delete));
    add(Method::GET, "/api/chat/sessions/{id}/messages", People, get(chats::messages));
    add(Method::POST, "/api/chat/sessions/{id}/messages", People, post(chats::send));
    add(Method::GET, "/api/chat/sessions/{id}/pending-task", People, get(chats::pending_task));
    add(Method::POST, "/api/chat/sessions/{id}/read", People, post(chats::read));
    add(Method::GET, "/api/autopilots", PeopleAndAgents, get(autopilots::list));
    add(Method::POST, "/api/autopilots", PeopleAndAgents, post(autopilots::create));
    add(Method::GET, "/api/autopilots/{id}", PeopleAndAgents, get(autopilots::get));
    add(Method::PATCH, "/api/autopilots/{id}", PeopleAndAgents, patch(autopilots::patch));
    add(Method::DELETE, "/api/autopilots/{id}", PeopleAndAgents, delete(autopilots::delete));
    add(Method::POST, "/api/autopilots/{id}/trigger", PeopleAndAgents, post(autopilots::trigger));
    add(Method::GET, "/api/autopilots/{id}/runs", PeopleAndAgents, get(autopilots::list_runs));
    add(Method::GET, "/api/autopilots/{id}/runs/{run}", PeopleAndAgents, get(autopilots::get_run));
    add(Method::POST, "/api/autopilots/{id}/triggers", PeopleAndAgents, post(autopilots::create_trigger));
    add(Method::PATCH, "/api/autopilots/{id}/triggers/{trigger}", PeopleAndAgents, patch(autopilots::patch_trigger));
    add(Method::DELETE, "/api/autopilots/{id}/triggers/{trigger}", PeopleAndAgents, delete(autopilots::delete_trigger));

    add(Method::GET, "/api/runtimes", PeopleAndAgents, get(runtimes::list));
    add(Method::PATCH, "/api/runtimes/{id}", People, patch(runtimes::patch));
    add(Method::DELETE, "/api/runtimes/{id}", People, delete(runtimes::delete));
    let cascade = "/api/runtimes/{id}/archive-agents-and-delete";
    add(Method::POST, cascade, People, post(runtimes::archive_agents_and_delete));

    add(Method::POST, "/api/daemon/register", Daemons, post(daemon::register));
    add(Method::POST, "/api/daemon/deregister", Daemons, post(daemon::deregister));
    add(Method::POST, "/api/daemon/heartbeat", Daemons, post(daemon::heartbeat));
    add(Method::GET, "/api/daemon/ws", Daemons, get(sockets::daemon));
    add(Method::GET, "/api/daemon/workspaces/{id}/repos", Daemons, get(daemon::repos));
    add(Method::GET, "/api/daemon/workspaces/{id}/runtime-profiles", Daemons, get(daemon::runtime_profiles));
    add(Method::POST, "/api/daemon/runtimes/{id}/recover-orphans", Daemons, post(daemon::recover_orphans));
    add(Method::POST, "/api/daemon/runtimes/{id}/tasks/claim", Daemons, post(daemon::claim));
    add(Method::GET, "/api/daemon/runtimes/{id}/tasks/pending", Daemons, get(daemon::pending));
    add(Method::POST, "/api/daemon/tasks/{id}/start", Daemons, post(daemon_tasks::start));
    add(Method::POST, "/api/daemon/tasks/{id}/wait-local-directory", Daemons, post(daemon_tasks::wait));
    add(Method::POST, "/api/daemon/tasks/{id}/session", Daemons, post(daemon_tasks::session));
    add(Method::GET, "/api/daemon/tasks/{id}/status", Daemons, get(daemon_tasks::status));
    add(Method::POST, "/api/daemon/tasks/{id}/progress", Daemons, post(daemon_tasks::progress));
    add(Method::GET, "/api/daemon/tasks/{id}/messages", Daemons, get(daemon_tasks::list_messages));
    add(Method::POST, "/api/daemon/tasks/{id}/messages", Daemons, post(daemon_tasks::messages));
    add(Method::POST, "/api/daemon/tasks/{id}/usage", Daemons, post(daemon_tasks::usage));
    add(Method::POST, "/api/daemon/tasks/{id}/complete", Daemons, post(daemon_tasks::complete));
    add(Method::POST, "/api/daemon/tasks/{id}/fail", Daemons, post(daemon_tasks::fail));
    add(Method::GET, "/api/daemon/issues/{id}/gc-check", Daemons, get(gc_checks::issue));
    add(Method::GET, "/api/daemon/chat-sessions/{id}/gc-check", Daemons, get(gc_checks::chat));
    add(Method::GET, "/api/daemon/autopilot-runs/{id}/gc-check", Daemons, get(gc_checks::run));
    add(Method::GET, "/api/daemon/tasks/{id}/gc-check", Daemons, get(gc_checks::task));
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
        .layer(cross_origin(&api.settings))
        .layer(middleware::from_fn(request_log::log))
        .with_state(api)
}

/// What pages of other origins may do: the configured ones everything that the hub's own page may,
/// the rest nothing.
fn cross_origin(settings: &Settings) -> CorsLayer {
    let name = HeaderName::from_static;
    CorsLayer::new()
        .allow_origin(settings.origins.headers())
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            name("x-workspace-id"),
            name("x-workspace-slug"),
            name("x-csrf-token"),
            name("x-request-id"),
            name("x-client-platform"),
            name("x-client-version"),
            name("x-client-os"),
        ])
        .expose_headers([
            name("x-event-epoch"),
            name("x-event-seq"),
            name("x-multica-next-before"),
            name("x-multica-next-before-id"),
            name("x-request-id"),
            header::RETRY_AFTER,
            HeaderName::from_static("x-next-pos"),
        ])
        .max_age(Duration::from_secs(600))
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
