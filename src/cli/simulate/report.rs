//! What a simulation counts and what it says at the end. Counters are shared by every daemon and
//! browser; what is an error of the hub (a broken sequence) is kept apart from what happens to
//! every client now and then (a refused connection).

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;

use super::tasks::TaskFigures;
use crate::error::{Error, Result};

/// Broken sequences that are told in words; the rest are only counted.
const TOLD: usize = 20;
/// Microseconds of a latency at most; longer ones count as this. An hour.
const LONGEST: u64 = 3_600_000_000;

/// A number that only grows, or a gauge that is taken down again.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations, in microseconds.
pub struct Latency(Mutex<Histogram<u64>>);

impl Latency {
    /// None noted.
    pub fn new() -> Result<Self> {
        Ok(Self(Mutex::new(Histogram::new_with_max(LONGEST, 3).map_err(Error::internal)?)))
    }

    /// Notes one.
    pub fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0.lock().saturating_record(micros);
    }

    /// The distribution so far.
    pub fn figures(&self) -> Figures {
        let histogram = self.0.lock();
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Figures {
            count: histogram.len(),
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: histogram.max() as f64 / 1000.0,
        }
    }
}

/// One kind of client's sockets.
#[derive(Debug, Default)]
pub struct Sockets {
    online: Count,
    opened: Count,
    /// Openings that were not a client's first.
    pub reconnects: Count,
}

impl Sockets {
    /// How many are open now.
    pub fn online(&self) -> u64 {
        self.online.get()
    }
}

/// Counts a socket as open for as long as it is kept beside it.
pub struct Online(Arc<Report>, fn(&Report) -> &Sockets);

impl Online {
    /// A socket of those that `which` picks was opened.
    pub fn new(report: &Arc<Report>, which: fn(&Report) -> &Sockets) -> Self {
        which(report).online.up();
        which(report).opened.up();
        Self(report.clone(), which)
    }
}

impl Drop for Online {
    fn drop(&mut self) {
        (self.1)(&self.0).online.down();
    }
}

/// Beats over one way.
pub struct Beats {
    /// Sent to the hub.
    pub sent: Count,
    /// Answered by it.
    pub acked: Count,
    /// From the oldest unanswered beat to the answer.
    pub round_trip: Latency,
}

impl Beats {
    fn new() -> Result<Self> {
        Ok(Self { sent: Count::default(), acked: Count::default(), round_trip: Latency::new()? })
    }
}

/// Everything that is counted.
pub struct Report {
    /// The simulation's start: the zero of every mark.
    pub started: Instant,
    /// Daemons' sockets.
    pub daemons: Sockets,
    /// Browsers' sockets.
    pub browsers: Sockets,
    /// Beats over sockets.
    pub socket_beats: Beats,
    /// Beats over HTTP.
    pub http_beats: Beats,
    /// Successful registrations, from request to answer.
    pub registrations: Latency,
    /// Events with a place in the sequence.
    pub events: Count,
    /// Those of them that a resumed socket was sent from the past.
    pub replayed: Count,
    /// From sending a registration to receiving its event, on sockets that were live.
    pub delay: Latency,
    /// Resumes that continued where the browser was.
    pub recovered: Count,
    /// Resumes that made the browser refetch.
    pub not_recovered: Count,
    order_errors: Count,
    told: Mutex<Vec<String>>,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Report {
    /// All at zero.
    pub fn new() -> Result<Self> {
        Ok(Self {
            started: Instant::now(),
            daemons: Sockets::default(),
            browsers: Sockets::default(),
            socket_beats: Beats::new()?,
            http_beats: Beats::new()?,
            registrations: Latency::new()?,
            events: Count::default(),
            replayed: Count::default(),
            delay: Latency::new()?,
            recovered: Count::default(),
            not_recovered: Count::default(),
            order_errors: Count::default(),
            told: Mutex::default(),
            errors: Mutex::default(),
        })
    }

    /// The sequence was broken: a gap, a repeat, or a position that contradicts what was received.
    pub fn order_error(&self, what: String) {
        self.order_errors.up();
        let mut told = self.told.lock();
        if told.len() < TOLD {
            tracing::error!(what, "the order is broken");
            told.push(what);
        }
    }

    /// How often it was.
    pub fn order_errors(&self) -> u64 {
        self.order_errors.get()
    }

    /// Something else went wrong. `kind` must have few values.
    pub fn error(&self, kind: String) {
        *self.errors.lock().entry(kind).or_default() += 1;
    }

    /// The figures so far.
    pub fn summary(&self, shape: Shape) -> Summary {
        let beats = |beats: &Beats| BeatFigures {
            sent: beats.sent.get(),
            acked: beats.acked.get(),
            round_trip_ms: beats.round_trip.figures(),
        };
        let sockets = |sockets: &Sockets| SocketFigures {
            online: sockets.online.get(),
            opened: sockets.opened.get(),
            reconnects: sockets.reconnects.get(),
        };
        Summary {
            seconds: self.started.elapsed().as_secs_f64(),
            shape,
            daemon_sockets: sockets(&self.daemons),
            browser_sockets: sockets(&self.browsers),
            socket_beats: beats(&self.socket_beats),
            http_beats: beats(&self.http_beats),
            registrations_ms: self.registrations.figures(),
            events: self.events.get(),
            replayed: self.replayed.get(),
            delay_ms: self.delay.figures(),
            recovered: self.recovered.get(),
            not_recovered: self.not_recovered.get(),
            tasks: None,
            order_errors: self.order_errors.get(),
            order_error_texts: self.told.lock().clone(),
            errors: self.errors.lock().clone(),
        }
    }
}

/// How large the simulation was meant to be.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Shape {
    /// Simulated daemons.
    pub daemons: usize,
    /// Their runtimes, all together.
    pub runtimes: usize,
    /// Simulated browsers.
    pub browsers: usize,
}

