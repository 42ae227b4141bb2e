//! Who is alive: beats, leases, rows and the verdict on lost sockets, with leases in memory and in
//! Redis. Time is moved, not waited for.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    Backend, Hub, Socket,
    fleet::{acked, beat, http_beat, status, suspected},
    until,
};

on_all_stores!(
    a_beat_on_the_steady_path_costs_no_statement,
    a_row_that_is_due_is_written_in_bulk_and_never_backwards,
    a_beat_brings_an_offline_runtime_back_at_once_with_one_event,
    a_socket_whose_end_was_seen_is_offline_after_its_grace,
    a_daemon_that_beats_over_http_after_its_socket_ended_stays_online,
    a_daemon_that_comes_back_with_another_socket_stays_online,
    a_silent_end_waits_for_daemons_that_may_not_know,
    a_call_for_work_hides_no_socket_s_end_and_counts_as_life_after_it,
    a_deregistered_runtime_is_not_touched_back,
    how_runtimes_are_reachable_is_shown,
    what_came_during_the_shutdown_is_written,
    a_beat_in_work_when_its_socket_ends_hides_nothing,
    a_runtime_that_comes_back_as_its_socket_ends_is_offline_after_the_grace,
    a_registration_beside_a_socket_hides_nothing,
    a_picture_that_could_not_be_painted_is_painted_later,
);

async fn a_beat_on_the_steady_path_costs_no_statement(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["claude", "codex"]).await;
    let mut socket = hub.daemon(&runtimes).await;
    for runtime in &runtimes {
        acked(&mut socket, *runtime).await;
        http_beat(&hub, *runtime).await;
    }
    // The jobs of the hub itself send some, now and then: the least of several looks counts.
    let mut least = u64::MAX;
    for _ in 0..5 {
        let before = hub.app.statements();
        for _ in 0..5 {
            for runtime in &runtimes {
                acked(&mut socket, *runtime).await;
                http_beat(&hub, *runtime).await;
            }
        }
        least = least.min(hub.app.statements() - before);
    }
    assert!(least <= 2, "{least} statements for twenty beats");
}

async fn a_row_that_is_due_is_written_in_bulk_and_never_backwards(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["a", "b", "c"]).await;
    let before = hub.runtime(runtimes[0]).await.unwrap();
    for runtime in &runtimes {
        http_beat(&hub, *runtime).await;
    }
    assert_eq!(hub.app.flush().await, 0, "nothing is due within a minute");
    hub.app.advance_clock(Duration::from_secs(61));
    let beats = (0..50).map(|_| http_beat(&hub, runtimes[0]));
    futures_util::future::join_all(beats).await;
    http_beat(&hub, runtimes[1]).await;
    let untouched = hub.runtime(runtimes[0]).await.unwrap();
    assert_eq!(untouched["last_seen_at"], before["last_seen_at"], "not before the flush");
    assert_eq!(hub.app.flush().await, 2);
    assert_eq!(hub.app.flush().await, 0, "once");
    let after = hub.runtime(runtimes[0]).await.unwrap();
    assert!(after["last_seen_at"].as_str() > before["last_seen_at"].as_str());
    assert_eq!(after["updated_at"], before["updated_at"]);

    // A row that is ahead stays ahead; one that went offline in between stays offline.
    hub.app.advance_clock(Duration::from_secs(61));
    http_beat(&hub, runtimes[0]).await;
    http_beat(&hub, runtimes[1]).await;
    hub.sql_unnoticed("UPDATE agent_runtime SET last_seen_at = 4000000000000000 WHERE provider = 'a'").await;
    hub.sql_unnoticed("UPDATE agent_runtime SET status = 'offline', offline_cause = 'stale' WHERE provider = 'b'")
        .await;
    assert_eq!(hub.app.flush().await, 1);
    assert!(hub.runtime(runtimes[0]).await.unwrap()["last_seen_at"].as_str().unwrap().starts_with("2096"));
    assert_eq!(status(&hub, runtimes[1]).await, "offline");
    // Its fact was dropped with the flush's answer: the next beat sees the row and brings it back.
    http_beat(&hub, runtimes[1]).await;
    assert_eq!(status(&hub, runtimes[1]).await, "online");
}

async fn a_beat_brings_an_offline_runtime_back_at_once_with_one_event(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["a", "b", "c", "d"]).await;
    let (mut browser, _) = hub.browser().await;
    hub.sql("UPDATE agent_runtime SET status = 'offline', offline_cause = 'stale', offline_at = 1").await;
    let beats = runtimes.iter().flat_map(|runtime| [http_beat(&hub, *runtime), http_beat(&hub, *runtime)]);
    futures_util::future::join_all(beats).await;
    for runtime in &runtimes {
        assert_eq!(status(&hub, *runtime).await, "online");
    }
    let event = browser.next().await;
    assert_eq!(event["payload"]["action"], "online");
    assert_eq!(event["payload"]["runtime_ids"].as_array().unwrap().len(), 4, "one event for all: {event}");
    browser.quiet_for(Duration::from_millis(300)).await;
}

