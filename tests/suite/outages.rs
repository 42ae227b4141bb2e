//! What becomes of a hub when Redis fails it, alone or with the database.

use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

use crate::support::{
    Gate, Hub, Socket,
    fleet::{acked, beat_status, status},
    postgres, redis, until,
};

/// A hub on a Redis of its own, which may be ill-treated.
async fn with_own_redis() -> (Hub, redis::Server) {
    let server = tokio::task::spawn_blocking(redis::Server::start).await.unwrap();
    let database = postgres::fresh_database(postgres::shared()).await;
    let hub = Hub::start_on(Some(database), &[("REDIS_URL", &server.url), ("HEARTWIRE_FLUSH_TICK", "1s")]).await;
    hub.connected().await;
    (hub, server)
}

/// Beats over both transports for some seconds; every one is acknowledged, and soon.
async fn beats_go_on(hub: &Hub, socket: &mut Socket, runtimes: &[Uuid], rounds: usize) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        for runtime in runtimes {
            let began = Instant::now();
            acked(socket, *runtime).await;
            assert_eq!(beat_status(hub, *runtime).await, 200);
            slowest = slowest.max(began.elapsed());
        }
    }
    slowest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beats_go_on_while_redis_is_frozen_stopped_or_empty() {
    let (hub, mut server) = with_own_redis().await;
    let runtimes = hub.register("d", &["claude", "codex"]).await;
    let mut socket = hub.daemon(&runtimes).await;
    let (mut browser, _) = hub.browser().await;
    beats_go_on(&hub, &mut socket, &runtimes, 2).await;

    server.freeze();
    let slowest = beats_go_on(&hub, &mut socket, &runtimes, 5).await;
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert!(!hub.app.is_connected());
    let before = hub.runtime(runtimes[0]).await.unwrap()["last_seen_at"].clone();
    hub.app.advance_clock(Duration::from_secs(5));
    beats_go_on(&hub, &mut socket, &runtimes, 1).await;
    hub.app.flush().await;
    let after = hub.runtime(runtimes[0]).await.unwrap()["last_seen_at"].clone();
    assert!(after.as_str() > before.as_str(), "without leases the rows are kept fresh: {before} {after}");
    server.thaw();
    hub.connected().await;
    beats_go_on(&hub, &mut socket, &runtimes, 1).await;
    assert_eq!(hub.runtime(runtimes[0]).await.unwrap()["presence"], "http", "leases are back");

    server.flush();
    beats_go_on(&hub, &mut socket, &runtimes, 3).await;
    hub.connected().await;

    server = tokio::task::spawn_blocking(move || {
        server.end();
        server
    })
    .await
    .unwrap();
    beats_go_on(&hub, &mut socket, &runtimes, 5).await;
    // The hub still serves browsers, and an event is not lost with the relay.
    hub.app.emit(&[(hub.workspace, 1)], "x", 0).await.unwrap();
    browser.next_of("test:event").await;
    server = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    })
    .await
    .unwrap();
    hub.connected().await;
    beats_go_on(&hub, &mut socket, &runtimes, 2).await;
    hub.app.judge().await;
    hub.app.sweep().await;
    for runtime in &runtimes {
        assert_eq!(status(&hub, *runtime).await, "online", "nobody went offline in all this");
    }
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_that_spans_a_loss_of_leases_does_not_count() {
    let (hub, server) = with_own_redis().await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut socket = hub.daemon(&[runtime]).await;
    acked(&mut socket, runtime).await;
    socket.cut();
    until("it is suspected", async || hub.app.suspected() == 1).await;
    server.flush();
    // Nobody has touched anything since: the look itself finds out.
    hub.app.advance_clock(Duration::from_secs(31));
    hub.app.judge().await;
    assert_eq!(status(&hub, runtime).await, "online", "a fresh grace begins");
    hub.connected().await;
    hub.app.advance_clock(Duration::from_secs(29));
    hub.app.judge().await;
    assert_eq!(status(&hub, runtime).await, "online", "within it");
    until("the graces after the loss are over", async || {
        hub.app.advance_clock(Duration::from_secs(31));
        hub.app.judge().await;
        status(&hub, runtime).await == "offline"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_published_while_the_relay_was_away_are_read_from_the_log() {
    let (a, mut server) = with_own_redis().await;
    let dir = tempfile::tempdir().unwrap();
    let settings = [("REDIS_URL", server.url.as_str())];
    let config = crate::support::hub::config(dir.path().to_path_buf(), a.database_url.clone(), &settings);
    let b = heartwire::app::App::start(config).await.unwrap();
    let mut browser = Socket::open(&format!("ws://{}/ws?workspace_id={}", b.address, a.workspace), None).await;
    browser.send(json!({ "type": "auth", "payload": { "token": a.token } })).await;
    assert_eq!(browser.next().await["type"], "auth_ack");
    server = tokio::task::spawn_blocking(move || {
        server.end();
        server
    })
    .await
    .unwrap();
    for _ in 0..20 {
        a.app.emit(&[(a.workspace, 1)], "x", 0).await.unwrap();
    }
    for seq in 1..=20 {
        assert_eq!(browser.next().await["seq"], seq);
    }
    drop(server);
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_relay_was_away_browsers_are_told_that_hints_may_be_lost() {
    let (hub, server) = with_own_redis().await;
    let (mut browser, _) = hub.browser().await;
    let mut stranger = Socket::open(&hub.ws(&format!("/ws?workspace_id={}", hub.workspace)), None).await;
    server.say(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_eq!(browser.next().await, json!({ "type": "personal:resync", "payload": {} }));
    stranger.send(json!({ "type": "auth", "payload": { "token": hub.token } })).await;
    assert_eq!(stranger.next().await["type"], "auth_ack", "who has not said who they are is told nothing");
}

/// Kills the connection that the hub reads leases over.
async fn kill_the_reader_of_leases(hub: &Hub, server: &redis::Server) {
    until("leases were read", async || {
        hub.get(&format!("/api/runtimes?workspace_id={}", hub.workspace)).await.expect(200);
        let clients = server.say(&["CLIENT", "LIST"]);
        let Some(reader) = clients.lines().find(|line| line.contains(" cmd=mget ")) else { return false };
        let number = reader.split(' ').find_map(|word| word.strip_prefix("id=")).expect("an id");
        server.say(&["CLIENT", "KILL", "ID", number]).trim() == "1"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_connection_to_the_lease_store_is_replaced() {
    let (hub, server) = with_own_redis().await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut socket = hub.daemon(&[runtime]).await;
    acked(&mut socket, runtime).await;
    let presence = async || hub.runtime(runtime).await.unwrap()["presence"].clone();
    assert_eq!(presence().await, "socket");
    kill_the_reader_of_leases(&hub, &server).await;
    // Nobody beats meanwhile: the other connection is well, and finds nothing out.
    until("leases are read again", async || presence().await == "socket").await;
    acked(&mut socket, runtime).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_that_cannot_read_the_leases_takes_nobody_offline() {
    let (hub, server) = with_own_redis().await;
    hub.app.advance_clock(Duration::from_secs(151));
    let runtime = hub.register("d", &["claude"]).await[0];
    hub.sql("UPDATE agent_runtime SET last_seen_at = last_seen_at - 1000000000").await;
    for _ in 0..5 {
        hub.connected().await;
        kill_the_reader_of_leases(&hub, &server).await;
        assert_eq!(hub.app.sweep().await, (0, 0));
    }
    assert_eq!(status(&hub, runtime).await, "online", "its lease says that it lives");
    // Nor do such moments keep the sweep from its work for long.
    hub.connected().await;
    hub.app.forget_lease(runtime).await;
    assert_eq!(hub.app.sweep().await, (1, 0));
}

/// Also when the next flush would come after half a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beats_are_taken_again_as_soon_as_one_of_the_stores_is_back() {
    let mut server = tokio::task::spawn_blocking(redis::Server::start).await.unwrap();
    let url = postgres::fresh_database(postgres::shared()).await;
    let gate = Gate::before(&url).await;
    let settings = [("REDIS_URL", server.url.as_str())];
    let limit = Duration::from_secs(2);
    let hub = Hub::start_hurried(Some(gate.url(&url)), &settings, |config| config.wait_for_database(limit)).await;
    hub.connected().await;
    let runtime = hub.register("d", &["claude"]).await[0];
    assert_eq!(beat_status(&hub, runtime).await, 200);
    server = tokio::task::spawn_blocking(move || {
        server.end();
        server
    })
    .await
    .unwrap();
    assert_eq!(beat_status(&hub, runtime).await, 200, "the database has it");
    gate.shut();
    hub.app.flush().await;
    assert_eq!(beat_status(&hub, runtime).await, 503, "nobody has it");
    gate.open();
    let began = Instant::now();
    until("beats are taken", async || beat_status(&hub, runtime).await == 200).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    drop(server);
}
