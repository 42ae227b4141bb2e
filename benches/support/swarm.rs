//! Many browser sockets, cheaply: upgrade and auth frame are written by hand, and what comes is
//! walked, frame by frame, in a buffer that all sockets share. Every event's number is looked at:
//! a socket that misses one, or gets one twice, ends the bench.

use std::{
    cell::RefCell,
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::ready,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    runtime::Runtime,
    sync::Semaphore,
    task::JoinHandle,
};
use uuid::Uuid;

/// Read at once; what one frame may leave over must fit beside it.
const READ: usize = 256 << 10;
const LEFT_OVER: usize = 64 << 10;
/// Handshakes at a time.
const OPENING: usize = 64;
/// An event ends with `,"workspace_id":"…"}`.
const NAME: &[u8] = b",\"workspace_id\":\"";
const TAIL: usize = NAME.len() + 36 + 2;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ + LEFT_OVER]);
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the first call.
pub fn now() -> u64 {
    START.elapsed().as_nanos() as u64
}

/// Where a socket goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    /// The hub.
    pub address: SocketAddr,
    /// What to follow.
    pub workspace: Uuid,
    /// Of a member.
    pub token: String,
    /// Position and epoch to continue from.
    pub resume: Option<(u64, String)>,
}

/// When an event with this mark came.
#[derive(Debug, Clone, Copy)]
pub struct Receipt {
    /// The time at which emit was called.
    pub mark: u64,
    /// The time of the read.
    pub at: u64,
}

/// Open sockets.
pub struct Swarm {
    /// Dropped last.
    tasks: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
    /// What the hub said to the first socket.
    pub epoch: String,
    _runtime: Runtime,
}

struct Shared {
    sockets: Vec<Progress>,
    fault: Mutex<Option<String>>,
    receipts: Mutex<Vec<Receipt>>,
    /// Whether sockets with a stopwatch use it.
    timing: AtomicBool,
    sampled_every: usize,
}

#[derive(Default)]
struct Progress {
    first: AtomicU64,
    position: AtomicU64,
}

impl Swarm {
    /// Opens and authenticates a socket for each target; one in `sampled_every` notes when events
    /// came. Returns when all have their acknowledgement.
    pub fn open(targets: Vec<Target>, sampled_every: usize) -> Self {
        LazyLock::force(&START);
        super::machine::raise_file_limit();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("load")
            .enable_all()
            .build()
            .expect("a runtime");
        let shared = Arc::new(Shared {
            sockets: targets.iter().map(|_| Progress::default()).collect(),
            fault: Mutex::default(),
            receipts: Mutex::default(),
            timing: AtomicBool::new(false),
            sampled_every,
        });
        let opening = Arc::new(Semaphore::new(OPENING));
        let (tell, told) = std::sync::mpsc::channel();
        let tasks: Vec<_> = targets
            .into_iter()
            .enumerate()
            .map(|(index, target)| {
                let (shared, opening, tell) = (shared.clone(), opening.clone(), tell.clone());
                runtime.spawn(async move {
                    let permit = opening.acquire_owned().await;
                    let outcome = async {
                        let (mut socket, epoch) = Socket::open(shared.clone(), index, &target).await?;
                        drop(permit);
                        let _ = tell.send(epoch);
                        drop((tell, target));
                        socket.read().await
                    };
                    if let Err(why) = outcome.await {
                        shared.fault.lock().get_or_insert(format!("socket {index}: {why}"));
                    }
                })
            })
            .collect();
        drop(tell);
        let epochs: Vec<String> = told.iter().take(tasks.len()).collect();
        let swarm = Self { shared, epoch: epochs.first().cloned().unwrap_or_default(), tasks, _runtime: runtime };
        swarm.check();
        assert_eq!(epochs.len(), swarm.tasks.len(), "sockets that were acknowledged");
        swarm
    }

    /// The least position of all sockets.
    pub fn slowest(&self) -> u64 {
        self.watch().slowest()
    }

    /// For publishers, which must not run away.
    pub fn watch(&self) -> Watch {
        Watch(self.shared.clone())
    }

