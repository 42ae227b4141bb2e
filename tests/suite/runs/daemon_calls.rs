//! What daemons ask and report beside messages and ends, and what becomes of calls that come while the
//! store is busy.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, SqliteConnection};
use tokio::{sync::oneshot, task::JoinHandle};
use uuid::Uuid;

use super::ground::{World, literal, value, world};
use crate::{
    support::{Backend, Gate, Hub, hub::id, postgres},
    tasks::{desk, support::ask},
};

on_both_stores!(
    why_a_task_waits_need_not_be_said,
    a_run_is_started_by_its_own_daemon,
    folders_are_kept_unless_what_they_were_for_is_gone,
    tokens_that_were_used_are_stored_once_for_a_task_and_a_model,
    a_bad_row_spoils_no_other,
    where_a_session_is_can_be_said_while_it_runs,
    a_call_waits_for_a_busy_store_instead_of_failing,
);

async fn daemon_token(hub: &Hub, by: &str, daemon: &str) -> String {
    let path = format!("/api/workspaces/{}/daemon-tokens", hub.workspace);
    let made = hub.call("POST", &path, Some(by), json!({ "daemon_id": daemon })).await.expect(201);
    made["token"].as_str().unwrap().to_owned()
}

async fn autopilot(world: &World) -> Uuid {
    let wish = json!({ "title": "Nightly", "assignee_id": world.agent, "execution_mode": "run_only" });
    id(&world.hub.cli("POST", "/api/autopilots", wish).await.expect(201))
}

async fn a_run_is_started_by_its_own_daemon(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let (right, wrong) = (daemon_token(hub, &hub.token, "d").await, daemon_token(hub, &hub.token, "e").await);
    let autopilot = autopilot(&world).await;
    let run = hub.cli("POST", &format!("/api/autopilots/{autopilot}/trigger"), Value::Null).await.expect(200);
    let task = desk::uuid(&run["task_id"]);
    assert_eq!(id(&ask(hub, &right, world.runtime).await.expect(200)["task"]), task);
    let path = |what: &str| format!("/api/daemon/tasks/{task}/{what}");
    for (method, what, body) in [
        ("POST", "start", json!({})),
        ("GET", "status", Value::Null),
        ("POST", "progress", json!({ "summary": "x" })),
        ("POST", "usage", json!({ "usage": [] })),
        ("POST", "session", json!({ "session_id": "s" })),
        ("POST", "complete", json!({})),
        ("POST", "fail", json!({})),
    ] {
        hub.call(method, &path(what), Some(&wrong), body.clone()).await.refused(404, "not found");
        let gone = format!("/api/daemon/tasks/{}/{what}", Uuid::new_v4());
        hub.call(method, &gone, Some(&right), body.clone()).await.refused(404, "task not found");
        hub.call(method, &format!("/api/daemon/tasks/x/{what}"), Some(&right), body)
            .await
            .refused(400, "invalid task_id");
    }
    let started = hub.call("POST", &path("start"), Some(&right), json!({})).await.expect(200);
    assert_eq!((&started["status"], &started["kind"]), (&json!("running"), &json!("autopilot")));
    let status = hub.call("GET", &path("status"), Some(&right), Value::Null).await.expect(200);
    assert_eq!(status, json!({ "status": "running" }));
    // Once is enough: whoever says it again has lost its way.
    let again = hub.call("POST", &path("start"), Some(&right), json!({})).await;
    again.refused(400, "task cannot be started: it is running");
    let progress = hub.call("POST", &path("progress"), Some(&right), json!({ "summary": "x", "step": 1 })).await;
    assert_eq!(progress.expect(200), json!({ "status": "ok" }));
    hub.call("POST", &path("progress"), Some(&right), json!({ "step": "1" }))
        .await
        .refused(400, "invalid request body");
}

