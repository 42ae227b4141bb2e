//! A task that somebody called off: what is left of it, and how its daemon hears of it.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::ground::{World, kinds, told, world};
use crate::{
    records::attachments::upload_as,
    support::{Backend, Hub, Socket, fleet::acked, hub::id},
    tasks::{
        desk,
        support::{Given, give},
    },
};

on_both_stores!(
    a_question_that_nobody_began_to_answer_is_taken_back,
    an_answer_that_is_broken_off_says_so,
    files_of_a_question_that_was_taken_back_stay_in_the_chat,
    a_question_asked_meanwhile_is_nobody_s_to_take_back,
    whoever_may_see_it_ends_any_kind_of_task,
    what_is_another_s_or_elsewhere_stays_as_it_is,
    a_daemon_that_asks_is_told_how_its_task_is,
);
on_all_stores!(a_daemon_is_told_at_once_wherever_it_is, a_daemon_that_is_back_hears_what_of_its_work_is_over);

fn cancel(task: Uuid) -> String {
    format!("/api/tasks/{task}/cancel")
}

async fn say(hub: &Hub, token: &str, chat: Uuid, body: Value) -> Value {
    hub.cli_as(token, "POST", &format!("/api/chat/sessions/{chat}/messages"), body).await.expect(201)
}

async fn a_question_that_nobody_began_to_answer_is_taken_back(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let creator = hub.member("m@example.com", "member").await;
    let chat = desk::chat(hub, &creator, world.agent).await;
    let mut browser = desk::browser(hub, &creator).await;
    // In the queue, with its daemon, and at work without a word.
    for status in ["queued", "dispatched", "running"] {
        let sent = say(hub, &creator, chat, json!({ "content": "what?" })).await;
        let task = desk::uuid(&sent["task_id"]);
        if status != "queued" {
            world.claim().await;
        }
        if status == "running" {
            world.call(task, "start", json!({})).await;
        }
        told(hub, &mut browser).await;
        let ended = hub.cli_as(&creator, "POST", &cancel(task), Value::Null).await.expect(200);
        assert_eq!((id(&ended), &ended["status"]), (task, &json!("cancelled")), "{status}");
        assert_eq!(
            ended["cancelled_chat_message"],
            json!({
                "chat_session_id": chat, "message_id": sent["message_id"], "content": "what?", "restore_to_input": true,
            }),
            "{status}"
        );
        assert!(world.talk(&creator, chat).await.is_empty(), "{status}");
        let events = told(hub, &mut browser).await;
        let expected: &[&str] =
            if status == "queued" { &["task:cancelled"] } else { &["agent:status", "task:cancelled"] };
        assert_eq!(kinds(&events), expected, "{status}");
        assert_eq!(events.last().unwrap()["payload"], desk::told(task, world.agent, "cancelled", Some(chat)).1);
        // Once more gives nothing back.
        let again = hub.cli_as(&creator, "POST", &cancel(task), Value::Null).await.expect(200);
        assert_eq!(again.get("cancelled_chat_message"), None);
        assert!(told(hub, &mut browser).await.is_empty());
    }
}

async fn an_answer_that_is_broken_off_says_so(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let chat = desk::chat(hub, &hub.token, world.agent).await;
    let task = desk::say(hub, &hub.token, chat).await;
    world.begin().await;
    world.call(task, "messages", json!({ "messages": [{ "seq": 1, "type": "text", "content": "well" }] })).await;
    let ended = hub.cli("POST", &cancel(task), Value::Null).await.expect(200);
    assert_eq!(ended["status"], "cancelled");
    assert_eq!(ended.get("cancelled_chat_message"), None);
    let said = world.talk(&hub.token, chat).await;
    assert_eq!(said.len(), 2);
    let expected = [
        ("role", json!("assistant")),
        ("content", json!("Stopped.")),
        ("task_id", json!(task)),
        ("failure_reason", Value::Null),
    ];
    for (name, value) in expected {
        assert_eq!(said[1][name], value, "{name}");
    }
    assert!(said[1]["elapsed_ms"].is_u64());
    // The next question is the next one only.
    desk::say(hub, &hub.token, chat).await;
    assert_eq!(world.claim().await.claimed["chat_message"], "secret");
}

