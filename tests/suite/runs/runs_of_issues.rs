//! A run of an autopilot that made an issue is as good as that issue's end. And whose wish an issue is.

use serde_json::{Value, json};
use uuid::Uuid;

use super::ground::{World, kinds, told, world};
use crate::{
    support::{Backend, hub::id},
    tasks::desk,
};

on_both_stores!(
    a_run_ends_with_its_issue,
    a_run_that_is_over_stays_so,
    a_run_fails_when_the_last_task_for_its_issue_does,
    an_agent_ends_its_run_by_what_it_says_of_the_issue,
    an_issue_is_a_wish_s_only_if_it_was_made_for_it,
);

/// Sets an autopilot off; its path, its run's path, and the issue.
async fn set_off(world: &World) -> (String, Value, Uuid) {
    let wish = json!({ "title": "Nightly", "assignee_id": world.agent, "execution_mode": "create_issue" });
    let autopilot = id(&world.hub.cli("POST", "/api/autopilots", wish).await.expect(201));
    let path = format!("/api/autopilots/{autopilot}");
    let run = world.hub.cli("POST", &format!("{path}/trigger"), Value::Null).await.expect(200);
    let issue = desk::uuid(&run["issue_id"]);
    (format!("{path}/runs/{}", id(&run)), run, issue)
}

async fn read(world: &World, path: &str) -> Value {
    world.hub.cli("GET", path, Value::Null).await.expect(200)
}

async fn a_run_ends_with_its_issue(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let mut browser = world.browser().await;
    for (status, end, reason, events) in [
        ("backlog", "issue_created", None, &["issue:updated"][..]),
        ("in_progress", "issue_created", None, &["issue:updated"]),
        ("done", "completed", None, &["issue:updated", "autopilot:run_done"]),
        ("in_review", "completed", None, &["issue:updated", "autopilot:run_done"]),
        ("blocked", "failed", Some("issue is blocked"), &["issue:updated", "autopilot:run_done"]),
        (
            "cancelled",
            "failed",
            Some("issue was cancelled"),
            &["issue:updated", "task:cancelled", "autopilot:run_done"],
        ),
        ("deleted", "failed", Some("issue was deleted"), &["task:cancelled", "autopilot:run_done", "issue:deleted"]),
    ] {
        let (path, run, issue) = set_off(&world).await;
        told(hub, &mut browser).await;
        let issue_path = format!("/api/issues/{issue}");
        match status {
            "deleted" => drop(hub.cli("DELETE", &issue_path, Value::Null).await.expect(204)),
            _ => drop(hub.cli("PUT", &issue_path, json!({ "status": status })).await.expect(200)),
        }
        let events_now = told(hub, &mut browser).await;
        assert_eq!(kinds(&events_now), events, "{status}");
        let ended = read(&world, &path).await;
        assert_eq!((&ended["status"], &ended["failure_reason"]), (&json!(end), &json!(reason)), "{status}");
        assert_eq!(ended["completed_at"].is_string(), end != "issue_created", "{status}");
        if let Some(done) = events_now.iter().find(|event| event["type"] == "autopilot:run_done") {
            let payload = json!({ "run_id": run["id"], "autopilot_id": run["autopilot_id"], "status": end });
            assert_eq!((&done["payload"], &done["actor_type"]), (&payload, &json!("system")), "{status}");
        }
        if status != "deleted" {
            hub.cli("DELETE", &issue_path, Value::Null).await.expect(204);
        }
    }
}

async fn a_run_that_is_over_stays_so(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let (path, _, issue) = set_off(&world).await;
    let (other, ..) = set_off(&world).await;
    let issue = format!("/api/issues/{issue}");
    hub.cli("PUT", &issue, json!({ "status": "in_review" })).await.expect(200);
    let ended = read(&world, &path).await;
    let mut browser = world.browser().await;
    for status in ["todo", "blocked", "cancelled", "done"] {
        hub.cli("PUT", &issue, json!({ "status": status })).await.expect(200);
    }
    hub.cli("DELETE", &issue, Value::Null).await.expect(204);
    let events = told(hub, &mut browser).await;
    assert!(!kinds(&events).contains(&"autopilot:run_done"), "{:?}", kinds(&events));
    let mut after = read(&world, &path).await;
    after["issue_id"] = ended["issue_id"].clone();
    assert_eq!(after, ended);
    assert_eq!(read(&world, &other).await["status"], "issue_created");
}

