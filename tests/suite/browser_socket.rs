//! The browser's socket: opening, following, resuming, closing.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::support::{Backend, Hub, Socket};

on_both_stores!(
    a_token_in_the_first_frame_opens_it,
    whoever_may_not_follow_is_told_why_and_closed,
    every_change_arrives_once_in_order,
    a_resume_replays_what_was_missed,
    a_position_that_cannot_be_continued_replays_nothing,
    a_new_epoch_sends_everybody_to_refetch,
    a_restored_database_is_noticed,
    heartbeats_say_the_last_number_written,
    unknown_and_broken_frames_disturb_nothing,
    a_drain_tells_when_to_come_back,
    a_pruned_log_is_not_taken_for_a_whole_one,
    the_log_s_bytes_are_those_of_what_is_in_it,
);

async fn a_token_in_the_first_frame_opens_it(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (mut socket, ack) = hub.browser().await;
    let keys: Vec<&String> = ack.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["epoch", "node", "ping_interval_ms", "recovered", "seq", "server_time"]);
    assert_eq!((&ack["seq"], &ack["recovered"], &ack["ping_interval_ms"]), (&json!(0), &Value::Null, &json!(25000)));
    socket.send(json!({ "type": "ping" })).await;
    assert_eq!(socket.next().await, json!({ "type": "pong", "payload": {} }));
    // By slug as well, and with the client's words.
    let url = hub.ws("/ws?workspace_slug=home-base&client_platform=web&client_version=1&client_os=x%00y");
    let mut socket = Socket::open(&url, None).await;
    socket.send(json!({ "type": "auth", "payload": { "token": hub.token, "since": null, "epoch": null } })).await;
    assert_eq!(socket.next().await["type"], "auth_ack");
}

async fn whoever_may_not_follow_is_told_why_and_closed(backend: Backend) {
    let hub = Hub::start_with(backend, &[("HEARTWIRE_AUTH_WITHIN", "500ms")]).await;
    let refused = async |path: String| match Socket::try_open(&hub.ws(&path), None).await {
        Ok(_) => panic!("{path} was accepted"),
        Err((status, _)) => status,
    };
    assert_eq!(refused("/ws".into()).await, 400);
    assert_eq!(refused("/ws?workspace_id=x".into()).await, 400);
    assert_eq!(refused(format!("/ws?workspace_id={}&since=x", hub.workspace)).await, 400);
    assert_eq!(refused(format!("/ws?workspace_id={}", Uuid::new_v4())).await, 404);
    assert_eq!(refused("/ws?workspace_slug=nowhere".into()).await, 404);
    hub.get(&format!("/ws?workspace_id={}", hub.workspace)).await.refused(426, "this address is a WebSocket");

    let stranger = hub.stranger("s@example.com").await;
    let first = |frame: Value| frame.to_string();
    for (frame, why) in [
        (first(json!({ "type": "auth", "payload": { "token": "mul_x" } })), "invalid token"),
        (first(json!({ "type": "auth", "payload": { "token": stranger } })), "workspace not found"),
        (first(json!({ "type": "auth", "payload": {} })), "invalid token"),
        (first(json!({ "type": "auth" })), "invalid auth payload"),
        (first(json!({ "type": "auth", "payload": { "token": 1 } })), "invalid auth payload"),
        (first(json!({ "type": "subscribe" })), "the first frame must be auth"),
        ("{".into(), "invalid frame"),
    ] {
        let mut socket = Socket::open(&hub.ws(&format!("/ws?workspace_id={}", hub.workspace)), None).await;
        socket.send_text(&frame).await;
        assert_eq!(socket.next().await, json!({ "type": "auth_error", "error": why }), "{frame}");
        assert_eq!(socket.closed().await.0, 4501, "{frame}");
    }
    let mut silent = Socket::open(&hub.ws(&format!("/ws?workspace_id={}", hub.workspace)), None).await;
    assert_eq!(silent.next().await["error"], "authentication timed out");
    assert_eq!(silent.closed().await.0, 4501);
}

