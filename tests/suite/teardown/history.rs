//! What was done stays, whatever becomes of where and by whom it was done.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::scene::{Scene, cascade};
use crate::{
    support::{Backend, Hub, hub::id},
    tasks::desk,
};

on_both_stores!(
    finished_work_stays_readable_on_no_runtime,
    late_calls_of_a_daemon_whose_runtime_is_gone_are_understood,
    the_removal_after_a_week_keeps_what_was_done,
    usage_stays_whatever_becomes_of_its_runtime,
);

async fn runs(hub: &Hub, issue: &str) -> Value {
    hub.cli("GET", &format!("/api/issues/{issue}/task-runs"), Value::Null).await.expect(200)
}

async fn finished_work_stays_readable_on_no_runtime(backend: Backend) {
    let hub = Hub::start(backend).await;
    let scene = Scene::set(&hub).await;
    let issue_of = async |task: Uuid| {
        let tasks = hub.cli("GET", &format!("/api/agents/{}/tasks", scene.ann), Value::Null).await.expect(200);
        let task = tasks.as_array().unwrap().iter().find(|found| id(found) == task).cloned();
        task.expect("the task")["issue_id"].as_str().unwrap().to_owned()
    };
    let (finished, running) = (issue_of(scene.finished).await, issue_of(scene.running[0]).await);
    let before = runs(&hub, &finished).await;
    assert_eq!(before[0]["runtime_id"], json!(scene.here));
    scene.cascade(&hub).await.expect(200);
    let mut after = runs(&hub, &finished).await;
    assert_eq!(after[0]["runtime_id"], "");
    after[0]["runtime_id"] = json!(scene.here);
    assert_eq!(after, before, "nothing else of it changed");
    let ended = runs(&hub, &running).await;
    assert_eq!((&ended[0]["status"], &ended[0]["runtime_id"]), (&json!("cancelled"), &json!("")));
    assert!(ended[0]["completed_at"].is_string());
    // Nothing points to what is gone.
    assert_eq!(
        hub.rows(
            "SELECT 'x' FROM task t WHERE t.runtime_id IS NOT NULL AND NOT EXISTS
        (SELECT 1 FROM agent_runtime r WHERE r.id = t.runtime_id)"
        )
        .await,
        [""; 0]
    );
    assert_eq!(hub.rows("SELECT 'x' FROM agent_runtime r JOIN task t ON t.runtime_id = r.id").await, [""; 0]);
    // The work of a private agent is still its owner's: the tasks remember whose.
    let private = hub.rows("SELECT status FROM task WHERE private_to IS NOT NULL ORDER BY created_at, id").await;
    assert_eq!(private, ["completed", "cancelled"], "the two that were bob's");
    assert_eq!(desk::status(&hub, scene.secret).await, "completed");
    let plain = hub.member("p@example.com", "member").await;
    let read = async |task: Uuid| hub.cli_as(&plain, "GET", &format!("/api/tasks/{task}/messages"), Value::Null).await;
    read(scene.finished).await.expect(200);
    read(scene.secret).await.refused(403, "you do not have access to this agent");
    let mut theirs = desk::browser(&hub, &plain).await;
    for (task, answer) in [(scene.finished, "subscribe_ack"), (scene.secret, "subscribe_error")] {
        theirs.send(json!({ "type": "subscribe", "payload": { "scope": "task", "id": task } })).await;
        assert_eq!(theirs.next().await["type"], answer);
    }
}

async fn late_calls_of_a_daemon_whose_runtime_is_gone_are_understood(backend: Backend) {
    let hub = Hub::start(backend).await;
    let scene = Scene::set(&hub).await;
    let task = scene.running[0];
    scene.cascade(&hub).await.expect(200);
    assert_eq!(desk::status(&hub, task).await, "cancelled");
    let completed = hub.post(&format!("/api/daemon/tasks/{task}/complete"), json!({ "output": "late" })).await;
    assert_eq!(completed.expect(200)["status"], "cancelled", "too late, and no trouble");
    let failed = hub.post(&format!("/api/daemon/tasks/{task}/fail"), json!({ "error": "late" })).await;
    assert_eq!(failed.expect(200)["status"], "cancelled");
    let plain = hub.member("m@example.com", "member").await;
    let path = format!("/api/daemon/tasks/{task}/status");
    hub.call("GET", &path, Some(&plain), Value::Null).await.refused(404, "not found");
    // Somebody who cancels what is over is told so, or that there is nobody left to do it.
    let answer = hub.cli("POST", &format!("/api/tasks/{task}/cancel"), Value::Null).await;
    assert!([200, 404].contains(&answer.status), "{}", answer.text);
}

