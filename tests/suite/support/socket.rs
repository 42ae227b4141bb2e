//! A WebSocket client that fails instead of waiting for ever.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::Response},
};

use super::PATIENCE;

pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// Frames that come when they come: no part of a sequence, and nothing that a case about something
/// else waits for.
fn is_fleeting(text: &str) -> bool {
    text.starts_with(r#"{"type":"runtime:presence""#) || text.contains(r#""type":"runtime:presence""#)
}

impl Socket {
    pub async fn open(url: &str, token: Option<&str>) -> Self {
        Self::try_open(url, token).await.unwrap_or_else(|(status, body)| panic!("{url}: {status} {body}"))
    }

    /// Opens a socket, or gives the refusal's status and body.
    pub async fn try_open(url: &str, token: Option<&str>) -> Result<Self, (u16, String)> {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        Self::open_with(url, &headers).await
    }

    /// A socket on a stream that takes hardly anything while nobody reads: then it is the hub that has to
    /// wait.
    pub async fn open_narrow(url: &str) -> Self {
        let request = url.into_client_request().expect("a URL");
        let address = request.uri().authority().expect("host and port").as_str().parse().expect("an address");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let stream = socket.connect(address).await.expect("connected");
        let (stream, _) = client_async(request, MaybeTlsStream::Plain(stream)).await.expect("upgraded");
        Self(stream)
    }

    /// As [`Socket::try_open`], with any headers.
    pub async fn open_with(url: &str, headers: &[(&str, &str)]) -> Result<Self, (u16, String)> {
        let mut request = url.into_client_request().expect("a URL");
        for (name, value) in headers {
            let name: tokio_tungstenite::tungstenite::http::HeaderName = name.parse().expect("a name");
            request.headers_mut().insert(name, value.parse().expect("a header"));
        }
        match connect_async(request).await {
            Ok((stream, _)) => Ok(Self(stream)),
            Err(Error::Http(response)) => {
                let response: Response<Option<Vec<u8>>> = *response;
                let body = response.body().clone().unwrap_or_default();
                Err((response.status().as_u16(), String::from_utf8_lossy(&body).into_owned()))
            }
            Err(error) => panic!("{url}: {error}"),
        }
    }

    pub async fn send(&mut self, frame: Value) {
        self.send_text(&frame.to_string()).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.expect("sent");
    }

    pub async fn send_message(&mut self, message: Message) {
        self.0.send(message).await.expect("sent");
    }

    /// The next text frame.
    pub async fn next(&mut self) -> Value {
        match self.next_or_close().await {
            Ok(frame) => frame,
            Err(close) => panic!("closed: {close:?}"),
        }
    }

    /// The next text frame, however long it takes.
    pub async fn next_ever(&mut self) -> Value {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) if is_fleeting(&text) => {}
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).expect("JSON"),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("closed: {other:?}"),
            }
        }
    }

    /// The next text frame, or the close code and reason.
    pub async fn next_or_close(&mut self) -> Result<Value, (u16, String)> {
        // For the frame, not for each ping in between.
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let message = tokio::time::timeout_at(deadline, self.0.next()).await.expect("a frame in time");
            match message {
                Some(Ok(Message::Text(text))) if is_fleeting(&text) => {}
                Some(Ok(Message::Text(text))) => {
                    return Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")));
                }
                Some(Ok(Message::Close(frame))) => {
                    let frame = frame.expect("a close with a code");
                    return Err((frame.code.into(), frame.reason.to_string()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err((0, error.to_string())),
                None => return Err((0, "end of stream".into())),
            }
        }
    }

    /// The next change of how runtimes are reachable.
    pub async fn next_presence(&mut self) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match tokio::time::timeout_at(deadline, self.0.next()).await.expect("a frame in time") {
                Some(Ok(Message::Text(text))) if is_fleeting(&text) => {
                    return serde_json::from_str(&text).expect("JSON");
                }
                Some(Ok(_)) => {}
                other => panic!("closed: {other:?}"),
            }
        }
    }

    /// The next frame of a type, passing over others.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        // For the frame, not for each of the others.
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let frame = tokio::time::timeout_at(deadline, self.next()).await;
            let frame = frame.unwrap_or_else(|_| panic!("no {kind} in time"));
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Fails if a text frame other than a heartbeat comes within the span.
    pub async fn quiet_for(&mut self, span: Duration) {
        let deadline = tokio::time::Instant::now() + span;
        while let Ok(message) = tokio::time::timeout_at(deadline, self.0.next()).await {
            match message {
                Some(Ok(Message::Text(text))) if text.contains(r#""type":"heartbeat""#) || is_fleeting(&text) => {}
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("expected nothing, got {other:?}"),
            }
        }
    }

    /// The code with which the server closes; frames before it are passed over.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Err(close) = self.next_or_close().await {
                return close;
            }
        }
    }

    /// Ends it in order.
    pub async fn close(mut self) {
        let _ = self.0.close(None).await;
    }

    /// Cuts the stream without a word.
    pub fn cut(self) {
        drop(self);
    }
}