async fn every_change_arrives_once_in_order(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (mut one, _) = hub.browser().await;
    let (mut two, _) = hub.browser().await;
    let elsewhere = hub.another_workspace("other").await;
    let (mut other, _) = hub.browser_of(elsewhere, json!({})).await;
    let runtime = hub.register("d", &["claude", "codex"]).await[0];
    hub.patch(&format!("/api/runtimes/{runtime}"), json!({ "visibility": "public" })).await.expect(200);
    hub.post("/api/daemon/deregister", json!({ "runtime_ids": [runtime] })).await.expect(200);
    for socket in [&mut one, &mut two] {
        let registered = socket.next().await;
        let keys: Vec<&String> = registered.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["actor_id", "actor_type", "event_id", "payload", "seq", "type", "workspace_id"]);
        assert_eq!(registered["seq"], 1);
        assert_eq!(registered["workspace_id"], json!(hub.workspace));
        let runtimes = registered["payload"]["runtimes"].as_array().unwrap();
        assert_eq!(runtimes.len(), 2);
        assert_eq!(runtimes[0]["id"], json!(runtime));
        let updated = socket.next().await;
        assert_eq!((&updated["seq"], &updated["payload"]), (&json!(2), &json!({ "action": "update" })));
        let left = socket.next().await;
        assert_eq!(left["payload"], json!({ "action": "deregister", "runtime_ids": [runtime] }));
        assert_eq!(left["seq"], 3);
        socket.quiet_for(Duration::from_millis(100)).await;
    }
    other.quiet_for(Duration::from_millis(100)).await;
}

async fn a_resume_replays_what_was_missed(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (mut socket, ack) = hub.browser().await;
    hub.app.emit(&[(hub.workspace, 3)], "a", 0).await.unwrap();
    let mut last = Value::Null;
    for seq in 1..=3 {
        last = socket.next().await;
        assert_eq!(last["seq"], seq);
    }
    socket.cut();
    // More than the ring holds, so that the log has to serve.
    hub.app.emit(&[(hub.workspace, 1500)], "b", 0).await.unwrap();
    let position = json!({ "since": 3, "epoch": ack["epoch"], "since_id": last["event_id"] });
    let (mut socket, resumed) = hub.browser_of(hub.workspace, position).await;
    assert_eq!((&resumed["recovered"], &resumed["seq"]), (&json!(true), &json!(1503)));
    for seq in 4..=1503 {
        assert_eq!(socket.next().await["seq"], seq);
    }
    hub.app.emit(&[(hub.workspace, 1)], "c", 0).await.unwrap();
    assert_eq!(socket.next().await["seq"], 1504);

    // The position may be in the query as well; after a restart it still counts.
    let hub = hub.restart().await;
    let epoch = ack["epoch"].as_str().unwrap();
    let url = hub.ws(&format!("/ws?workspace_id={}&since=1502&epoch={epoch}", hub.workspace));
    let mut socket = Socket::open(&url, None).await;
    socket.send(json!({ "type": "auth", "payload": { "token": hub.token } })).await;
    let resumed = socket.next().await;
    assert_eq!((&resumed["payload"]["recovered"], &resumed["payload"]["seq"]), (&json!(true), &json!(1504)));
    assert_eq!(socket.next().await["seq"], 1503);
    assert_eq!(socket.next().await["seq"], 1504);
    // Nothing missed is recovered, too.
    let (mut socket, resumed) = hub.browser_of(hub.workspace, json!({ "since": 1504, "epoch": epoch })).await;
    assert_eq!(resumed["recovered"], true);
    socket.quiet_for(Duration::from_millis(100)).await;
}

