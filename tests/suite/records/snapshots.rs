//! A list and the stream after its position fit together without a hole, whatever happens meanwhile.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{Backend, Hub, Socket, hub::id};

on_both_stores!(a_snapshot_and_what_follows_it_miss_nothing_while_twenty_write);

const WRITERS: usize = 20;
const READERS: usize = 6;

/// One writer's life: issues come, change and go.
async fn write(hub: &Hub, writer: usize, enough: &AtomicBool) {
    let mut round = 0;
    while !enough.load(Ordering::Relaxed) {
        let title = format!("w{writer} {round}");
        let made = hub.cli("POST", "/api/issues", json!({ "title": title })).await.expect(201);
        let path = format!("/api/issues/{}", id(&made));
        hub.cli("PUT", &path, json!({ "status": "in_progress" })).await.expect(200);
        hub.cli("PUT", &path, json!({ "priority": "high", "position": round })).await.expect(200);
        // Never more than one page of them: pages by offset shift when something before them goes.
        if round % 4 > 0 || round > 8 {
            hub.cli("DELETE", &path, Value::Null).await.expect(204);
        }
        round += 1;
    }
}

/// The list as it is, and its position.
async fn list(hub: &Hub) -> (BTreeMap<String, Value>, Value) {
    let answer = hub.cli("GET", "/api/issues?sort=created_at", Value::Null).await;
    let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
    let since: u64 = header("x-event-seq").parse().unwrap();
    let position = json!({ "since": since, "epoch": header("x-event-epoch") });
    let list = answer.expect(200);
    let issues = list["issues"].as_array().unwrap();
    assert!(issues.len() < 100, "one page");
    let plain = issues.iter().cloned().map(|mut issue| {
        issue.as_object_mut().unwrap().remove("labels");
        (issue["id"].as_str().unwrap().to_owned(), issue)
    });
    (plain.collect(), position)
}

/// Follows from a snapshot taken in the middle, up to an event that all see.
async fn follow(hub: &Hub, after: Duration) -> BTreeMap<String, Value> {
    tokio::time::sleep(after).await;
    let (mut issues, position) = list(hub).await;
    let mut socket = Socket::open(&hub.ws(&format!("/ws?workspace_id={}", hub.workspace)), None).await;
    let mut payload = position.clone();
    payload["token"] = json!(hub.token);
    socket.send(json!({ "type": "auth", "payload": payload })).await;
    let ack = socket.next().await;
    assert_eq!(ack["payload"]["recovered"], true, "{ack}");
    let mut last = position["since"].as_u64().unwrap();
    loop {
        let event = socket.next().await;
        assert_eq!(event["seq"], last + 1, "a hole, or one twice");
        last += 1;
        let payload = &event["payload"];
        match event["type"].as_str().unwrap() {
            "issue:created" | "issue:updated" => {
                let issue = payload["issue"].clone();
                issues.insert(issue["id"].as_str().unwrap().to_owned(), issue);
            }
            "issue:deleted" => drop(issues.remove(payload["issue_id"].as_str().unwrap())),
            "test:event" => return issues,
            other => panic!("unexpected {other}"),
        }
    }
}

async fn a_snapshot_and_what_follows_it_miss_nothing_while_twenty_write(backend: Backend) {
    let hub = Hub::start(backend).await;
    let enough = AtomicBool::new(false);
    let writers = async {
        futures_util::future::join_all((0..WRITERS).map(|writer| write(&hub, writer, &enough))).await;
        hub.app.emit(&[(hub.workspace, 1)], "end", 0).await.unwrap();
    };
    let readers = (1..=READERS).map(|reader| follow(&hub, Duration::from_millis(100 * reader as u64)));
    let timer = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        enough.store(true, Ordering::Relaxed);
    };
    let ((), seen, ()) = tokio::join!(writers, futures_util::future::join_all(readers), timer);
    let (now, _) = list(&hub).await;
    assert!(now.len() > 10, "the writers wrote");
    for issues in seen {
        assert_eq!(issues, now);
    }
}
