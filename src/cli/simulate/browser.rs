//! One simulated browser: it follows a workspace and believes nothing. Every number of the sequence
//! is compared with the one before, across cuts and restarts, because a client that refetches now
//! and then would never notice a hole.

use std::{pin::Pin, sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::time::{Instant, Sleep, sleep};

use super::{
    Shared,
    backoff::Backoff,
    client::{Frame, Heard, Socket, retry_after},
    report::{Online, Report},
};
use crate::protocol::browser::{Auth, Position, Welcome};

/// A socket that held this long earns a short wait the next time.
const HELD: Duration = Duration::from_secs(5);
/// How long the hub has to answer the auth frame.
const AUTH: Duration = Duration::from_secs(15);
/// How long a cut browser stays away at most: long enough for something to miss.
const AWAY: Duration = Duration::from_secs(1);

/// A browser and where it is.
pub struct Browser {
    index: usize,
    /// Between two cuts of its connection, on average.
    cut: Option<Duration>,
    shared: Arc<Shared>,
    place: Option<Place>,
    backoff: Backoff,
    seen: bool,
}

/// A place in the sequence of one epoch.
#[derive(Debug, Default, PartialEq)]
struct Place {
    epoch: String,
    /// The last event received, or the position that the hub told.
    seq: u64,
    /// That event's id; empty if none was received.
    id: String,
}

/// Why a socket is over.
enum End {
    /// Try again after this, or after a backoff.
    Again(Option<Duration>),
    /// Somebody has to mend something first.
    Never,
}

impl Browser {
    /// A browser that is not connected yet.
    pub fn new(index: usize, cut: Option<Duration>, shared: Arc<Shared>) -> Self {
        Self { index, cut, shared, place: None, backoff: Backoff::of_a_browser(), seen: false }
    }

    /// Follows the workspace until the simulation ends or the hub refuses for good.
    pub async fn run(mut self, ramp: Duration) {
        let stop = self.shared.stop_browsers.clone();
        let whole = async {
            sleep(ramp).await;
            loop {
                let opened = Instant::now();
                let wait = match self.connect_and_follow().await {
                    End::Never => return,
                    End::Again(wait) => wait,
                };
                if opened.elapsed() >= HELD {
                    self.backoff.reset();
                }
                sleep(wait.unwrap_or_else(|| self.backoff.wait())).await;
            }
        };
        stop.run_until_cancelled(whole).await;
    }

    async fn connect_and_follow(&mut self) -> End {
        let shared = self.shared.clone();
        let mut socket = match shared.hub.browser_socket(&shared.workspace).await {
            Ok(socket) => socket,
            Err(trouble) => {
                shared.report.error(format!("browser handshake: {trouble}"));
                return if trouble.is_final() { End::Never } else { End::Again(None) };
            }
        };
        let welcome = match tokio::time::timeout(AUTH, self.authenticate(&mut socket)).await {
            Ok(Ok(welcome)) => welcome,
            Ok(Err(end)) => return end,
            Err(_) => {
                shared.report.error("browser auth: timed out".to_owned());
                return End::Again(None);
            }
        };
        let online = Online::new(&shared.report, |report| &report.browsers);
        if std::mem::replace(&mut self.seen, true) {
            shared.report.browsers.reconnects.up();
        }
        let end = self.follow(&mut socket, &welcome).await;
        drop(online);
        end
    }

    async fn authenticate(&self, socket: &mut Socket) -> Result<Welcome, End> {
        let report = &self.shared.report;
        let position = self.place.as_ref().map(|place| Position {
            since: Some(place.seq),
            epoch: place.epoch.clone(),
            since_id: place.id.clone(),
        });
        let auth = Auth { token: self.shared.hub.token().text().to_owned(), position: position.unwrap_or_default() };
        let frame = serde_json::json!({ "type": "auth", "payload": auth }).to_string();
        if !socket.send(frame).await {
            report.error("browser auth: connection broke".to_owned());
            return Err(End::Again(None));
        }
        loop {
            let text = match socket.next().await {
                Heard::Text(text) => text,
                Heard::Closed(close) => return Err(self.closed(close, "browser auth")),
            };
            let Some(frame) = Frame::read(&text) else { continue };
            match frame.r#type.as_ref() {
                "auth_ack" => match frame.payload() {
                    Some(welcome) => return Ok(welcome),
                    None => {
                        report.error("browser auth: unreadable auth_ack".to_owned());
                        return Err(End::Never);
                    }
                },
                // The close code that follows says whether to come back.
                "auth_error" => report.error("browser auth: refused".to_owned()),
                _ => {}
            }
        }
    }

    async fn follow(&mut self, socket: &mut Socket, welcome: &Welcome) -> End {
        let (report, index) = (self.shared.report.clone(), self.index);
        let settled = settle(&report, index, self.place.take(), welcome);
        let place = self.place.insert(settled);
        let live_from = welcome.seq;
        // A heartbeat frame every ping interval; two of them missing is a dead connection.
        let silence = Duration::from_millis(welcome.ping_interval_ms.max(1000)) * 5 / 2;
        let cut = self.cut.map(|every| Instant::now() + every.mul_f64(rand::random_range(0.5..1.5)));
        let mut heard = Instant::now();
        let mut timer: Pin<Box<Sleep>> = Box::pin(tokio::time::sleep_until(earlier(heard + silence, cut)));
        loop {
            let text = tokio::select! {
                biased;
                () = &mut timer => {
                    let now = Instant::now();
                    if cut.is_some_and(|cut| cut <= now) {
                        return End::Again(Some(AWAY.mul_f64(rand::random_range(0.0..1.0))));
                    }
                    if heard + silence <= now {
                        report.error("browser socket: silent".to_owned());
                        return End::Again(None);
                    }
                    timer.as_mut().reset(earlier(heard + silence, cut));
                    continue;
                }
                next = socket.next() => match next {
                    Heard::Text(text) => text,
                    Heard::Closed(close) => return self.closed(close, "browser socket"),
                },
            };
            heard = Instant::now();
            match Frame::read(&text) {
                Some(frame) => take(&self.shared, index, place, live_from, &frame),
                None => report.error("browser socket: unreadable frame".to_owned()),
            }
        }
    }

    fn closed(&self, close: Option<tungstenite::protocol::CloseFrame>, whose: &str) -> End {
        let Some(close) = close else {
            self.shared.report.error(format!("{whose}: connection broke"));
            return End::Again(None);
        };
        let code = u16::from(close.code);
        self.shared.report.error(format!("{whose}: closed {code}"));
        match code {
            4500..=4599 => {
                tracing::error!(browser = self.index, code, reason = %close.reason, "refused for good");
                End::Never
            }
            _ => End::Again(retry_after(&close)),
        }
    }
}