async fn a_socket_whose_end_was_seen_is_offline_after_its_grace(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["claude", "codex", "quiet"]).await;
    let (mut browser, _) = hub.browser().await;
    let mut socket = hub.daemon(&runtimes).await;
    acked(&mut socket, runtimes[0]).await;
    acked(&mut socket, runtimes[1]).await;
    // The third never beat over it: its lease names no socket.
    socket.cut();
    suspected(&hub, 2).await;
    assert_eq!(hub.runtime(runtimes[0]).await.unwrap()["presence"], "reconnecting");
    hub.app.judge().await;
    assert_eq!(status(&hub, runtimes[0]).await, "online", "within its grace");
    hub.app.advance_clock(Duration::from_secs(31));
    hub.app.judge().await;
    let event = browser.next_of("daemon:register").await;
    assert_eq!(event["payload"]["action"], "offline");
    assert_eq!(event["payload"]["runtime_ids"].as_array().unwrap().len(), 2);
    let row = hub.runtime(runtimes[0]).await.unwrap();
    assert_eq!((&row["status"], &row["presence"]), (&json!("offline"), &json!("offline")));
    assert_eq!(hub.rows("SELECT offline_cause FROM agent_runtime WHERE provider = 'codex'").await, ["socket_lost"]);
    assert_eq!(status(&hub, runtimes[2]).await, "online", "nothing was seen of it");
    // It comes back with any beat.
    http_beat(&hub, runtimes[0]).await;
    assert_eq!(status(&hub, runtimes[0]).await, "online");
}

async fn a_daemon_that_beats_over_http_after_its_socket_ended_stays_online(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let (mut browser, _) = hub.browser().await;
    let mut socket = hub.daemon(&[runtime]).await;
    acked(&mut socket, runtime).await;
    socket.cut();
    suspected(&hub, 1).await;
    hub.app.advance_clock(Duration::from_secs(29));
    http_beat(&hub, runtime).await;
    hub.app.advance_clock(Duration::from_secs(30));
    hub.app.judge().await;
    assert_eq!(hub.app.suspected(), 0);
    assert_eq!(status(&hub, runtime).await, "online");
    browser.quiet_for(Duration::from_millis(200)).await;
}

async fn a_daemon_that_comes_back_with_another_socket_stays_online(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut first = hub.daemon(&[runtime]).await;
    acked(&mut first, runtime).await;
    let mut second = hub.daemon(&[runtime]).await;
    acked(&mut second, runtime).await;
    // The lease names the second one: the end of the first says nothing.
    first.cut();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(hub.app.suspected(), 0);
    second.cut();
    suspected(&hub, 1).await;
    let mut third = hub.daemon(&[runtime]).await;
    acked(&mut third, runtime).await;
    hub.app.advance_clock(Duration::from_secs(60));
    hub.app.judge().await;
    assert_eq!(status(&hub, runtime).await, "online");
    assert_eq!(hub.runtime(runtime).await.unwrap()["presence"], "socket");
}

async fn a_silent_end_waits_for_daemons_that_may_not_know(backend: Backend) {
    let settings = [("HEARTWIRE_DAEMON_PING", "100ms"), ("HEARTWIRE_DAEMON_SILENCE", "300ms")];
    let hub = Hub::start_with(backend, &settings).await;
    let runtimes = [hub.register("d", &["claude"]).await[0], hub.register("e", &["claude"]).await[0]];
    let mut sockets = Vec::new();
    for runtime in runtimes {
        let mut socket = hub.daemon(&[runtime]).await;
        acked(&mut socket, runtime).await;
        // Nobody reads it any more, so nothing answers its pings, and nobody sees its end.
        sockets.push(socket);
    }
    suspected(&hub, 2).await;
    hub.app.advance_clock(Duration::from_secs(45));
    hub.app.judge().await;
    assert_eq!(status(&hub, runtimes[1]).await, "online");
    // A June daemon beats over HTTP once its last answer has become old.
    http_beat(&hub, runtimes[0]).await;
    hub.app.advance_clock(Duration::from_secs(16));
    hub.app.judge().await;
    assert_eq!(status(&hub, runtimes[0]).await, "online");
    assert_eq!(status(&hub, runtimes[1]).await, "offline");
}

async fn a_call_for_work_hides_no_socket_s_end_and_counts_as_life_after_it(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let claim = format!("/api/daemon/runtimes/{runtime}/tasks/claim");
    let mut socket = hub.daemon(&[runtime]).await;
    acked(&mut socket, runtime).await;
    hub.post(&claim, json!({})).await.expect(200);
    assert_eq!(hub.runtime(runtime).await.unwrap()["presence"], "socket");
    socket.cut();
    suspected(&hub, 1).await;
    hub.post(&claim, json!({})).await.expect(200);
    hub.app.advance_clock(Duration::from_secs(31));
    hub.app.judge().await;
    assert_eq!(status(&hub, runtime).await, "online", "who asks for work lives");
    assert_eq!(hub.runtime(runtime).await.unwrap()["presence"], "http");
}

