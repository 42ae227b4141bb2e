//! Reaching the hub from outside: the simulation uses the public addresses only, with the headers
//! and time limits of a real daemon, so that it works against any hub that keeps the protocol.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc, time::Duration};

use futures_util::SinkExt;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use tungstenite::{
    Error as WsError, Message,
    client::IntoClientRequest,
    http::{HeaderValue, header},
    protocol::{CloseFrame, WebSocketConfig},
};

use crate::error::{Error, Result};

/// The daemon's limit for every HTTP call.
const CALL: Duration = Duration::from_secs(30);
/// … for a WebSocket handshake and for writing one frame.
const HANDSHAKE: Duration = Duration::from_secs(10);
const WRITE: Duration = Duration::from_secs(10);
/// What a daemon reads of an error's body.
const ERROR_BODY: usize = 4096;
/// A daemon drops a connection over a larger frame.
const DAEMON_FRAME: usize = 64 << 10;
const BROWSER_FRAME: usize = 16 << 20;
/// Thousands of sockets share a process; the default of 128 KiB each would not.
const SOCKET_BUFFER: usize = 4 << 10;

/// A token. Its text is for the hub and for nobody who debugs.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Of a token that the hub gave.
    pub fn new(text: &str) -> Self {
        Self(text.trim().into())
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Why a call or a handshake came to nothing. Its text has few values: errors are counted by it.
#[derive(Debug)]
pub enum Trouble {
    /// The hub answered, with a status that is an error.
    Status(StatusCode, String),
    /// There was no usable answer.
    NoAnswer(&'static str),
}

impl Trouble {
    /// The one text on which a daemon forgets a runtime; any other 404 is none.
    pub fn says_runtime_gone(&self) -> bool {
        matches!(self, Self::Status(StatusCode::NOT_FOUND, body) if body.to_lowercase().contains("runtime not found"))
    }

    /// The text on which a daemon stops an agent.
    pub fn says_task_gone(&self) -> bool {
        matches!(self, Self::Status(StatusCode::NOT_FOUND, body) if body.to_lowercase().contains("task not found"))
    }

    /// Whether trying again is pointless without a person.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Status(status, _) => {
                status.is_client_error()
                    && ![StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(status)
            }
            Self::NoAnswer(_) => false,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status, _) => write!(f, "HTTP {}", status.as_u16()),
            Self::NoAnswer(why) => f.write_str(why),
        }
    }
}

impl From<reqwest::Error> for Trouble {
    fn from(error: reqwest::Error) -> Self {
        Self::NoAnswer(if error.is_timeout() {
            "timed out"
        } else if error.is_connect() {
            "not reached"
        } else if error.is_decode() {
            "unreadable answer"
        } else {
            "connection broke"
        })
    }
}

impl From<WsError> for Trouble {
    fn from(error: WsError) -> Self {
        match error {
            WsError::Http(answer) => {
                let body = answer.body().as_deref().unwrap_or_default();
                Self::Status(answer.status(), text_of(body))
            }
            WsError::Io(_) => Self::NoAnswer("not reached"),
            _ => Self::NoAnswer("handshake failed"),
        }
    }
}

fn text_of(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(ERROR_BODY)]).into_owned()
}

/// The hub, as one account sees it. Cheap to share; all calls share one pool of connections.
pub struct Hub {
    http: reqwest::Client,
    /// Without a slash at the end.
    base: String,
    token: Secret,
}

impl Hub {
    /// Prepares for calls to `url`; connects to nothing yet.
    pub fn new(url: &str, token: Secret) -> Result<Self> {
        // A second installation keeps the first one's choice.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base = url.trim_end_matches('/').to_owned();
        let unusable = |why: &dyn fmt::Display| Error::invalid("invalid_url", format!("{base} {why}"));
        let parsed: reqwest::Url = base.parse().map_err(|error| unusable(&format_args!("is no address: {error}")))?;
        let mut http = reqwest::Client::builder().timeout(CALL).tcp_nodelay(true);
        match parsed.scheme() {
            "https" => {}
            // The system's certificates are not needed and may be absent.
            "http" => http = http.tls_certs_only([]),
            _ => return Err(unusable(&"begins with neither http:// nor https://")),
        }
        if parsed.host_str().is_some_and(is_loopback) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(Error::internal)?;
        Ok(Self { http, base, token })
    }