async fn the_removal_after_a_week_keeps_what_was_done(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["claude", "codex"]).await;
    let agent = desk::agent(&hub, runtimes[0], "a", "workspace").await;
    desk::wish(&hub, &hub.token, agent).await;
    let done = desk::work(&hub, runtimes[0]).await;
    let left = desk::wish(&hub, &hub.token, agent).await;
    hub.cli("PUT", &format!("/api/agents/{agent}"), json!({ "runtime_id": runtimes[1] })).await.expect(200);
    hub.post("/api/daemon/deregister", json!({ "runtime_ids": runtimes })).await.expect(200);
    hub.app.advance_clock(Duration::from_secs(8 * 24 * 3600));
    let (mut browser, _) = hub.browser().await;
    assert_eq!(hub.app.sweep().await.1, 1, "the one that an agent is bound to stays");
    assert_eq!(desk::events(&mut browser, 1).await, [desk::told(left, agent, "cancelled", None)]);
    let told = browser.next().await;
    assert_eq!(told["payload"], json!({ "action": "runtime_gc", "runtime_ids": [runtimes[0]] }));
    let tasks = hub.cli("GET", &format!("/api/agents/{agent}/tasks"), Value::Null).await.expect(200);
    let mut found: Vec<(Uuid, &str, &str)> = tasks
        .as_array()
        .unwrap()
        .iter()
        .map(|task| (id(task), task["status"].as_str().unwrap(), task["runtime_id"].as_str().unwrap()))
        .collect();
    found.sort_by_key(|task| task.1);
    assert_eq!(found, [(left, "cancelled", ""), (done, "completed", "")]);
}

async fn usage_stays_whatever_becomes_of_its_runtime(backend: Backend) {
    const GONE: &str = "SELECT u.model || ' ' || u.input_tokens FROM task_usage u
        WHERE NOT EXISTS (SELECT 1 FROM agent_runtime r WHERE r.id = u.runtime_id) ORDER BY u.input_tokens";
    let hub = Hub::start(backend).await;
    let profiles = format!("/api/workspaces/{}/runtime-profiles", hub.workspace);
    let wish = json!({ "display_name": "p", "protocol_family": "claude", "command_name": "c" });
    let profile = id(&hub.cli("POST", &profiles, wish).await.expect(201));
    let runtimes = json!([
        { "type": "claude" }, { "type": "codex" }, { "profile_id": profile }, { "type": "gemini" }, { "type": "hermes" }
    ]);
    let body = json!({ "workspace_id": hub.workspace, "daemon_id": "d", "runtimes": runtimes });
    let registered = hub.post("/api/daemon/register", body).await.expect(200)["runtimes"].take();
    let runtimes: Vec<Uuid> = registered.as_array().unwrap().iter().map(id).collect();
    let (mut agents, mut tasks) = (Vec::new(), Vec::new());
    let report = async |task: Uuid, model: &str, tokens: usize| {
        let usage = json!([{ "model": model, "input_tokens": tokens }]);
        desk::report(&hub, task, "usage", json!({ "usage": usage })).await;
    };
    for (place, runtime) in runtimes[..4].iter().enumerate() {
        agents.push(desk::agent(&hub, *runtime, &format!("a{place}"), "workspace").await);
        desk::wish(&hub, &hub.token, agents[place]).await;
        tasks.push(desk::work(&hub, *runtime).await);
        report(tasks[place], "early", 1 + place).await;
        if place != 1 {
            let change = json!({ "runtime_id": runtimes[4] });
            hub.cli("PUT", &format!("/api/agents/{}", agents[place]), change).await.expect(200);
        }
    }
    assert_eq!(hub.rows(GONE).await, [""; 0]);
    hub.delete(&format!("/api/runtimes/{}", runtimes[0])).await.expect(200);
    cascade(&hub, runtimes[1], &[agents[1]]).await.expect(200);
    hub.delete(&format!("{profiles}/{profile}")).await.expect(204);
    hub.post("/api/daemon/deregister", json!({ "runtime_ids": [runtimes[3]] })).await.expect(200);
    hub.app.advance_clock(Duration::from_secs(8 * 24 * 3600));
    assert_eq!(hub.app.sweep().await.1, 1);
    assert_eq!(hub.rows(GONE).await, ["early 1", "early 2", "early 3", "early 4"]);
    // What is said later counts as well.
    for (place, task) in tasks.iter().enumerate() {
        report(*task, "late", 10 + place).await;
    }
    assert_eq!(hub.rows(GONE).await[4..], ["late 10", "late 11", "late 12", "late 13"]);
}
