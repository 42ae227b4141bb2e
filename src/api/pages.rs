//! The first page and what it loads, embedded.

use axum::{
    body::Body,
    extract::Path,
    http::{HeaderValue, header},
    response::Response,
};

use crate::error::{Error, Result};

/// Nothing but this hub's own files and sockets; no inline script, no frame, no form elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HOME: &str = include_str!("../../web/dashboard/index.html");
const SCRIPT: &str = "text/javascript; charset=utf-8";
const ASSETS: [(&str, &str, &str); 8] = [
    ("dashboard.css", "text/css; charset=utf-8", include_str!("../../web/dashboard/dashboard.css")),
    ("dashboard.js", SCRIPT, include_str!("../../web/dashboard/dashboard.js")),
    ("page.js", SCRIPT, include_str!("../../web/dashboard/page.js")),
    ("fleet.js", SCRIPT, include_str!("../../web/dashboard/fleet.js")),
    ("tasks.js", SCRIPT, include_str!("../../web/dashboard/tasks.js")),
    ("transcript.js", SCRIPT, include_str!("../../web/dashboard/transcript.js")),
    ("heartwire.js", SCRIPT, include_str!("../../web/client/heartwire.js")),
    ("task.js", SCRIPT, include_str!("../../web/client/task.js")),
];

/// `GET /`.
pub async fn home() -> Response {
    file("text/html; charset=utf-8", HOME)
}

/// `GET /assets/{name}`.
pub async fn asset(Path(name): Path<String>) -> Result<Response> {
    let found = ASSETS.iter().find(|(known, ..)| *known == name);
    found
        .map(|(_, kind, text)| file(kind, text))
        .ok_or_else(|| Error::not_found("route_not_found", "404 page not found"))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