fn earlier(at: Instant, cut: Option<Instant>) -> Instant {
    cut.map_or(at, |cut| cut.min(at))
}

/// The place to count from after an `auth_ack`.
fn settle(report: &Report, index: usize, before: Option<Place>, welcome: &Welcome) -> Place {
    let anew = || Place { epoch: welcome.epoch.clone(), seq: welcome.seq, id: String::new() };
    match (before, welcome.recovered) {
        (None, None) => anew(),
        (Some(place), Some(true)) => {
            report.recovered.up();
            if place.epoch != welcome.epoch || place.seq > welcome.seq {
                report.order_error(format!(
                    "browser {index}: resumed {} of {}, which is not before {} of {}",
                    place.seq, place.epoch, welcome.seq, welcome.epoch
                ));
            }
            place
        }
        (Some(_), Some(false)) => {
            report.not_recovered.up();
            anew()
        }
        (before, recovered) => {
            let asked = if before.is_some() { "a resume" } else { "a first connection" };
            report.order_error(format!("browser {index}: {asked} was answered with recovered {recovered:?}"));
            anew()
        }
    }
}

/// Compares one frame with the place and moves on.
fn take(shared: &Shared, index: usize, place: &mut Place, live_from: u64, frame: &Frame<'_>) {
    let report = &shared.report;
    if let Some(seq) = frame.seq {
        if seq != place.seq + 1 {
            let what = if seq <= place.seq { "again" } else { "a gap" };
            report.order_error(format!("browser {index}: {what}: got {seq} after {}", place.seq));
        }
        report.events.up();
        if seq > place.seq {
            place.seq = seq;
            place.id.clear();
            place.id.push_str(frame.event_id.unwrap_or_default());
        }
        if seq <= live_from {
            report.replayed.up();
        } else if frame.r#type == "daemon:register"
            && let Some(sent) = mark(frame, &shared.daemon_ids)
        {
            report.delay.note(report.started.elapsed().saturating_sub(sent));
        }
        return;
    }
    if frame.r#type == "heartbeat" {
        let told = frame.payload::<Written>().map(|written| written.seq);
        if told != Some(place.seq) {
            report.order_error(format!(
                "browser {index}: the heartbeat says that {told:?} was written, received was {}",
                place.seq
            ));
        }
    }
}