async fn a_deregistered_runtime_is_not_touched_back(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut socket = hub.daemon(&[runtime]).await;
    acked(&mut socket, runtime).await;
    hub.post("/api/daemon/deregister", json!({ "runtime_ids": [runtime] })).await.expect(200);
    // The socket is older than the deregistration.
    socket.send(beat(runtime)).await;
    socket.quiet_for(Duration::from_millis(500)).await;
    assert_eq!(status(&hub, runtime).await, "offline");
    http_beat(&hub, runtime).await;
    assert_eq!(status(&hub, runtime).await, "online", "a request that began later");
}

async fn how_runtimes_are_reachable_is_shown(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let (mut browser, _) = hub.browser().await;
    let presence = async |browser: &mut Socket, wanted: &str| loop {
        let frame = browser.next_presence().await;
        assert!(frame.get("seq").is_none());
        let seen = frame["payload"]["runtimes"].as_array().unwrap().iter().find(|row| row["id"] == json!(runtime));
        if seen.is_some_and(|seen| seen["presence"] == wanted) {
            assert!(frame["payload"]["node"].as_str().is_some_and(|node| !node.is_empty()));
            return;
        }
    };
    // The full picture, without a change.
    presence(&mut browser, "http").await;
    let mut socket = hub.daemon(&[runtime]).await;
    acked(&mut socket, runtime).await;
    presence(&mut browser, "socket").await;
    browser.send(json!({ "type": "subscribe", "payload": { "scope": "fleet", "id": hub.workspace } })).await;
    assert_eq!(browser.next_of("subscribe_ack").await["payload"]["scope"], "fleet");
    acked(&mut socket, runtime).await;
    let beats = browser.next_of("runtime:beats").await;
    assert_eq!(beats["payload"]["runtimes"][0]["id"], json!(runtime));
    socket.cut();
    presence(&mut browser, "reconnecting").await;
    http_beat(&hub, runtime).await;
    presence(&mut browser, "http").await;
    hub.post("/api/daemon/deregister", json!({ "runtime_ids": [runtime] })).await.expect(200);
    presence(&mut browser, "offline").await;
}

async fn what_came_during_the_shutdown_is_written(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let before = hub.runtime(runtime).await.unwrap()["last_seen_at"].clone();
    hub.app.advance_clock(Duration::from_secs(61));
    http_beat(&hub, runtime).await;
    let hub = hub.restart().await;
    let after = hub.runtime(runtime).await.unwrap()["last_seen_at"].clone();
    assert!(after.as_str() > before.as_str(), "{before} {after}");
}

async fn a_beat_in_work_when_its_socket_ends_hides_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut socket = hub.daemon(&[runtime]).await;
    // With Redis it is touched with the next tick, when the socket's end has long been seen.
    socket.send(beat(runtime)).await;
    socket.cut();
    suspected(&hub, 1).await;
    hub.app.advance_clock(Duration::from_secs(31));
    hub.app.judge().await;
    assert_eq!(status(&hub, runtime).await, "offline");
}

async fn a_runtime_that_comes_back_as_its_socket_ends_is_offline_after_the_grace(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    hub.sql("UPDATE agent_runtime SET status = 'offline', offline_cause = 'stale', offline_at = 1").await;
    let mut socket = hub.daemon(&[runtime]).await;
    socket.send(beat(runtime)).await;
    socket.cut();
    suspected(&hub, 1).await;
    // It is written a quarter of a second after it was heard, and after the end.
    until("it is back", async || status(&hub, runtime).await == "online").await;
    hub.app.advance_clock(Duration::from_secs(31));
    hub.app.judge().await;
    assert_eq!(status(&hub, runtime).await, "offline");
}

async fn a_registration_beside_a_socket_hides_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut socket = hub.daemon(&[runtime]).await;
    acked(&mut socket, runtime).await;
    assert_eq!(hub.register("d", &["claude"]).await, [runtime]);
    assert_eq!(hub.runtime(runtime).await.unwrap()["presence"], "socket");
    socket.cut();
    suspected(&hub, 1).await;
    // After the end it is a sign of life as any other.
    hub.register("d", &["claude"]).await;
    hub.app.advance_clock(Duration::from_secs(31));
    hub.app.judge().await;
    assert_eq!(status(&hub, runtime).await, "online");
    assert_eq!(hub.runtime(runtime).await.unwrap()["presence"], "http");
}

async fn a_picture_that_could_not_be_painted_is_painted_later(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    // What the registration itself shows is over.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    hub.sql_unnoticed("ALTER TABLE agent_runtime RENAME TO elsewhere").await;
    let (mut browser, _) = hub.browser().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    hub.sql_unnoticed("ALTER TABLE elsewhere RENAME TO agent_runtime").await;
    let picture = browser.next_presence().await;
    assert_eq!(picture["payload"]["runtimes"][0]["id"], json!(runtime));
}
