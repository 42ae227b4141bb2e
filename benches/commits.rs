//! How many events the hub commits, and how soon a browser has them.
//!
//! Writers emit one event of some 300 bytes after the other, each in a transaction of its own, into
//! one workspace or in turns into twenty; a browser follows each workspace. Latency is the
//! caller's, queueing included. The delay is from emit's return, which is after the commit, to the
//! browser's read; the hub announces before it answers, so it may be negative. On SQLite a commit is
//! flushed (synchronous=full), on PostgreSQL as the server is set.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench that cannot go on should say why and stop"
)]

#[allow(dead_code, unused_imports, reason = "each bench uses its part")]
mod support;

use std::time::{Duration, Instant};

use clap::Parser;
use support::{Delays, FILLER, Hub, Notes, Store, Swarm, Table, introduce, now, spread};
use uuid::Uuid;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    store: Store,
    /// Seconds of each run.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Concurrent writers, a run each.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    writers: Vec<usize>,
    /// Workspaces, a run each.
    #[arg(long, value_delimiter = ',', default_value = "1,20")]
    workspaces: Vec<usize>,
}

fn main() {
    let args = Args::parse();
    introduce(&args.store);
    let hub = Hub::start(&args.store);
    let most = args.workspaces.iter().copied().max().unwrap_or(1);
    let workspaces = hub.workspaces(most);
    let mut table = Table::new(&[
        "workspaces",
        "writers",
        "commits/s",
        "latency p50 / p99",
        "return to receipt p50 / p99",
        "call to receipt p50 / p99",
        "hub CPU per commit",
        "SQLite's",
        "received",
    ]);
    for count in &args.workspaces {
        for writers in &args.writers {
            table.row(run(&hub, &workspaces[..*count], *writers, Duration::from_secs(args.seconds)));
        }
    }
    println!("{}:\n", args.store.name());
    table.print();
    hub.stop();
}

fn run(hub: &Hub, workspaces: &[Uuid], writers: usize, time: Duration) -> [String; 9] {
    let swarm = Swarm::open(workspaces.iter().map(|id| hub.target(*id)).collect(), 1);
    swarm.time();
    let (start, cpu) = (Instant::now(), hub.cpu());
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (app, workspaces) = (hub.app.clone(), workspaces.to_vec());
            hub.spawn(async move {
                let mut notes = Notes::new();
                for turn in writer.. {
                    if start.elapsed() >= time {
                        break;
                    }
                    let called = now();
                    let workspace = workspaces[turn % workspaces.len()];
                    app.emit(&[(workspace, 1)], &called.to_string(), FILLER).await.expect("emit");
                    notes.push((called, now()));
                }
                notes
            })
        })
        .collect();
    let notes: Notes = tasks.into_iter().flat_map(|task| hub.run(task).expect("a writer")).collect();
    let (took, cpu) = (start.elapsed(), hub.cpu() - cpu);
    let commits = notes.len();
    support::wait("all events", Duration::from_secs(30), || {
        swarm.check();
        swarm.received() == commits as u64
    });
    let delays = Delays::join(&notes, &swarm.receipts());
    let each = |spent: Duration| format!("{:.0} µs", spent.as_secs_f64() * 1e6 / commits as f64);
    [
        workspaces.len().to_string(),
        writers.to_string(),
        format!("{:.0}", commits as f64 / took.as_secs_f64()),
        spread(notes.iter().map(|(called, returned)| (returned - called) as i64).collect()),
        spread(delays.returned),
        spread(delays.called),
        each(cpu.hub),
        each(cpu.sqlite),
        format!("{commits}, all, in order"),
    ]
}
