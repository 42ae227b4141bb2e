//! The daemon's control socket.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::support::{Backend, Hub, Socket, until};

on_both_stores!(
    each_beat_gets_an_ack_that_names_its_runtime,
    a_beat_for_another_runtime_gets_no_ack,
    a_removed_runtime_is_told_gone_at_once_and_at_every_beat,
    the_upgrade_is_refused_for_what_is_absent_or_foreign,
    beats_bring_an_offline_runtime_back_with_an_event,
    frames_that_are_no_beats_disturb_nothing,
    hundreds_of_beats_on_one_socket_are_all_acked,
    a_silent_daemon_is_disconnected_and_a_ponging_one_is_not,
);

fn beat(runtime: impl serde::Serialize) -> Value {
    json!({ "type": "daemon:heartbeat", "payload": { "runtime_id": runtime, "supports_batch_import": true } })
}

async fn each_beat_gets_an_ack_that_names_its_runtime(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["claude", "codex"]).await;
    let mut socket = hub.daemon(&runtimes).await;
    for runtime in &runtimes {
        socket.send(beat(runtime)).await;
        let ack = socket.next().await;
        assert_eq!(ack["type"], "daemon:heartbeat_ack");
        assert_eq!(
            ack["payload"],
            json!({
                "runtime_id": runtime, "status": "ok", "heartbeat_interval_ms": 15000, "server_capabilities": [],
            })
        );
        assert_eq!(hub.runtime(*runtime).await.unwrap()["presence"], "socket");
    }
    for optional in
        [json!({ "runtime_id": runtimes[0] }), json!({ "runtime_id": runtimes[0], "supports_batch_import": null })]
    {
        socket.send(json!({ "type": "daemon:heartbeat", "payload": optional })).await;
        assert_eq!(socket.next().await["payload"]["status"], "ok");
    }
    socket.close().await;
    until("the socket's end shows", async || hub.runtime(runtimes[0]).await.unwrap()["presence"] == "reconnecting")
        .await;
}

async fn a_beat_for_another_runtime_gets_no_ack(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["claude", "codex"]).await;
    let mut socket = hub.daemon(&runtimes[..1]).await;
    socket.send(beat(runtimes[1])).await;
    socket.send(beat(Uuid::new_v4())).await;
    socket.send(beat("nonsense")).await;
    socket.send(beat("")).await;
    socket.quiet_for(Duration::from_millis(300)).await;
    socket.send(beat(runtimes[0])).await;
    assert_eq!(socket.next().await["payload"]["runtime_id"], json!(runtimes[0]));
}

async fn a_removed_runtime_is_told_gone_at_once_and_at_every_beat(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut socket = hub.daemon(&[runtime]).await;
    hub.delete(&format!("/api/runtimes/{runtime}")).await.expect(200);
    let pushed = socket.next().await;
    socket.send(beat(runtime)).await;
    let answered = socket.next().await;
    assert_eq!(pushed, answered);
    assert_eq!(answered["type"], "daemon:heartbeat_ack");
    let payload = &answered["payload"];
    assert_eq!(payload["runtime_id"], json!(runtime));
    assert_eq!(payload["status"], "runtime_gone");
    assert_eq!(payload["runtime_gone"], true);
}

async fn the_upgrade_is_refused_for_what_is_absent_or_foreign(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let member = hub.member("m@example.com", "member").await;
    let refused = async |url: String, token: Option<&str>| match Socket::try_open(&url, token).await {
        Ok(_) => panic!("{url} was accepted"),
        Err((status, body)) => {
            let body: Value = serde_json::from_str(&body).unwrap();
            (status, body["error"].as_str().unwrap().to_owned())
        }
    };
    let token = Some(hub.token.as_str());
    let one = str::to_owned;
    assert_eq!(refused(hub.ws("/api/daemon/ws"), token).await, (400, one("runtime_ids required")));
    assert_eq!(refused(hub.ws("/api/daemon/ws?runtime_ids=x"), token).await, (400, one("invalid runtime_id")));
    assert_eq!(refused(hub.daemon_url(&[runtime, Uuid::new_v4()]), token).await, (404, one("runtime not found")));
    assert_eq!(refused(hub.daemon_url(&[runtime]), Some(&member)).await, (404, one("not found")));
    assert_eq!(refused(hub.daemon_url(&[runtime]), None).await, (401, one("missing authorization header")));
    assert_eq!(refused(hub.daemon_url(&[runtime]), Some("mul_x")).await, (401, one("invalid token")));
    // Repeated parameters and duplicates are one list.
    let url = hub.ws(&format!("/api/daemon/ws?runtime_id={runtime}&runtime_ids={runtime},{runtime}"));
    Socket::open(&url, token).await.close().await;
    // Without an upgrade it is no WebSocket.
    let answer = hub.get(&format!("/api/daemon/ws?runtime_ids={runtime}")).await;
    answer.refused(426, "this address is a WebSocket");
}