async fn files_of_a_question_that_was_taken_back_stay_in_the_chat(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let chat = desk::chat(hub, &hub.token, world.agent).await;
    let file = upload_as(hub, &hub.token, &[("file", Some(("f.txt", "text/plain")), b"x")]).await.expect(200);
    let with = json!({ "content": "look", "attachment_ids": [file["id"]] });
    let sent = say(hub, &hub.token, chat, with.clone()).await;
    let ended = hub.cli("POST", &cancel(desk::uuid(&sent["task_id"])), Value::Null).await.expect(200);
    let back = &ended["cancelled_chat_message"];
    assert_eq!((&back["content"], &back["restore_to_input"]), (&json!("look"), &json!(true)));
    assert_eq!(back["attachments"].as_array().unwrap().len(), 1);
    let path = format!("/api/attachments/{}", id(&file));
    let kept = hub.cli("GET", &path, Value::Null).await.expect(200);
    assert_eq!((&kept["chat_session_id"], &kept["chat_message_id"]), (&json!(chat), &Value::Null));
    assert_eq!(back["attachments"][0]["id"], kept["id"]);

    let sent = say(hub, &hub.token, chat, with).await;
    assert_eq!(sent["attachment_ids"], json!([file["id"]]));
    let kept = hub.cli("GET", &path, Value::Null).await.expect(200);
    assert_eq!(kept["chat_message_id"], sent["message_id"]);
    let claimed = world.claim().await.claimed;
    assert_eq!(claimed["chat_message_attachments"][0]["id"], file["id"]);
}

async fn a_question_asked_meanwhile_is_nobody_s_to_take_back(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let chat = desk::chat(hub, &hub.token, world.agent).await;
    let first = desk::uuid(&say(hub, &hub.token, chat, json!({ "content": "one" })).await["task_id"]);
    world.begin().await;
    let second = desk::uuid(&say(hub, &hub.token, chat, json!({ "content": "two" })).await["task_id"]);
    let ended = hub.cli("POST", &cancel(first), Value::Null).await.expect(200);
    assert_eq!(ended.get("cancelled_chat_message"), None, "there is more below it by now");
    let said: Vec<Value> =
        world.talk(&hub.token, chat).await.iter().map(|message| message["content"].clone()).collect();
    assert_eq!(said, ["one", "two", "Stopped."]);
    let job = world.claim().await;
    assert_eq!((job.task, &job.claimed["chat_message"]), (second, &json!("two")));
}

/// A task of any kind that runs.
fn running(world: &World) -> Given {
    Given {
        agent: world.agent,
        runtime: world.runtime,
        status: "running",
        dispatched: Some(2),
        started: Some(1),
        ..Given::default()
    }
}

async fn whoever_may_see_it_ends_any_kind_of_task(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let member = hub.member("m@example.com", "member").await;
    let wish = json!({ "title": "Nightly", "assignee_id": world.agent, "execution_mode": "run_only" });
    let autopilot = id(&hub.cli("POST", "/api/autopilots", wish).await.expect(201));
    let trigger = format!("/api/autopilots/{autopilot}/trigger");
    let run = hub.cli("POST", &trigger, Value::Null).await.expect(200);
    let wished = desk::wish(hub, &hub.token, world.agent).await;
    world.assigned("t").await;
    let of_issue = world.begin().await.task;
    world.begin().await;
    world.begin().await;
    // Another attempt at a run.
    let second_run = hub.cli("POST", &trigger, Value::Null).await.expect(200);
    world.begin().await;
    let clone = give(hub, &Given { run: Some(id(&second_run)), ..running(&world) }).await;
    for task in [desk::uuid(&run["task_id"]), wished, of_issue, clone] {
        let ended = hub.cli_as(&member, "POST", &cancel(task), Value::Null).await.expect(200);
        assert_eq!((id(&ended), &ended["status"]), (task, &json!("cancelled")));
        assert_eq!(desk::status(hub, task).await, "cancelled");
    }
    let path = format!("/api/autopilots/{autopilot}/runs");
    let runs = hub.cli("GET", &path, Value::Null).await.expect(200);
    let ends: Vec<&Value> = runs["runs"].as_array().unwrap().iter().map(|run| &run["failure_reason"]).collect();
    assert_eq!(ends, ["task was cancelled", "task was cancelled"]);
}

