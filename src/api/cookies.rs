//! The session's two cookies: `multica_auth` holds the session token and is out of reach for
//! scripts; `multica_csrf` is what the page's own scripts copy into `X-CSRF-Token`, which another
//! site's page cannot read.

use axum::http::{HeaderMap, HeaderValue, Method, header};
use cookie::{Cookie, SameSite};

use crate::{
    error::{Error, Result},
    identity::jwt,
};

const SESSION: &str = "multica_auth";
const CSRF: &str = "multica_csrf";
const CSRF_HEADER: &str = "x-csrf-token";

/// The session token that came as a cookie.
pub fn session(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == SESSION)
        .map(|(_, value)| value.trim_matches('"').to_owned())
        .filter(|value| !value.is_empty())
}

/// Refuses a change that comes with the cookie but not from a page of ours.
pub fn check_csrf(method: &Method, headers: &HeaderMap, session: &str) -> Result<()> {
    if method.is_safe() {
        return Ok(());
    }
    let token = headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if jwt::is_csrf_token(session, token) {
        return Ok(());
    }
    Err(Error::forbidden("csrf_failed", "CSRF validation failed"))
}

/// The `Set-Cookie` headers of a session that lasts so many seconds.
pub fn set(session: &str, seconds: i64, secure: bool) -> [HeaderValue; 2] {
    [cookie(SESSION, session, seconds, secure, true), cookie(CSRF, &jwt::csrf_token(session), seconds, secure, false)]
}

/// The `Set-Cookie` headers that end one.
pub fn clear(secure: bool) -> [HeaderValue; 2] {
    [cookie(SESSION, "", 0, secure, true), cookie(CSRF, "", 0, secure, false)]
}

fn cookie(name: &str, value: &str, seconds: i64, secure: bool, http_only: bool) -> HeaderValue {
    let cookie = Cookie::build((name, value))
        .path("/")
        .same_site(SameSite::Strict)
        .secure(secure)
        .http_only(http_only)
        .max_age(cookie::time::Duration::seconds(seconds))
        .build();
    // Tokens are base64 and hex: always a valid header.
    HeaderValue::from_str(&cookie.to_string()).unwrap_or(HeaderValue::from_static(""))
}