async fn a_run_fails_when_the_last_task_for_its_issue_does(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let bob = desk::agent(hub, world.runtime, "bob", "workspace").await;
    let mut browser = world.browser().await;
    let (path, _, issue) = set_off(&world).await;
    let late = json!({ "error": "too slow", "failure_reason": "timeout" });
    let first = world.begin().await;
    hub.cli("PUT", &format!("/api/issues/{issue}"), json!({ "status": "in_progress" })).await.expect(200);
    world.call(first.task, "fail", late.clone()).await;
    assert_eq!(read(&world, &path).await["status"], "issue_created", "it is tried again");
    let second = world.begin().await;
    let content = format!("[@bob](mention://agent/{bob}) as well");
    hub.cli("POST", &format!("/api/issues/{issue}/comments"), json!({ "content": content })).await.expect(201);
    world.call(second.task, "fail", late.clone()).await;
    assert_eq!(read(&world, &path).await["status"], "issue_created", "somebody still works on it");
    let third = world.begin().await;
    told(hub, &mut browser).await;
    world.call(third.task, "fail", json!({ "error": "I cannot" })).await;
    let events = told(hub, &mut browser).await;
    assert_eq!(kinds(&events), ["comment:created", "agent:status", "task:failed", "autopilot:run_done"]);
    let ended = read(&world, &path).await;
    assert_eq!((&ended["status"], &ended["failure_reason"]), (&json!("failed"), &json!("I cannot")));

    // The sweep's ends are no others: the issue goes back, and the run is over.
    let (path, _, issue) = set_off(&world).await;
    hub.cli("PUT", &format!("/api/issues/{issue}"), json!({ "status": "in_progress" })).await.expect(200);
    world.begin().await;
    hub.sql_unnoticed("UPDATE task SET attempt = 2, started_at = 1 WHERE status = 'running'").await;
    told(hub, &mut browser).await;
    hub.app.trust_silence();
    assert_eq!(hub.app.sweep_tasks().await.unwrap(), 1);
    let events = told(hub, &mut browser).await;
    let expected = ["comment:created", "agent:status", "issue:updated", "task:failed", "autopilot:run_done"];
    assert_eq!(kinds(&events), expected);
    assert_eq!(read(&world, &path).await["failure_reason"], "task timed out");
}

async fn an_agent_ends_its_run_by_what_it_says_of_the_issue(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let (path, _, issue) = set_off(&world).await;
    let job = world.begin().await;
    let wish = json!({ "status": "in_review" });
    hub.cli_as(&job.token, "PUT", &format!("/api/issues/{issue}"), wish).await.expect(200);
    let ended = read(&world, &path).await;
    assert_eq!(ended["status"], "completed");
    // Its task's end, whatever it is like, comes too late.
    world.call(job.task, "fail", json!({ "error": "oh" })).await;
    assert_eq!(read(&world, &path).await, ended);
}

async fn an_issue_is_a_wish_s_only_if_it_was_made_for_it(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let (requester, admin) = (hub.member("m@example.com", "member").await, hub.member("a@example.com", "admin").await);
    let wished = desk::wish(hub, &requester, world.agent).await;
    let job = world.begin().await;
    let another_wish = desk::wish(hub, &requester, world.agent).await;
    world.assigned("t").await;
    let of_issue = world.begin().await;
    let chat = desk::chat(hub, &requester, world.agent).await;
    let talk = desk::say(hub, &requester, chat).await;
    let elsewhere = hub.another_workspace("elsewhere").await;
    let made = |origin: &Value| json!({ "title": "made", "origin_type": "quick_create", "origin_id": origin });
    let before = hub.fingerprint().await;
    for (who, token, origin) in [
        ("an owner", &hub.token, json!(wished)),
        ("an admin", &admin, json!(wished)),
        ("another task's agent", &of_issue.token, json!(wished)),
        ("the wish's agent, of another wish", &job.token, json!(another_wish)),
        ("an agent, of a task that is no wish", &of_issue.token, json!(of_issue.task)),
        ("the requester, of a chat", &requester, json!(talk)),
        ("the requester, of nothing", &requester, json!(Uuid::new_v4())),
        ("the requester, of no id", &requester, json!("x")),
    ] {
        let answer = hub.cli_as(token, "POST", "/api/issues", made(&origin)).await;
        assert_eq!(answer.status, 400, "{who}: {}", answer.text);
        answer.refused(400, "invalid origin_id");
    }
    let path = format!("/api/issues?workspace_id={elsewhere}");
    hub.post(&path, made(&json!(wished))).await.refused(400, "invalid origin_id");
    assert_eq!(hub.fingerprint().await, before);

    let by_agent = hub.cli_as(&job.token, "POST", "/api/issues", made(&json!(wished))).await.expect(201);
    let mut more = made(&json!(wished));
    more["title"] = json!("made as well");
    hub.cli_as(&requester, "POST", "/api/issues", more).await.expect(201);
    // The first is the one.
    assert_eq!(world.call(job.task, "complete", json!({})).await["issue_id"], by_agent["id"]);
}
