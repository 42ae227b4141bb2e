//! One simulated daemon, as a June 2026 daemon does it: it registers over HTTP, beats over its
//! socket, and beats over HTTP whenever the socket does not answer. Calls run beside the loop, so
//! that a slow answer delays no beat.

use std::{borrow::Cow, sync::Arc, time::Duration};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde::Deserialize;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Shared, Transport,
    backoff::Backoff,
    calls,
    client::{Frame, Heard, Socket, Trouble, retry_after},
    link::{Link, Signal},
    names,
    report::Online,
    tasks::Workers,
};
use crate::protocol::{
    close,
    daemon::{HEARTBEAT, HEARTBEAT_ACK, Heartbeat, Outbound, Register},
    task::{RUNNING_TASKS, RunningTasks, TASK_AVAILABLE, TASK_CANCELLED},
};

/// Registrations of one daemon that may be under way at once; a hub slower than that is told apart
/// from one that loses them.
const REGISTRATIONS: usize = 8;
/// How long calls under way may take at the end: a registration that arrived after the
/// deregistration would bring its runtimes back.
const LEAVE: Duration = Duration::from_secs(5);

/// A daemon and what it knows.
pub struct Daemon {
    shared: Arc<Shared>,
    id: String,
    device: String,
    runtimes: Vec<Runtime>,
    workers: Workers,
    link: Link,
    backoff: Backoff,
    calls: FuturesUnordered<BoxFuture<'static, Done>>,
    registering: usize,
    recovering: bool,
    next_register: Option<Instant>,
    seen: bool,
}

/// A runtime; its provider follows from its place.
struct Runtime {
    id: String,
    beat_due: Instant,
    /// The last ack over the socket. Wiped with the socket.
    acked: Option<Instant>,
    /// The oldest beat over this socket that is not answered.
    waiting: Option<Instant>,
    /// The next beat is the first over this socket, which nobody can have acked yet.
    first: bool,
    /// A beat over HTTP is under way.
    calling: bool,
}

/// A call that has ended.
enum Done {
    Beat { runtime: usize, sent: Instant, outcome: Result<(), Trouble> },
    Registered { recovering: bool, took: Duration, outcome: Result<Vec<String>, Trouble> },
    Told,
}

impl Daemon {
    /// A daemon that has done nothing yet. The index makes its id, so that the next run finds the
    /// same rows.
    pub fn new(index: usize, shared: Arc<Shared>) -> Self {
        Self {
            id: format!("{}{index}", shared.daemon_ids),
            device: names::device(index),
            runtimes: Vec::new(),
            workers: Workers::new(shared.clone()),
            link: match shared.transport {
                Transport::Ws => Link::Down(Instant::now()),
                Transport::Http => Link::Never,
            },
            backoff: Backoff::of_a_daemon(),
            calls: FuturesUnordered::new(),
            registering: 0,
            recovering: false,
            next_register: None,
            seen: false,
            shared,
        }
    }