async fn what_is_another_s_or_elsewhere_stays_as_it_is(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let member = hub.member("m@example.com", "member").await;
    let hidden = desk::agent(hub, world.runtime, "hidden", "private").await;
    let chat = desk::chat(hub, &hub.token, world.agent).await;
    let issue = world.assigned("t").await;
    let other = world.issue("u").await;
    let of_issue = world.begin().await.task;
    let talk = desk::say(hub, &hub.token, chat).await;
    let private = desk::wish(hub, &hub.token, hidden).await;
    let elsewhere = hub.another_workspace("elsewhere").await;
    let before = hub.fingerprint().await;
    let at = |path: &str| format!("{path}?workspace_id={elsewhere}");
    hub.cli_as(&member, "POST", &cancel(talk), Value::Null).await.refused(403, "not your task");
    let text = "you do not have access to this agent";
    hub.cli_as(&member, "POST", &cancel(private), Value::Null).await.refused(403, text);
    for task in [of_issue, talk, private] {
        hub.post(&at(&cancel(task)), Value::Null).await.refused(404, "task not found");
    }
    for (method, path) in [
        ("GET", format!("/api/issues/{issue}/active-task")),
        ("GET", format!("/api/issues/{issue}/task-runs")),
        ("POST", format!("/api/issues/{issue}/tasks/{of_issue}/cancel")),
    ] {
        hub.call(method, &at(&path), Some(&hub.token), Value::Null).await.refused(404, "issue not found");
    }
    let path = format!("/api/issues/{other}/tasks/{of_issue}/cancel");
    hub.cli("POST", &path, Value::Null).await.refused(404, "task not found");
    assert_eq!(hub.fingerprint().await, before);
    assert_eq!(desk::status(hub, of_issue).await, "running");
    let path = format!("/api/issues/{issue}/tasks/{of_issue}/cancel");
    assert_eq!(hub.cli("POST", &path, Value::Null).await.expect(200)["status"], "cancelled");
}

async fn a_daemon_that_asks_is_told_how_its_task_is(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    world.assigned("t").await;
    let job = world.claim().await;
    let path = format!("/api/daemon/tasks/{}/status", job.task);
    let asked = async || hub.get(&path).await.expect(200);
    assert_eq!(asked().await, json!({ "status": "dispatched" }));
    world.call(job.task, "start", json!({})).await;
    assert_eq!(asked().await, json!({ "status": "running" }));
    hub.cli("POST", &cancel(job.task), Value::Null).await.expect(200);
    assert_eq!(asked().await, json!({ "status": "cancelled" }));
    hub.sql_unnoticed("DELETE FROM task").await;
    hub.get(&path).await.refused(404, "task not found");
    hub.get("/api/daemon/tasks/x/status").await.refused(400, "invalid task_id");
}

/// The hub at which daemons are: another node, where there can be one.
async fn elsewhere(world: &World, backend: Backend) -> Option<Hub> {
    match backend {
        Backend::PostgresRedis => Some(world.hub.another_node(&[]).await),
        _ => None,
    }
}

async fn ended(daemon: &mut Socket) -> Value {
    daemon.next_of("daemon:task_cancelled").await["payload"].take()
}

