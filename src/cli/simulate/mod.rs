//! `heartwire simulate`: daemons and browsers that are not there, over real sockets against a hub
//! that is.
//!
//! It exists to show a hub working, to load it, and to catch it breaking its promises: whatever is
//! cut, killed or restarted, every browser must see a sequence without gap or repeat, and every
//! daemon must come back by itself. It knows nothing of the hub's inside, so its word counts for
//! any deployment. Its people wish for work if they are asked to, and then its daemons do it; at the
//! end the hub has to say of every task what its daemon and the people said.

mod backoff;
mod browser;
mod calls;
mod client;
mod daemon;
mod demo;
mod link;
mod names;
mod report;
mod tasks;

pub(super) use demo::demo;

use std::{sync::Arc, time::Duration};

use clap::{ArgAction, Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    browser::Browser,
    client::{Hub, Secret, Trouble},
    daemon::Daemon,
    report::{Report, Shape, Summary},
    tasks::{Habits, People, Tasks},
};
use super::{failed, serve::wait_for_the_end};
use crate::{
    app,
    error::{Error, Result},
    settings::parse_duration,
};

/// The version that simulated daemons claim.
const CLI_VERSION: &str = "simulated";
/// A beat more often than this measures the simulation, not the hub.
const SHORTEST_BEAT: Duration = Duration::from_millis(100);
/// Starts of clients are spread so that a large fleet does not begin with a stampede.
const RAMP_PER_CLIENT: Duration = Duration::from_millis(2);
const LONGEST_RAMP: Duration = Duration::from_secs(15);
/// How long browsers listen on after the daemons left: their last events are checked as well.
const AFTERGLOW: Duration = Duration::from_millis(300);
/// Between two turns of the progress bar.
const TURN: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct Simulate {
    /// The hub's address.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// A person's token. Given in the environment it does not show in the process list.
    #[arg(long, env = "HEARTWIRE_TOKEN", hide_env_values = true)]
    token: Secret,
    /// Slug or id; the token's first workspace by default.
    #[arg(long)]
    workspace: Option<String>,
    /// How many daemons; 3 by default, none with --idle.
    #[arg(long, value_name = "N")]
    daemons: Option<usize>,
    /// How many runtimes each of them has.
    #[arg(long, value_name = "M", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    runtimes: u16,
    /// How many browsers; 2 by default, none with --idle.
    #[arg(long, value_name = "B")]
    browsers: Option<usize>,
    /// More browsers, which authenticate and then only listen: what does an open socket cost the hub?
    #[arg(long, value_name = "N")]
    idle: Option<usize>,
    /// Between two beats of a runtime; 100ms at least.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    beat: Duration,
    /// How daemons beat.
    #[arg(long, value_enum, default_value_t = Transport::Ws)]
    transport: Transport,
    /// Re-registrations a second, over the whole fleet, as a source of events.
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    rate: f64,
    /// Wishes for work a second: issues, comments, chats, quick creation and autopilots in turn. The
    /// daemons claim and do it.
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    tasks: f64,
    /// How long a task takes, on average.
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = duration)]
    work: Duration,
    /// What each task says.
    #[arg(long, value_name = "N", default_value_t = 6)]
    messages: usize,
    /// How many messages go into one call at most; calls are made every half second.
    #[arg(long, value_name = "K", default_value_t = 20)]
    batch: usize,
    /// The part of the tasks that people call off while they run, from 0 to 1; how soon their daemons know
    /// is measured.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    cancel: f64,
    /// Another node of the same hub, where people make their wishes and call tasks off.
    #[arg(long, value_name = "URL")]
    wishes_at: Option<String>,
    /// With tasks: ask the hub at the end about each of them, and exit with 1 if it says otherwise than
    /// daemons and people do.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_value_t = true, default_missing_value = "true")]
    verify: bool,
    /// Each browser cuts its connection about this often and resumes; 0 for never.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration)]
    cut: Duration,
    /// How long; 0 until Ctrl-C.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    duration: Duration,
    /// Makes the daemons' ids; the same seed finds the same rows again. This machine's name by default.
    #[arg(long)]
    seed: Option<String>,
    /// No progress bar.
    #[arg(long)]
    quiet: bool,
    /// The summary as one JSON object.
    #[arg(long)]
    json: bool,
}

/// How a daemon beats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Transport {
    /// Over its socket, and over HTTP while that does not answer.
    Ws,
    /// Over HTTP only.
    Http,
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("is not a duration such as 15s, 250ms or 2m")
}