/// A distribution, in milliseconds.
#[derive(Debug, Serialize)]
pub struct Figures {
    count: u64,
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct SocketFigures {
    online: u64,
    opened: u64,
    reconnects: u64,
}

#[derive(Debug, Serialize)]
struct BeatFigures {
    sent: u64,
    acked: u64,
    round_trip_ms: Figures,
}

/// What a simulation says at the end, taken before its clients leave.
#[derive(Debug, Serialize)]
pub struct Summary {
    seconds: f64,
    #[serde(flatten)]
    shape: Shape,
    daemon_sockets: SocketFigures,
    browser_sockets: SocketFigures,
    socket_beats: BeatFigures,
    http_beats: BeatFigures,
    registrations_ms: Figures,
    events: u64,
    replayed: u64,
    delay_ms: Figures,
    recovered: u64,
    not_recovered: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<TaskFigures>,
    order_errors: u64,
    order_error_texts: Vec<String>,
    errors: BTreeMap<String, u64>,
}

impl Summary {
    /// Whether the hub kept its promises as far as this simulation can tell. One that reached
    /// nothing can tell nothing.
    pub fn is_good(&self) -> bool {
        let reached = self.daemon_sockets.opened + self.browser_sockets.opened + self.registrations_ms.count;
        let verdict = self.tasks.as_ref().and_then(|tasks| tasks.verdict.as_ref());
        self.order_errors == 0 && reached > 0 && verdict.is_none_or(|verdict| verdict.different == 0)
    }

    /// How long it lasted.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// With what was counted of work.
    pub fn with_tasks(self, tasks: Option<TaskFigures>) -> Self {
        Self { tasks, ..self }
    }

    /// Order errors that came after this summary was taken still count.
    pub fn amend(&mut self, report: &Report) {
        self.order_errors = report.order_errors();
        self.order_error_texts = report.told.lock().clone();
        self.errors = report.errors.lock().clone();
    }
}

impl Figures {
    /// How many were noted.
    #[cfg(test)]
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("none measured");
        }
        write!(f, "p50 {:.1}  p95 {:.1}  p99 {:.1}  max {:.1} ms", self.p50, self.p95, self.p99, self.max)
    }
}

impl fmt::Display for SocketFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} open, opened {} times, {} of them reconnects", self.online, self.opened, self.reconnects)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { daemons, runtimes, browsers } = self.shape;
        writeln!(f, "{daemons} daemons, {runtimes} runtimes, {browsers} browsers, {:.1} s", self.seconds)?;
        writeln!(f, "daemon sockets   {}", self.daemon_sockets)?;
        writeln!(f, "browser sockets  {}", self.browser_sockets)?;
        for (name, beats) in [("socket", &self.socket_beats), ("http", &self.http_beats)] {
            writeln!(f, "beats, {name:<9} {} sent, {} acked, {}", beats.sent, beats.acked, beats.round_trip_ms)?;
        }
        writeln!(f, "registrations    {}, {}", self.registrations_ms.count, self.registrations_ms)?;
        writeln!(f, "events received  {}, {} of them replayed", self.events, self.replayed)?;
        writeln!(f, "event delay      {}", self.delay_ms)?;
        writeln!(f, "resumes          {} recovered, {} not recovered", self.recovered, self.not_recovered)?;
        if let Some(tasks) = &self.tasks {
            writeln!(f, "{tasks}")?;
        }
        writeln!(f, "order errors     {}", self.order_errors)?;
        for text in &self.order_error_texts {
            writeln!(f, "  {text}")?;
        }
        let total: u64 = self.errors.values().sum();
        write!(f, "other errors     {total}")?;
        for (kind, count) in &self.errors {
            write!(f, "\n  {count:>6}  {kind}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { daemons: 1, runtimes: 2, browsers: 1 };

    #[test]
    fn a_simulation_that_reached_nothing_is_not_good() {
        let report = Arc::new(Report::new().expect("counters"));
        assert!(!report.summary(SHAPE).is_good());
        let online = Online::new(&report, |report| &report.browsers);
        let summary = report.summary(SHAPE);
        assert!(summary.is_good());
        assert_eq!(summary.browser_sockets.online, 1);
        drop(online);
        assert_eq!(report.browsers.online(), 0);
    }

    #[test]
    fn an_order_error_is_told_even_when_it_came_late() {
        let report = Arc::new(Report::new().expect("counters"));
        report.registrations.note(Duration::from_millis(200));
        let mut summary = report.summary(SHAPE);
        assert!(summary.is_good());
        assert!((200.0..201.0).contains(&summary.registrations_ms.p50), "{summary}");
        report.order_error("expected 3, got 5".to_owned());
        summary.amend(&report);
        assert!(!summary.is_good());
        assert!(summary.to_string().contains("expected 3, got 5"), "{summary}");
    }
}