    /// The same hub, for whoever holds another token.
    pub fn with_token(&self, token: Secret) -> Self {
        Self { http: self.http.clone(), base: self.base.clone(), token }
    }

    /// The account's credential, for the browser's auth frame.
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// Reads something.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        Ok(self.call(Method::GET, path, None::<&()>).await?.json().await?)
    }

    /// Reads a part of a list of messages, and where the next one begins.
    pub async fn page<T: DeserializeOwned>(&self, path: &str) -> Result<(T, Option<u64>), Trouble> {
        let answer = self.call(Method::GET, path, None::<&()>).await?;
        let next = answer.headers().get("x-next-pos").and_then(|next| next.to_str().ok()?.parse().ok());
        Ok((answer.json().await?, next))
    }

    /// Sends something and reads the answer.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Trouble> {
        Ok(self.call(Method::POST, path, Some(body)).await?.json().await?)
    }

    /// Changes something and reads the answer.
    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Trouble> {
        Ok(self.call(Method::PUT, path, Some(body)).await?.json().await?)
    }

    /// Sends something; any answer below 400 will do.
    pub async fn tell(&self, path: &str, body: &impl Serialize) -> Result<(), Trouble> {
        // Read to its end, or the connection could not be used again.
        self.call(Method::POST, path, Some(body)).await?.bytes().await?;
        Ok(())
    }

    /// As [`Self::tell`], for what is not waited for so long.
    pub async fn tell_within(&self, limit: Duration, path: &str, body: &impl Serialize) -> Result<(), Trouble> {
        tokio::time::timeout(limit, self.tell(path, body)).await.unwrap_or(Err(Trouble::NoAnswer("timed out")))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<reqwest::Response, Trouble> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(self.token.text());
        for (name, value) in CLIENT {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        if status.is_client_error() || status.is_server_error() {
            let body = answer.bytes().await.unwrap_or_default();
            return Err(Trouble::Status(status, text_of(&body)));
        }
        Ok(answer)
    }

    /// Opens a daemon's socket for its runtimes.
    pub async fn daemon_socket(&self, mut runtimes: Vec<String>) -> Result<Socket, Trouble> {
        runtimes.sort_unstable();
        let path = format!("/api/daemon/ws?runtime_ids={}", runtimes.join("%2C"));
        let mut request = self.upgrade(&path)?;
        let headers = request.headers_mut();
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", self.token.text()))
            .map_err(|_| Trouble::NoAnswer("unusable token"))?;
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
        for (name, value) in CLIENT {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert("x-client-capabilities", HeaderValue::from_static("reconcile-v1"));
        Socket::open(request, DAEMON_FRAME).await
    }

    /// Opens a browser's socket; it has still to authenticate.
    pub async fn browser_socket(&self, workspace: &str) -> Result<Socket, Trouble> {
        let path = format!("/ws?workspace_id={workspace}&client_platform=simulator");
        Socket::open(self.upgrade(&path)?, BROWSER_FRAME).await
    }

    fn upgrade(&self, path: &str) -> Result<tungstenite::handshake::client::Request, Trouble> {
        // http becomes ws, https becomes wss.
        let rest = self.base.strip_prefix("http").unwrap_or(&self.base);
        format!("ws{rest}{path}").into_client_request().map_err(|_| Trouble::NoAnswer("unusable address"))
    }
}

/// What a daemon says about itself in every request.
const CLIENT: [(&str, &str); 3] =
    [("x-client-platform", "daemon"), ("x-client-version", super::CLI_VERSION), ("x-client-os", "linux")];

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// An open WebSocket. Dropped without [`Socket::close`], it is a cut TCP connection.
pub struct Socket(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>);

/// What a socket says.
pub enum Heard {
    /// A frame.
    Text(tungstenite::Utf8Bytes),
    /// It is over: by a close frame, or without one.
    Closed(Option<CloseFrame>),
}

impl Socket {
    async fn open(request: tungstenite::handshake::client::Request, largest: usize) -> Result<Self, Trouble> {
        let config = WebSocketConfig::default()
            .read_buffer_size(SOCKET_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(largest))
            .max_frame_size(Some(largest));
        let opening = Box::pin(connect_async_with_config(request, Some(config), true));
        match tokio::time::timeout(HANDSHAKE, opening).await {
            Ok(opened) => Ok(Self(Box::new(opened?.0))),
            Err(_) => Err(Trouble::NoAnswer("timed out")),
        }
    }

    /// The next frame with content; pings are answered on the way. Safe to cancel.
    pub async fn next(&mut self) -> Heard {
        use futures_util::StreamExt;
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Heard::Text(text),
                Some(Ok(Message::Close(frame))) => return Heard::Closed(frame),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Heard::Closed(None),
            }
        }
    }

    /// Writes a frame; false if the connection is of no use any more.
    pub async fn send(&mut self, text: String) -> bool {
        matches!(tokio::time::timeout(WRITE, self.0.send(Message::text(text))).await, Ok(Ok(())))
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.0.as_mut().close(None)).await;
    }
}