async fn a_daemon_is_told_at_once_wherever_it_is(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let there = elsewhere(&world, backend).await;
    let there = there.as_ref().unwrap_or(hub);
    let mut daemon = there.daemon(&[world.runtime]).await;
    acked(&mut daemon, world.runtime).await;
    let reason = |task: Uuid, reason: &str| json!({ "runtime_id": world.runtime, "task_id": task, "reason": reason });

    // By a person, by the issue's end, with the agent.
    world.assigned("t").await;
    let task = world.begin().await.task;
    hub.cli("POST", &cancel(task), Value::Null).await.expect(200);
    assert_eq!(ended(&mut daemon).await, reason(task, "cancelled"));
    let issue = world.assigned("u").await;
    let task = world.begin().await.task;
    hub.cli("PUT", &format!("/api/issues/{issue}"), json!({ "status": "cancelled" })).await.expect(200);
    assert_eq!(ended(&mut daemon).await, reason(task, "cancelled"));
    world.assigned("v").await;
    let (waiting, task) = (world.assigned("w").await, world.claim().await.task);
    hub.cli("POST", &format!("/api/agents/{}/cancel-tasks", world.agent), Value::Null).await.expect(200);
    assert_eq!(ended(&mut daemon).await, reason(task, "cancelled"));
    // What it never had, and what it has reported itself, is no news for it.
    let runs = hub.cli("GET", &format!("/api/issues/{waiting}/task-runs"), Value::Null).await.expect(200);
    assert_eq!(runs[0]["status"], "cancelled");
    for (what, report) in [("complete", json!({})), ("fail", json!({ "error": "x" }))] {
        world.assigned(what).await;
        let task = world.begin().await.task;
        world.call(task, what, report).await;
    }
    while let Ok(frame) = tokio::time::timeout(Duration::from_millis(200), daemon.next()).await {
        assert_ne!(frame["type"], "daemon:task_cancelled", "{frame}");
    }
}

async fn a_daemon_that_is_back_hears_what_of_its_work_is_over(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let there = elsewhere(&world, backend).await;
    let there = there.as_ref().unwrap_or(hub);
    let mut tasks = Vec::new();
    for status in ["queued", "dispatched", "running", "waiting_local_directory", "completed", "failed", "cancelled"] {
        let issue = world.issue(&Uuid::new_v4().to_string()).await;
        let given =
            Given { issue: Some(issue), status, reason: (status == "failed").then_some("timeout"), ..running(&world) };
        tasks.push(give(hub, &given).await);
    }
    // Somebody else's.
    let member = hub.member("m@example.com", "member").await;
    let theirs = hub.register_as(&member, hub.workspace, "e", &["claude"]).await[0];
    let issue = world.issue(&Uuid::new_v4().to_string()).await;
    let foreign = give(hub, &Given { issue: Some(issue), runtime: theirs, ..running(&world) }).await;
    let unknown = Uuid::new_v4();
    let url = there.daemon_url(&[world.runtime]);
    let bearer = format!("Bearer {}", hub.token);
    let headers = [("authorization", bearer.as_str()), ("x-client-capabilities", "reconcile-v1")];
    let mut daemon = Socket::open_with(&url, &headers).await.unwrap_or_else(|refused| panic!("{refused:?}"));
    let mut named: Vec<Value> = tasks.iter().map(|task| json!(task)).collect();
    named.extend([json!(foreign), json!(unknown), json!("x")]);
    let running_tasks =
        json!({ "type": "daemon:running_tasks", "payload": { "runtime_id": world.runtime, "task_ids": named } });
    daemon.send(running_tasks).await;
    let mut over = Vec::new();
    for _ in 0..5 {
        let mut payload = ended(&mut daemon).await;
        assert_eq!(payload["runtime_id"], json!(world.runtime));
        over.push((desk::uuid(&payload["task_id"]), payload["reason"].take()));
    }
    let expected = [
        (tasks[4], json!("completed")),
        (tasks[5], json!("timeout")),
        (tasks[6], json!("cancelled")),
        (foreign, json!("gone")),
        (unknown, json!("gone")),
    ];
    assert_eq!(over, expected);
    // It is about a runtime that the socket is for, or about nothing; and all is well afterwards.
    for payload in [
        json!({ "runtime_id": theirs, "task_ids": [unknown] }),
        json!({ "runtime_id": "x", "task_ids": [unknown] }),
        json!({ "runtime_id": world.runtime, "task_ids": null }),
        json!({ "runtime_id": world.runtime, "task_ids": tasks[..4] }),
        Value::Null,
    ] {
        daemon.send(json!({ "type": "daemon:running_tasks", "payload": payload })).await;
    }
    daemon.quiet_for(Duration::from_millis(100)).await;
    acked(&mut daemon, world.runtime).await;
}
