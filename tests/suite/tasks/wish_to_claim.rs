//! From a person's wish to a daemon that has the task, as a browser sees it.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Backend, Hub, Socket, fleet::acked, hub::id};

on_both_stores!(a_wish_reaches_the_daemon_and_the_browser_in_order);

async fn a_wish_reaches_the_daemon_and_the_browser_in_order(backend: Backend) {
    let hub = Hub::start(backend).await;
    follow(&hub, &hub).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_is_woken_at_whichever_node_it_is() {
    let a = Hub::start_with(Backend::PostgresRedis, &[]).await;
    let b = a.another_node(&[]).await;
    follow(&a, &b).await;
}

/// The wish is made at one node, the daemon and the browser are at another.
async fn follow(here: &Hub, there: &Hub) {
    let runtime = there.register("d", &["claude"]).await[0];
    let mut daemon = Socket::open(&there.daemon_url(&[runtime]), Some(&there.token)).await;
    acked(&mut daemon, runtime).await;
    let wish = json!({ "name": "ann", "runtime_id": runtime });
    let agent = id(&here.cli("POST", "/api/agents", wish).await.expect(201));
    let (mut browser, _) = there.browser().await;

    let wish = json!({ "title": "work", "priority": "high", "assignee_type": "agent", "assignee_id": agent });
    let issue = id(&here.cli("POST", "/api/issues", wish).await.expect(201));
    let wake = daemon.next_of("daemon:task_available").await;
    assert_eq!(wake["payload"]["runtime_id"], json!(runtime));
    let task = there.post(&format!("/api/daemon/runtimes/{runtime}/tasks/claim"), json!({})).await.expect(200);
    let task = task["task"].clone();
    assert_eq!((&task["id"], &task["issue_id"]), (&wake["payload"]["task_id"], &json!(issue)));

    assert_eq!(browser.next().await["type"], "issue:created");
    let about = |status: &str| json!({ "task_id": task["id"], "agent_id": agent, "issue_id": issue, "status": status });
    expect(&mut browser, "task:queued", about("queued")).await;
    let status = browser.next().await;
    assert_eq!((&status["type"], &status["actor_type"]), (&json!("agent:status"), &json!("system")));
    assert_eq!(status["payload"]["agent"]["status"], "working");
    assert_eq!(status["payload"]["agent"]["instructions"], Value::Null, "what nobody needs for that is left out");
    let told = json!({ "task_id": task["id"], "runtime_id": runtime, "issue_id": issue, "agent_id": agent });
    expect(&mut browser, "task:dispatch", told).await;

    call(there, &task, "start", json!({})).await;
    expect(&mut browser, "task:running", about("running")).await;
    // A second wish for the same issue waits for the end of the first one.
    let wish = json!({ "content": format!("[@ann](mention://agent/{agent}) and this") });
    here.cli("POST", &format!("/api/issues/{issue}/comments"), wish).await.expect(201);
    assert_eq!(browser.next().await["type"], "comment:created");
    let second = browser.next_of("task:queued").await;
    assert_eq!(daemon.next_of("daemon:task_available").await["payload"]["task_id"], second["payload"]["task_id"]);
    let nothing = there.post(&format!("/api/daemon/runtimes/{runtime}/tasks/claim"), json!({})).await.expect(200);
    assert_eq!(nothing, json!({ "task": null }));
    call(there, &task, "complete", json!({ "output": "done" })).await;
    let woken = daemon.next_of("daemon:task_available").await;
    assert_eq!(woken["payload"]["task_id"], second["payload"]["task_id"], "its end makes room");
    let ended = browser.next_of("task:completed").await;
    assert_eq!(ended["payload"], about("completed"));
}

async fn call(hub: &Hub, task: &Value, what: &str, body: Value) {
    let task: Uuid = id(task);
    hub.post(&format!("/api/daemon/tasks/{task}/{what}"), body).await.expect(200);
}

async fn expect(browser: &mut Socket, kind: &str, payload: Value) {
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!(kind), &payload));
}
