//! Messages in chats ask for work, and the end of a chat ends it.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::desk::{self, events, is_agent_status, told, uuid};
use crate::{
    records::attachments::upload_as,
    support::{Backend, Hub, hub::id},
};

on_both_stores!(
    a_message_is_a_task_that_is_told_first,
    several_messages_before_the_run_are_one_run,
    the_end_of_a_chat_ends_its_work_and_wakes_the_next,
    an_agent_reads_the_files_of_its_own_task_s_chat,
    a_message_that_is_refused_asks_for_nothing,
);

async fn pending(hub: &Hub, token: &str, chat: Uuid) -> Value {
    hub.cli_as(token, "GET", &format!("/api/chat/sessions/{chat}/pending-task"), Value::Null).await.expect(200)
}

async fn a_message_is_a_task_that_is_told_first(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    let creator = hub.member("m@example.com", "member").await;
    let chat = desk::chat(&hub, &creator, agent).await;
    assert_eq!(pending(&hub, &creator, chat).await, json!({}));
    let mut daemon = hub.daemon(&[runtime]).await;
    let (mut own, mut others) = (desk::browser(&hub, &creator).await, desk::browser(&hub, &hub.token).await);

    let path = format!("/api/chat/sessions/{chat}/messages");
    let sent = hub.cli_as(&creator, "POST", &path, json!({ "content": "hi" })).await.expect(201);
    let task = uuid(&sent["task_id"]);
    let ids = json!({ "chat_session_id": chat, "message_id": sent["message_id"], "task_id": task });
    let mut whole = ids.clone();
    for (name, value) in [("role", json!("user")), ("content", json!("hi")), ("created_at", sent["created_at"].clone())]
    {
        whole[name] = value;
    }
    let queued = told(task, agent, "queued", Some(chat));
    assert_eq!(events(&mut own, 2).await, [queued.clone(), ("chat:message".into(), whole)]);
    assert_eq!(events(&mut others, 2).await, [queued, ("chat:message".into(), ids)]);
    assert_eq!(desk::woken(&mut daemon).await, (runtime, task));
    let waiting = json!({ "task_id": task, "status": "queued", "created_at": sent["created_at"] });
    assert_eq!(pending(&hub, &creator, chat).await, waiting);

    let claimed = desk::claim(&hub, runtime).await;
    assert_eq!((id(&claimed), &claimed["kind"], &claimed["priority"]), (task, &json!("chat"), &json!(2)));
    assert_eq!(claimed["chat_session_id"], json!(chat));
    assert_eq!(pending(&hub, &creator, chat).await["status"], "dispatched");
    desk::report(&hub, task, "start", json!({})).await;
    desk::report(&hub, task, "complete", json!({ "output": "ho" })).await;
    assert_eq!(pending(&hub, &creator, chat).await, json!({}));
}

async fn several_messages_before_the_run_are_one_run(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    let chat = desk::chat(&hub, &hub.token, agent).await;
    let other = desk::chat(&hub, &hub.token, agent).await;
    let mut daemon = hub.daemon(&[runtime]).await;
    let mut browser = desk::browser(&hub, &hub.token).await;
    let path = format!("/api/chat/sessions/{chat}/messages");
    let first = hub.cli("POST", &path, json!({ "content": "one" })).await.expect(201);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let second = hub.cli("POST", &path, json!({ "content": "two" })).await.expect(201);
    assert_eq!(second["task_id"], first["task_id"]);
    assert_eq!(second["created_at"], first["created_at"], "the task's");
    let elsewhere = desk::say(&hub, &hub.token, other).await;
    assert_ne!(json!(elsewhere), first["task_id"], "another chat's is another run");
    let kinds: Vec<String> = events(&mut browser, 5).await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["task:queued", "chat:message", "chat:message", "task:queued", "chat:message"]);
    assert_eq!(desk::woken(&mut daemon).await.1, uuid(&first["task_id"]));
    assert_eq!(desk::woken(&mut daemon).await.1, elsewhere, "nobody is woken twice for one task");

    // Once it was given to the daemon, what comes next is the next run.
    assert_eq!(json!(id(&desk::claim(&hub, runtime).await)), first["task_id"]);
    let third = hub.cli("POST", &path, json!({ "content": "three" })).await.expect(201);
    assert_ne!(third["task_id"], first["task_id"]);
    assert_eq!(pending(&hub, &hub.token, chat).await["task_id"], third["task_id"], "the newest");
    // Two that speak at once are one run as well.
    let again = desk::chat(&hub, &hub.token, agent).await;
    let (one, two) = tokio::join!(desk::say(&hub, &hub.token, again), desk::say(&hub, &hub.token, again));
    assert_eq!(one, two);
}

