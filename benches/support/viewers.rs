//! People who look at what tasks say, in a child process: each socket has scoped delivery and follows one task.
//! Every message's position is looked at. One of them reads slowly, is cut off and goes on from where it was.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    sync::Semaphore,
};
use uuid::Uuid;

use super::{
    Target,
    swarm::{frame, greet, masked},
};

/// The first argument that makes the bench a child.
const ARGUMENT: &str = "viewers";
/// Handshakes at a time.
const OPENING: usize = 64;
/// Read at once.
const READ: usize = 16 << 10;
/// One viewer of so many notes when messages come.
const SAMPLED: usize = 4;
/// The slow one reads so much, so often, until it is cut off.
const SIP: usize = 1 << 10;
const SIP_EVERY: Duration = Duration::from_millis(50);
const SIPS: usize = 100;

/// Nanoseconds of the machine's clock, which both processes read.
pub fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[derive(Serialize, Deserialize)]
enum Ask {
    /// For each task, how many viewers; the first one's are sampled.
    Open {
        target: Target,
        tasks: Vec<(Uuid, usize)>,
        slow: bool,
    },
    Look,
    Delays,
}

/// What the viewers have seen so far.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Viewed {
    /// The position of the slowest viewer of the first task, and of the fastest.
    pub first: (u64, u64),
    /// Messages that those were given, all together.
    pub received: u64,
    /// Messages that viewers of the other tasks were given.
    pub others: u64,
    /// Where the one that read slowly is, and where it was when it was cut off.
    pub slow: (u64, u64),
    /// What went wrong first.
    pub fault: Option<String>,
}

/// Viewers in a child process.
pub struct Viewers {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Viewers {
    /// Runs the child if this process is one; called first in `main`.
    pub fn serve_if_child() {
        if std::env::args().nth(1).as_deref() == Some(ARGUMENT) {
            serve();
            std::process::exit(0);
        }
    }

    /// Opens sockets; returns when all follow their task. `slow` adds the one that reads slowly to the first task.
    pub fn open(target: Target, tasks: Vec<(Uuid, usize)>, slow: bool) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        let asks = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut viewers = Self { child, asks, answers };
        let viewed: Viewed = viewers.ask(&Ask::Open { target, tasks, slow });
        assert_eq!(viewed.fault, None, "opening");
        viewers
    }

    /// What they have seen so far.
    pub fn look(&mut self) -> Viewed {
        self.ask(&Ask::Look)
    }

    /// Nanoseconds from the marks to the reading, of a sample.
    pub fn delays(&mut self) -> Vec<i64> {
        self.ask(&Ask::Delays)
    }

    fn ask<A: serde::de::DeserializeOwned>(&mut self, ask: &Ask) -> A {
        writeln!(self.asks, "{}", serde_json::to_string(ask).expect("JSON")).expect("the child lives");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the child lives");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("the child said {answer:?}: {error}"))
    }
}

impl Drop for Viewers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Default)]
struct Seen {
    first: Vec<AtomicU64>,
    others: AtomicU64,
    slow: AtomicU64,
    cut_at: AtomicU64,
    delays: Mutex<Vec<i64>>,
    fault: Mutex<Option<String>>,
}

impl Seen {
    fn viewed(&self) -> Viewed {
        let positions = || self.first.iter().map(|position| position.load(Ordering::Relaxed));
        Viewed {
            first: (positions().min().unwrap_or(0), positions().max().unwrap_or(0)),
            received: positions().sum(),
            others: self.others.load(Ordering::Relaxed),
            slow: (self.slow.load(Ordering::Relaxed), self.cut_at.load(Ordering::Relaxed)),
            fault: self.fault.lock().clone(),
        }
    }
}

fn serve() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let mut seen = Arc::new(Seen::default());
    for line in std::io::stdin().lines() {
        let answer = match serde_json::from_str(&line.expect("a line")).expect("a question") {
            Ask::Open { target, tasks, slow } => {
                super::machine::raise_file_limit();
                seen = open(&runtime, &target, &tasks, slow);
                serde_json::to_string(&seen.viewed())
            }
            Ask::Look => serde_json::to_string(&seen.viewed()),
            Ask::Delays => serde_json::to_string(&std::mem::take(&mut *seen.delays.lock())),
        };
        println!("{}", answer.expect("JSON"));
    }
}

fn open(runtime: &Runtime, target: &Target, tasks: &[(Uuid, usize)], slow: bool) -> Arc<Seen> {
    let first = tasks.first().map_or(0, |(_, count)| *count);
    let seen = Arc::new(Seen { first: (0..first).map(|_| AtomicU64::new(0)).collect(), ..Seen::default() });
    let opening = Arc::new(Semaphore::new(OPENING));
    let all: Vec<(usize, Uuid)> =
        tasks.iter().enumerate().flat_map(|(place, (task, count))| vec![(place, *task); *count]).collect();
    let opened: Vec<_> = all
        .into_iter()
        .enumerate()
        .map(|(index, (place, task))| {
            let (seen, opening, target) = (seen.clone(), opening.clone(), target.clone());
            let (tell, told) = tokio::sync::oneshot::channel();
            runtime.spawn(async move {
                let permit = opening.acquire_owned().await;
                let viewer = Viewer::open(&target, task, 0).await;
                drop(permit);
                let _ = tell.send(());
                let looked = match viewer {
                    Ok(viewer) if place == 0 => viewer.look(&seen, index).await,
                    Ok(viewer) => viewer.count(&seen).await,
                    Err(why) => Err(why),
                };
                if let Err(why) = looked {
                    seen.fault.lock().get_or_insert(format!("viewer {index}: {why}"));
                }
            });
            told
        })
        .collect();
    runtime.block_on(async {
        for told in opened {
            let _ = told.await;
        }
    });
    if let (true, Some((task, _))) = (slow, tasks.first().copied()) {
        let (seen, target) = (seen.clone(), target.clone());
        runtime.spawn(async move {
            if let Err(why) = sip_and_come_back(&target, task, &seen).await {
                seen.fault.lock().get_or_insert(format!("the slow viewer: {why}"));
            }
        });
    }
    seen
}

