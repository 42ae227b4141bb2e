//! The promise: every browser sees each change of its workspace once, in order, whatever happens to
//! its connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Backend, Hub, postgres, until};

on_both_stores!(clients_that_come_and_go_see_everything_once_in_order, a_reader_that_pauses_is_served_when_it_is_back);

const WORKSPACES: usize = 4;
const EVENTS_PER_WORKSPACE: u64 = 2_500;
const CLIENTS_PER_WORKSPACE: usize = 4;

async fn clients_that_come_and_go_see_everything_once_in_order(backend: Backend) {
    let seed: u64 = std::env::var("HEARTWIRE_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("HEARTWIRE_TEST_SEED={seed}");
    let hub = Arc::new(Hub::start(backend).await);
    let mut workspaces = vec![hub.workspace];
    for n in 1..WORKSPACES {
        workspaces.push(hub.another_workspace(&format!("w{n}")).await);
    }

    let mut clients = Vec::new();
    for (index, workspace) in workspaces.iter().enumerate() {
        for client in 0..CLIENTS_PER_WORKSPACE {
            let random = StdRng::seed_from_u64(seed ^ (index * 100 + client) as u64);
            clients.push(tokio::spawn(follow(hub.clone(), *workspace, random)));
        }
    }
    // Wait until everybody follows, so that each must see all.
    tokio::time::sleep(Duration::from_millis(300)).await;

    let left: Arc<Vec<AtomicU64>> = Arc::new((0..WORKSPACES).map(|_| AtomicU64::new(EVENTS_PER_WORKSPACE)).collect());
    let mut writers = Vec::new();
    for writer in 0..8u64 {
        let (hub, workspaces, left) = (hub.clone(), workspaces.clone(), left.clone());
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(writer));
        writers.push(tokio::spawn(async move {
            loop {
                // Some for one workspace, some for several at once, in any order.
                let mut counts = Vec::new();
                for _ in 0..random.random_range(1..=2) {
                    let at = random.random_range(0..WORKSPACES);
                    let wish = random.random_range(1..=20u64);
                    let got = take(&left[at], wish);
                    if got > 0 && counts.iter().all(|(id, _): &(Uuid, usize)| *id != workspaces[at]) {
                        counts.push((workspaces[at], got as usize));
                    } else {
                        left[at].fetch_add(got, Ordering::SeqCst);
                    }
                }
                if counts.is_empty() {
                    if left.iter().all(|left| left.load(Ordering::SeqCst) == 0) {
                        return;
                    }
                    continue;
                }
                hub.app.emit(&counts, "w", random.random_range(0..400)).await.expect("emitted");
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let mut resumes = 0;
    for client in clients {
        resumes += client.await.expect("a client");
    }
    assert!(resumes > WORKSPACES * CLIENTS_PER_WORKSPACE, "hardly anybody was cut off: {resumes}");
    if backend == Backend::Postgres {
        let log = postgres::shared().log();
        assert!(!log.contains("deadlock detected"), "writers of several workspaces deadlock");
        assert!(!log.contains("there is already a transaction in progress"), "a connection came back dirty");
    }
}

fn take(left: &AtomicU64, wish: u64) -> u64 {
    let mut got = 0;
    let _ = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
        got = wish.min(left);
        Some(left - got)
    });
    got
}

/// Follows to the end, cutting the connection at random and resuming. Returns how often it did.
async fn follow(hub: Arc<Hub>, workspace: Uuid, mut random: StdRng) -> usize {
    let mut position: Option<(u64, String, Option<String>)> = None;
    let mut resumes = 0;
    loop {
        let ask = match &position {
            None => json!({}),
            Some((since, epoch, id)) => json!({ "since": since, "epoch": epoch, "since_id": id }),
        };
        let (mut socket, ack) = hub.browser_of(workspace, ask).await;
        let (mut last, mut last_id) = match &position {
            None => (ack["seq"].as_u64().unwrap(), None),
            Some((since, _, id)) => {
                assert_eq!(ack["recovered"], true, "{ack}");
                (*since, id.clone())
            }
        };
        let stay = random.random_range(1..600);
        for _ in 0..stay {
            let event = socket.next().await;
            if event["type"] == "heartbeat" {
                continue;
            }
            assert_eq!(event["seq"], json!(last + 1), "after {last}");
            assert_eq!(event["workspace_id"], json!(workspace));
            last += 1;
            last_id = event["event_id"].as_str().map(str::to_owned);
            if last == EVENTS_PER_WORKSPACE {
                return resumes;
            }
        }
        if random.random_bool(0.5) {
            socket.cut()
        } else {
            socket.close().await
        }
        position = Some((last, ack["epoch"].as_str().unwrap().to_owned(), last_id));
        resumes += 1;
        if random.random_bool(0.3) {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
        }
    }
}

async fn a_reader_that_pauses_is_served_when_it_is_back(backend: Backend) {
    // The limit is far off: the other reader may take longer than usual on a busy machine.
    let hub = Hub::start_with(backend, &[("HEARTWIRE_STUCK_AFTER", "60s")]).await;
    let (mut paused, _) = hub.browser().await;
    let (mut other, _) = hub.browser().await;
    for _ in 0..20 {
        hub.app.emit(&[(hub.workspace, 1000)], "p", 100).await.unwrap();
    }
    let check = async |socket: &mut crate::support::Socket| {
        let mut last = 0;
        while last < 20_000 {
            let event: Value = socket.next().await;
            if event["type"] != "heartbeat" {
                last += 1;
                assert_eq!(event["seq"], last);
            }
        }
    };
    check(&mut other).await;
    // Not a byte was read for a while, though for less than the limit.
    tokio::time::sleep(Duration::from_secs(2)).await;
    check(&mut paused).await;
    hub.app.emit(&[(hub.workspace, 1)], "q", 0).await.unwrap();
    assert_eq!(paused.next_of("test:event").await["seq"], 20_001, "and live again");
}

/// Requests whose clients go away at any moment, on PostgreSQL: no session is left inside a
/// transaction, and what was committed was announced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aborted_requests_leave_nothing_behind() {
    let seconds: u64 = std::env::var("HEARTWIRE_ABORT_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(8);
    let server = postgres::Server::start();
    let url = postgres::fresh_database(&server).await;
    let hub = Arc::new(Hub::start_on(Some(url.clone()), &[]).await);
    let runtimes = hub.register("d", &["claude"]).await;
    let (mut browser, ack) = hub.browser().await;
    let first = ack["seq"].as_u64().unwrap();
    let seen = Arc::new(AtomicU64::new(first));
    let reader = tokio::spawn({
        let seen = seen.clone();
        async move {
            loop {
                let event = browser.next_ever().await;
                if event["type"] != "heartbeat" {
                    assert_eq!(event["seq"], seen.fetch_add(1, Ordering::SeqCst) + 1);
                }
            }
        }
    });
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for n in 0..24 {
        let (hub, over, runtime, url) = (hub.clone(), over.clone(), runtimes[0], url.clone());
        clients.push(tokio::spawn(async move {
            let mut random: StdRng = rand::make_rng();
            let mut made = 0u64;
            while !over.load(Ordering::Relaxed) {
                let request = async {
                    match n % 3 {
                        0 => drop(hub.register(&format!("d{n}"), &["claude", "codex"]).await),
                        1 => drop(hub.post("/api/daemon/heartbeat", json!({ "runtime_id": runtime })).await),
                        _ => drop(hub.get(&format!("/api/runtimes?workspace_id={}", hub.workspace)).await),
                    }
                };
                let _ = tokio::time::timeout(Duration::from_micros(random.random_range(100..8000)), request).await;
                made += 1;
            }
            let _ = url;
            made
        }));
    }
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    over.store(true, Ordering::Relaxed);
    let mut made = 0;
    for client in clients {
        made += client.await.unwrap();
    }
    // What nobody waits for any more is still done; then no transaction is left open.
    const IDLE: &str = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    let mut quiet = 0;
    until("no transaction is open", async || {
        quiet = if count(&url, IDLE).await == 0 { quiet + 1 } else { 0 };
        quiet == 10
    })
    .await;
    assert!(!server.log().contains("there is already a transaction in progress"));
    let logged = count(&url, "SELECT max(seq) FROM event_log").await as u64;
    let counted = count(&url, "SELECT max(seq) FROM event_counter").await as u64;
    assert_eq!(logged, counted);
    println!("{made} requests, {} events", logged - first);
    assert!(logged > first + 10, "too few got through to mean anything");
    until("every logged event was announced", async || {
        assert!(!reader.is_finished(), "an event out of order, or the end of the socket");
        seen.load(Ordering::SeqCst) == logged
    })
    .await;
    reader.abort();
}

async fn count(url: &str, sql: &'static str) -> i64 {
    use sqlx::Connection;
    let mut connection = sqlx::PgConnection::connect(url).await.expect("the private server");
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect(sql)
}