    /// Lives until the simulation ends, and deregisters.
    pub async fn run(mut self, ramp: Duration) {
        let stop = self.shared.stop_daemons.clone();
        if stop.run_until_cancelled(sleep(ramp)).await.is_none() {
            return;
        }
        // Not cancelled while it calls: what it registered it has to know, to take it back.
        while !stop.is_cancelled() && !Box::pin(self.begin()).await {
            let wait = self.backoff.wait();
            if stop.run_until_cancelled(sleep(wait)).await.is_none() {
                return;
            }
        }
        self.backoff.reset();
        loop {
            let due = self.due();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(done) = self.calls.next(), if !self.calls.is_empty() => self.finish(done),
                signal = self.link.next() => self.hear(signal),
                () = sleep_until(due) => self.work().await,
            }
        }
        Box::pin(self.leave()).await;
    }

    /// Starts up; false if it has to be tried again.
    async fn begin(&mut self) -> bool {
        match calls::start_up(&self.shared, self.registration(self.device.clone())).await {
            Some(ids) => self.adopt(ids),
            None => return false,
        }
        if let Some(every) = self.shared.register_every {
            self.next_register = Some(Instant::now() + every.mul_f64(rand::random_range(0.0..1.0)));
        }
        true
    }

    fn registration(&self, device_name: String) -> Register {
        calls::registration(&self.shared, self.id.clone(), &self.device, device_name)
    }

    /// Takes the ids of a registration. If they are others than before, the socket is for the wrong
    /// ones: it is cut, and a new one made at once.
    fn adopt(&mut self, ids: Vec<String>) {
        if ids.iter().eq(self.runtimes.iter().map(|runtime| &runtime.id)) {
            return;
        }
        let now = Instant::now();
        let runtime = |id| Runtime {
            id,
            beat_due: now + self.shared.beat.mul_f64(rand::random_range(0.0..1.0)),
            acked: None,
            waiting: None,
            first: false,
            calling: false,
        };
        self.runtimes = ids.into_iter().map(runtime).collect();
        self.workers.adopt(self.runtimes.iter().map(|runtime| &runtime.id));
        self.backoff.reset();
        if !matches!(self.link, Link::Never) {
            self.link = Link::Down(now);
        }
    }

    /// When there is something to do without being asked.
    fn due(&self) -> Instant {
        let beats = self.runtimes.iter().map(|runtime| runtime.beat_due);
        // A daemon without either is not kept.
        beats.chain(self.next_register).min().unwrap_or_else(|| Instant::now() + self.shared.beat)
    }

    async fn work(&mut self) {
        let now = Instant::now();
        for index in 0..self.runtimes.len() {
            if self.runtimes[index].beat_due <= now {
                self.beat(index, now).await;
            }
        }
        if let (Some(due), Some(every)) = (self.next_register, self.shared.register_every)
            && due <= now
        {
            self.next_register = Some((due + every).max(now));
            if self.registering >= REGISTRATIONS {
                self.shared.report.error(format!("register: left out, {REGISTRATIONS} are under way"));
                return;
            }
            let mark = self.shared.report.started.elapsed().as_nanos();
            self.register(format!("{} t={mark}", self.device), false);
        }
    }

    /// One beat: over the socket if there is one, over HTTP unless the socket answered lately.
    async fn beat(&mut self, index: usize, now: Instant) {
        let (shared, beat) = (self.shared.clone(), self.shared.beat);
        let report = &shared.report;
        let runtime = &mut self.runtimes[index];
        runtime.beat_due = now + beat.mul_f64(rand::random_range(0.95..1.05));
        let first = std::mem::take(&mut runtime.first);
        let fresh = runtime.acked.is_some_and(|acked| now.duration_since(acked) < 2 * beat);
        if first {
            self.say_what_runs(index).await;
        }
        let runtime = &mut self.runtimes[index];
        let payload = Heartbeat { runtime_id: runtime.id.clone(), supports_batch_import: true };
        if let Link::Up(socket, _) = &mut self.link {
            let frame = Outbound { r#type: HEARTBEAT, payload: payload.clone() }.json();
            if socket.send(frame).await {
                report.socket_beats.sent.up();
                runtime.waiting.get_or_insert(now);
            } else {
                self.lose(None);
            }
        }
        let runtime = &mut self.runtimes[index];
        if fresh || first || runtime.calling {
            return;
        }
        runtime.calling = true;
        report.http_beats.sent.up();
        self.calls.push(Box::pin(async move {
            let outcome = shared.hub.tell("/api/daemon/heartbeat", &payload).await;
            Done::Beat { runtime: index, sent: now, outcome }
        }));
    }

    /// Over a new socket: what is over of it the hub tells.
    async fn say_what_runs(&mut self, index: usize) {
        let runtime_id = self.runtimes[index].id.clone();
        let Some(task_ids) = self.workers.running(&runtime_id) else { return };
        if let Link::Up(socket, _) = &mut self.link {
            let payload = RunningTasks { runtime_id, task_ids };
            // If it does not get through, the beat after it does not, either.
            socket.send(Outbound { r#type: RUNNING_TASKS, payload }.json()).await;
        }
    }

    fn register(&mut self, device_name: String, recovering: bool) {
        self.registering += 1;
        let (shared, registration) = (self.shared.clone(), self.registration(device_name));
        self.calls.push(Box::pin(async move {
            let sent = Instant::now();
            let outcome = calls::register(&shared, &registration).await;
            Done::Registered { recovering, took: sent.elapsed(), outcome }
        }));
    }

    /// The hub does not know a runtime any more.
    fn recover(&mut self) {
        if !std::mem::replace(&mut self.recovering, true) {
            tracing::info!(daemon = self.id, "a runtime is gone, registering again");
            self.register(self.device.clone(), true);
        }
    }

    fn finish(&mut self, done: Done) {
        let report = &self.shared.report;
        match done {
            Done::Beat { runtime, sent, outcome } => {
                if let Some(runtime) = self.runtimes.get_mut(runtime) {
                    runtime.calling = false;
                }
                match outcome {
                    Ok(()) => {
                        report.http_beats.acked.up();
                        report.http_beats.round_trip.note(sent.elapsed());
                    }
                    Err(trouble) => {
                        report.error(format!("beat over http: {trouble}"));
                        if trouble.says_runtime_gone() {
                            self.recover();
                        }
                    }
                }
            }
            Done::Registered { recovering, took, outcome } => {
                self.registering -= 1;
                self.recovering &= !recovering;
                match outcome {
                    Ok(ids) => {
                        report.registrations.note(took);
                        if recovering {
                            for id in ids.clone() {
                                let shared = self.shared.clone();
                                self.calls.push(Box::pin(async move {
                                    calls::recover_orphans(&shared, &id).await;
                                    Done::Told
                                }));
                            }
                        }
                        self.adopt(ids);
                    }
                    // A gone runtime says so again at its next beat.
                    Err(trouble) => report.error(format!("register: {trouble}")),
                }
            }
            Done::Told => {}
        }
    }

    fn hear(&mut self, signal: Signal) {
        match signal {
            Signal::Due => {
                let shared = self.shared.clone();
                let ids = self.runtimes.iter().map(|runtime| runtime.id.clone()).collect();
                self.link = Link::Opening(Box::pin(async move { shared.hub.daemon_socket(ids).await }));
            }
            Signal::Opened(Ok(socket)) => self.open(socket),
            // A daemon does not look at the reason; beats over HTTP find out what is gone.
            Signal::Opened(Err(trouble)) => {
                self.shared.report.error(format!("daemon handshake: {trouble}"));
                self.link = Link::Down(Instant::now() + self.backoff.wait());
            }
            Signal::Heard(Heard::Text(text)) => {
                let Some(frame) = Frame::read(&text) else { return };
                match frame.r#type.as_ref() {
                    HEARTBEAT_ACK => frame.payload().into_iter().for_each(|ack| self.ack(&ack)),
                    TASK_AVAILABLE => {
                        frame.payload::<Wake<'_>>().into_iter().for_each(|wake| self.workers.wake(&wake.runtime_id));
                    }
                    TASK_CANCELLED => {
                        frame.payload::<Over<'_>>().into_iter().for_each(|o| self.workers.stop(&o.task_id, &o.reason));
                    }
                    _ => {}
                }
            }
            Signal::Heard(Heard::Closed(close)) => {
                let told = close.as_ref().map(|close| u16::from(close.code));
                self.shared.report.error(match told {
                    Some(code) => format!("daemon socket: closed {code}"),
                    None => "daemon socket: connection broke".to_owned(),
                });
                self.lose(close.as_ref().filter(|_| told == Some(close::DRAINING)).and_then(retry_after));
            }
        }
    }

    fn open(&mut self, socket: Socket) {
        let report = &self.shared.report;
        if std::mem::replace(&mut self.seen, true) {
            report.daemons.reconnects.up();
        }
        self.link = Link::Up(socket, Online::new(report, |report| &report.daemons));
        let now = Instant::now();
        for runtime in &mut self.runtimes {
            (runtime.beat_due, runtime.first) = (now, true);
        }
        // What came while there was no socket.
        self.workers.wake_all();
    }

    /// The socket is lost, and with it what it said.
    fn lose(&mut self, wait: Option<Duration>) {
        self.link = Link::Down(Instant::now() + wait.unwrap_or_else(|| self.backoff.wait()));
        for runtime in &mut self.runtimes {
            (runtime.acked, runtime.waiting, runtime.first) = (None, None, false);
        }
    }

    fn ack(&mut self, ack: &Ack<'_>) {
        let beats = &self.shared.report.socket_beats;
        let Some(runtime) = self.runtimes.iter_mut().find(|runtime| runtime.id == ack.runtime_id) else { return };
        if ack.runtime_gone {
            // Not an ack that keeps HTTP quiet.
            runtime.waiting = None;
            return self.recover();
        }
        let now = Instant::now();
        runtime.acked = Some(now);
        beats.acked.up();
        if let Some(sent) = runtime.waiting.take() {
            beats.round_trip.note(now.duration_since(sent));
        }
    }

    async fn leave(&mut self) {
        self.workers.leave().await;
        let under_way = async {
            while let Some(done) = self.calls.next().await {
                if let Done::Registered { outcome: Ok(ids), .. } = done {
                    self.adopt(ids);
                }
            }
        };
        if tokio::time::timeout(LEAVE, under_way).await.is_err() {
            self.shared.report.error("leaving: calls still under way".to_owned());
        }
        let runtime_ids: Vec<String> = self.runtimes.drain(..).map(|runtime| runtime.id).collect();
        calls::deregister(&self.shared, runtime_ids).await;
        if let Link::Up(socket, _online) = std::mem::replace(&mut self.link, Link::Never) {
            socket.close().await;
        }
    }
}

/// The payload of a wake-up.
#[derive(Deserialize)]
struct Wake<'a> {
    #[serde(borrow)]
    runtime_id: Cow<'a, str>,
}

/// The payload of what tells that a task is over.
#[derive(Deserialize)]
struct Over<'a> {
    #[serde(borrow)]
    task_id: Cow<'a, str>,
    #[serde(borrow)]
    reason: Cow<'a, str>,
}

/// The payload of an ack, as far as it concerns liveness.
#[derive(Deserialize)]
struct Ack<'a> {
    #[serde(borrow)]
    runtime_id: Cow<'a, str>,
    #[serde(default)]
    runtime_gone: bool,
}
