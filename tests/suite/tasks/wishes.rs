//! Wishes wait for each other and for nothing else.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    desk,
    support::{agent, issue},
};
use crate::support::{Backend, Hub, hub::id};

on_both_stores!(wishes_are_done_one_by_one_and_stop_nothing_else);

async fn wish(hub: &Hub, agent: Uuid) -> Uuid {
    desk::wish(hub, &hub.token, agent).await
}

async fn assign(hub: &Hub, issue: Uuid, agent: Uuid, priority: &str) {
    let change = json!({ "assignee_type": "agent", "assignee_id": agent, "priority": priority });
    hub.cli("PUT", &format!("/api/issues/{issue}"), change).await.expect(200);
}

async fn wishes_are_done_one_by_one_and_stop_nothing_else(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let (ann, bob) = (agent(&hub, "ann", runtime).await, agent(&hub, "bob", runtime).await);
    let (low, urgent) = (issue(&hub, "low").await, issue(&hub, "urgent").await);
    let first = wish(&hub, ann).await;
    let second = wish(&hub, ann).await;
    let bobs = wish(&hub, bob).await;
    assign(&hub, low, ann, "low").await;
    assign(&hub, urgent, ann, "urgent").await;
    let mut given = Vec::new();
    for _ in 0..4 {
        given.push(desk::claim(&hub, runtime).await);
    }
    let issues: Vec<&Value> = given.iter().map(|task| &task["issue_id"]).filter(|id| **id != json!("")).collect();
    assert_eq!(issues, [&json!(urgent), &json!(low)]);
    let mut wishes: Vec<Uuid> = given.iter().filter(|task| task["kind"] == "quick_create").map(id).collect();
    wishes.sort();
    assert_eq!(wishes, [first, bobs]);
    assert_eq!(desk::claim(&hub, runtime).await, Value::Null, "one wish of an agent at a time");
    let mut daemon = hub.daemon(&[runtime]).await;
    desk::report(&hub, first, "fail", json!({ "error": "x" })).await;
    assert_eq!(desk::woken(&mut daemon).await, (runtime, second));
    assert_eq!(id(&desk::claim(&hub, runtime).await), second);
}