    /// Events received by all sockets together.
    pub fn received(&self) -> u64 {
        let sockets = self.shared.sockets.iter();
        sockets.map(|socket| socket.position.load(Ordering::Relaxed) - socket.first.load(Ordering::Relaxed)).sum()
    }

    /// Waits until every socket is at `position`.
    pub fn wait_for(&self, position: u64, limit: Duration) -> Duration {
        super::wait(&format!("position {position} everywhere"), limit, || {
            self.check();
            self.slowest() >= position
        })
    }

    /// Begins to note when events come.
    pub fn time(&self) {
        self.shared.receipts.lock().clear();
        self.shared.timing.store(true, Ordering::Relaxed);
    }

    /// What was noted.
    pub fn receipts(&self) -> Vec<Receipt> {
        self.shared.timing.store(false, Ordering::Relaxed);
        std::mem::take(&mut self.shared.receipts.lock())
    }

    /// Ends the bench if a socket lost or doubled something.
    pub fn check(&self) {
        if let Some(fault) = &*self.shared.fault.lock() {
            panic!("{fault}");
        }
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The sockets' progress.
#[derive(Clone)]
pub struct Watch(Arc<Shared>);

impl Watch {
    /// The least position of all sockets.
    pub fn slowest(&self) -> u64 {
        self.0.sockets.iter().map(|socket| socket.position.load(Ordering::Relaxed)).min().unwrap_or(0)
    }
}

struct Socket {
    stream: TcpStream,
    shared: Arc<Shared>,
    index: usize,
    position: u64,
    /// The beginning of a frame whose end has not come.
    left_over: Vec<u8>,
    pongs: usize,
}

impl Socket {
    async fn open(shared: Arc<Shared>, index: usize, target: &Target) -> Result<(Self, String), String> {
        let (stream, ack, bytes) = greet(target, "").await?;
        let (Some(seq), Some(epoch)) = (ack["payload"]["seq"].as_u64(), ack["payload"]["epoch"].as_str()) else {
            return Err(format!("not acknowledged: {ack}"));
        };
        let position = match &target.resume {
            Some((since, _)) if ack["payload"]["recovered"] == true => *since,
            Some(_) => return Err(format!("not recovered: {ack}")),
            None => seq,
        };
        shared.sockets[index].first.store(position, Ordering::Relaxed);
        shared.sockets[index].position.store(position, Ordering::Relaxed);
        let mut socket = Self { stream, shared, index, position, left_over: Vec::new(), pongs: 0 };
        let used = socket.walk(&bytes)?;
        socket.left_over = bytes[used..].to_vec();
        Ok((socket, epoch.to_owned()))
    }

    async fn read(&mut self) -> Result<(), String> {
        loop {
            poll_fn(|cx| {
                BUFFER.with_borrow_mut(|buffer| {
                    let before = self.left_over.len();
                    buffer[..before].copy_from_slice(&self.left_over);
                    let mut free = ReadBuf::new(&mut buffer[before..]);
                    ready!(Pin::new(&mut self.stream).poll_read(cx, &mut free))
                        .map_err(|error| format!("reading at {}: {error}", self.position))?;
                    let filled = free.filled().len();
                    if filled == 0 {
                        return Err(format!("closed by the hub at {}", self.position)).into();
                    }
                    let bytes = &buffer[..before + filled];
                    let used = self.walk(bytes)?;
                    self.left_over.clear();
                    self.left_over.extend_from_slice(&bytes[used..]);
                    Ok::<(), String>(()).into()
                })
            })
            .await?;
            for _ in 0..std::mem::take(&mut self.pongs) {
                let pong = [0x8A, 0x80, 0, 0, 0, 0];
                self.stream.write_all(&pong).await.map_err(|error| format!("pong: {error}"))?;
            }
        }
    }

    /// Looks at every whole frame and returns how many bytes they are.
    fn walk(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let timed = self.index.is_multiple_of(self.shared.sampled_every) && self.shared.timing.load(Ordering::Relaxed);
        let at = if timed { now() } else { 0 };
        let (mut used, mut last) = (0, None);
        while let Some((first, payload)) = frame(&bytes[used..]) {
            let end = used + payload.end;
            let payload = &bytes[used + payload.start..end];
            used = end;
            match first {
                0x81 => {
                    let Some(seq) = event(payload) else { continue };
                    if seq != self.position + 1 {
                        return Err(format!("event {seq} after {}", self.position));
                    }
                    self.position = seq;
                    if timed && let Some(mark) = mark(payload).filter(|mark| last != Some(*mark)) {
                        // Once per transaction and read.
                        last = Some(mark);
                        self.shared.receipts.lock().push(Receipt { mark, at });
                    }
                }
                0x89 => self.pongs += 1,
                0x88 => return Err(format!("close frame {payload:?}")),
                other => return Err(format!("a frame that begins with {other:#x}")),
            }
        }
        self.shared.sockets[self.index].position.store(self.position, Ordering::Relaxed);
        Ok(used)
    }
}

/// Opens a socket and authenticates it; `more` goes into the query. With the hub's answer, and what came after it.
pub(super) async fn greet(target: &Target, query: &str) -> Result<(TcpStream, serde_json::Value, Vec<u8>), String> {
    let mut stream = TcpStream::connect(target.address).await.map_err(|error| format!("connecting: {error}"))?;
    let _ = stream.set_nodelay(true);
    let request = format!(
        "GET /ws?workspace_id={}{query} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        target.workspace, target.address
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let head = loop {
        more(&mut stream, &mut bytes).await?;
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    if !bytes.starts_with(b"HTTP/1.1 101") {
        return Err(format!("refused: {}", String::from_utf8_lossy(&bytes)));
    }
    bytes.drain(..head);
    let mut payload = serde_json::json!({ "token": target.token });
    if let Some((since, epoch)) = &target.resume {
        payload["since"] = (*since).into();
        payload["epoch"] = epoch.as_str().into();
    }
    let auth = serde_json::json!({ "type": "auth", "payload": payload });
    stream.write_all(&masked(auth.to_string().as_bytes())).await.map_err(|error| error.to_string())?;
    let (ack, end) = loop {
        if let Some((_, payload)) = frame(&bytes) {
            let end = payload.end;
            let ack: serde_json::Value =
                serde_json::from_slice(&bytes[payload]).map_err(|error| format!("auth_ack: {error}"))?;
            break (ack, end);
        }
        more(&mut stream, &mut bytes).await?;
    };
    bytes.drain(..end);
    Ok((stream, ack, bytes))
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(), String> {
    match tokio::time::timeout(Duration::from_secs(60), stream.read_buf(bytes)).await {
        Ok(Ok(0)) => Err(format!("closed while opening: {}", String::from_utf8_lossy(bytes))),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("while opening: {error}")),
        Err(_) => Err("nothing for 60 s while opening".into()),
    }
}

/// First byte and payload of the frame at the beginning, if it is whole. Servers do not mask.
pub(super) fn frame(bytes: &[u8]) -> Option<(u8, std::ops::Range<usize>)> {
    let (start, length) = match *bytes.get(1)? {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        length => (2, length as usize),
    };
    (bytes.len() >= start + length).then_some((bytes[0], start..start + length))
}

/// An event's number, which stands before the workspace at its end.
fn event(payload: &[u8]) -> Option<u64> {
    let before = payload.len().checked_sub(TAIL)?;
    if &payload[before..before + NAME.len()] != NAME {
        return None;
    }
    let (mut value, mut place) = (0, 1);
    for digit in payload[..before].iter().rev().take_while(|byte| byte.is_ascii_digit()) {
        value += u64::from(digit - b'0') * place;
        place *= 10;
    }
    (place > 1).then_some(value)
}

/// The mark that emit was given.
fn mark(payload: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"\"mark\":\"";
    // Behind the filler.
    let from = super::FILLER.min(payload.len());
    let start = from + payload[from..].windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let digits = payload[start..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

/// A text frame with a mask of zeros.
pub(super) fn masked(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x81];
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out
}