/// Reads slowly for a while, is cut off with much unread, and goes on from the last message that it had.
async fn sip_and_come_back(target: &Target, task: Uuid, seen: &Seen) -> Result<(), String> {
    let mut viewer = Viewer::open(target, task, 0).await?;
    for _ in 0..SIPS {
        // Nothing may have been said yet.
        if let Ok(read) = tokio::time::timeout(SIP_EVERY, viewer.read(SIP, |_| {})).await {
            read?;
            tokio::time::sleep(SIP_EVERY).await;
        }
    }
    let position = viewer.position;
    seen.cut_at.store(position, Ordering::Relaxed);
    drop(viewer);
    let mut viewer = Viewer::open(target, task, position).await?;
    loop {
        viewer.read(READ, |_| {}).await?;
        seen.slow.store(viewer.position, Ordering::Relaxed);
    }
}

/// A socket that follows a task.
struct Viewer {
    stream: TcpStream,
    task: String,
    position: u64,
    bytes: Vec<u8>,
}

impl Viewer {
    async fn open(target: &Target, task: Uuid, since: u64) -> Result<Self, String> {
        let (mut stream, ack, bytes) = greet(target, "&delivery=scoped").await?;
        if ack["type"] != "auth_ack" {
            return Err(format!("not acknowledged: {ack}"));
        }
        let wish = serde_json::json!({ "scope": "task", "id": task, "since": since });
        let wish = serde_json::json!({ "type": "subscribe", "payload": wish }).to_string();
        stream.write_all(&masked(wish.as_bytes())).await.map_err(|error| error.to_string())?;
        let mut viewer = Self { stream, task: task.to_string(), position: since, bytes };
        loop {
            if let Some(granted) = viewer.granted()? {
                return if granted == since { Ok(viewer) } else { Err(format!("it begins at {granted}, not {since}")) };
            }
            viewer.fill(READ).await?;
        }
    }

    /// From where on the hub tells; nothing yet if it has not answered.
    fn granted(&mut self) -> Result<Option<u64>, String> {
        while let Some((_, payload)) = frame(&self.bytes) {
            let end = payload.end;
            let told = serde_json::from_slice::<serde_json::Value>(&self.bytes[payload]).unwrap_or_default();
            self.bytes.drain(..end);
            match told["type"].as_str() {
                Some("subscribe_ack") => return Ok(told["payload"]["pos"].as_u64()),
                Some("subscribe_error") => return Err(format!("refused: {told}")),
                _ => {}
            }
        }
        Ok(None)
    }

    async fn look(mut self, seen: &Seen, index: usize) -> Result<(), String> {
        let sampled = index.is_multiple_of(SAMPLED);
        loop {
            let mut marks = Vec::new();
            self.read(READ, |mark| {
                if sampled && marks.last() != Some(&mark) {
                    marks.push(mark);
                }
            })
            .await?;
            let now = clock();
            seen.delays.lock().extend(marks.into_iter().map(|mark| now as i64 - mark as i64));
            seen.first[index].store(self.position, Ordering::Relaxed);
        }
    }

    async fn count(mut self, seen: &Seen) -> Result<(), String> {
        loop {
            let before = self.position;
            self.read(READ, |_| {}).await?;
            seen.others.fetch_add(self.position - before, Ordering::Relaxed);
        }
    }

    async fn fill(&mut self, most: usize) -> Result<(), String> {
        let before = self.bytes.len();
        self.bytes.resize(before + most, 0);
        let read = self.stream.read(&mut self.bytes[before..]).await;
        let read = read.map_err(|error| format!("reading at {}: {error}", self.position));
        self.bytes.truncate(before + *read.as_ref().unwrap_or(&0));
        if read? == 0 { Err(format!("closed by the hub at {}", self.position)) } else { Ok(()) }
    }

    /// Reads once and looks at every message: it has to be this task's, and the next one.
    async fn read(&mut self, most: usize, mut marked: impl FnMut(u64)) -> Result<(), String> {
        self.fill(most).await?;
        let (mut used, mut pings) = (0, 0);
        while let Some((first, payload)) = frame(&self.bytes[used..]) {
            let text = &self.bytes[used + payload.start..used + payload.end];
            match first {
                0x81 if text.starts_with(b"{\"type\":\"task:message\"") => {
                    let message: Message = serde_json::from_slice(text).map_err(|error| error.to_string())?;
                    let Said { task_id, pos, content } = message.payload;
                    if task_id != self.task || pos != self.position + 1 {
                        return Err(format!("{pos} of {task_id} after {} of {}", self.position, self.task));
                    }
                    self.position = pos;
                    content.split(' ').next().and_then(|mark| mark.parse().ok()).into_iter().for_each(&mut marked);
                }
                0x88 => return Err(format!("closed: {text:?}")),
                0x89 => pings += 1,
                _ => {}
            }
            used += payload.end;
        }
        self.bytes.drain(..used);
        for _ in 0..pings {
            let pong = [0x8A, 0x80, 0, 0, 0, 0];
            self.stream.write_all(&pong).await.map_err(|error| format!("pong: {error}"))?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Message {
    payload: Said,
}

#[derive(Deserialize)]
struct Said {
    task_id: String,
    pos: u64,
    content: String,
}
