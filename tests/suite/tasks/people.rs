//! Tasks as people see and end them.

use serde_json::{Value, json};
use uuid::Uuid;

use super::desk::{self, TASK, events, is_agent_status, told};
use crate::support::{
    Backend, Hub, Socket,
    hub::{id, keys},
};

on_both_stores!(
    an_issue_s_tasks_are_listed_and_ended,
    a_task_is_ended_once_and_wakes_the_next,
    not_everybody_ends_everything,
    the_snapshot_has_what_is_to_be_done_and_what_was_done_last,
    the_snapshot_has_every_agent_s_last_end_and_no_more_words_than_can_be_held,
    what_was_said_in_another_s_chat_is_nobody_s_to_read,
);

fn cancel(task: Uuid) -> String {
    format!("/api/tasks/{task}/cancel")
}

/// All wishes are made tasks of the only issue.
const OF_THE_ISSUE: &str = "UPDATE task SET issue_id = (SELECT id FROM issue WHERE title = 'i'),
    serial_key = (SELECT id FROM issue WHERE title = 'i') WHERE chat_session_id IS NULL";

async fn an_issue_s_tasks_are_listed_and_ended(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    let other = desk::agent(&hub, runtime, "b", "workspace").await;
    let issue = hub.cli("POST", "/api/issues", json!({ "title": "i" })).await.expect(201);
    let another = id(&hub.cli("POST", "/api/issues", json!({ "title": "j" })).await.expect(201));
    let path = format!("/api/issues/{}", id(&issue));
    let named = format!("/api/issues/{}", issue["identifier"].as_str().unwrap());
    let active = format!("{path}/active-task");
    assert_eq!(hub.cli("GET", &active, Value::Null).await.expect(200), json!({ "tasks": [] }));
    assert_eq!(hub.cli("GET", &format!("{path}/task-runs"), Value::Null).await.expect(200), json!([]));

    let done = desk::wish(&hub, &hub.token, agent).await;
    assert_eq!(desk::work(&hub, runtime).await, done);
    let first = desk::wish(&hub, &hub.token, agent).await;
    let second = desk::wish(&hub, &hub.token, other).await;
    hub.sql(OF_THE_ISSUE).await;
    let answer = hub.cli("GET", &active, Value::Null).await;
    assert!(answer.headers.contains_key("x-event-seq") && answer.headers.contains_key("x-event-epoch"));
    let list = answer.expect(200);
    assert_eq!(keys(&list), ["tasks"]);
    assert_eq!((id(&list["tasks"][0]), id(&list["tasks"][1])), (second, first), "newest first");
    assert_eq!(keys(&list["tasks"][0]), TASK);
    assert_eq!((&list["tasks"][0]["issue_id"], &list["tasks"][0]["kind"]), (&issue["id"], &json!("direct")));
    assert_eq!(hub.cli("GET", &format!("{named}/active-task"), Value::Null).await.expect(200), list);
    let answer = hub.cli("GET", &format!("{named}/task-runs"), Value::Null).await;
    assert!(answer.headers.contains_key("x-event-seq"));
    let runs = answer.expect(200);
    assert_eq!(runs.as_array().unwrap().iter().map(id).collect::<Vec<_>>(), [second, first, done]);

    let before = hub.fingerprint().await;
    for (path, status, text) in [
        (format!("/api/issues/{another}/tasks/{first}/cancel"), 404, "task not found"),
        (format!("{path}/tasks/{}/cancel", Uuid::new_v4()), 404, "task not found"),
        (format!("{path}/tasks/x/cancel"), 400, "invalid task_id"),
        (format!("/api/issues/{}/tasks/{first}/cancel", Uuid::new_v4()), 404, "issue not found"),
    ] {
        hub.cli("POST", &path, Value::Null).await.refused(status, text);
    }
    let over = hub.cli("POST", &format!("{path}/tasks/{done}/cancel"), Value::Null).await.expect(200);
    assert_eq!(over, runs[2], "what is over comes back as it is");
    assert_eq!(hub.fingerprint().await, before);
    let mut browser = desk::browser(&hub, &hub.token).await;
    let ended = hub.cli("POST", &format!("{named}/tasks/{first}/cancel"), Value::Null).await.expect(200);
    assert_eq!((id(&ended), &ended["status"]), (first, &json!("cancelled")));
    assert!(ended["completed_at"].is_string());
    let expected = json!({ "task_id": first, "agent_id": agent, "issue_id": issue["id"], "status": "cancelled" });
    assert_eq!(events(&mut browser, 1).await, [("task:cancelled".to_owned(), expected)]);
    let list = hub.cli("GET", &active, Value::Null).await.expect(200);
    assert_eq!(list["tasks"].as_array().unwrap().iter().map(id).collect::<Vec<_>>(), [second]);
}