/// The wait that a close frame asks for: `retry_after_ms=N`.
pub fn retry_after(close: &CloseFrame) -> Option<Duration> {
    let number = close.reason.as_str().trim().strip_prefix("retry_after_ms=")?;
    number.parse().ok().map(Duration::from_millis)
}

/// A frame from the hub, read as far as the simulation needs it and without copying.
#[derive(Debug, Deserialize)]
pub struct Frame<'a> {
    /// What it is.
    #[serde(borrow)]
    pub r#type: Cow<'a, str>,
    /// Its content, unread.
    #[serde(borrow)]
    pub payload: Option<&'a RawValue>,
    /// Its place in the sequence, if it has one.
    pub seq: Option<u64>,
    /// The event's id.
    #[serde(borrow)]
    pub event_id: Option<&'a str>,
}

impl<'a> Frame<'a> {
    /// Reads a frame; `None` if it is not one.
    pub fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Reads the content.
    pub fn payload<T: Deserialize<'a>>(&self) -> Option<T> {
        self.payload.and_then(|raw| serde_json::from_str(raw.get()).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_runtime_not_found_says_that_a_runtime_is_gone() {
        let status = |code, body: &str| Trouble::Status(code, body.to_owned());
        assert!(status(StatusCode::NOT_FOUND, r#"{"error":"Runtime not found"}"#).says_runtime_gone());
        assert!(!status(StatusCode::NOT_FOUND, r#"{"error":"not found"}"#).says_runtime_gone());
        assert!(!status(StatusCode::INTERNAL_SERVER_ERROR, "runtime not found").says_runtime_gone());
    }

    #[test]
    fn a_close_reason_tells_the_wait() {
        let close = |reason: &str| CloseFrame { code: 4001.into(), reason: reason.into() };
        assert_eq!(retry_after(&close("retry_after_ms=1200")), Some(Duration::from_millis(1200)));
        assert_eq!(retry_after(&close("slow consumer")), None);
    }

    #[test]
    fn addresses_become_socket_addresses_with_their_path() {
        let hub = |url| Hub::new(url, Secret("t".into()));
        for (url, says) in
            [("http://127.0.0.1:8080/", "ws://127.0.0.1:8080/x"), ("http://[::1]:1/base", "ws://[::1]:1/base/x")]
        {
            let request = hub(url).expect(url).upgrade("/x").expect(url);
            assert_eq!(request.uri().to_string(), says);
        }
        assert!(hub("ftp://x").is_err() && hub("nowhere").is_err());
    }

    #[test]
    fn a_frame_is_read_whatever_else_stands_in_it() {
        let text = r#"{"type":"a:b","payload":{"x":[1]},"actor_id":"","event_id":"e","seq":7,"more":null}"#;
        let frame = Frame::read(text).expect("a frame");
        assert_eq!((frame.r#type.as_ref(), frame.seq, frame.event_id), ("a:b", Some(7), Some("e")));
        assert_eq!(frame.payload.expect("payload").get(), r#"{"x":[1]}"#);
        assert!(Frame::read("7").is_none());
    }
}