impl Simulate {
    pub(super) async fn run(self) -> u8 {
        app::raise_file_limit();
        let (quiet, json, duration) = (self.quiet, self.json, self.duration);
        let simulation = match self.start().await {
            Ok(simulation) => simulation,
            Err(error) => return failed(&error),
        };
        tokio::select! {
            () = simulation.show(quiet) => {}
            () = tokio::time::sleep(duration), if !duration.is_zero() => {}
            () = wait_for_the_end() => {}
        }
        // A second Ctrl-C does not wait for a hub that does not answer.
        let summary = tokio::select! {
            summary = simulation.stop() => summary,
            () = wait_for_the_end() => return 130,
        };
        match json {
            true => println!("{}", serde_json::json!(summary)),
            false => println!("{summary}"),
        }
        u8::from(!summary.is_good())
    }

    async fn start(self) -> Result<Simulation> {
        if self.beat < SHORTEST_BEAT {
            return Err(Error::invalid("invalid_beat", "--beat is at least 100ms"));
        }
        if !self.rate.is_finite() || self.rate < 0.0 {
            return Err(Error::invalid("invalid_rate", "--rate is a number of registrations a second"));
        }
        if !self.tasks.is_finite() || self.tasks < 0.0 {
            return Err(Error::invalid("invalid_rate", "--tasks is a number of wishes a second"));
        }
        if !(0.0..=1.0).contains(&self.cancel) {
            return Err(Error::invalid("invalid_share", "--cancel is a part, from 0 to 1"));
        }
        let unless_idle = |count| if self.idle.is_some() { 0 } else { count };
        let daemons = self.daemons.unwrap_or(unless_idle(3));
        let browsers = self.browsers.unwrap_or(unless_idle(2));
        let idle = self.idle.unwrap_or(0);
        let seed = self.seed.unwrap_or_else(this_machine);
        let plan = Plan {
            shape: Shape { daemons, runtimes: daemons * usize::from(self.runtimes), browsers: browsers + idle },
            idle,
            runtimes: self.runtimes.into(),
            daemon_ids: format!("sim-{seed}-"),
            beat: self.beat,
            transport: self.transport,
            rate: self.rate,
            cut: (!self.cut.is_zero()).then_some(self.cut),
            tasks: match self.tasks {
                0.0 => None,
                rate => {
                    let at = self.wishes_at.map(|url| Hub::new(&url, self.token.clone())).transpose()?;
                    let habits =
                        Habits { work: self.work, messages: self.messages, batch: self.batch, cancel: self.cancel };
                    Some(tasks::Plan { rate, habits, at, verify: self.verify })
                }
            },
        };
        let hub = Hub::new(&self.url, self.token)?;
        let workspace = find_workspace(&hub, self.workspace.as_deref()).await?;
        Simulation::start(hub, workspace, plan)
    }
}

/// What is simulated.
struct Plan {
    shape: Shape,
    /// How many of the browsers only listen.
    idle: usize,
    runtimes: usize,
    daemon_ids: String,
    beat: Duration,
    transport: Transport,
    rate: f64,
    cut: Option<Duration>,
    tasks: Option<tasks::Plan>,
}

/// What every simulated client needs.
struct Shared {
    hub: Hub,
    report: Arc<Report>,
    /// The workspace's id.
    workspace: String,
    /// What this simulation's daemon ids begin with.
    daemon_ids: String,
    /// Runtimes of one daemon.
    runtimes: usize,
    /// Runtimes of all of them.
    expected: usize,
    beat: Duration,
    transport: Transport,
    /// The work that is done; none if there is none.
    tasks: Option<Arc<Tasks>>,
    /// Between two re-registrations of one daemon.
    register_every: Option<Duration>,
    stop_daemons: CancellationToken,
    stop_browsers: CancellationToken,
}

/// A running simulation.
pub(super) struct Simulation {
    shared: Arc<Shared>,
    shape: Shape,
    daemons: TaskTracker,
    browsers: TaskTracker,
    /// Whether the hub is asked at the end what became of the work.
    verify: bool,
}

impl Simulation {
    fn start(hub: Hub, workspace: String, plan: Plan) -> Result<Self> {
        let Plan { shape, idle, runtimes, daemon_ids, beat, transport, rate, cut, tasks } = plan;
        let (wishes, verify) = tasks.as_ref().map_or((0.0, false), |tasks| (tasks.rate, tasks.verify));
        let work = tasks.map(|tasks::Plan { habits, at, .. }| {
            let people = at.unwrap_or_else(|| hub.with_token(hub.token().clone()));
            Tasks::new(habits, people).map(Arc::new)
        });
        let work = work.transpose()?;
        let every = (rate > 0.0).then(|| Duration::try_from_secs_f64(shape.daemons as f64 / rate));
        let register_every = every.transpose().map_err(|_| Error::invalid("invalid_rate", "--rate is too small"))?;
        let shared = Arc::new(Shared {
            hub,
            report: Arc::new(Report::new()?),
            workspace,
            daemon_ids,
            runtimes,
            expected: shape.runtimes,
            beat,
            transport,
            tasks: work.clone(),
            register_every,
            stop_daemons: CancellationToken::new(),
            stop_browsers: CancellationToken::new(),
        });
        let (daemons, browsers) = (TaskTracker::new(), TaskTracker::new());
        let simulation = Self { shared: shared.clone(), shape, daemons, browsers, verify };
        let ramp = |clients: usize| {
            let whole = RAMP_PER_CLIENT.saturating_mul(u32::try_from(clients).unwrap_or(u32::MAX)).min(LONGEST_RAMP);
            whole.mul_f64(rand::random_range(0.0..1.0))
        };
        for index in 0..shape.browsers {
            let cut = cut.filter(|_| index >= idle);
            simulation.browsers.spawn(Browser::new(index, cut, shared.clone()).run(ramp(shape.browsers)));
        }
        for index in 0..shape.daemons {
            simulation.daemons.spawn(Daemon::new(index, shared.clone()).run(ramp(shape.daemons)));
        }
        if let Some(tasks) = work {
            simulation.daemons.spawn(People::new(shared, tasks, wishes).run());
        }
        simulation.daemons.close();
        simulation.browsers.close();
        Ok(simulation)
    }