async fn folders_are_kept_unless_what_they_were_for_is_gone(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let token = daemon_token(hub, &hub.token, "another machine").await;
    let stranger = hub.stranger("s@example.com").await;
    let issue = world.assigned("t").await;
    let task = world.begin().await.task;
    let chat = desk::chat(hub, &hub.token, world.agent).await;
    let autopilot = autopilot(&world).await;
    let run = hub.cli("POST", &format!("/api/autopilots/{autopilot}/trigger"), Value::Null).await.expect(200);
    let read = async |path: String| hub.cli("GET", &path, Value::Null).await.expect(200);
    let issue_row = read(format!("/api/issues/{issue}")).await;
    let chat_row = read(format!("/api/chat/sessions/{chat}")).await;
    let checks = [
        (
            "issues",
            issue,
            "issue_id",
            "issue not found",
            json!({ "status": "todo", "updated_at": issue_row["updated_at"] }),
        ),
        (
            "chat-sessions",
            chat,
            "chat_session_id",
            "chat session not found",
            json!({ "status": "active", "updated_at": chat_row["updated_at"] }),
        ),
        (
            "autopilot-runs",
            id(&run),
            "run_id",
            "autopilot run not found",
            json!({ "status": "running", "completed_at": null }),
        ),
        ("tasks", task, "task_id", "task not found", json!({ "status": "running", "completed_at": null })),
    ];
    for (kind, which, name, gone, expected) in &checks {
        let path = |which: &str| format!("/api/daemon/{kind}/{which}/gc-check");
        for token in [&hub.token, &token] {
            let answer = hub.call("GET", &path(&which.to_string()), Some(token), Value::Null).await.expect(200);
            assert_eq!(answer, *expected, "{kind}");
        }
        hub.call("GET", &path(&which.to_string()), Some(&stranger), Value::Null).await.refused(404, "not found");
        hub.get(&path(&Uuid::new_v4().to_string())).await.refused(404, gone);
        hub.get(&path("x")).await.refused(400, &format!("invalid {name}"));
    }
    // A daemon's token is for one workspace.
    let elsewhere = hub.another_workspace("elsewhere").await;
    let made = hub.post(&format!("/api/issues?workspace_id={elsewhere}"), json!({ "title": "x" })).await.expect(201);
    let path = format!("/api/daemon/issues/{}/gc-check", id(&made));
    hub.call("GET", &path, Some(&token), Value::Null).await.refused(404, "not found");
    hub.get(&path).await.expect(200);

    world.call(task, "complete", json!({})).await;
    hub.cli("PUT", &format!("/api/issues/{issue}"), json!({ "status": "done" })).await.expect(200);
    hub.cli("DELETE", &format!("/api/chat/sessions/{chat}"), Value::Null).await.expect(204);
    let check = async |index: usize| {
        let (kind, which, ..) = &checks[index];
        hub.get(&format!("/api/daemon/{kind}/{which}/gc-check")).await
    };
    assert_eq!(check(0).await.expect(200)["status"], "done");
    check(1).await.refused(404, "chat session not found");
    let ended = check(3).await.expect(200);
    assert_eq!(ended["status"], "completed");
    assert!(ended["completed_at"].is_string());
    hub.cli("DELETE", &format!("/api/issues/{issue}"), Value::Null).await.expect(204);
    check(0).await.refused(404, "issue not found");
    check(3).await.expect(200);
    hub.cli("DELETE", &format!("/api/autopilots/{autopilot}"), Value::Null).await.expect(204);
    check(2).await.refused(404, "autopilot run not found");
}

const USAGE: &str = "SELECT provider || ' ' || model || ' ' || input_tokens || ' ' || output_tokens || ' '
    || cache_read_tokens || ' ' || cache_write_tokens FROM task_usage ORDER BY provider, model";

async fn tokens_that_were_used_are_stored_once_for_a_task_and_a_model(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let project = id(&hub.cli("POST", "/api/projects", json!({ "title": "p" })).await.expect(201));
    let wish = json!({
        "title": "t", "assignee_type": "agent", "assignee_id": world.agent, "project_id": project,
    });
    let issue = id(&hub.cli("POST", "/api/issues", wish).await.expect(201));
    let task = world.begin().await.task;
    let report = async |usage: Value| {
        assert_eq!(world.call(task, "usage", json!({ "usage": usage })).await, json!({ "status": "ok" }));
    };
    report(json!([
        { "provider": " Anthropic ", "model": "opus", "input_tokens": 1, "output_tokens": 2, "cache_read_tokens": 3,
          "cache_write_tokens": 4 },
        { "provider": "", "model": "haiku", "input_tokens": 5 },
        { "model": null, "output_tokens": 6, "cost_usd_ticks": 7 },
        { "provider": "anthropic", "model": "none" },
    ]))
    .await;
    assert_eq!(hub.rows(USAGE).await, ["anthropic opus 1 2 3 4", "claude  0 6 0 0", "claude haiku 5 0 0 0"]);
    // The last report counts.
    report(json!([{ "provider": "ANTHROPIC", "model": "opus", "input_tokens": 10 }])).await;
    report(json!([])).await;
    report(Value::Null).await;
    assert_eq!(hub.rows(USAGE).await, ["anthropic opus 10 0 0 0", "claude  0 6 0 0", "claude haiku 5 0 0 0"]);
    let (task, runtime) = (world.literal(task), world.literal(world.runtime));
    let (agent, issue, project) = (world.literal(world.agent), world.literal(issue), world.literal(project));
    let whose = format!(
        "SELECT CAST(COUNT(*) AS text) FROM task_usage WHERE task_id = {task} AND runtime_id = {runtime}
                         AND agent_id = {agent} AND issue_id = {issue} AND project_id = {project}"
    );
    assert_eq!(value(hub, whose).await, "3");
}

