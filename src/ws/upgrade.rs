//! The opening handshake, and getting at the stream under it: a socket that had to keep what watched its connection
//! until then, or hyper's own wrapping, would pay for that as long as it lives.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tungstenite::handshake::derive_accept_key;

use super::{Connection, Lifeline, Limits, Sockets, Transport};
use crate::error::{Error, Result};

/// A session over whichever stream the upgrade yields.
pub(super) trait Session: Send + 'static {
    /// Runs to the end of the socket. The connection comes boxed: a future has room for every place
    /// that a value moves through.
    fn run<T: Transport>(self, connection: Box<Connection<T>>) -> impl Future<Output = ()> + Send;
}

/// Whether the request asks for a WebSocket at all, and properly.
pub fn check(request: &Request<Body>) -> Result<()> {
    let headers = request.headers();
    let asks = request.method() == Method::GET
        && lists(headers, &header::CONNECTION, "upgrade")
        && lists(headers, &header::UPGRADE, "websocket");
    if !asks {
        return Err(Error::upgrade_required("websocket_required", "this address is a WebSocket"));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Error::invalid("unsupported_websocket_version", "Sec-WebSocket-Version must be 13"));
    }
    if headers.get(header::SEC_WEBSOCKET_KEY).is_none() {
        return Err(Error::invalid("missing_websocket_key", "Sec-WebSocket-Key is missing"));
    }
    Ok(())
}

/// Answers 101 and runs the session in a task of its own.
pub(super) fn accept(
    sockets: &Sockets,
    mut request: Request<Body>,
    limits: Limits,
    session: impl Session,
) -> Result<Response<Body>> {
    check(&request)?;
    if sockets.draining.is_cancelled() {
        return Err(Error::Unavailable("the hub is going down".into()));
    }
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let accept = key.and_then(|key| HeaderValue::from_str(&key).ok());
    let accept = accept.ok_or_else(|| Error::invalid("missing_websocket_key", "Sec-WebSocket-Key is missing"))?;
    let upgrade = hyper::upgrade::on(&mut request);
    drop(request);
    sockets.tracker.spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                tracing::debug!(%error, "upgrade");
                return;
            }
        };
        match upgraded.downcast::<TokioIo<Lifeline<TcpStream>>>() {
            Ok(parts) => {
                // Hyper's read buffer is copied from and dropped here: kept, it would pin 8 KiB for
                // as long as the socket lives.
                let connection = Box::new(Connection::new(parts.io.into_inner().into_inner(), &parts.read_buf, limits));
                drop(parts.read_buf);
                session.run(connection).await;
            }
            Err(upgraded) => {
                tracing::warn!("a connection of an unknown kind was upgraded");
                session.run(Box::new(Connection::new(TokioIo::new(upgraded), &[], limits))).await;
            }
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

fn lists(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}
