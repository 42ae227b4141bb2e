//! A daemon of June that loses one of its runtimes says of all of them that nothing runs there any
//! more. What does run survives that.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::scene::{Scene, cascade};
use crate::{
    support::{Backend, Hub, hub::id},
    tasks::desk,
};

on_all_stores!(sibling_tasks_survive_the_removal_of_a_runtime, sibling_tasks_survive_a_cascade);

/// Whoever removes a runtime of a daemon whose sibling is at work, the work goes on.
async fn survive(hub: &Hub, daemon_s: &Hub, removed: Uuid, sibling: Uuid, removal: impl AsyncFn()) {
    let agent = desk::agent(hub, sibling, "at work", "workspace").await;
    let task = desk::wish(hub, &hub.token, agent).await;
    assert_eq!(id(&desk::claim(hub, sibling).await), task);
    desk::report(hub, task, "start", json!({})).await;
    let mut daemon = daemon_s.daemon(&[removed, sibling]).await;
    // Long enough to know who is heard of.
    for node in [hub, daemon_s] {
        node.app.advance_clock(Duration::from_secs(20));
    }
    desk::status(daemon_s, task).await;
    if hub.database_url.is_some() {
        // What was heard goes with the next tick.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    removal().await;
    let gone = daemon.next_of("daemon:heartbeat_ack").await;
    assert_eq!(gone["payload"]["runtime_id"], json!(removed));
    // At once, of what is left.
    let path = format!("/api/daemon/runtimes/{sibling}/recover-orphans");
    let recovered = daemon_s.post(&path, json!({})).await.expect(200);
    assert_eq!(recovered, json!({ "orphaned": 0, "retried": 0 }));
    assert_eq!(desk::status(daemon_s, task).await, "running");
}

async fn sibling_tasks_survive_the_removal_of_a_runtime(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["claude", "codex"]).await;
    let node = match backend {
        Backend::PostgresRedis => Some(hub.another_node(&[]).await),
        _ => None,
    };
    let removal = async || drop(hub.delete(&format!("/api/runtimes/{}", runtimes[0])).await.expect(200));
    survive(&hub, node.as_ref().unwrap_or(&hub), runtimes[0], runtimes[1], removal).await;
}

async fn sibling_tasks_survive_a_cascade(backend: Backend) {
    let hub = Hub::start(backend).await;
    let scene = Scene::set(&hub).await;
    hub.cli("POST", &format!("/api/agents/{}/archive", scene.max), Value::Null).await.expect(200);
    let node = match backend {
        Backend::PostgresRedis => Some(hub.another_node(&[]).await),
        _ => None,
    };
    let removal = async || drop(cascade(&hub, scene.here, &[scene.ann, scene.bob]).await.expect(200));
    survive(&hub, node.as_ref().unwrap_or(&hub), scene.here, scene.there, removal).await;
}
