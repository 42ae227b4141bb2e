//! What an idle browser socket costs in memory, and what a burst of events leaves behind.
//!
//! Each row is a hub of its own, in a process of its own; the sockets' other ends live in a child
//! process. The figure is the growth of the hub process's Pss (the kernel's socket buffers are not
//! in it) from a hub that has served one socket, divided by the sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench that cannot go on should say why and stop"
)]

#[allow(dead_code, unused_imports, reason = "each bench uses its part")]
mod support;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use clap::Parser;
use support::{Hub, RemoteSwarm, Store, Table, introduce, machine};

/// Until allocators and handshakes have come to rest.
const SETTLE: Duration = Duration::from_secs(3);
/// After the burst.
const REST: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    store: Store,
    /// Sockets, one hub for each number.
    #[arg(long, value_delimiter = ',', default_value = "5000,10000")]
    sockets: Vec<usize>,
    /// Hubs with at most so many sockets get a burst as well.
    #[arg(long, default_value_t = 5000)]
    burst_upto: usize,
    /// Events of the burst, fifty in a transaction.
    #[arg(long, default_value_t = 1000)]
    burst: usize,
    /// For the bench itself: measure this one.
    #[arg(long, hide = true)]
    one: Option<usize>,
}

fn main() {
    RemoteSwarm::serve_if_child();
    let args = Args::parse();
    if let Some(sockets) = args.one {
        return measure(&args, sockets);
    }
    introduce(&args.store);
    for sockets in &args.sockets {
        let status = Command::new(std::env::current_exe().expect("this program"))
            .args(std::env::args().skip(1))
            .args(["--one", &sockets.to_string()])
            .status();
        assert!(status.expect("a process").success(), "measuring {sockets} sockets");
    }
}

fn measure(args: &Args, sockets: usize) {
    let hub = Hub::start(&args.store);
    let mut table = Table::new(&["sockets", "when", "Pss", "per socket", "hub CPU"]);
    let target = hub.target(hub.workspace);
    drop(RemoteSwarm::open(1, target.clone()));
    support::rest(SETTLE);
    let empty = machine::pss_kib();
    let mut row = |when: String, cpu: String| {
        let pss = machine::pss_kib();
        let each = (pss as f64 - empty as f64) / sockets as f64;
        table.row([sockets.to_string(), when, format!("{} KiB", pss), format!("{each:.2} KiB"), cpu]);
    };

    let (start, cpu) = (Instant::now(), hub.cpu());
    let mut swarm = RemoteSwarm::open(sockets, target);
    let (took, cpu) = (start.elapsed(), (hub.cpu() - cpu).all());
    support::rest(SETTLE);
    row(format!("idle, opened in {took:.1?}"), format!("{:.0?} to open each", cpu / sockets as u32));

    if sockets <= args.burst_upto {
        let (position, cpu) = (swarm.position, hub.cpu());
        hub.emit(args.burst);
        let received = swarm.wait_for(position + args.burst as u64, Duration::from_secs(60));
        assert_eq!(received, (args.burst * sockets) as u64, "received");
        let cpu = (hub.cpu() - cpu).hub;
        support::rest(REST);
        row(
            format!("{REST:?} after a burst of {} events, all received", args.burst),
            format!("{:.2} µs per delivery", cpu.as_secs_f64() * 1e6 / received as f64),
        );
    }
    println!("A hub that served one socket: {empty} KiB. {}:\n", args.store.name());
    table.print();
    drop(swarm);
    hub.stop();
}