async fn beats_bring_an_offline_runtime_back_with_an_event(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    hub.sql("UPDATE agent_runtime SET status = 'offline', offline_cause = 'stale', offline_at = 1").await;
    let mut socket = hub.daemon(&[runtime]).await;
    let (mut browser, _) = hub.browser().await;
    socket.send(beat(runtime)).await;
    assert_eq!(socket.next().await["payload"]["status"], "ok");
    let event = browser.next_of("daemon:register").await;
    assert_eq!(event["payload"], json!({ "action": "online", "runtime_ids": [runtime] }));
    assert_eq!((&event["actor_type"], &event["actor_id"]), (&json!("system"), &json!("")));
    // A revoked one stays away until it is registered again.
    hub.sql("UPDATE agent_runtime SET status = 'offline', offline_cause = 'revoked', offline_at = 1").await;
    socket.send(beat(runtime)).await;
    socket.quiet_for(Duration::from_millis(300)).await;
    assert_eq!(hub.runtime(runtime).await.unwrap()["status"], "offline");
    assert_eq!(hub.register("d", &["claude"]).await, [runtime]);
    assert_eq!(hub.runtime(runtime).await.unwrap()["status"], "online");
}

async fn frames_that_are_no_beats_disturb_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut socket = hub.daemon(&[runtime]).await;
    for text in [
        "",
        "{",
        "[]",
        "null",
        "7",
        r#"{"type":"daemon:rpc_request","payload":[1]}"#,
        r#"{"type":"daemon:heartbeat"}"#,
        r#"{"type":"daemon:heartbeat","payload":null}"#,
        r#"{"type":null}"#,
    ] {
        socket.send_text(text).await;
    }
    socket.send(beat(runtime)).await;
    assert_eq!(socket.next().await["payload"]["status"], "ok", "the first answer is the beat's");
    socket.send_message(Message::binary(vec![1, 2, 3])).await;
    assert_eq!(socket.closed().await.0, 4504);
    let mut socket = hub.daemon(&[runtime]).await;
    socket.send_text(&"x".repeat(65 << 10)).await;
    assert_eq!(socket.closed().await.0, 1009);
}

async fn hundreds_of_beats_on_one_socket_are_all_acked(backend: Backend) {
    let hub = Hub::start(backend).await;
    let providers: Vec<String> = (0..50).map(|n| format!("p{n}")).collect();
    let runtimes = hub.register("d", &providers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut socket = hub.daemon(&runtimes).await;
    for _ in 0..6 {
        for runtime in &runtimes {
            socket.send(beat(runtime)).await;
        }
    }
    let mut acks = std::collections::HashMap::<String, u32>::new();
    for _ in 0..300 {
        let ack = socket.next().await;
        *acks.entry(ack["payload"]["runtime_id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(runtimes.iter().all(|runtime| acks[&runtime.to_string()] == 6), "{acks:?}");
}

async fn a_silent_daemon_is_disconnected_and_a_ponging_one_is_not(backend: Backend) {
    let settings = [("HEARTWIRE_DAEMON_PING", "100ms"), ("HEARTWIRE_DAEMON_SILENCE", "600ms")];
    let hub = Hub::start_with(backend, &settings).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut ponging = hub.daemon(&[runtime]).await;
    ponging.quiet_for(Duration::from_millis(1200)).await;
    ponging.send(beat(runtime)).await;
    assert_eq!(ponging.next().await["payload"]["status"], "ok");
    // A client that is not polled does not answer pings.
    let mut silent = hub.daemon(&[runtime]).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(silent.closed().await.0, 4003);
}
