//! Tasks that a restarted daemon left behind, and those that only look so.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Backend, Hub, Socket, fleet::beat_status, hub::id};

on_both_stores!(what_a_restarted_daemon_left_behind_fails_and_is_tried_again, owners_and_admins_recover_orphans_too,);
on_all_stores!(after_a_runtime_was_gone_tasks_that_are_heard_of_are_spared);

/// An agent of the first owner on a runtime, and an issue for it that was begun.
async fn begun(hub: &Hub, runtime: Uuid, name: &str) -> (Uuid, Value) {
    let agent = id(&hub.cli("POST", "/api/agents", json!({ "name": name, "runtime_id": runtime })).await.expect(201));
    let wish = json!({ "title": name, "assignee_type": "agent", "assignee_id": agent });
    hub.cli("POST", "/api/issues", wish).await.expect(201);
    let task =
        hub.post(&format!("/api/daemon/runtimes/{runtime}/tasks/claim"), json!({})).await.expect(200)["task"].clone();
    call(hub, &task, "start").await;
    (agent, task)
}

async fn call(hub: &Hub, task: &Value, what: &str) -> Value {
    hub.post(&format!("/api/daemon/tasks/{}/{what}", id(task)), json!({})).await.expect(200)
}

async fn status(hub: &Hub, task: &Value) -> String {
    let path = format!("/api/daemon/tasks/{}/status", id(task));
    hub.get(&path).await.expect(200)["status"].as_str().unwrap().to_owned()
}

async fn recover(hub: &Hub, runtime: Uuid) -> Value {
    hub.post(&format!("/api/daemon/runtimes/{runtime}/recover-orphans"), json!({})).await.expect(200)
}

async fn what_a_restarted_daemon_left_behind_fails_and_is_tried_again(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let (agent, task) = begun(&hub, runtime, "ann").await;
    let token = task["auth_token"].as_str().unwrap().to_owned();
    assert_eq!(hub.call("GET", "/api/me", Some(&token), Value::Null).await.status, 200);
    let (mut browser, _) = hub.browser().await;
    let mut daemon = Socket::open(&hub.daemon_url(&[runtime]), Some(&hub.token)).await;

    assert_eq!(recover(&hub, runtime).await, json!({ "orphaned": 1, "retried": 1 }));
    let again = browser.next_of("task:queued").await;
    assert_ne!(again["payload"]["task_id"], task["id"]);
    assert_eq!(again["payload"]["issue_id"], task["issue_id"]);
    let idle = browser.next_of("agent:status").await;
    assert_eq!((&idle["payload"]["agent"]["id"], &idle["payload"]["agent"]["status"]), (&json!(agent), &json!("idle")));
    let failed = browser.next_of("task:failed").await;
    let payload = json!({
        "task_id": task["id"], "agent_id": agent, "issue_id": task["issue_id"], "status": "failed",
        "failure_reason": "runtime_recovery",
    });
    assert_eq!((&failed["payload"], &failed["actor_type"]), (&payload, &json!("system")));
    assert_eq!(hub.call("GET", "/api/me", Some(&token), Value::Null).await.status, 401, "its token ended with it");
    let wake = daemon.next_of("daemon:task_available").await;
    assert_eq!(wake["payload"]["runtime_id"], json!(runtime));

    // The second attempt takes the first one's place; there is no third.
    let second = hub.post(&format!("/api/daemon/runtimes/{runtime}/tasks/claim"), json!({})).await.expect(200);
    let second = second["task"].clone();
    assert_eq!((&second["id"], &second["attempt"]), (&again["payload"]["task_id"], &json!(2)));
    assert_eq!(second["parent_task_id"], task["id"]);
    assert_eq!(recover(&hub, runtime).await, json!({ "orphaned": 1, "retried": 0 }));
    assert_eq!(recover(&hub, runtime).await, json!({ "orphaned": 0, "retried": 0 }), "nothing is left");
    assert_eq!((status(&hub, &task).await, status(&hub, &second).await), ("failed".into(), "failed".into()));
}

async fn owners_and_admins_recover_orphans_too(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (admin, plain) = (hub.member("a@example.com", "admin").await, hub.member("m@example.com", "member").await);
    let runtime = hub.register("d", &["claude"]).await[0];
    let (_, task) = begun(&hub, runtime, "ann").await;
    let path = format!("/api/daemon/runtimes/{runtime}/recover-orphans");
    let stranger = hub.stranger("s@example.com").await;
    for token in [&plain, &stranger] {
        hub.call("POST", &path, Some(token), json!({})).await.refused(404, "not found");
    }
    assert_eq!(status(&hub, &task).await, "running");
    let recovered = hub.call("POST", &path, Some(&admin), json!({})).await.expect(200);
    assert_eq!(recovered, json!({ "orphaned": 1, "retried": 1 }));
    // Neither of them may claim what is tried again.
    let claim = format!("/api/daemon/runtimes/{runtime}/tasks/claim");
    hub.call("POST", &claim, Some(&admin), json!({})).await.refused(404, "not found");
    let gone = format!("/api/daemon/runtimes/{}/recover-orphans", Uuid::new_v4());
    hub.post(&gone, json!({})).await.refused(404, "runtime not found");
}

async fn after_a_runtime_was_gone_tasks_that_are_heard_of_are_spared(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["claude", "codex"]).await;
    let (_, heard) = begun(&hub, runtimes[0], "heard of").await;
    let (_, silent) = begun(&hub, runtimes[0], "silent").await;
    // Long enough to know who is heard of. In Redis a mark is over when Redis says so.
    hub.app.advance_clock(Duration::from_secs(20));
    if backend != Backend::Sqlite {
        tokio::time::sleep(Duration::from_millis(300)).await;
        hub.app.forget_task_mark(id(&silent)).await;
    }
    assert_eq!(status(&hub, &heard).await, "running");
    hub.delete(&format!("/api/runtimes/{}", runtimes[1])).await.expect(200);
    assert_eq!(beat_status(&hub, runtimes[1]).await, 404);
    tokio::time::sleep(Duration::from_millis(300)).await;

    // A June daemon that lost one runtime does so for all the others.
    assert_eq!(recover(&hub, runtimes[0]).await, json!({ "orphaned": 1, "retried": 1 }));
    assert_eq!((status(&hub, &heard).await.as_str(), status(&hub, &silent).await.as_str()), ("running", "failed"));
    assert_eq!(hub.app.sweep_tasks().await.unwrap(), 0, "it is too early to say");
    if backend != Backend::Sqlite {
        return;
    }
    hub.app.advance_clock(Duration::from_secs(20));
    assert_eq!(status(&hub, &heard).await, "running");
    assert_eq!(hub.app.sweep_tasks().await.unwrap(), 0, "it was heard of again");
    hub.app.advance_clock(Duration::from_secs(60));
    assert_eq!(hub.app.sweep_tasks().await.unwrap(), 0, "and is under no suspicion any more");

    assert_eq!(status(&hub, &heard).await, "running");
    assert_eq!(recover(&hub, runtimes[0]).await, json!({ "orphaned": 0, "retried": 0 }));
    hub.app.advance_clock(Duration::from_secs(20));
    assert_eq!(hub.app.sweep_tasks().await.unwrap(), 1, "it fell silent");
}
