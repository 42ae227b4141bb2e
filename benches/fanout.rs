//! One workspace, many browsers: what an event costs once it has to reach all of them.
//!
//! The real hub runs in a runtime of its own with two worker threads; the sockets are read by a
//! third thread. Events of some 325 bytes go through the database: emit, commit, lane, ring, socket.
//! *Saturated*: publishers emit as fast as the slowest socket allows (it may be a window behind),
//! one event or fifty in a transaction. *Paced*: a fixed number of events per second, one each in a
//! transaction. CPU is that of the hub's threads, kernel included; that of the threads that run
//! SQLite is said apart, PostgreSQL's is not in it. Delays are those of a sample of the sockets.
//! Every socket checks that it gets every event, once and in order; the bench ends if one does not.

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
use support::{Delays, Hub, Mill, Rate, Store, Swarm, Table, introduce, millions, paced, saturated, spread};

/// For what is still on its way.
const DRAIN: Duration = Duration::from_secs(60);
/// Sockets whose delays are noted, about.
const SAMPLE: usize = 50;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    store: Store,
    /// Sockets of the saturated runs.
    #[arg(long, default_value_t = 1000)]
    sockets: usize,
    /// Seconds of each run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Events that the slowest socket may be behind.
    #[arg(long, default_value_t = 800)]
    window: u64,
    /// Concurrent publishers.
    #[arg(long, default_value_t = 8)]
    publishers: usize,
    /// Runs of each kind.
    #[arg(long, default_value_t = 2)]
    runs: usize,
    /// Only the saturated or the paced runs.
    #[arg(long)]
    only: Option<String>,
}

fn main() {
    let args = Args::parse();
    introduce(&args.store);
    let hub = Hub::start(&args.store);
    let wanted = |part: &str| args.only.as_deref().is_none_or(|only| only == part);
    if wanted("saturated") {
        saturate(&hub, &args);
    }
    if wanted("paced") {
        pace(&hub, &args);
    }
    hub.stop();
}

fn open(hub: &Hub, count: usize) -> Swarm {
    Swarm::open(vec![hub.target(hub.workspace); count], (count / SAMPLE).max(1))
}

fn saturate(hub: &Hub, args: &Args) {
    let swarm = open(hub, args.sockets);
    let mut table = Table::new(&[
        "events per transaction",
        "events/s",
        "deliveries/s",
        "deliveries per hub CPU second",
        "… with SQLite's CPU",
        "cores: hub, SQLite",
        "received",
    ]);
    for batch in [1, 50] {
        for _ in 0..args.runs {
            let mill = Mill { tasks: args.publishers, batch, window: args.window };
            let (start, cpu) = (Instant::now(), hub.cpu());
            let (position, received) = (swarm.slowest(), swarm.received());
            let events = saturated(hub, &swarm, mill, Duration::from_secs(args.seconds));
            swarm.wait_for(position + events, DRAIN);
            let (time, cpu) = (start.elapsed(), hub.cpu() - cpu);
            let got = all_received(&swarm, received, events, args.sockets);
            table.row([
                batch.to_string(),
                format!("{:.0}", events as f64 / time.as_secs_f64()),
                millions(got, time),
                millions(got, cpu.hub),
                millions(got, cpu.all()),
                format!("{:.2}, {:.2}", cores(cpu.hub, time), cores(cpu.sqlite, time)),
                format!("{events} × {}, all, in order", args.sockets),
            ]);
        }
    }
    println!("Saturated, {} sockets, window {}, {}:\n", args.sockets, args.window, args.store.name());
    table.print();
}

fn pace(hub: &Hub, args: &Args) {
    let mut table = Table::new(&[
        "events/s × sockets",
        "hub CPU per delivery",
        "… with SQLite's",
        "emit's return to receipt p50 / p99",
        "emit's call to receipt p50 / p99",
        "emit p50 / p99",
        "received",
    ]);
    for (per_second, sockets) in [(100, 1000), (1000, 100)] {
        for _ in 0..args.runs {
            let swarm = open(hub, sockets);
            let rate = Rate { per_second, tasks: 4 };
            swarm.time();
            let cpu = hub.cpu();
            let (position, received) = (swarm.slowest(), swarm.received());
            let notes = paced(hub, rate, Duration::from_secs(args.seconds));
            let events = notes.len() as u64;
            swarm.wait_for(position + events, DRAIN);
            let cpu = hub.cpu() - cpu;
            let got = all_received(&swarm, received, events, sockets);
            let delays = Delays::join(&notes, &swarm.receipts());
            let each = |spent: Duration| format!("{:.2} µs", spent.as_secs_f64() * 1e6 / got as f64);
            table.row([
                format!("{per_second} × {sockets}"),
                each(cpu.hub),
                each(cpu.all()),
                spread(delays.returned),
                spread(delays.called),
                spread(notes.iter().map(|(called, returned)| (returned - called) as i64).collect()),
                format!("{events} × {sockets}, all, in order"),
            ]);
        }
    }
    println!("Paced, one event per transaction, {}:\n", args.store.name());
    table.print();
}

fn all_received(swarm: &Swarm, before: u64, events: u64, sockets: usize) -> u64 {
    swarm.check();
    let got = swarm.received() - before;
    assert_eq!(got, events * sockets as u64, "received");
    got
}

fn cores(spent: Duration, time: Duration) -> f64 {
    spent.as_secs_f64() / time.as_secs_f64()
}
