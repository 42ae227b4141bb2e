//! An agent's work as a whole: it ends when the agent is put aside or somebody says so, and more of it
//! may begin when the agent may do more at once.

use serde_json::{Value, json};
use uuid::Uuid;

use super::desk::{self, TASK, events, is_agent_status, told};
use crate::support::{
    Backend, Hub,
    hub::{id, keys},
};

on_both_stores!(
    an_agent_that_is_put_aside_has_no_work_left,
    all_of_an_agent_s_work_can_be_ended,
    an_agent_s_work_is_listed_newest_first,
    room_for_more_wakes_the_daemon,
    an_agent_that_moves_leaves_its_work_where_it_is,
);

/// One task that runs and one that waits, of one agent.
async fn busy(hub: &Hub, runtime: Uuid, agent: Uuid) -> (Uuid, Uuid) {
    let running = desk::wish(hub, &hub.token, agent).await;
    assert_eq!(id(&desk::claim(hub, runtime).await), running);
    (running, desk::wish(hub, &hub.token, agent).await)
}

async fn an_agent_that_is_put_aside_has_no_work_left(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let (agent, idle) =
        (desk::agent(&hub, runtime, "a", "workspace").await, desk::agent(&hub, runtime, "b", "workspace").await);
    let (running, waiting) = busy(&hub, runtime, agent).await;
    let mut browser = desk::browser(&hub, &hub.token).await;
    let path = format!("/api/agents/{agent}/archive");
    let archived = hub.cli("POST", &path, Value::Null).await.expect(200);
    assert_eq!(archived["status"], "idle");
    let told_of = events(&mut browser, 4).await;
    assert_eq!(told_of[..2], [told(running, agent, "cancelled", None), told(waiting, agent, "cancelled", None)]);
    assert!(is_agent_status(&told_of[2], agent, "idle"), "{told_of:?}");
    assert_eq!((told_of[3].0.as_str(), &told_of[3].1["agent"]["status"]), ("agent:archived", &json!("idle")));
    assert_eq!(desk::status(&hub, running).await, "cancelled");
    assert_eq!(desk::claim(&hub, runtime).await, Value::Null);

    let before = hub.fingerprint().await;
    hub.cli("POST", &path, Value::Null).await.refused(409, "agent is already archived");
    assert_eq!(hub.fingerprint().await, before);

    // One that has done nothing is only put aside; what never began changes no status.
    let waiting = desk::wish(&hub, &hub.token, idle).await;
    events(&mut browser, 1).await;
    hub.cli("POST", &format!("/api/agents/{idle}/archive"), Value::Null).await.expect(200);
    let told_of = events(&mut browser, 2).await;
    assert_eq!(told_of[0], told(waiting, idle, "cancelled", None));
    assert_eq!(told_of[1].0, "agent:archived");
}

async fn all_of_an_agent_s_work_can_be_ended(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    let other = desk::agent(&hub, runtime, "b", "workspace").await;
    let member = hub.member("m@example.com", "member").await;
    let admin = hub.member("n@example.com", "admin").await;
    let (running, waiting) = busy(&hub, runtime, agent).await;
    let untouched = desk::wish(&hub, &hub.token, other).await;
    let path = format!("/api/agents/{agent}/cancel-tasks");
    let task_token = hub.app.mint_task_token(hub.workspace, me(&hub).await).await.unwrap();
    let before = hub.fingerprint().await;
    let text = "only the agent owner or a workspace admin can do this";
    hub.cli_as(&member, "POST", &path, Value::Null).await.refused(403, text);
    hub.cli_as(&task_token, "POST", &path, Value::Null).await.refused(403, "task tokens may not do this");
    hub.cli("POST", "/api/agents/x/cancel-tasks", Value::Null).await.refused(400, "invalid agent_id");
    assert_eq!(hub.fingerprint().await, before);

    let mut browser = desk::browser(&hub, &member).await;
    assert_eq!(hub.cli_as(&admin, "POST", &path, Value::Null).await.expect(200), json!({ "cancelled": 2 }));
    let told_of = events(&mut browser, 3).await;
    assert_eq!(told_of[..2], [told(running, agent, "cancelled", None), told(waiting, agent, "cancelled", None)]);
    assert!(is_agent_status(&told_of[2], agent, "idle"), "{told_of:?}");
    assert_eq!(desk::status(&hub, untouched).await, "queued");
    let before = hub.fingerprint().await;
    assert_eq!(hub.cli("POST", &path, Value::Null).await.expect(200), json!({ "cancelled": 0 }));
    assert_eq!(hub.fingerprint().await, before, "there was nothing left");
}