async fn a_position_that_cannot_be_continued_replays_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    hub.app.emit(&[(hub.workspace, 5)], "a", 0).await.unwrap();
    let (_, ack) = hub.browser().await;
    let epoch = &ack["epoch"];
    let mut seq = 5;
    for (since, why) in [
        (json!({ "since": 2, "epoch": "another" }), "another epoch"),
        (json!({ "since": 2 }), "no epoch"),
        (json!({ "since": 100, "epoch": epoch }), "ahead of the counter"),
        (json!({ "since": u64::MAX, "epoch": epoch }), "far ahead of the counter"),
        (json!({ "since": 2, "epoch": epoch, "since_id": Uuid::new_v4() }), "another id"),
        (json!({ "since": 2, "epoch": epoch, "since_id": "nonsense" }), "no id"),
    ] {
        let (mut socket, answer) = hub.browser_of(hub.workspace, since).await;
        assert_eq!((&answer["recovered"], &answer["seq"]), (&json!(false), &json!(seq)), "{why}");
        socket.quiet_for(Duration::from_millis(50)).await;
        hub.app.emit(&[(hub.workspace, 1)], "b", 0).await.unwrap();
        seq += 1;
        assert_eq!(socket.next().await["seq"], seq, "{why}: it goes on from the position it was given");
    }
    // Further behind than is worth replaying.
    let far = hub.another_workspace("far").await;
    for _ in 0..11 {
        hub.app.emit(&[(far, 1000)], "c", 0).await.unwrap();
    }
    let (_, ack) = hub.browser_of(far, json!({})).await;
    let (mut socket, answer) = hub.browser_of(far, json!({ "since": 999, "epoch": ack["epoch"] })).await;
    assert_eq!((&answer["recovered"], &answer["seq"]), (&json!(false), &json!(11000)));
    socket.quiet_for(Duration::from_millis(50)).await;
    let (_, answer) = hub.browser_of(far, json!({ "since": 1000, "epoch": ack["epoch"] })).await;
    assert_eq!(answer["recovered"], true);
}

async fn a_new_epoch_sends_everybody_to_refetch(backend: Backend) {
    let hub = Hub::start(backend).await;
    hub.app.emit(&[(hub.workspace, 5)], "a", 0).await.unwrap();
    let (mut socket, ack) = hub.browser().await;
    let made = hub.admin(&["new-epoch"]).await;
    assert_ne!(made["epoch"], ack["epoch"]);
    assert_eq!(socket.closed().await.0, 4005);
    let (mut socket, resumed) = hub.browser_of(hub.workspace, json!({ "since": 5, "epoch": ack["epoch"] })).await;
    assert_eq!((&resumed["recovered"], &resumed["epoch"]), (&json!(false), &made["epoch"]));
    hub.app.emit(&[(hub.workspace, 1)], "b", 0).await.unwrap();
    assert_eq!(socket.next().await["seq"], 6);
}

async fn a_restored_database_is_noticed(backend: Backend) {
    let hub = Hub::start(backend).await;
    hub.app.emit(&[(hub.workspace, 5)], "a", 0).await.unwrap();
    let (mut socket, before) = hub.browser().await;
    // As after a restore behind a running hub's back: the sequence has gone back.
    hub.sql("DELETE FROM event_log WHERE seq > 3; UPDATE event_counter SET seq = 3").await;
    assert_eq!(socket.closed().await.0, 4005);
    let (_, after) = hub.browser_of(hub.workspace, json!({ "since": 3, "epoch": before["epoch"] })).await;
    assert_eq!((&after["recovered"], &after["seq"]), (&json!(false), &json!(3)));
    assert_ne!(after["epoch"], before["epoch"]);
}

async fn heartbeats_say_the_last_number_written(backend: Backend) {
    let settings = [("HEARTWIRE_BROWSER_PING", "150ms"), ("HEARTWIRE_BROWSER_SILENCE", "1s")];
    let hub = Hub::start_with(backend, &settings).await;
    let (mut socket, ack) = hub.browser().await;
    assert_eq!(ack["ping_interval_ms"], 150);
    assert_eq!(socket.next().await, json!({ "type": "heartbeat", "payload": { "seq": 0 } }));
    hub.app.emit(&[(hub.workspace, 2)], "a", 0).await.unwrap();
    let mut last = 0;
    loop {
        let frame = socket.next().await;
        match frame["type"].as_str() {
            Some("heartbeat") => {
                assert_eq!(frame["payload"]["seq"], last);
                if last == 2 {
                    break;
                }
            }
            _ => last = frame["seq"].as_u64().unwrap(),
        }
    }
    // A browser that does not even answer pings.
    let (mut silent, _) = hub.browser().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(silent.closed().await.0, 4003);
    socket.cut();
}

