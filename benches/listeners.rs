//! One chatty task, some who listen to it and many who listen to others: who pays for what is said?
//!
//! The real hub runs in a runtime of its own with two worker threads; the viewers' sockets live in a child process,
//! the daemon that reports in a thread of this one. All sockets have scoped delivery and follow one task each, in
//! one workspace. Only those that follow the chatty task may be given its messages; each of them checks that it gets
//! every message, once and in order, as does one that reads slowly, is cut off and goes on from where it was; the
//! bench ends if one does not. CPU is that of the hub's threads, kernel included; PostgreSQL's is not in it. Memory is
//! the growth of this process's Pss, in which the daemon's part is small; delays are from the daemon's call to
//! the reading, of a sample of the viewers.

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
use serde_json::{Value, json};
use support::{Hub, Store, Table, Viewers, clock, id_of, introduce, machine, spread};
use uuid::Uuid;

/// Until allocators and handshakes have come to rest.
const SETTLE: Duration = Duration::from_secs(3);
/// For what is still on its way.
const DRAIN: Duration = Duration::from_secs(60);
/// Tasks that the other viewers share.
const OTHERS: usize = 20;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    store: Store,
    /// Viewers of the chatty task.
    #[arg(long, default_value_t = 200)]
    viewers: usize,
    /// Viewers of other tasks.
    #[arg(long, default_value_t = 2000)]
    others: usize,
    /// Messages a second.
    #[arg(long, default_value_t = 500)]
    rate: usize,
    /// Messages of one call.
    #[arg(long, default_value_t = 50)]
    batch: usize,
    /// Seconds.
    #[arg(long, default_value_t = 20)]
    seconds: usize,
}

fn main() {
    Viewers::serve_if_child();
    let args = Args::parse();
    introduce(&args.store);
    let hub = Hub::start(&args.store);
    let (chatty, quiet) = tasks(&hub);
    let target = hub.target(hub.workspace);
    drop(Viewers::open(target.clone(), vec![(chatty, 1)], false));
    support::rest(SETTLE);

    let empty = machine::pss_kib();
    let share = args.others.div_ceil(quiet.len());
    let others =
        quiet.iter().enumerate().map(|(place, task)| (*task, share.min(args.others.saturating_sub(place * share))));
    let mut viewers = Viewers::open(target, std::iter::once((chatty, args.viewers)).chain(others).collect(), true);
    support::rest(SETTLE);
    let idle = machine::pss_kib();

    let (start, cpu) = (Instant::now(), hub.cpu());
    let calls = talk(&hub, chatty, &args);
    let said = (calls.len() * args.batch) as u64;
    let mut viewed = viewers.look();
    support::wait(&format!("{said} messages everywhere"), DRAIN, || {
        viewed = viewers.look();
        assert_eq!(viewed.fault, None, "a viewer's");
        viewed.first.0 >= said && viewed.slow.0 >= said
    });
    let (took, cpu) = (start.elapsed(), hub.cpu() - cpu);
    let delays = viewers.delays();
    support::rest(SETTLE);
    let after = machine::pss_kib();
    assert_eq!(viewed.received, said * args.viewers as u64, "received");
    assert_eq!(viewed.others, 0, "given to those who did not ask");

    let mut table = Table::new(&[
        "viewers + others",
        "messages/s",
        "deliveries/s",
        "call to viewer p50 / p99",
        "call p50 / p99",
        "hub CPU per delivery",
        "… with SQLite's",
        "cores: hub, SQLite",
        "KiB per viewer: idle, after",
        "received",
        "the slow one",
    ]);
    let each = |spent: Duration| format!("{:.2} µs", spent.as_secs_f64() * 1e6 / viewed.received as f64);
    let cores = |spent: Duration| spent.as_secs_f64() / took.as_secs_f64();
    let memory = |pss: u64| (pss as f64 - empty as f64) / (args.viewers + args.others) as f64;
    table.row([
        format!("{} + {}", args.viewers, args.others),
        format!("{:.0}", said as f64 / took.as_secs_f64()),
        format!("{:.0}", viewed.received as f64 / took.as_secs_f64()),
        spread(delays),
        spread(calls),
        each(cpu.hub),
        each(cpu.all()),
        format!("{:.2}, {:.2}", cores(cpu.hub), cores(cpu.sqlite)),
        format!("{:.2}, {:.2}", memory(idle), memory(after)),
        format!("{said} × {}, all, in order; others 0", args.viewers),
        format!("cut off at {}, has all {}", viewed.slow.1, viewed.slow.0),
    ]);
    println!("{}:\n", args.store.name());
    table.print();
    drop(viewers);
    hub.stop();
}

/// A task that runs, and some that wait.
fn tasks(hub: &Hub) -> (Uuid, Vec<Uuid>) {
    let daemon = json!({
        "workspace_id": hub.workspace, "daemon_id": "bench", "device_name": "bench", "runtimes": [{ "type": "claude" }],
    });
    let runtime = id_of(&hub.post("/api/daemon/register", daemon)["runtimes"][0]);
    let wish = json!({ "name": "Bench", "runtime_id": runtime, "visibility": "workspace" });
    let agent = id_of(&hub.post("/api/agents", wish));
    let ask = |title: String| {
        let wish = json!({ "title": title, "assignee_type": "agent", "assignee_id": agent, "allow_duplicate": true });
        hub.post("/api/issues", wish)
    };
    ask("Chatty".to_owned());
    let chatty = id_of(&hub.post(&format!("/api/daemon/runtimes/{runtime}/tasks/claim"), json!({}))["task"]);
    hub.post(&format!("/api/daemon/tasks/{chatty}/start"), json!({}));
    let quiet = (0..OTHERS).map(|index| {
        let issue = id_of(&ask(format!("Quiet {index}")));
        id_of(&hub.get(&format!("/api/issues/{issue}/active-task"))["tasks"][0])
    });
    let quiet = quiet.collect();
    (chatty, quiet)
}

/// Reports messages at a pace, from a thread of its own; how long each call took, in nanoseconds.
fn talk(hub: &Hub, task: Uuid, args: &Args) -> Vec<i64> {
    let url = format!("http://{}/api/daemon/tasks/{task}/messages", hub.address());
    let (token, batch) = (hub.token.clone(), args.batch);
    let period = Duration::from_secs(1) * batch as u32 / args.rate as u32;
    let count = args.seconds * args.rate / batch;
    let daemon = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let http = reqwest::Client::new();
            let mut tick = tokio::time::interval(period);
            let mut took = Vec::with_capacity(count);
            for call in 0..count {
                tick.tick().await;
                let mark = clock();
                let message = |index: usize| {
                    let seq = call * batch + index + 1;
                    json!({ "seq": seq, "type": "text", "content": format!("{mark} {seq} {}", "x".repeat(120)) })
                };
                let messages: Vec<Value> = (0..batch).map(message).collect();
                let report = http.post(&url).bearer_auth(&token).json(&json!({ "messages": messages }));
                let answer = report.send().await.expect("an answer");
                assert!(answer.status().is_success(), "{}", answer.status());
                took.push((clock() - mark) as i64);
            }
            took
        })
    });
    daemon.join().expect("no panic")
}