async fn a_task_is_ended_once_and_wakes_the_next(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    let member = hub.member("m@example.com", "member").await;
    let running = desk::wish(&hub, &hub.token, agent).await;
    let claimed = desk::claim(&hub, runtime).await;
    desk::report(&hub, running, "start", json!({})).await;
    let next = desk::wish(&hub, &hub.token, agent).await;
    let mut daemon: Socket = hub.daemon(&[runtime]).await;
    let mut browser = desk::browser(&hub, &hub.token).await;
    // Any member who may see the agent.
    let ended = hub.cli_as(&member, "POST", &cancel(running), Value::Null).await.expect(200);
    assert_eq!((id(&ended), &ended["status"]), (running, &json!("cancelled")));
    let told_of = events(&mut browser, 2).await;
    assert!(is_agent_status(&told_of[0], agent, "idle"), "{told_of:?}");
    assert_eq!(told_of[1], told(running, agent, "cancelled", None));
    assert_eq!(desk::woken(&mut daemon).await, (runtime, next));
    assert_eq!(desk::status(&hub, running).await, "cancelled");
    let token = claimed["auth_token"].as_str().unwrap();
    assert_eq!(hub.cli_as(token, "GET", "/api/issues", Value::Null).await.status, 401);
    let before = hub.fingerprint().await;
    assert_eq!(hub.cli("POST", &cancel(running), Value::Null).await.expect(200), ended);
    assert_eq!(hub.fingerprint().await, before, "once");
    assert_eq!(id(&desk::claim(&hub, runtime).await), next);
}

async fn not_everybody_ends_everything(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    let hidden = desk::agent(&hub, runtime, "b", "private").await;
    let (member, admin) = (hub.member("m@example.com", "member").await, hub.member("n@example.com", "admin").await);
    let chat = desk::chat(&hub, &member, agent).await;
    let talk = desk::say(&hub, &member, chat).await;
    let private = desk::wish(&hub, &hub.token, hidden).await;
    let elsewhere = hub.another_workspace("elsewhere").await;
    let before = hub.fingerprint().await;
    for token in [&hub.token, &admin] {
        hub.cli_as(token, "POST", &cancel(talk), Value::Null).await.refused(403, "not your task");
    }
    let text = "you do not have access to this agent";
    hub.cli_as(&member, "POST", &cancel(private), Value::Null).await.refused(403, text);
    hub.post(&format!("{}?workspace_id={elsewhere}", cancel(talk)), Value::Null).await.refused(404, "task not found");
    hub.cli("POST", &cancel(Uuid::new_v4()), Value::Null).await.refused(404, "task not found");
    hub.cli("POST", "/api/tasks/x/cancel", Value::Null).await.refused(400, "invalid task_id");
    assert_eq!(hub.fingerprint().await, before);

    // An agent ends its own task, and no other: not even its own next one.
    assert_eq!(id(&desk::claim(&hub, runtime).await), private);
    let own = desk::wish(&hub, &hub.token, agent).await;
    let claimed = desk::claim(&hub, runtime).await;
    assert_eq!(id(&claimed), own);
    let next = desk::wish(&hub, &hub.token, agent).await;
    let token = claimed["auth_token"].as_str().unwrap();
    let before = hub.fingerprint().await;
    for task in [talk, private, next] {
        hub.cli_as(token, "POST", &cancel(task), Value::Null).await.refused(403, "not your task");
    }
    assert_eq!(hub.fingerprint().await, before);
    assert_eq!(hub.cli_as(token, "POST", &cancel(own), Value::Null).await.expect(200)["status"], "cancelled");
    // The creator of a chat ends what answers it; who lost the agent does not.
    let path = format!("/api/agents/{agent}");
    hub.cli("PUT", &path, json!({ "visibility": "private" })).await.expect(200);
    hub.cli_as(&member, "POST", &cancel(talk), Value::Null).await.refused(403, text);
    hub.cli("PUT", &path, json!({ "visibility": "workspace" })).await.expect(200);
    let mut browser = desk::browser(&hub, &member).await;
    hub.cli_as(&member, "POST", &cancel(talk), Value::Null).await.expect(200);
    assert_eq!(events(&mut browser, 1).await, [told(talk, agent, "cancelled", Some(chat))]);
    hub.cli_as(&admin, "POST", &cancel(private), Value::Null).await.expect(200);
}