#[derive(Deserialize)]
struct Written {
    seq: u64,
}

/// When the registration behind an event was sent, if a daemon of this simulation sent it: another
/// simulation's marks count from another start.
fn mark(frame: &Frame<'_>, daemon_ids: &str) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Payload<'a> {
        #[serde(borrow, default)]
        runtimes: Vec<Registered<'a>>,
    }
    #[derive(Deserialize)]
    struct Registered<'a> {
        #[serde(borrow)]
        daemon_id: Option<&'a str>,
        #[serde(borrow)]
        device_info: std::borrow::Cow<'a, str>,
    }
    let payload: Payload<'_> = frame.payload()?;
    let first = payload.runtimes.first()?;
    if !first.daemon_id?.starts_with(daemon_ids) {
        return None;
    }
    let (_, rest) = first.device_info.split_once(" t=")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcome(seq: u64, recovered: Option<bool>) -> Welcome {
        Welcome {
            epoch: "e".to_owned(),
            seq,
            recovered,
            ping_interval_ms: 25_000,
            node: String::new(),
            server_time: String::new(),
        }
    }

    fn place(seq: u64) -> Place {
        Place { epoch: "e".to_owned(), seq, id: "id".to_owned() }
    }

    #[test]
    fn a_recovered_socket_counts_on_from_where_it_was_and_any_other_from_the_hubs_position() {
        let report = Report::new().expect("counters");
        assert_eq!(settle(&report, 0, None, &welcome(9, None)).seq, 9);
        assert_eq!(settle(&report, 0, Some(place(5)), &welcome(9, Some(true))), place(5));
        assert_eq!(settle(&report, 0, Some(place(5)), &welcome(9, Some(false))).seq, 9);
        assert_eq!((report.recovered.get(), report.not_recovered.get(), report.order_errors()), (1, 1, 0));
        settle(&report, 0, Some(place(10)), &welcome(9, Some(true)));
        settle(&report, 0, Some(place(5)), &welcome(9, None));
        assert_eq!(report.order_errors(), 2);
    }

    #[test]
    fn gaps_repeats_and_a_heartbeat_that_knows_more_are_order_errors() {
        let shared = Shared::for_tests();
        let mut at = place(5);
        let mut hear = |text: &str| {
            take(&shared, 0, &mut at, 0, &Frame::read(text).expect(text));
            shared.report.order_errors()
        };
        assert_eq!(hear(r#"{"type":"x","seq":6,"event_id":"a"}"#), 0);
        assert_eq!(hear(r#"{"type":"heartbeat","payload":{"seq":6}}"#), 0);
        assert_eq!(hear(r#"{"type":"runtime:presence","payload":{}}"#), 0);
        assert_eq!(hear(r#"{"type":"x","seq":8,"event_id":"b"}"#), 1, "a gap");
        assert_eq!(hear(r#"{"type":"x","seq":9,"event_id":"c"}"#), 1, "a gap is one error");
        assert_eq!(hear(r#"{"type":"x","seq":9,"event_id":"c"}"#), 2, "a repeat");
        assert_eq!(hear(r#"{"type":"heartbeat","payload":{"seq":10}}"#), 3, "a heartbeat ahead");
        assert_eq!(at, Place { epoch: "e".to_owned(), seq: 9, id: "c".to_owned() });
    }

    #[test]
    fn a_mark_is_read_from_this_simulations_daemons_only() {
        let event = |daemon: &str, info: &str| {
            format!(
                r#"{{"type":"daemon:register","payload":{{"runtimes":[{{"daemon_id":"{daemon}","device_info":"{info}"}}]}}}}"#
            )
        };
        let read = |text: &str| mark(&Frame::read(text).expect("a frame"), "sim-x-");
        assert_eq!(read(&event("sim-x-1", "box t=1500 · 2.1")), Some(Duration::from_nanos(1500)));
        assert_eq!(read(&event("sim-y-1", "box t=1500 · 2.1")), None);
        assert_eq!(read(&event("sim-x-1", "box · 2.1")), None);
        assert_eq!(read(r#"{"type":"daemon:register","payload":{"action":"deregister"}}"#), None);
    }
}
