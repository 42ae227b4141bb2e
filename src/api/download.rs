//! Bytes that somebody uploaded, as an answer. They are on the hub's own origin, so nothing in them
//! may become a page of it: they are saved rather than shown, their type is one of a few that no
//! browser runs, and if one is shown after all, it is in a sandbox.

use std::fmt::Write;

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::Stream;

use crate::error::{Error, Result};

/// Types that are passed on.
const HARMLESS: &[&str] = &[
    "application/json",
    "application/pdf",
    "application/zip",
    "audio/mpeg",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
    "video/mp4",
    "video/webm",
];

/// An answer of `length` bytes.
pub fn download(
    filename: &str,
    content_type: &str,
    length: i64,
    bytes: impl Stream<Item = Result<Bytes>> + Send + 'static,
) -> Result<Response> {
    let mut response = Response::new(Body::from_stream(bytes));
    let disposition = HeaderValue::try_from(disposition(filename)).map_err(Error::internal)?;
    let fixed = HeaderValue::from_static;
    response.headers_mut().extend([
        (header::CONTENT_TYPE, fixed(served_as(content_type))),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
        (header::CONTENT_DISPOSITION, disposition),
        (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (header::CONTENT_SECURITY_POLICY, fixed("sandbox; default-src 'none'")),
        // Who may read it can change, and the browser may be somebody else's tomorrow.
        (header::CACHE_CONTROL, fixed("private, no-store")),
    ]);
    Ok(response)
}

fn served_as(stored: &str) -> &'static str {
    let essence = stored.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("text/plain") {
        // The charset is said, so that none is guessed.
        return "text/plain; charset=utf-8";
    }
    HARMLESS.iter().find(|kind| essence.eq_ignore_ascii_case(kind)).copied().unwrap_or("application/octet-stream")
}

/// The name twice: for old clients without what is special in a header, and encoded whole.
fn disposition(filename: &str) -> String {
    let plain = |c: char| c == ' ' || c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%');
    let fallback: String = filename.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let mut text = format!("attachment; filename=\"{fallback}\"; filename*=UTF-8''");
    for byte in filename.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_header() {
        assert_eq!(disposition("a.txt"), "attachment; filename=\"a.txt\"; filename*=UTF-8''a.txt");
        assert_eq!(
            disposition("ä\"; x=\\1.txt"),
            "attachment; filename=\"__; x=_1.txt\"; filename*=UTF-8''%C3%A4%22%3B%20x%3D%5C1.txt"
        );
        assert_eq!(disposition("100%41.txt"), "attachment; filename=\"100_41.txt\"; filename*=UTF-8''100%2541.txt");
    }

    #[test]
    fn what_a_browser_would_run_is_just_bytes() {
        for (stored, served) in [
            ("image/png", "image/png"),
            ("IMAGE/PNG; x=y", "image/png"),
            ("text/plain; charset=utf-7", "text/plain; charset=utf-8"),
            ("text/html", "application/octet-stream"),
            ("image/svg+xml", "application/octet-stream"),
            ("text/javascript", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(served_as(stored), served, "{stored:?}");
        }
    }
}
