//! Whose a claimed task is: the daemon's that may have it, and its agent's for as long as it lasts.

use serde_json::{Value, json};
use uuid::Uuid;

use super::support::{Given, agent, ask, claim, give, given, issue, statuses, task_path};
use crate::support::{Backend, Hub, hub::id, until};

on_both_stores!(
    what_was_not_delivered_is_given_again,
    a_task_s_token_ends_with_it,
    an_agent_gets_no_further_than_its_work,
    a_runtime_without_an_owner_gets_nothing,
    a_runtime_works_for_its_owner_only,
);

async fn world(backend: Backend) -> (Hub, Uuid, Given) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = agent(&hub, "ann", runtime).await;
    let issue = issue(&hub, "t").await;
    (hub, runtime, Given { agent, runtime, issue: Some(issue), ..Given::default() })
}

async fn is_ended(hub: &Hub, token: &str) {
    until("the token is worth nothing", async || {
        let answer = hub.call("GET", "/api/me", Some(token), Value::Null).await;
        if answer.status == 200 {
            return false;
        }
        answer.refused(401, "invalid token");
        true
    })
    .await;
}

fn token(task: &Value) -> &str {
    task["auth_token"].as_str().expect("a token")
}

async fn what_was_not_delivered_is_given_again(backend: Backend) {
    let (hub, runtime, task) = world(backend).await;
    let other = hub.register("d", &["claude", "codex"]).await[1];
    let lost = Given { status: "dispatched", dispatched: Some(120), ..task.clone() };
    for (given, what) in [
        (Given { dispatched: Some(75), ..lost.clone() }, "it may still be on its way"),
        (Given { status: "running", started: Some(119), ..lost.clone() }, "it began"),
        (Given { status: "waiting_local_directory", ..lost.clone() }, "it arrived"),
        (Given { runtime: other, ..lost.clone() }, "another runtime's"),
    ] {
        give(&hub, &given).await;
        assert_eq!(ask(&hub, &hub.token, runtime).await.expect(200), json!({ "task": null }), "{what}");
        hub.sql_unnoticed("DELETE FROM task").await;
    }

    let task = give(&hub, &lost).await;
    let (mut browser, _) = hub.browser().await;
    let first = claim(&hub, runtime).await;
    assert_eq!((id(&first), &first["status"]), (task, &json!("dispatched")));
    assert_eq!(ask(&hub, &hub.token, runtime).await.expect(200), json!({ "task": null }), "its time begins anew");
    hub.sql_unnoticed("UPDATE task SET dispatched_at = 1").await;
    let second = claim(&hub, runtime).await;
    assert_eq!(id(&second), task);
    assert_ne!(token(&first), token(&second));
    is_ended(&hub, token(&first)).await;
    hub.call("GET", "/api/me", Some(token(&second)), Value::Null).await.expect(200);
    assert_eq!(hub.rows("SELECT 'token' FROM task_token").await.len(), 1);
    // None of that is news.
    hub.post(&task_path(&second, "start"), json!({})).await.expect(200);
    assert_eq!(browser.next().await["type"], "task:running");
}

async fn a_task_s_token_ends_with_it(backend: Backend) {
    let (hub, runtime, task) = world(backend).await;
    let issue = format!("/api/issues/{}", task.issue.unwrap());
    let works = async |token: &str| {
        let me = hub.call("GET", "/api/me", Some(token), Value::Null).await.expect(200);
        assert_eq!(me["id"], hub.get("/api/me").await.expect(200)["id"], "the runtime's owner");
        hub.cli_as(token, "GET", &issue, Value::Null).await.expect(200);
    };
    let done = given(&hub, task.clone()).await;
    works(token(&done)).await;
    hub.post(&task_path(&done, "start"), json!({})).await.expect(200);
    works(token(&done)).await;
    hub.post(&task_path(&done, "complete"), json!({ "output": "x" })).await.expect(200);
    is_ended(&hub, token(&done)).await;

    let failed = given(&hub, task.clone()).await;
    works(token(&failed)).await;
    hub.post(&task_path(&failed, "fail"), json!({ "error": "x" })).await.expect(200);
    is_ended(&hub, token(&failed)).await;

    // Cancelled, as here by the claim itself: what it was about is gone.
    let cancelled = given(&hub, task.clone()).await;
    works(token(&cancelled)).await;
    hub.sql_unnoticed("DELETE FROM issue; UPDATE task SET dispatched_at = 1 WHERE status = 'dispatched'").await;
    assert_eq!(ask(&hub, &hub.token, runtime).await.status, 500);
    is_ended(&hub, token(&cancelled)).await;
    assert_eq!(hub.rows("SELECT 'token' FROM task_token").await.len(), 0);
}