async fn unknown_and_broken_frames_disturb_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (mut socket, _) = hub.browser().await;
    socket.send(json!({ "type": "something:new", "payload": [1], "more": true })).await;
    socket.send(json!({ "type": null })).await;
    socket.send_text("{").await;
    assert_eq!(socket.next().await, json!({ "type": "error", "payload": { "error": "invalid frame" } }));
    socket.send(json!({ "type": "ping" })).await;
    assert_eq!(socket.next().await["type"], "pong");
    socket.send_message(Message::binary(vec![0])).await;
    assert_eq!(socket.closed().await.0, 4504);
}

async fn a_drain_tells_when_to_come_back(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (mut socket, _) = hub.browser().await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut daemon = hub.daemon(&[runtime]).await;
    let began = std::time::Instant::now();
    let (closed, ()) = tokio::join!(async { (socket.closed().await, daemon.closed().await) }, hub.app.stop());
    assert!(began.elapsed() < Duration::from_secs(10));
    for (code, reason) in [closed.0, closed.1] {
        assert_eq!(code, 4001);
        let ms: u64 = reason.strip_prefix("retry_after_ms=").and_then(|ms| ms.parse().ok()).expect("a delay");
        assert!((100..60_000).contains(&ms));
    }
}

async fn the_log_s_bytes_are_those_of_what_is_in_it(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let path = format!("/api/agents?workspace_id={}", hub.workspace);
    for n in 0..4 {
        // Private: each is logged in two forms.
        hub.post(&path, json!({ "name": format!("a{n}"), "runtime_id": runtime })).await.expect(201);
    }
    let counted = "SELECT CAST(log_bytes AS text) FROM event_counter";
    let there = "SELECT CAST(COALESCE(SUM(OCTET_LENGTH(payload) + COALESCE(OCTET_LENGTH(reduced), 0)), 0) AS text)
                 FROM event_log";
    assert_eq!(hub.rows(counted).await, hub.rows(there).await);
    hub.sql("UPDATE event_log SET created_at = 1 WHERE seq < 4").await;
    assert_eq!(hub.app.prune_events(&hub.config).await.unwrap(), 3);
    assert_eq!(hub.rows(counted).await, hub.rows(there).await);
    hub.sql("UPDATE event_log SET created_at = 1").await;
    hub.app.prune_events(&hub.config).await.unwrap();
    assert_eq!(hub.rows(counted).await, ["0"]);
}

async fn a_pruned_log_is_not_taken_for_a_whole_one(backend: Backend) {
    let hub = Hub::start_with(backend, &[("HEARTWIRE_EVENTS_MAX_EVENTS", "100")]).await;
    let (mut live, ack) = hub.browser().await;
    for _ in 0..3 {
        hub.app.emit(&[(hub.workspace, 1000)], "a", 0).await.unwrap();
    }
    assert_eq!(hub.app.prune_events(&hub.config).await.unwrap(), 2900);
    assert_eq!(hub.app.prune_events(&hub.config).await.unwrap(), 0);
    let resume = async |since: u64| {
        let (_, answer) = hub.browser_of(hub.workspace, json!({ "since": since, "epoch": ack["epoch"] })).await;
        answer["recovered"].clone()
    };
    assert_eq!(resume(2899).await, false);
    assert_eq!(resume(2900).await, true);
    // The age limit counts, too.
    hub.app.advance_clock(Duration::from_secs(86_401));
    assert_eq!(hub.app.prune_events(&hub.config).await.unwrap(), 100);
    assert_eq!(resume(2999).await, false);
    assert_eq!(resume(3000).await, true);
    hub.app.emit(&[(hub.workspace, 1)], "b", 0).await.unwrap();
    // The socket that was open all the while has seen everything, or is told that it has not.
    let mut last = 0;
    loop {
        match live.next_or_close().await {
            Ok(frame) => {
                last += 1;
                assert_eq!(frame["seq"], last);
                if last == 3001 {
                    break;
                }
            }
            Err((code, _)) => {
                assert_eq!(code, 4005);
                break;
            }
        }
    }
}
