//! Signing in and out, and what a client may know before it does.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    response::Response,
};
use serde_json::json;

use super::{
    Api,
    answer::{nothing, ok},
    cookies,
    extract::{Body, Caller, Remote},
    origin,
};
use crate::{
    error::{Error, Result},
    flows::revoke,
    identity::{Identity, Proof, users},
    protocol::people::SignIn,
};

/// `POST /auth/session`: a person's token comes in, cookies go out. A page of a foreign origin may
/// not: it would sign its visitor in as somebody else.
pub async fn sign_in(
    State(api): State<Api>,
    remote: Remote,
    headers: HeaderMap,
    Body(sign_in): Body<SignIn>,
) -> Result<Response> {
    if !origin::admits(&api.settings.origins, &api.settings.proxies, remote.0, &headers) {
        return Err(origin_refused(&api, &headers));
    }
    let credential = api.credentials.resolve(sign_in.token.trim()).await?;
    let invalid = || Error::unauthenticated("invalid_token", "invalid token");
    let Identity::Person { user, proof } = credential.ok_or_else(invalid)?.identity else { return Err(invalid()) };
    let credentials = api.credentials.clone();
    let opened = api.db.write_global(async move |tx| credentials.open_session(tx, user, proof.token()).await).await?;
    let me = api.db.read(async move |db| users::get(db, user).await).await?;
    let seconds = opened.expires_at.since(api.db.clock().now()).as_secs() as i64;
    let mut response = ok(json!({ "user": me, "expires_at": opened.expires_at }));
    for cookie in cookies::set(&opened.jwt, seconds, is_https(&api, remote, &headers)) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// `DELETE /auth/session`: ends the session that the call was made with.
pub async fn sign_out(State(api): State<Api>, caller: Caller, remote: Remote, headers: HeaderMap) -> Result<Response> {
    end(&api, &caller, remote, &headers, nothing()).await
}

/// `POST /auth/logout`: the same, for clients that decode the answer.
pub async fn log_out(State(api): State<Api>, caller: Caller, remote: Remote, headers: HeaderMap) -> Result<Response> {
    end(&api, &caller, remote, &headers, ok(json!({ "status": "ok" }))).await
}

async fn end(
    api: &Api,
    caller: &Caller,
    remote: Remote,
    headers: &HeaderMap,
    mut response: Response,
) -> Result<Response> {
    if let Identity::Person { proof: Proof::Session { session, .. }, .. } = caller.0 {
        let nodes = api.nodes.clone();
        api.db.write_global(async move |tx| revoke::end_session(tx, &nodes, session).await).await?;
    }
    for cookie in cookies::clear(is_https(api, remote, headers)) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// `POST /api/cli-token`: a session for a CLI that the signed-in person is at.
pub async fn cli_token(State(api): State<Api>, caller: Caller) -> Result<Response> {
    let Identity::Person { user, proof } = caller.0 else {
        return Err(Error::forbidden("people_only", "only people may do this"));
    };
    let credentials = api.credentials.clone();
    let opened = api.db.write_global(async move |tx| credentials.open_session(tx, user, proof.token()).await).await?;
    Ok(ok(json!({ "token": opened.jwt })))
}

/// `GET /api/config`: what the client asks before anybody has signed in.
pub async fn config(_: Request) -> Response {
    ok(json!({ "allow_signup": false, "cdn_domain": "" }))
}

/// The refusal of a foreign page, logged with the setting that would admit it.
pub fn origin_refused(api: &Api, headers: &HeaderMap) -> Error {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let origin = printable(&text("origin"));
    let setting = if api.settings.proxies.is_empty() && headers.contains_key("x-forwarded-host") {
        "if it is this hub's own page behind a proxy: server.trusted_proxies with the proxy's address, or \
         server.public_url (HEARTWIRE_PUBLIC_URL) with the page's address; \
         else server.allowed_origins (HEARTWIRE_ALLOWED_ORIGINS) with this origin"
    } else {
        "server.allowed_origins (HEARTWIRE_ALLOWED_ORIGINS) with this origin, or server.public_url \
         (HEARTWIRE_PUBLIC_URL) if people reach the hub by it"
    };
    tracing::warn!(%origin, host = %printable(&text("host")), to_allow_it = setting, "refused a page of a foreign origin");
    Error::forbidden("origin_not_allowed", "origin not allowed")
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn is_https(api: &Api, remote: Remote, headers: &HeaderMap) -> bool {
    api.settings.is_https() || api.settings.proxies.says_https(remote.0, headers)
}