async fn the_snapshot_has_what_is_to_be_done_and_what_was_done_last(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    let hidden = desk::agent(&hub, runtime, "b", "private").await;
    let member = hub.member("m@example.com", "member").await;
    let list = async |token: &str| {
        let answer = hub.cli_as(token, "GET", "/api/agent-task-snapshot", Value::Null).await;
        assert!(answer.headers.contains_key("x-event-seq") && answer.headers.contains_key("x-event-epoch"));
        answer.expect(200)
    };
    let ids = |list: &Value| list.as_array().unwrap().iter().map(id).collect::<Vec<_>>();
    assert_eq!(list(&hub.token).await, json!([]));

    desk::wish(&hub, &hub.token, agent).await;
    desk::work(&hub, runtime).await;
    let failed = desk::wish(&hub, &hub.token, agent).await;
    assert_eq!(id(&desk::claim(&hub, runtime).await), failed);
    desk::report(&hub, failed, "fail", json!({ "error": "oh" })).await;
    let cancelled = desk::wish(&hub, &hub.token, agent).await;
    hub.cli("POST", &cancel(cancelled), Value::Null).await.expect(200);
    let private = desk::wish(&hub, &hub.token, hidden).await;
    assert_eq!(desk::work(&hub, runtime).await, private);
    let running = desk::wish(&hub, &hub.token, agent).await;
    desk::claim(&hub, runtime).await;
    let waiting = desk::wish(&hub, &hub.token, hidden).await;

    let whole = list(&hub.token).await;
    assert_eq!(ids(&whole), [waiting, running, private, failed], "newest first; cancelled ones never");
    assert_eq!((&whole[3]["status"], &whole[3]["error"]), (&json!("failed"), &json!("oh")));
    assert_eq!(ids(&list(&member).await), [running, failed], "not of agents that they may not see");
    let elsewhere = hub.another_workspace("elsewhere").await;
    let theirs = hub.get(&format!("/api/agent-task-snapshot?workspace_id={elsewhere}")).await.expect(200);
    assert_eq!(theirs, json!([]));
}

async fn what_was_said_in_another_s_chat_is_nobody_s_to_read(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    let creator = hub.member("m@example.com", "member").await;
    let chat = desk::chat(&hub, &creator, agent).await;
    let task = desk::say(&hub, &creator, chat).await;
    assert_eq!(desk::work(&hub, runtime).await, task);
    let wish = desk::wish(&hub, &hub.token, agent).await;
    let claimed = desk::claim(&hub, runtime).await;
    assert_eq!(id(&claimed), wish);
    let agents_token = claimed["auth_token"].as_str().unwrap();
    for path in ["/api/agent-task-snapshot".to_owned(), format!("/api/agents/{agent}/tasks")] {
        let find = async |token: &str| {
            let list = hub.cli_as(token, "GET", &path, Value::Null).await.expect(200);
            list.as_array().unwrap().iter().find(|row| id(row) == task).cloned().unwrap()
        };
        let own = find(&creator).await;
        assert_eq!((&own["result"]["output"], &own["work_dir"]), (&json!("an answer"), &json!("/home/ann/src")));
        for token in [hub.token.as_str(), agents_token] {
            let theirs = find(token).await;
            let mut expected = own.clone();
            expected["result"] = Value::Null;
            for name in ["work_dir", "relative_work_dir"] {
                expected.as_object_mut().unwrap().remove(name);
            }
            assert_eq!(theirs, expected, "{path}");
        }
    }
    // Nor is what the daemon said of how it went wrong.
    desk::report(&hub, wish, "start", json!({})).await;
    desk::report(&hub, wish, "complete", json!({})).await;
    let task = desk::say(&hub, &creator, chat).await;
    desk::claim(&hub, runtime).await;
    desk::report(&hub, task, "fail", json!({ "error": "secret" })).await;
    let list = hub.cli("GET", "/api/agent-task-snapshot", Value::Null).await.expect(200);
    let failed = list.as_array().unwrap().iter().find(|row| id(row) == task).unwrap();
    assert_eq!((&failed["status"], &failed["error"]), (&json!("failed"), &Value::Null));
    assert_eq!(failed["failure_reason"], "agent_error.unknown");
}

async fn the_snapshot_has_every_agent_s_last_end_and_no_more_words_than_can_be_held(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    for number in 0..20 {
        let agent = desk::agent(&hub, runtime, &format!("agent {number}"), "workspace").await;
        let task = desk::wish(&hub, &hub.token, agent).await;
        assert_eq!(id(&desk::claim(&hub, runtime).await), task);
        desk::report(&hub, task, "fail", json!({ "error": "x" })).await;
    }
    hub.sql(match backend {
        Backend::Sqlite => "UPDATE task SET error = printf('%.*c', 1000000, 'x')",
        _ => "UPDATE task SET error = repeat('x', 1000000)",
    })
    .await;
    let list = hub.cli("GET", "/api/agent-task-snapshot", Value::Null).await.expect(200);
    let words: Vec<usize> = list.as_array().unwrap().iter().map(|task| task["error"].as_str().unwrap().len()).collect();
    let expected: Vec<usize> = (0..20).map(|place| if place < 16 { 1_000_000 } else { 1000 }).collect();
    assert_eq!(words, expected, "the newest whole, the others in short");
}
