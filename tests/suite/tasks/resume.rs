//! Which earlier session of its agent a task takes up.

use serde_json::{Value, json};
use uuid::Uuid;

use super::support::{Given, agent, give, given_and_ended, issue};
use crate::support::{Backend, Hub, hub::id};

on_both_stores!(
    an_issue_s_session_is_taken_up_where_it_was,
    a_session_that_is_of_no_use_is_not,
    a_chat_remembers_where_it_was
);

fn prior(task: &Value) -> (Option<&str>, Option<&str>) {
    let text = |name: &str| task.get(name).map(|value| value.as_str().expect("a text"));
    (text("prior_session_id"), text("prior_work_dir"))
}

async fn world(backend: Backend) -> (Hub, Uuid, Uuid, Uuid) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["claude", "codex"]).await;
    let agent = agent(&hub, "ann", runtimes[0]).await;
    (hub, runtimes[0], runtimes[1], agent)
}

async fn an_issue_s_session_is_taken_up_where_it_was(backend: Backend) {
    let (hub, here, there, ann) = world(backend).await;
    let bob = agent(&hub, "bob", here).await;
    let (issue, another) = (issue(&hub, "t").await, issue(&hub, "u").await);
    let task = Given { agent: ann, runtime: here, issue: Some(issue), ..Given::default() };
    let done = |runtime, ago, session, dir| Given {
        status: "completed",
        runtime,
        started: Some(ago + 1),
        completed: Some(ago),
        session: Some(session),
        work_dir: Some(dir),
        ..task.clone()
    };
    assert_eq!(prior(&given_and_ended(&hub, task.clone()).await), (None, None), "the first time");
    give(&hub, &Given { agent: bob, ..done(here, 1, "bob's", "/bob") }).await;
    give(&hub, &Given { issue: Some(another), ..done(here, 1, "another", "/another") }).await;
    assert_eq!(prior(&given_and_ended(&hub, task.clone()).await), (None, None), "another agent, another issue");
    give(&hub, &done(there, 100, "far", "/far")).await;
    assert_eq!(prior(&given_and_ended(&hub, task.clone()).await), (None, Some("/far")), "on another runtime");
    give(&hub, &done(here, 50, "near", "/near")).await;
    assert_eq!(prior(&given_and_ended(&hub, task.clone()).await), (Some("near"), Some("/near")));
    let wish = json!({ "content": "c" });
    let comment = hub.cli("POST", &format!("/api/issues/{issue}/comments"), wish).await.expect(201);
    let asked = Given { trigger: Some(id(&comment)), ..task.clone() };
    assert_eq!(prior(&given_and_ended(&hub, asked).await), (Some("near"), Some("/near")), "a comment asks");
    let fresh = Given { fresh: true, ..task.clone() };
    assert_eq!(prior(&given_and_ended(&hub, fresh).await), (None, None), "afresh");
}

async fn a_session_that_is_of_no_use_is_not(backend: Backend) {
    let (hub, here, _, agent) = world(backend).await;
    let issue = issue(&hub, "t").await;
    let task = Given { agent, runtime: here, issue: Some(issue), ..Given::default() };
    let done = |ago, session| Given {
        status: "completed",
        started: Some(ago + 1),
        completed: Some(ago),
        session: Some(session),
        ..task.clone()
    };
    give(&hub, &done(1000, "good")).await;
    let failed = |reason, error| Given { status: "failed", reason, error, ..done(500, "bad") };
    for (reason, error, taken) in [
        (Some("iteration_limit"), None, "good"),
        (Some("agent_fallback_message"), None, "good"),
        (Some("api_invalid_request"), None, "good"),
        (Some("codex_semantic_inactivity"), None, "good"),
        (Some("agent_error"), Some("API 400: invalid_request_error"), "good"),
        (None, Some("invalid_request_error (400)"), "good"),
        (Some("agent_error"), Some("400 is no good number"), "bad"),
        (Some("timeout"), Some("invalid_request_error"), "bad"),
        (None, None, "bad"),
    ] {
        give(&hub, &failed(reason, error)).await;
        let claimed = given_and_ended(&hub, task.clone()).await;
        assert_eq!(prior(&claimed), (Some(taken), None), "{reason:?} {error:?}");
        hub.sql_unnoticed("DELETE FROM task WHERE status = 'failed'").await;
    }
    // Neither one that was cancelled, nor one without a session.
    give(&hub, &Given { status: "cancelled", ..done(10, "cancelled") }).await;
    give(&hub, &Given { session: None, work_dir: Some("/none"), ..done(5, "") }).await;
    assert_eq!(prior(&given_and_ended(&hub, task).await), (Some("good"), None));
}

async fn a_chat_remembers_where_it_was(backend: Backend) {
    let (hub, here, there, agent) = world(backend).await;
    let chat = id(&hub.cli("POST", "/api/chat/sessions", json!({ "agent_id": agent })).await.expect(201));
    let task = Given { agent, runtime: here, chat: Some(chat), ..Given::default() };
    assert_eq!(prior(&given_and_ended(&hub, task.clone()).await), (None, None), "the first time");
    hub.sql(
        "UPDATE chat_session SET session_id = 'far', work_dir = '/far',
             runtime_id = (SELECT id FROM agent_runtime WHERE provider = 'codex')",
    )
    .await;
    assert_eq!(prior(&given_and_ended(&hub, task.clone()).await), (None, Some("/far")), "on another runtime");
    hub.sql("UPDATE chat_session SET runtime_id = (SELECT id FROM agent_runtime WHERE provider = 'claude')").await;
    assert_eq!(prior(&given_and_ended(&hub, task.clone()).await), (Some("far"), Some("/far")));
    let fresh = Given { fresh: true, ..task.clone() };
    assert_eq!(prior(&given_and_ended(&hub, fresh.clone()).await), (None, None), "afresh");

    // What the chat does not know, its tasks may.
    let done = |runtime, ago, session, dir| Given {
        status: "completed",
        runtime,
        started: Some(ago + 1),
        completed: Some(ago),
        session: Some(session),
        work_dir: Some(dir),
        ..task.clone()
    };
    give(&hub, &done(there, 100, "there", "/there")).await;
    hub.sql("UPDATE chat_session SET session_id = NULL, runtime_id = NULL").await;
    assert_eq!(prior(&given_and_ended(&hub, task.clone()).await), (None, Some("/far")));
    give(&hub, &done(here, 50, "here", "/here")).await;
    assert_eq!(prior(&given_and_ended(&hub, task.clone()).await), (Some("here"), Some("/far")));
    hub.sql("UPDATE chat_session SET work_dir = NULL").await;
    assert_eq!(prior(&given_and_ended(&hub, task.clone()).await), (Some("here"), Some("/here")));
    assert_eq!(prior(&given_and_ended(&hub, fresh).await), (None, None), "afresh");
    let spoilt = Given { status: "failed", reason: Some("iteration_limit"), ..done(here, 10, "bad", "/bad") };
    give(&hub, &spoilt).await;
    assert_eq!(prior(&given_and_ended(&hub, task).await), (Some("here"), Some("/here")));
}
