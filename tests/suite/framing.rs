//! The framing, byte by byte, against a peer that is no library.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::support::{Backend, Hub, PATIENCE};

on_both_stores!(
    frames_may_come_in_any_pieces,
    control_frames_come_between_fragments,
    a_close_is_answered_with_its_code,
    what_breaks_the_protocol_is_closed_with_the_named_code,
    a_large_message_is_refused_before_it_is_read,
    early_bytes_behind_the_handshake_count,
    handshakes_that_are_none_are_refused,
    partial_writes_keep_frames_whole,
    a_peer_that_reads_nothing_is_cut_off_and_nobody_else_waits,
);

const FIN: u8 = 0x80;
const TEXT: u8 = 1;
const CONTINUATION: u8 = 0;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A masked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    async fn connect(hub: &Hub) -> Self {
        Self::over(hub, TcpStream::connect(hub.app.address).await.unwrap(), &[]).await
    }

    async fn over(hub: &Hub, mut stream: TcpStream, early: &[u8]) -> Self {
        let head = format!(
            "GET /ws?workspace_id={} HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            hub.workspace
        );
        stream.write_all(&[head.as_bytes(), early].concat()).await.unwrap();
        let mut raw = Self { stream, buffer: Vec::new() };
        let head = raw.until(b"\r\n\r\n").await;
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{head}");
        // RFC 6455, section 1.3.
        assert!(head.contains(&"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_lowercase()), "{head}");
        raw
    }

    async fn authenticated(hub: &Hub) -> Self {
        let mut raw = Self::connect(hub).await;
        raw.write(&frame(FIN | TEXT, &auth(hub))).await;
        assert_eq!(raw.json().await["type"], "auth_ack");
        raw
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        matches!(read.expect("bytes in time"), Ok(read) if read > 0)
    }

    async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return self.buffer.drain(..at + end.len()).collect();
            }
            assert!(self.fill().await, "end of stream");
        }
    }

    /// The next frame: its first byte and its payload; `None` at the end of the stream.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((header, len)) = header(&self.buffer)
                && self.buffer.len() >= header + len
            {
                let first = self.buffer[0];
                let payload = self.buffer[header..header + len].to_vec();
                self.buffer.drain(..header + len);
                return Some((first, payload));
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn json(&mut self) -> Value {
        let (first, payload) = self.frame().await.expect("a frame");
        assert_eq!(first, FIN | TEXT, "{}", String::from_utf8_lossy(&payload));
        serde_json::from_slice(&payload).unwrap()
    }

    /// The close code that comes, and then the end of the stream.
    async fn close_code(&mut self) -> u16 {
        loop {
            let (first, payload) = self.frame().await.expect("a close frame");
            if first == FIN | CLOSE {
                self.write(&frame(FIN | CLOSE, &payload)).await;
                assert_eq!(self.frame().await, None, "the server ends the stream");
                return u16::from_be_bytes([payload[0], payload[1]]);
            }
        }
    }
}

fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let second = *bytes.get(1)?;
    assert_eq!(second & 0x80, 0, "a server's frames are not masked");
    Some(match second {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()) as usize),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize),
        len => (2, len as usize),
    })
}

fn auth(hub: &Hub) -> Vec<u8> {
    json!({ "type": "auth", "payload": { "token": hub.token } }).to_string().into_bytes()
}

const ASK: &[u8] = br#"{"type":"ping"}"#;

