//! What somebody may do changes while they are connected, or while others lose what is theirs.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    support::{Backend, Hub, Socket, fleet::acked, hub::id},
    tasks::desk,
};

on_both_stores!(
    a_role_counts_from_its_change_on,
    daemons_come_back_while_tasks_end,
    a_socket_goes_on_with_its_token_renewed,
);
on_all_stores!(whoever_may_hear_a_task_no_longer_hears_nothing_more_of_it);

async fn set_role(hub: &Hub, email: &str, role: &str) {
    let members = format!("/api/workspaces/{}/members", hub.workspace);
    let list = hub.get(&members).await.expect(200);
    let member = id(list.as_array().unwrap().iter().find(|member| member["email"] == email).unwrap());
    hub.patch(&format!("{members}/{member}"), json!({ "role": role })).await.expect(200);
}

async fn a_role_counts_from_its_change_on(backend: Backend) {
    let hub = Hub::start(backend).await;
    let token = hub.member("a@example.com", "admin").await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let path = format!("/api/daemon/runtimes/{runtime}/recover-orphans");
    let recover = async || hub.call("POST", &path, Some(&token), json!({})).await;
    recover().await.expect(200);
    set_role(&hub, "a@example.com", "member").await;
    recover().await.refused(404, "not found");
    set_role(&hub, "a@example.com", "admin").await;
    recover().await.expect(200);
}

async fn daemons_come_back_while_tasks_end(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["claude", "codex"]).await;
    let agent = desk::agent(&hub, runtimes[0], "a", "workspace").await;
    let ended = AtomicBool::new(false);
    let ends = async {
        for _ in 0..25 {
            desk::wish(&hub, &hub.token, agent).await;
            desk::work(&hub, runtimes[0]).await;
        }
        ended.store(true, Ordering::Relaxed);
    };
    let comes_back = async || {
        let mut times = 0;
        while !ended.load(Ordering::Relaxed) {
            let mut socket = hub.daemon(&[runtimes[1]]).await;
            acked(&mut socket, runtimes[1]).await;
            times += 1;
        }
        times
    };
    let ((), one, two) = tokio::join!(ends, comes_back(), comes_back());
    assert!(one > 10 && two > 10, "{one} and {two} times");
}

async fn a_socket_goes_on_with_its_token_renewed(backend: Backend) {
    const DAY: u64 = 24 * 3600;
    let hub = Hub::start(backend).await;
    let made = hub.post("/api/tokens", json!({ "name": "t", "expires_in_days": 1 })).await.expect(201);
    let token = made["token"].as_str().unwrap();
    hub.app.advance_clock(Duration::from_secs(DAY - 6));
    let mut socket = desk::browser(&hub, token).await;
    assert_eq!(socket.next_of("refresh").await["type"], "refresh");
    let renewed = hub.call("POST", "/api/tokens/current/renew", Some(token), json!({})).await.expect(200);
    assert_eq!(renewed["renewed"], true);
    socket.send(json!({ "type": "auth", "payload": { "token": token } })).await;
    assert_eq!(socket.next_of("auth_ack").await["type"], "auth_ack");
    // Beyond its former end.
    socket.quiet_for(Duration::from_secs(7)).await;
    hub.register("d", &["claude"]).await;
    socket.next_of("daemon:register").await;
}

/// A browser that follows a task.
async fn listener(hub: &Hub, token: &str, task: Uuid) -> Socket {
    let url = hub.ws(&format!("/ws?workspace_id={}&delivery=scoped", hub.workspace));
    let mut socket = Socket::open(&url, None).await;
    socket.send(json!({ "type": "auth", "payload": { "token": token } })).await;
    socket.next_of("auth_ack").await;
    socket.send(json!({ "type": "subscribe", "payload": { "scope": "task", "id": task } })).await;
    socket.next_of("subscribe_ack").await;
    socket
}

async fn say(hub: &Hub, task: Uuid, seq: usize) {
    let message = json!({ "seq": seq, "type": "text", "content": format!("message {seq}") });
    desk::report(hub, task, "messages", json!({ "messages": [message] })).await;
}

async fn whoever_may_hear_a_task_no_longer_hears_nothing_more_of_it(backend: Backend) {
    let hub = Hub::start(backend).await;
    let node = match backend {
        Backend::PostgresRedis => Some(hub.another_node(&[]).await),
        _ => None,
    };
    let place = node.as_ref().unwrap_or(&hub);
    let (admin, member) = (hub.member("a@example.com", "admin").await, hub.member("m@example.com", "member").await);
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut tasks = Vec::new();
    for (name, visibility) in [("hidden", "private"), ("open", "workspace")] {
        let agent = desk::agent(&hub, runtime, name, visibility).await;
        desk::wish(&hub, &hub.token, agent).await;
        let task = id(&desk::claim(&hub, runtime).await);
        desk::report(&hub, task, "start", json!({})).await;
        tasks.push((task, agent));
    }
    let (hidden, open) = (tasks[0].0, tasks[1].0);
    let mut sockets = [listener(place, &admin, hidden).await, listener(place, &member, open).await];
    let mut stays = listener(place, &admin, open).await;
    for task in [hidden, open] {
        say(&hub, task, 1).await;
    }
    for socket in &mut sockets {
        assert_eq!(socket.next_of("task:message").await["payload"]["content"], "message 1");
    }
    stays.next_of("task:message").await;
    // One is an admin no longer, the other one's agent is private from now on.
    set_role(&hub, "a@example.com", "member").await;
    let private = json!({ "visibility": "private" });
    hub.cli("PUT", &format!("/api/agents/{}", tasks[1].1), private).await.expect(200);
    for socket in &mut sockets {
        socket.next_of("agent:status").await;
    }
    for seq in [2, 3] {
        for task in [hidden, open] {
            say(&hub, task, seq).await;
        }
    }
    for (socket, task) in sockets.iter_mut().zip([hidden, open]) {
        let told = loop {
            let frame = socket.next().await;
            assert_ne!(frame["payload"]["content"], "message 2", "{frame}");
            if frame["type"] == "subscribe_error" {
                break frame;
            }
        };
        assert_eq!(told["payload"], json!({ "scope": "task", "id": task, "error": "forbidden" }));
        let path = format!("/api/tasks/{task}/messages");
        let token = if task == hidden { &admin } else { &member };
        hub.cli_as(token, "GET", &path, Value::Null).await.refused(403, "you do not have access to this agent");
    }
}