async fn a_bad_row_spoils_no_other(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    desk::wish(hub, &hub.token, world.agent).await;
    let task = world.begin().await.task;
    let rows = json!([
        { "provider": "a", "model": "good", "input_tokens": 1 },
        { "provider": "a", "model": "negative", "input_tokens": -1 },
        7,
        { "provider": "a", "model": "text", "output_tokens": "7" },
        { "provider": "a\u{0}", "model": "nul", "input_tokens": 2 },
        { "provider": "x".repeat(256), "model": "long", "input_tokens": 1 },
        { "provider": "a", "model": "much", "input_tokens": i64::MAX },
        { "provider": "a", "model": "last", "output_tokens": 3 },
    ]);
    let answer = world.call(task, "usage", json!({ "usage": rows })).await;
    assert_eq!(answer["status"], "ok");
    let rejected: Vec<(u64, bool)> = answer["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["index"].as_u64().unwrap(), row["error"].as_str().is_some_and(|error| !error.is_empty())))
        .collect();
    assert_eq!(rejected, [1, 2, 3, 5, 6].map(|index| (index, true)));
    assert_eq!(hub.rows(USAGE).await, ["a good 1 0 0 0", "a last 0 3 0 0", "a\u{fffd} nul 2 0 0 0"]);
    let path = format!("/api/daemon/tasks/{task}/usage");
    hub.post(&path, json!({ "usage": {} })).await.refused(400, "invalid request body");
    // More rows than anybody uses.
    let many: Vec<Value> =
        (0..201).map(|n| json!({ "provider": "b", "model": n.to_string(), "input_tokens": 1 })).collect();
    let answer = world.call(task, "usage", json!({ "usage": many })).await;
    assert_eq!(answer["rejected"].as_array().unwrap().len(), 1);
    assert_eq!(answer["rejected"][0]["index"], 200);
    assert_eq!(hub.rows(USAGE).await.len(), 203);
}

async fn where_a_session_is_can_be_said_while_it_runs(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    desk::wish(hub, &hub.token, world.agent).await;
    let task = world.claim().await.task;
    let path = format!("/api/daemon/tasks/{task}/session");
    let pinned = async || (world.of_task(task, "session_id").await, world.of_task(task, "work_dir").await);
    for empty in [json!({}), json!({ "session_id": " ", "work_dir": null })] {
        hub.post(&path, empty).await.refused(400, "session_id or work_dir is required");
    }
    hub.post(&path, json!({ "session_id": "s" })).await.expect(204);
    assert_eq!(pinned().await, ("s".into(), String::new()));
    world.call(task, "start", json!({})).await;
    hub.post(&path, json!({ "work_dir": "/w" })).await.expect(204);
    assert_eq!(pinned().await, ("s".into(), "/w".into()), "what is not said stays");
    world.call(task, "complete", json!({})).await;
    hub.post(&path, json!({ "session_id": "late" })).await.expect(204);
    assert_eq!(pinned().await, (String::new(), String::new()));
}

/// How long the store is busy: longer than a moment, and shorter than a daemon waits.
const BUSY: Duration = Duration::from_secs(2);

/// Somebody else keeps the store, or some rows of it, for a while from now on.
async fn keep(hub: &Hub, rows: String) -> JoinHandle<()> {
    let (kept, is_kept) = oneshot::channel();
    let (url, path) = (hub.database_url.clone(), hub.dir.path().join("heartwire.db"));
    let keeper = tokio::spawn(async move {
        match url {
            Some(url) => {
                let mut connection = PgConnection::connect(&url).await.expect("the private server");
                let begin = sqlx::AssertSqlSafe(format!("BEGIN; {rows}"));
                sqlx::raw_sql(begin).execute(&mut connection).await.expect("the rows");
                kept.send(()).expect("somebody waits");
                tokio::time::sleep(BUSY).await;
                sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.expect("let go");
            }
            None => {
                let url = format!("sqlite://{}", path.display());
                let mut connection = SqliteConnection::connect(&url).await.expect("the store");
                sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await.expect("the writer");
                kept.send(()).expect("somebody waits");
                tokio::time::sleep(BUSY).await;
                sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.expect("let go");
            }
        }
    });
    is_kept.await.expect("it is kept");
    keeper
}

async fn a_call_waits_for_a_busy_store_instead_of_failing(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    world.assigned("t").await;
    let task = world.claim().await.task;
    let (agent, which) = (literal(hub, world.agent), literal(hub, task));
    let agent = format!("SELECT 1 FROM agent WHERE id = {agent} FOR UPDATE");
    // Its stream is there from the first message on.
    let message = |seq: i64| json!({ "messages": [{ "seq": seq, "type": "text", "content": "x" }] });
    world.call(task, "messages", message(1)).await;
    let stream = format!("SELECT 1 FROM task_stream WHERE task_id = {which} FOR UPDATE");
    let usage = json!({ "usage": [{ "provider": "a", "model": "m", "input_tokens": 1 }] });
    let used = "LOCK TABLE task_usage".to_owned();
    for (what, body, rows) in [
        ("start", json!({}), &agent),
        ("messages", message(2), &stream),
        ("usage", usage, &used),
        ("complete", json!({ "output": "x" }), &agent),
    ] {
        let busy = keep(hub, rows.clone()).await;
        let answer = hub.post(&format!("/api/daemon/tasks/{task}/{what}"), body).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.text);
        busy.await.expect("it let go");
    }
    assert_eq!(desk::status(hub, task).await, "completed");
    assert_eq!(world.transcript(task).await.len(), 2);
    assert_eq!(hub.rows(USAGE).await, ["a m 1 0 0 0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_waited_for_and_never_taken_for_an_end() {
    let url = postgres::fresh_database(postgres::shared()).await;
    let gate = Gate::before(&url).await;
    let hub = Hub::start_on(Some(gate.url(&url)), &[]).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "ann", "workspace").await;
    let task = desk::wish(&hub, &hub.token, agent).await;
    desk::claim(&hub, runtime).await;
    let path = |what: &str| format!("/api/daemon/tasks/{task}/{what}");
    // Nobody asks for long whether a folder may go; how a task is, a little longer.
    gate.shut();
    for what in ["gc-check", "status"] {
        let answer = hub.get(&path(what)).await;
        assert_eq!(answer.status, 503, "{what}: {}", answer.text);
        assert!(answer.headers.contains_key("retry-after"), "{what}");
        assert!(!answer.text.contains("not found"), "{what}: {}", answer.text);
    }
    // What is said once outlasts a short absence.
    let (messages, usage) = (
        json!({ "messages": [{ "seq": 1, "type": "text", "content": "x" }] }),
        json!({ "usage": [{ "provider": "a", "model": "m", "input_tokens": 1 }] }),
    );
    gate.open();
    let back = async || {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        gate.open();
    };
    for (what, body) in
        [("start", json!({})), ("messages", messages), ("usage", usage), ("complete", json!({ "output": "x" }))]
    {
        gate.shut();
        let path = path(what);
        let (answer, ()) = tokio::join!(hub.post(&path, body), back());
        assert_eq!(answer.status, 200, "{what}: {}", answer.text);
    }
    assert_eq!(desk::status(&hub, task).await, "completed");
    let said = hub.get(&path("messages")).await.expect(200);
    assert_eq!(said.as_array().unwrap().len(), 1);
}

async fn why_a_task_waits_need_not_be_said(backend: Backend) {
    let world = world(backend).await;
    world.assigned("t").await;
    let job = world.claim().await;
    // `Null` is no body at all here.
    let waiting = world.call(job.task, "wait-local-directory", Value::Null).await;
    assert_eq!(waiting["status"], "waiting_local_directory");
    let path = format!("/api/daemon/tasks/{}/wait-local-directory", job.task);
    let broken = world.hub.raw("POST", &path, Some(&world.hub.token), b"{".to_vec(), &[]).await;
    broken.refused(400, "invalid request body");
}
