//! What daemons and people do about tasks.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Hub, Socket, hub::id};

/// What everybody may read of a task.
pub const TASK: [&str; 16] = [
    "agent_id",
    "attempt",
    "completed_at",
    "created_at",
    "dispatched_at",
    "error",
    "id",
    "issue_id",
    "kind",
    "max_attempts",
    "priority",
    "result",
    "runtime_id",
    "started_at",
    "status",
    "workspace_id",
];

/// An agent of the first owner's on a runtime, for everybody unless it is `private`.
pub async fn agent(hub: &Hub, runtime: Uuid, name: &str, visibility: &str) -> Uuid {
    let wish = json!({ "name": name, "runtime_id": runtime, "visibility": visibility });
    id(&hub.cli("POST", "/api/agents", wish).await.expect(201))
}

/// A chat of somebody's.
pub async fn chat(hub: &Hub, token: &str, agent: Uuid) -> Uuid {
    id(&hub.cli_as(token, "POST", "/api/chat/sessions", json!({ "agent_id": agent })).await.expect(201))
}

/// Says something in a chat; the task that answers it.
pub async fn say(hub: &Hub, token: &str, chat: Uuid) -> Uuid {
    let path = format!("/api/chat/sessions/{chat}/messages");
    uuid(&hub.cli_as(token, "POST", &path, json!({ "content": "secret" })).await.expect(201)["task_id"])
}

/// Wishes an agent an issue; the task for it.
pub async fn wish(hub: &Hub, token: &str, agent: Uuid) -> Uuid {
    let body = json!({ "prompt": "make one", "agent_id": agent });
    uuid(&hub.cli_as(token, "POST", "/api/issues/quick-create", body).await.expect(202)["task_id"])
}

pub fn uuid(text: &Value) -> Uuid {
    text.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no id: {text}"))
}

/// What the first owner's daemon is given for a runtime.
pub async fn claim(hub: &Hub, runtime: Uuid) -> Value {
    hub.post(&format!("/api/daemon/runtimes/{runtime}/tasks/claim"), json!({})).await.expect(200)["task"].take()
}

/// A call of the first owner's daemon about a task.
pub async fn report(hub: &Hub, task: Uuid, what: &str, body: Value) {
    hub.post(&format!("/api/daemon/tasks/{task}/{what}"), body).await.expect(200);
}

/// Claims, starts and completes whatever is next for a runtime.
pub async fn work(hub: &Hub, runtime: Uuid) -> Uuid {
    let task = id(&claim(hub, runtime).await);
    report(hub, task, "start", json!({})).await;
    report(hub, task, "complete", json!({ "output": "an answer", "work_dir": "/home/ann/src" })).await;
    task
}

/// A browser of anybody, from now on.
pub async fn browser(hub: &Hub, token: &str) -> Socket {
    let mut socket = Socket::open(&hub.ws(&format!("/ws?workspace_id={}", hub.workspace)), None).await;
    socket.send(json!({ "type": "auth", "payload": { "token": token } })).await;
    assert_eq!(socket.next().await["type"], "auth_ack");
    socket
}

/// The next so many events, in order.
pub async fn events(socket: &mut Socket, count: usize) -> Vec<(String, Value)> {
    let mut events = Vec::new();
    while events.len() < count {
        let mut event = socket.next().await;
        events.push((event["type"].as_str().unwrap().to_owned(), event["payload"].take()));
    }
    events
}

/// What is told of a task.
pub fn told(task: Uuid, agent: Uuid, status: &str, chat: Option<Uuid>) -> (String, Value) {
    let mut payload = json!({ "task_id": task, "agent_id": agent, "issue_id": "", "status": status });
    if let Some(chat) = chat {
        payload["chat_session_id"] = json!(chat);
    }
    (format!("task:{status}"), payload)
}

/// Whether an event says that an agent is in a status now.
pub fn is_agent_status(event: &(String, Value), agent: Uuid, status: &str) -> bool {
    event.0 == "agent:status" && event.1["agent"]["id"] == json!(agent) && event.1["agent"]["status"] == status
}

/// What a daemon is woken for next.
pub async fn woken(socket: &mut Socket) -> (Uuid, Uuid) {
    let frame = socket.next_of("daemon:task_available").await;
    (uuid(&frame["payload"]["runtime_id"]), uuid(&frame["payload"]["task_id"]))
}

/// How a task is, as its daemon is told.
pub async fn status(hub: &Hub, task: Uuid) -> String {
    let answer = hub.get(&format!("/api/daemon/tasks/{task}/status")).await.expect(200);
    answer["status"].as_str().unwrap().to_owned()
}