async fn frames_may_come_in_any_pieces(backend: Backend) {
    let hub = Hub::start(backend).await;
    let mut raw = Raw::connect(&hub).await;
    for byte in frame(FIN | TEXT, &auth(&hub)) {
        raw.write(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(raw.json().await["type"], "auth_ack");
    // Ten messages in one packet are ten messages.
    raw.write(&frame(FIN | TEXT, ASK).repeat(10)).await;
    for _ in 0..10 {
        assert_eq!(raw.json().await["type"], "pong");
    }
}

async fn control_frames_come_between_fragments(backend: Backend) {
    let hub = Hub::start(backend).await;
    let mut raw = Raw::authenticated(&hub).await;
    let (a, rest) = ASK.split_at(3);
    let (b, c) = rest.split_at(4);
    raw.write(&frame(TEXT, a)).await;
    raw.write(&frame(FIN | PING, b"one")).await;
    assert_eq!(raw.frame().await, Some((FIN | PONG, b"one".to_vec())), "answered before the message is complete");
    raw.write(&frame(CONTINUATION, b)).await;
    raw.write(&frame(FIN | PING, b"")).await;
    raw.write(&frame(FIN | PONG, b"unasked")).await;
    raw.write(&frame(FIN | CONTINUATION, c)).await;
    assert_eq!(raw.frame().await, Some((FIN | PONG, Vec::new())));
    assert_eq!(raw.json().await["type"], "pong");
    // A character cut in two by the fragments is one character.
    let message = json!({ "type": "ping", "payload": "é" }).to_string().into_bytes();
    let cut = message.iter().position(|byte| *byte == 0xC3).unwrap() + 1;
    raw.write(&frame(TEXT, &message[..cut])).await;
    raw.write(&frame(FIN | CONTINUATION, &message[cut..])).await;
    assert_eq!(raw.json().await["type"], "pong");
}

async fn a_close_is_answered_with_its_code(backend: Backend) {
    let hub = Hub::start(backend).await;
    let mut raw = Raw::authenticated(&hub).await;
    let goodbye = [&1000u16.to_be_bytes()[..], b"bye"].concat();
    raw.write(&frame(FIN | CLOSE, &goodbye)).await;
    let (first, payload) = raw.frame().await.expect("an answer");
    assert_eq!((first, &payload[..2]), (FIN | CLOSE, &1000u16.to_be_bytes()[..]));
    assert_eq!(raw.frame().await, None);
    // Without a code, and before authentication.
    let mut raw = Raw::connect(&hub).await;
    raw.write(&frame(FIN | CLOSE, b"")).await;
    assert_eq!(raw.frame().await, Some((FIN | CLOSE, Vec::new())));
    assert_eq!(raw.frame().await, None);
}

async fn what_breaks_the_protocol_is_closed_with_the_named_code(backend: Backend) {
    let hub = Hub::start(backend).await;
    let mut unmasked = frame(FIN | TEXT, b"");
    unmasked[1] &= 0x7F;
    unmasked.truncate(2);
    for (what, bytes, code) in [
        ("unmasked", unmasked, 1002),
        ("a reserved bit", frame(FIN | 0x40 | TEXT, ASK), 1002),
        ("an unknown opcode", frame(FIN | 3, ASK), 1002),
        ("a continuation of nothing", frame(FIN | CONTINUATION, ASK), 1002),
        ("a fragmented ping", frame(PING, b""), 1002),
        ("a long ping", frame(FIN | PING, &[0; 126]), 1002),
        ("a message within a message", [frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat(), 1002),
        ("invalid UTF-8", frame(FIN | TEXT, b"\xFF\xFE"), 1007),
        ("binary", frame(FIN | 2, b"x"), 4504),
    ] {
        let mut raw = Raw::authenticated(&hub).await;
        raw.write(&bytes).await;
        assert_eq!(raw.close_code().await, code, "{what}");
    }
    // Nobody else noticed.
    let mut raw = Raw::authenticated(&hub).await;
    raw.write(&frame(FIN | TEXT, ASK)).await;
    assert_eq!(raw.json().await["type"], "pong");
}

async fn a_large_message_is_refused_before_it_is_read(backend: Backend) {
    let hub = Hub::start(backend).await;
    let mut raw = Raw::authenticated(&hub).await;
    // The header alone is enough.
    raw.write(&[FIN | TEXT, 0x80 | 127, 0, 0, 0, 0, 0x7F, 0, 0, 0, 1, 2, 3, 4]).await;
    assert_eq!(raw.close_code().await, 1009);
    // Fragments are added up.
    let mut raw = Raw::authenticated(&hub).await;
    raw.write(&frame(TEXT, &[b'x'; 40_000])).await;
    raw.write(&frame(CONTINUATION, &[b'x'; 40_000])).await;
    assert_eq!(raw.close_code().await, 1009);
    let mut raw = Raw::authenticated(&hub).await;
    let fits = format!("{{\"type\":\"ping\",\"payload\":\"{}\"}}", "x".repeat(60_000));
    raw.write(&frame(FIN | TEXT, fits.as_bytes())).await;
    assert_eq!(raw.json().await["type"], "pong");
}

async fn early_bytes_behind_the_handshake_count(backend: Backend) {
    let hub = Hub::start(backend).await;
    let early = [frame(FIN | TEXT, &auth(&hub)), frame(FIN | TEXT, ASK)].concat();
    let stream = TcpStream::connect(hub.app.address).await.unwrap();
    let mut raw = Raw::over(&hub, stream, &early).await;
    assert_eq!(raw.json().await["type"], "auth_ack");
    assert_eq!(raw.json().await["type"], "pong");
}

async fn handshakes_that_are_none_are_refused(backend: Backend) {
    let hub = Hub::start(backend).await;
    let path = format!("/ws?workspace_id={}", hub.workspace);
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    let version = ("sec-websocket-version", "13");
    let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    for (headers, status) in [
        (vec![upgrade[0], version, key], 426),
        (vec![upgrade[0], upgrade[1], key], 400),
        (vec![upgrade[0], upgrade[1], ("sec-websocket-version", "8"), key], 400),
        (vec![upgrade[0], upgrade[1], version], 400),
    ] {
        hub.raw("GET", &path, None, Vec::new(), &headers).await.expect(status);
    }
}

async fn partial_writes_keep_frames_whole(backend: Backend) {
    let hub = Hub::start(backend).await;
    // A receive buffer so small that the server's writes are cut at odd places.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let mut raw = Raw::over(&hub, socket.connect(hub.app.address).await.unwrap(), &[]).await;
    raw.write(&frame(FIN | TEXT, &auth(&hub))).await;
    assert_eq!(raw.json().await["type"], "auth_ack");
    for size in [10, 200, 70_000] {
        hub.app.emit(&[(hub.workspace, 100)], "a", size).await.unwrap();
    }
    // Pings in between are answered between whole frames.
    let mut last = 0;
    let mut pongs = 0;
    while last < 300 {
        if last % 30 == 0 && pongs * 30 <= last {
            raw.write(&frame(FIN | PING, b"p")).await;
            pongs += 1;
        }
        let (first, payload) = raw.frame().await.expect("a frame");
        if first == FIN | TEXT {
            let event: Value = serde_json::from_slice(&payload).unwrap();
            if event["type"] == "runtime:presence" {
                continue;
            }
            last += 1;
            assert_eq!(event["seq"], last);
        } else {
            assert_eq!((first, payload.as_slice()), (FIN | PONG, &b"p"[..]));
        }
    }
}

async fn a_peer_that_reads_nothing_is_cut_off_and_nobody_else_waits(backend: Backend) {
    let hub = Hub::start_with(backend, &[("HEARTWIRE_STUCK_AFTER", "3s")]).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let mut stuck = Raw::over(&hub, socket.connect(hub.app.address).await.unwrap(), &[]).await;
    stuck.write(&frame(FIN | TEXT, &auth(&hub))).await;
    assert_eq!(stuck.json().await["type"], "auth_ack");
    let (mut other, _) = hub.browser().await;
    let emit = async {
        for _ in 0..100 {
            hub.app.emit(&[(hub.workspace, 1)], "a", 200_000).await.unwrap();
        }
    };
    let read = async {
        for seq in 1..=100 {
            assert_eq!(other.next_of("test:event").await["seq"], seq);
        }
    };
    tokio::join!(emit, read);
    // 20 MB do not fit into any buffer: after three seconds without a byte taken it is over. What the
    // kernel had taken still comes, the rest does not.
    tokio::time::sleep(Duration::from_millis(5500)).await;
    let mut whole = 0;
    while let Some((first, _)) = stuck.frame().await {
        whole += u32::from(first == FIN | TEXT);
    }
    assert!(whole < 100, "it got everything: {whole}");
}