    /// Shows what goes on, on a terminal. Never returns.
    async fn show(&self, quiet: bool) {
        if quiet {
            return std::future::pending().await;
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>5} {msg}") {
            bar.set_style(style);
        }
        let report = &self.shared.report;
        let beats = || report.socket_beats.acked.get() + report.http_beats.acked.get();
        let mut turn = tokio::time::interval(TURN);
        let (mut last_beats, mut last_events) = (0, 0);
        loop {
            turn.tick().await;
            let (beats, events) = (beats(), report.events.get());
            let a_second = |more: u64| more as f64 / TURN.as_secs_f64();
            bar.set_message(format!(
                "daemons {}  browsers {}  beats/s {:.0}  events/s {:.0}  order errors {}",
                report.daemons.online(),
                report.browsers.online(),
                a_second(beats - last_beats),
                a_second(events - last_events),
                report.order_errors(),
            ));
            bar.tick();
            (last_beats, last_events) = (beats, events);
        }
    }

    /// Ends the simulation: the daemons deregister, the browsers see it, everybody leaves.
    pub(super) async fn stop(self) -> Summary {
        let mut summary = self.shared.report.summary(self.shape);
        self.shared.stop_daemons.cancel();
        self.daemons.wait().await;
        if let Some(tasks) = &self.shared.tasks {
            tasks.errands.wait().await;
            let mut figures = tasks.figures(summary.seconds());
            if self.verify {
                figures.verdict = Some(tasks::verify(&self.shared, tasks).await);
            }
            summary = summary.with_tasks(Some(figures));
        }
        tokio::time::sleep(AFTERGLOW).await;
        self.shared.stop_browsers.cancel();
        self.browsers.wait().await;
        summary.amend(&self.shared.report);
        summary
    }
}

/// The id of the workspace that was asked for, among those of the token.
async fn find_workspace(hub: &Hub, wanted: Option<&str>) -> Result<String> {
    #[derive(Deserialize)]
    struct Workspace {
        id: String,
        slug: String,
    }
    let all: Vec<Workspace> = hub.get("/api/workspaces").await.map_err(|trouble| match trouble {
        Trouble::Status(..) if trouble.is_final() => {
            Error::unauthenticated("refused", format!("the hub refuses the token: {trouble}"))
        }
        trouble => Error::Unavailable(format!("the hub does not answer: {trouble}").into()),
    })?;
    let found = match wanted {
        Some(wanted) => {
            all.iter().find(|workspace| [&workspace.id, &workspace.slug].iter().any(|name| *name == wanted))
        }
        None => all.first(),
    };
    let known = || all.iter().map(|workspace| workspace.slug.as_str()).collect::<Vec<_>>().join(", ");
    found
        .map(|workspace| workspace.id.clone())
        .ok_or_else(|| Error::not_found("workspace_not_found", format!("the token's workspaces are: {}", known())))
}

/// This machine's name, as far as it fits into an id.
fn this_machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
    let name: String =
        name.unwrap_or_default().trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    if name.is_empty() { "local".to_owned() } else { name }
}

#[cfg(test)]
impl Shared {
    fn for_tests() -> Self {
        use std::str::FromStr;
        Self {
            hub: Hub::new("http://127.0.0.1:1", Secret::from_str("mul_x").unwrap_or_else(|never| match never {}))
                .expect("a hub"),
            report: Arc::new(Report::new().expect("counters")),
            workspace: String::new(),
            daemon_ids: "sim-x-".to_owned(),
            runtimes: 2,
            expected: 2,
            beat: Duration::from_secs(15),
            transport: Transport::Ws,
            tasks: None,
            register_every: None,
            stop_daemons: CancellationToken::new(),
            stop_browsers: CancellationToken::new(),
        }
    }
}
