//! Connections of clients that are slow, or say nothing for a while.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Backend, Hub, PATIENCE};

on_both_stores!(what_cannot_be_read_in_an_address_is_said_in_json);

const ASK: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 64 << 10];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut bytes)).await.expect("an answer").unwrap();
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

#[tokio::test]
async fn a_connection_lasts_between_requests_and_not_in_the_midst_of_a_head() {
    let hub = Hub::start(Backend::Sqlite).await;
    let connect = async || TcpStream::connect(hub.app.address).await.unwrap();
    let (mut kept, mut fresh, mut slow, mut slow_later) =
        (connect().await, connect().await, connect().await, connect().await);
    for stream in [&mut kept, &mut slow_later] {
        stream.write_all(ASK).await.unwrap();
        let text = answer(stream).await;
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
    let began = Instant::now();
    for stream in [&mut slow, &mut slow_later] {
        stream.write_all(&ASK[..20]).await.unwrap();
    }
    // One byte now and then does not help.
    tokio::time::sleep(Duration::from_secs(5)).await;
    slow.write_all(&ASK[20..21]).await.unwrap();
    for stream in [&mut slow, &mut slow_later] {
        let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 64])).await.expect("it ends");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(2)).await;
    for stream in [&mut kept, &mut fresh] {
        stream.write_all(ASK).await.unwrap();
        assert!(answer(stream).await.starts_with("HTTP/1.1 200"), "it had time");
    }
}

async fn what_cannot_be_read_in_an_address_is_said_in_json(backend: Backend) {
    let hub = Hub::start(backend).await;
    hub.cli("GET", "/api/agents/%FF", Value::Null).await.refused(400, "invalid path");
    hub.cli("GET", "/api/runtimes?owner=me&owner=you", Value::Null).await.refused(400, "invalid query");
    let path = format!("/ws?workspace_id={}&workspace_id=x", hub.workspace);
    let upgrade = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    hub.raw("GET", &path, None, Vec::new(), &upgrade).await.refused(400, "invalid query");
}