async fn the_end_of_a_chat_ends_its_work_and_wakes_the_next(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    hub.cli("PUT", &format!("/api/agents/{agent}"), json!({ "max_concurrent_tasks": 1 })).await.expect(200);
    let (chat, other) = (desk::chat(&hub, &hub.token, agent).await, desk::chat(&hub, &hub.token, agent).await);
    let running = desk::say(&hub, &hub.token, chat).await;
    let claimed = desk::claim(&hub, runtime).await;
    assert_eq!(id(&claimed), running);
    let waiting = desk::say(&hub, &hub.token, chat).await;
    let next = desk::say(&hub, &hub.token, other).await;
    let mut daemon = hub.daemon(&[runtime]).await;
    let mut browser = desk::browser(&hub, &hub.token).await;

    hub.cli("DELETE", &format!("/api/chat/sessions/{chat}"), Value::Null).await.expect(204);
    let told_of = events(&mut browser, 4).await;
    assert!(is_agent_status(&told_of[0], agent, "idle"), "{told_of:?}");
    let expected = [
        told(running, agent, "cancelled", Some(chat)),
        told(waiting, agent, "cancelled", Some(chat)),
        ("chat:session_deleted".to_owned(), json!({ "chat_session_id": chat })),
    ];
    assert_eq!(told_of[1..], expected);
    assert_eq!(desk::woken(&mut daemon).await, (runtime, next));
    assert_eq!(desk::status(&hub, running).await, "cancelled");
    let token = claimed["auth_token"].as_str().unwrap();
    assert_eq!(hub.cli_as(token, "GET", "/api/issues", Value::Null).await.status, 401, "its token ended");

    // One that never began concerns nobody's status.
    hub.cli("DELETE", &format!("/api/chat/sessions/{other}"), Value::Null).await.expect(204);
    let expected = [
        told(next, agent, "cancelled", Some(other)),
        ("chat:session_deleted".to_owned(), json!({ "chat_session_id": other })),
    ];
    assert_eq!(events(&mut browser, 2).await, expected);
    assert_eq!(desk::claim(&hub, runtime).await, Value::Null);
}

async fn an_agent_reads_the_files_of_its_own_task_s_chat(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    let creator = hub.member("m@example.com", "member").await;
    let mut files = Vec::new();
    for _ in 0..2 {
        let chat = desk::chat(&hub, &creator, agent).await;
        let file = upload_as(&hub, &creator, &[("file", Some(("f", "x/y")), b"x")]).await.expect(200);
        let wish = json!({ "content": "c", "attachment_ids": [file["id"]] });
        hub.cli_as(&creator, "POST", &format!("/api/chat/sessions/{chat}/messages"), wish).await.expect(201);
        files.push(format!("/api/attachments/{}", id(&file)));
    }
    let first = desk::claim(&hub, runtime).await;
    let token = first["auth_token"].as_str().unwrap();
    let own = hub.cli_as(token, "GET", &files[0], Value::Null).await.expect(200);
    assert_eq!(own["chat_session_id"], first["chat_session_id"]);
    let content = hub.cli_as(token, "GET", &format!("{}/content", files[0]), Value::Null).await;
    assert_eq!((content.status, content.text.as_str()), (200, "x"));
    let before = hub.fingerprint().await;
    let text = "only the uploader or a workspace admin can do this";
    hub.cli_as(token, "DELETE", &files[0], Value::Null).await.refused(403, text);
    for path in [files[1].clone(), format!("{}/content", files[1])] {
        hub.cli_as(token, "GET", &path, Value::Null).await.refused(404, "attachment not found");
    }
    assert_eq!(hub.fingerprint().await, before);
    desk::report(&hub, id(&first), "start", json!({})).await;
    desk::report(&hub, id(&first), "complete", json!({})).await;
    assert_eq!(hub.cli_as(token, "GET", &files[0], Value::Null).await.status, 401);
}

async fn a_message_that_is_refused_asks_for_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    let member = hub.member("m@example.com", "member").await;
    let (chat, theirs) = (desk::chat(&hub, &hub.token, agent).await, desk::chat(&hub, &member, agent).await);
    let path = |chat: Uuid| format!("/api/chat/sessions/{chat}/messages");
    let before = hub.fingerprint().await;
    let wrong_file = json!({ "content": "c", "attachment_ids": [Uuid::new_v4()] });
    hub.cli("POST", &path(chat), wrong_file).await.refused(400, "invalid attachment_ids");
    hub.cli("POST", &path(chat), json!({ "content": " " })).await.refused(400, "content is required");
    hub.cli("POST", &path(theirs), json!({ "content": "c" })).await.refused(403, "not your chat session");
    let pending = format!("/api/chat/sessions/{theirs}/pending-task");
    hub.cli("GET", &pending, Value::Null).await.refused(403, "not your chat session");
    assert_eq!(hub.fingerprint().await, before);

    hub.cli("POST", &format!("/api/agents/{agent}/archive"), Value::Null).await.expect(200);
    let before = hub.fingerprint().await;
    hub.cli("POST", &path(chat), json!({ "content": "c" })).await.refused(400, "agent is archived");
    assert_eq!(hub.fingerprint().await, before);
}