async fn me(hub: &Hub) -> Uuid {
    id(&hub.get("/api/me").await.expect(200))
}

async fn an_agent_s_work_is_listed_newest_first(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    let path = format!("/api/agents/{agent}/tasks");
    assert_eq!(hub.cli("GET", &path, Value::Null).await.expect(200), json!([]));
    let old = desk::wish(&hub, &hub.token, agent).await;
    assert_eq!(desk::work(&hub, runtime).await, old);
    let new = desk::wish(&hub, &hub.token, agent).await;
    let answer = hub.cli("GET", &path, Value::Null).await;
    assert!(answer.headers.contains_key("x-event-seq") && answer.headers.contains_key("x-event-epoch"));
    let list = answer.expect(200);
    assert_eq!((id(&list[0]), id(&list[1]), list.as_array().unwrap().len()), (new, old, 2));
    assert_eq!(keys(&list[0]), TASK, "what there is nothing to say of is left out");
    assert_eq!(
        list[0],
        json!({
            "id": new, "agent_id": agent, "runtime_id": runtime, "issue_id": "", "workspace_id": hub.workspace,
            "status": "queued", "priority": 3, "dispatched_at": null, "started_at": null, "completed_at": null,
            "result": null, "error": null, "attempt": 1, "max_attempts": 2, "created_at": list[0]["created_at"],
            "kind": "quick_create",
        })
    );
    assert_eq!((&list[1]["status"], &list[1]["result"]["output"]), (&json!("completed"), &json!("an answer")));
    assert_eq!((&list[1]["work_dir"], &list[1]["relative_work_dir"]), (&json!("/home/ann/src"), &json!("src")));

    let member = hub.member("m@example.com", "member").await;
    assert_eq!(hub.cli_as(&member, "GET", &path, Value::Null).await.expect(200), list);
    let task_token = hub.app.mint_task_token(hub.workspace, me(&hub).await).await.unwrap();
    assert_eq!(hub.cli_as(&task_token, "GET", &path, Value::Null).await.expect(200), list);
    hub.cli("PUT", &format!("/api/agents/{agent}"), json!({ "visibility": "private" })).await.expect(200);
    hub.cli_as(&member, "GET", &path, Value::Null).await.refused(403, "you do not have access to this agent");
}

async fn room_for_more_wakes_the_daemon(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    let path = format!("/api/agents/{agent}");
    hub.cli("PUT", &path, json!({ "max_concurrent_tasks": 1 })).await.expect(200);
    let (one, two) = (desk::chat(&hub, &hub.token, agent).await, desk::chat(&hub, &hub.token, agent).await);
    desk::say(&hub, &hub.token, one).await;
    desk::claim(&hub, runtime).await;
    let waiting = desk::say(&hub, &hub.token, two).await;
    assert_eq!(desk::claim(&hub, runtime).await, Value::Null);
    let mut daemon = hub.daemon(&[runtime]).await;
    hub.cli("PUT", &path, json!({ "description": "the same room" })).await.expect(200);
    hub.cli("PUT", &path, json!({ "max_concurrent_tasks": 1 })).await.expect(200);
    daemon.quiet_for(std::time::Duration::from_millis(300)).await;
    hub.cli("PUT", &path, json!({ "max_concurrent_tasks": 2 })).await.expect(200);
    assert_eq!(desk::woken(&mut daemon).await, (runtime, waiting));
    assert_eq!(id(&desk::claim(&hub, runtime).await), waiting);
}

async fn an_agent_that_moves_leaves_its_work_where_it_is(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["claude", "codex"]).await;
    let agent = desk::agent(&hub, runtimes[0], "a", "workspace").await;
    let waiting = desk::wish(&hub, &hub.token, agent).await;
    let path = format!("/api/agents/{agent}");
    hub.cli("PUT", &path, json!({ "runtime_id": runtimes[1] })).await.expect(200);
    assert_eq!(desk::claim(&hub, runtimes[1]).await, Value::Null);
    assert_eq!(id(&desk::claim(&hub, runtimes[0]).await), waiting);
    let there = desk::chat(&hub, &hub.token, agent).await;
    let new = desk::say(&hub, &hub.token, there).await;
    assert_eq!(id(&desk::claim(&hub, runtimes[1]).await), new);
}