async fn an_agent_gets_no_further_than_its_work(backend: Backend) {
    let (hub, runtime, task) = world(backend).await;
    let elsewhere = hub.another_workspace("elsewhere").await;
    let task = given(&hub, task).await;
    let (token, agent) = (token(&task), task["agent_id"].as_str().unwrap());
    let workspace = hub.workspace;
    let before = hub.fingerprint().await;
    for (method, path) in [
        ("GET", "/api/tokens".to_owned()),
        ("POST", "/api/tokens".to_owned()),
        ("POST", "/api/cli-token".to_owned()),
        ("DELETE", "/auth/session".to_owned()),
        ("GET", format!("/api/workspaces/{workspace}/daemon-tokens")),
        ("POST", format!("/api/workspaces/{workspace}/daemon-tokens")),
        ("GET", format!("/api/agents/{agent}/env")),
        ("PUT", format!("/api/agents/{agent}/env")),
        ("PUT", format!("/api/agents/{agent}")),
        ("GET", format!("/api/events?workspace_id={workspace}")),
        ("PATCH", "/api/me".to_owned()),
        ("PATCH", format!("/api/workspaces/{workspace}")),
        ("POST", format!("/api/workspaces/{workspace}/members")),
        ("PATCH", format!("/api/runtimes/{runtime}")),
        ("DELETE", format!("/api/runtimes/{runtime}")),
    ] {
        let answer = hub.cli_as(token, method, &path, json!({})).await;
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text);
        answer.refused(403, "task tokens may not do this");
    }
    // Nor is it a daemon's credential, or one for another workspace.
    for call in ["start", "complete", "fail"] {
        hub.call("POST", &task_path(&task, call), Some(token), json!({})).await.refused(401, "invalid token");
    }
    ask(&hub, token, runtime).await.refused(401, "invalid token");
    hub.call("GET", &format!("/api/issues?workspace_id={elsewhere}"), Some(token), Value::Null)
        .await
        .refused(403, "task token is bound to a different workspace");
    assert_eq!(hub.fingerprint().await, before);
    let mine = hub.call("GET", "/api/workspaces", Some(token), Value::Null).await.expect(200);
    assert_eq!((id(&mine[0]), mine.as_array().unwrap().len()), (workspace, 1));
}

async fn a_runtime_without_an_owner_gets_nothing(backend: Backend) {
    let (hub, runtime, task) = world(backend).await;
    hub.sql("UPDATE agent_runtime SET owner_id = NULL").await;
    give(&hub, &task).await;
    let (mut browser, _) = hub.browser().await;
    assert_eq!(ask(&hub, &hub.token, runtime).await.status, 500);
    assert_eq!(statuses(&hub).await, ["cancelled"]);
    assert_eq!(hub.rows("SELECT 'token' FROM task_token").await.len(), 0);
    assert_eq!(browser.next_of("task:cancelled").await["payload"]["issue_id"], json!(task.issue));
    assert_eq!(ask(&hub, &hub.token, runtime).await.expect(200), json!({ "task": null }));
}

async fn a_runtime_works_for_its_owner_only(backend: Backend) {
    let (hub, runtime, task) = world(backend).await;
    let mint = async |by: &str, daemon: &str| {
        let path = format!("/api/workspaces/{}/daemon-tokens", hub.workspace);
        let made = hub.call("POST", &path, Some(by), json!({ "daemon_id": daemon })).await.expect(201);
        made["token"].as_str().unwrap().to_owned()
    };
    let member = hub.member("m@example.com", "member").await;
    let admin = hub.member("a@example.com", "admin").await;
    let stranger = hub.stranger("s@example.com").await;
    let (right, wrong) = (mint(&hub.token, "d").await, mint(&hub.token, "other").await);
    let theirs = mint(&admin, "d").await;
    let claimed = given(&hub, task.clone()).await;
    let lost = give(&hub, &Given { issue: Some(issue(&hub, "u").await), ..task }).await;
    let before = hub.rows("SELECT status || COALESCE(wait_reason, '') FROM task ORDER BY id").await;
    for (who, token) in [
        ("a member", &member),
        ("an admin", &admin),
        ("a stranger", &stranger),
        ("another daemon's token", &wrong),
        ("an admin's daemon's token", &theirs),
    ] {
        let call = async |method: &str, path: &str, body: Value| {
            let answer = hub.call(method, path, Some(token), body).await;
            assert_eq!(answer.status, 404, "{who}: {method} {path}: {}", answer.text);
            answer.refused(404, "not found");
        };
        call("POST", &format!("/api/daemon/runtimes/{runtime}/tasks/claim"), json!({})).await;
        call("GET", &format!("/api/daemon/runtimes/{runtime}/tasks/pending"), Value::Null).await;
        call("POST", "/api/daemon/heartbeat", json!({ "runtime_id": runtime })).await;
        for name in ["start", "complete", "fail"] {
            call("POST", &task_path(&claimed, name), json!({})).await;
        }
        call("POST", &task_path(&claimed, "wait-local-directory"), json!({ "reason": "r" })).await;
        call("POST", &task_path(&claimed, "session"), json!({ "session_id": "s" })).await;
        call("GET", &task_path(&claimed, "status"), Value::Null).await;
    }
    assert_eq!(hub.rows("SELECT status || COALESCE(wait_reason, '') FROM task ORDER BY id").await, before);

    // Its owner's daemon, by its own token, does all of it.
    let answer = ask(&hub, &right, runtime).await.expect(200);
    assert_eq!(id(&answer["task"]), lost);
    let post = async |path: &str| hub.call("POST", path, Some(&right), json!({})).await.expect(200);
    assert_eq!(post(&task_path(&claimed, "start")).await["status"], "running");
    assert_eq!(post(&task_path(&claimed, "complete")).await["status"], "completed");
    let path = task_path(&claimed, "status");
    let status = hub.call("GET", &path, Some(&right), Value::Null).await.expect(200);
    assert_eq!(status, json!({ "status": "completed" }));
}
