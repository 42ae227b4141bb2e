//! A thousand browsers come back, each ten thousand events behind: how long until all are live, and
//! what it costs.
//!
//! The events are emitted while nobody is connected. Then a child process opens the sockets, each
//! with the position before them; each reads the log's pages and goes over to the ring. At the end
//! one more event is emitted, which all of them get. Pss is the hub process's, looked at all the
//! while; the kernel's TCP memory is the whole machine's, both ends of the sockets in it.

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
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use clap::Parser;
use support::{Hub, RemoteSwarm, Store, Table, introduce, machine};

/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    store: Store,
    /// Sockets.
    #[arg(long, default_value_t = 1000)]
    sockets: usize,
    /// Events that each is behind; the hub replays ten thousand at most.
    #[arg(long, default_value_t = 10_000)]
    behind: usize,
    /// Runs, one after the other on one hub.
    #[arg(long, default_value_t = 2)]
    runs: usize,
}

fn main() {
    RemoteSwarm::serve_if_child();
    let args = Args::parse();
    introduce(&args.store);
    let hub = Hub::start(&args.store);
    let mut table = Table::new(&[
        "sockets × behind",
        "all live after",
        "events/s",
        "hub CPU per socket",
        "SQLite's",
        "statements per socket",
        "Pss before, peak",
        "TCP memory before, peak",
        "received",
    ]);
    for _ in 0..args.runs {
        table.row(run(&hub, args.sockets, args.behind));
    }
    println!("{}:\n", args.store.name());
    table.print();
    hub.stop();
}

fn run(hub: &Hub, sockets: usize, behind: usize) -> [String; 9] {
    let target = hub.target(hub.workspace);
    let probe = RemoteSwarm::open(1, target.clone());
    let (since, epoch) = (probe.position, probe.epoch.clone());
    drop(probe);
    hub.emit(behind);
    let head = since + behind as u64;
    // The probe's lane has to be given up; else its ring holds the last thousand events.
    support::rest(Duration::from_secs(5));

    let before = (machine::pss_kib(), machine::tcp_kib());
    let (enough, peak) = watch_memory();
    let (start, cpu, statements) = (Instant::now(), hub.cpu(), hub.app.statements());
    let mut swarm = RemoteSwarm::open(sockets, support::Target { resume: Some((since, epoch)), ..target });
    let received = swarm.wait_for(head, Duration::from_secs(120));
    let (took, cpu, statements) = (start.elapsed(), hub.cpu() - cpu, hub.app.statements() - statements);
    drop(enough);
    let peak = peak.join().expect("no panic");
    assert_eq!(received, (sockets * behind) as u64, "received");
    hub.emit(1);
    let received = swarm.wait_for(head + 1, Duration::from_secs(10));
    assert_eq!(received, (sockets * (behind + 1)) as u64, "received");
    let each = |spent: Duration| format!("{:.2} ms", spent.as_secs_f64() * 1e3 / sockets as f64);
    let mib = |kib: u64| kib / 1024;
    [
        format!("{sockets} × {behind}"),
        format!("{:.2} s", took.as_secs_f64()),
        support::millions((sockets * behind) as u64, took),
        each(cpu.hub),
        each(cpu.sqlite),
        format!("{:.1}", statements as f64 / sockets as f64),
        format!("{}, {} MiB", mib(before.0), mib(peak.0)),
        format!("{}, {} MiB", mib(before.1), mib(peak.1)),
        format!("{received}, all, in order"),
    ]
}

/// The largest Pss and TCP memory until the sender is dropped.
fn watch_memory() -> (Sender<()>, JoinHandle<(u64, u64)>) {
    let (sender, stop) = channel();
    let looking = std::thread::spawn(move || {
        let mut peak = (0, 0);
        loop {
            peak = (peak.0.max(machine::pss_kib()), peak.1.max(machine::tcp_kib()));
            if stop.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                return peak;
            }
        }
    });
    (sender, looking)
}
