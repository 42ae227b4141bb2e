//! Chats: a person's own, told to everybody else by ids.

use serde_json::{Value, json};
use uuid::Uuid;

use super::attachments::upload_as;
use crate::support::{
    Backend, Hub, Socket,
    hub::{id, keys},
};

on_both_stores!(
    chats_have_the_fields_that_clients_read,
    others_are_told_by_ids_live_replayed_and_polled,
    attachments_go_with_their_message,
    what_was_read_is_told_once,
    a_chat_is_its_creators_alone,
    whoever_may_not_see_the_agent_has_no_chat_with_it,
    whatever_is_wrong_is_refused_and_changes_nothing,
);

const SESSION: [&str; 9] =
    ["agent_id", "created_at", "creator_id", "has_unread", "id", "status", "title", "updated_at", "workspace_id"];
const MESSAGE: [&str; 8] =
    ["chat_session_id", "content", "created_at", "elapsed_ms", "failure_reason", "id", "role", "task_id"];

async fn agent(hub: &Hub, name: &str, visibility: &str) -> Uuid {
    let runtime = hub.register("d", &["claude"]).await[0];
    let wish = json!({ "name": name, "runtime_id": runtime, "visibility": visibility });
    id(&hub.cli("POST", "/api/agents", wish).await.expect(201))
}

async fn chat(hub: &Hub, token: &str, agent: Uuid) -> Value {
    hub.cli_as(token, "POST", "/api/chat/sessions", json!({ "agent_id": agent })).await.expect(201)
}

fn path(session: &Value) -> String {
    format!("/api/chat/sessions/{}", id(session))
}

async fn user(hub: &Hub, token: &str) -> Uuid {
    id(&hub.call("GET", "/api/me", Some(token), Value::Null).await.expect(200))
}

/// A browser of anybody, from a position.
async fn browser(hub: &Hub, token: &str, position: Value) -> (Socket, Value) {
    let mut socket = Socket::open(&hub.ws(&format!("/ws?workspace_id={}", hub.workspace)), None).await;
    let mut payload = position;
    payload["token"] = json!(token);
    socket.send(json!({ "type": "auth", "payload": payload })).await;
    let ack = socket.next().await;
    assert_eq!(ack["type"], "auth_ack", "{ack}");
    (socket, ack["payload"].clone())
}

async fn chats_have_the_fields_that_clients_read(backend: Backend) {
    let hub = Hub::start(backend).await;
    let agent = agent(&hub, "a", "workspace").await;
    let me = user(&hub, &hub.token).await;
    let wish = json!({ "agent_id": agent, "title": " Plans ", "more": 1 });
    let made = hub.cli("POST", "/api/chat/sessions", wish).await.expect(201);
    assert_eq!(keys(&made), SESSION);
    assert_eq!(
        made,
        json!({
            "id": made["id"], "workspace_id": hub.workspace, "agent_id": agent, "creator_id": me, "title": "Plans",
            "status": "active", "has_unread": false, "created_at": made["created_at"],
            "updated_at": made["created_at"],
        })
    );
    let untitled = hub.cli("POST", "/api/chat/sessions", json!({ "agent_id": agent, "title": null })).await.expect(201);
    assert_eq!(untitled["title"], "");
    assert_eq!(hub.cli("GET", &path(&made), Value::Null).await.expect(200), made);
    assert_eq!(hub.cli("GET", &format!("{}/pending-task", path(&made)), Value::Null).await.expect(200), json!({}));
    let messages = format!("{}/messages", path(&made));
    assert_eq!(hub.cli("GET", &messages, Value::Null).await.expect(200), json!([]));

    let list = hub.cli("GET", "/api/chat/sessions", Value::Null).await;
    assert!(list.headers.contains_key("x-event-seq") && list.headers.contains_key("x-event-epoch"));
    assert_eq!(list.expect(200), json!([untitled, made]), "newest first");

    let sent = hub.cli("POST", &messages, json!({ "content": " hi\u{0} ", "attachment_ids": null })).await.expect(201);
    assert_eq!(keys(&sent), ["attachment_ids", "created_at", "message_id", "task_id"]);
    assert_eq!(sent["attachment_ids"], Value::Null);
    assert!(sent["task_id"].is_string());
    let second = hub.cli("POST", &messages, json!({ "content": "and", "attachment_ids": [] })).await.expect(201);
    assert_eq!(second["attachment_ids"], Value::Null, "none were asked for");
    let answer = hub.cli("GET", &messages, Value::Null).await;
    assert!(answer.headers.contains_key("x-event-seq"));
    let said = answer.expect(200);
    assert_eq!(keys(&said[0]), MESSAGE, "without attachments there is no such member");
    assert_eq!(
        said[0],
        json!({
            "id": sent["message_id"], "chat_session_id": made["id"], "role": "user", "content": " hi\u{FFFD} ",
            "task_id": sent["task_id"], "created_at": sent["created_at"], "failure_reason": null, "elapsed_ms": null,
        })
    );
    assert_eq!((&said[1]["id"], said.as_array().unwrap().len()), (&second["message_id"], 2));

    // What was talked in last comes first; archived ones only when asked for; unread only in lists.
    hub.sql("UPDATE chat_session SET unread_since = 1, status = 'archived' WHERE title = ''").await;
    let list = hub.cli("GET", "/api/chat/sessions?status=", Value::Null).await.expect(200);
    assert_eq!((list.as_array().unwrap().len(), &list[0]["id"]), (1, &made["id"]));
    let list = hub.cli("GET", "/api/chat/sessions?status=all", Value::Null).await.expect(200);
    assert_eq!((&list[0]["id"], &list[0]["has_unread"]), (&made["id"], &json!(false)));
    assert_eq!((&list[1]["id"], &list[1]["has_unread"]), (&untitled["id"], &json!(true)));
    assert_eq!(list[1]["status"], "archived");
    assert_eq!(hub.cli("GET", &path(&untitled), Value::Null).await.expect(200)["has_unread"], false);
}

async fn others_are_told_by_ids_live_replayed_and_polled(backend: Backend) {
    let hub = Hub::start(backend).await;
    let agent = agent(&hub, "a", "workspace").await;
    // Not even the workspace's owner has a part in a member's chat.
    let creator = hub.member("m@example.com", "member").await;
    let me = user(&hub, &creator).await;
    let (mut own, ack) = browser(&hub, &creator, json!({})).await;
    let (mut others, _) = browser(&hub, &hub.token, json!({})).await;
    let since = json!({ "since": ack["seq"], "epoch": ack["epoch"] });

    // Nothing is told of an empty chat.
    let session = chat(&hub, &creator, agent).await;
    let messages = format!("{}/messages", path(&session));
    let sent = hub.cli_as(&creator, "POST", &messages, json!({ "content": "secret" })).await.expect(201);
    let title = json!({ "title": " Named " });
    let named = hub.cli_as(&creator, "PATCH", &path(&session), title.clone()).await.expect(200);
    assert_eq!((keys(&named), &named["title"]), (SESSION.to_vec(), &json!("Named")));
    assert_eq!(hub.cli_as(&creator, "PATCH", &path(&session), title).await.expect(200), named, "nothing changed");
    hub.cli_as(&creator, "DELETE", &path(&session), Value::Null).await.expect(204);

    let ids = json!({ "chat_session_id": session["id"] });
    let told = |status: &str| {
        json!({
            "task_id": sent["task_id"], "agent_id": agent, "issue_id": "", "status": status,
            "chat_session_id": session["id"],
        })
    };
    let expected = [
        ("task:queued", told("queued"), told("queued")),
        (
            "chat:message",
            json!({
                "chat_session_id": session["id"], "message_id": sent["message_id"], "role": "user",
                "content": "secret", "created_at": sent["created_at"], "task_id": sent["task_id"],
            }),
            json!({
                "chat_session_id": session["id"], "message_id": sent["message_id"], "task_id": sent["task_id"],
            }),
        ),
        (
            "chat:session_updated",
            json!({ "chat_session_id": session["id"], "title": "Named", "updated_at": named["updated_at"] }),
            ids.clone(),
        ),
        ("task:cancelled", told("cancelled"), told("cancelled")),
        ("chat:session_deleted", ids.clone(), ids.clone()),
    ];
    let mut live = Vec::new();
    for (kind, whole, reduced) in &expected {
        let (mine, theirs) = (own.next().await, others.next().await);
        assert_eq!((&mine["type"], &mine["payload"]), (&json!(kind), whole));
        assert_eq!((&theirs["type"], &theirs["payload"]), (&json!(kind), reduced));
        let actor = if kind.starts_with("task:") { (json!("system"), json!("")) } else { (json!("member"), json!(me)) };
        assert_eq!((&mine["actor_type"], &mine["actor_id"]), (&actor.0, &actor.1), "{kind}");
        for member in ["seq", "event_id", "actor_type", "actor_id"] {
            assert_eq!(mine[member], theirs[member], "{kind}: {member}");
        }
        live.push((mine, theirs));
    }

    let (mut own, _) = browser(&hub, &creator, since.clone()).await;
    let (mut others, _) = browser(&hub, &hub.token, since.clone()).await;
    for (mine, theirs) in &live {
        assert_eq!((&own.next().await, &others.next().await), (mine, theirs), "the same when replayed");
    }
    let poll = format!("/api/events?since={}&epoch={}", since["since"], since["epoch"].as_str().unwrap());
    let polled = hub.cli_as(&creator, "GET", &poll, Value::Null).await.expect(200);
    assert_eq!(polled["events"], json!(live.iter().map(|(mine, _)| mine).collect::<Vec<_>>()));
    let polled = hub.cli("GET", &poll, Value::Null).await.expect(200);
    assert_eq!(polled["events"], json!(live.iter().map(|(_, theirs)| theirs).collect::<Vec<_>>()));
}

async fn attachments_go_with_their_message(backend: Backend) {
    let hub = Hub::start(backend).await;
    let agent = agent(&hub, "a", "workspace").await;
    let creator = hub.member("m@example.com", "member").await;
    let session = chat(&hub, &creator, agent).await;
    let messages = format!("{}/messages", path(&session));
    let mut files = Vec::new();
    for _ in 0..2 {
        files.push(upload_as(&hub, &creator, &[("file", Some(("f", "x/y")), b"x")]).await.expect(200));
    }
    let theirs = upload_as(&hub, &hub.token, &[("file", Some(("f", "x/y")), b"x")]).await.expect(200);
    let before = hub.fingerprint().await;
    for wrong in [json!("x"), theirs["id"].clone(), json!(Uuid::new_v4()), Value::Null] {
        let wish = json!({ "content": "c", "attachment_ids": [files[0]["id"], wrong] });
        hub.cli_as(&creator, "POST", &messages, wish).await.refused(400, "invalid attachment_ids");
    }
    assert_eq!(hub.fingerprint().await, before);

    let wish = json!({ "content": "c", "attachment_ids": [files[1]["id"], files[0]["id"], files[1]["id"]] });
    let sent = hub.cli_as(&creator, "POST", &messages, wish.clone()).await.expect(201);
    assert_eq!(sent["attachment_ids"], json!([files[1]["id"], files[0]["id"]]), "in the order asked for");
    hub.cli_as(&creator, "POST", &messages, wish).await.refused(400, "invalid attachment_ids");
    let said = hub.cli_as(&creator, "GET", &messages, Value::Null).await.expect(200);
    for file in &mut files {
        file["chat_session_id"] = session["id"].clone();
        file["chat_message_id"] = sent["message_id"].clone();
    }
    assert_eq!(said[0]["attachments"], json!(files), "oldest first");

    // Two messages that name one file at once: one of them has it.
    let raced = upload_as(&hub, &creator, &[("file", Some(("f", "x/y")), b"x")]).await.expect(200);
    let wish = json!({ "content": "c", "attachment_ids": [raced["id"]] });
    let (one, other) = tokio::join!(
        hub.cli_as(&creator, "POST", &messages, wish.clone()),
        hub.cli_as(&creator, "POST", &messages, wish.clone()),
    );
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 400]);

    // The chat decides who reads them: neither the owner, nor an agent in whoever's name.
    let file = format!("/api/attachments/{}", id(&files[0]));
    assert_eq!(hub.cli_as(&creator, "GET", &file, Value::Null).await.expect(200), files[0]);
    let task = hub.app.mint_task_token(hub.workspace, user(&hub, &creator).await).await.unwrap();
    for token in [&hub.token, &task] {
        for path in [file.clone(), format!("{file}/content")] {
            hub.cli_as(token, "GET", &path, Value::Null).await.refused(404, "attachment not found");
        }
        hub.cli_as(token, "DELETE", &file, Value::Null).await.refused(404, "attachment not found");
    }

    hub.cli_as(&creator, "DELETE", &path(&session), Value::Null).await.expect(204);
    assert_eq!(hub.rows("SELECT 'x' FROM chat_message").await.len(), 0);
    assert_eq!(hub.rows("SELECT 'x' FROM attachment").await.len(), 1, "the owner's");
    hub.cli_as(&creator, "GET", &file, Value::Null).await.refused(404, "attachment not found");
}

async fn what_was_read_is_told_once(backend: Backend) {
    let hub = Hub::start(backend).await;
    let agent = agent(&hub, "a", "workspace").await;
    let session = chat(&hub, &hub.token, agent).await;
    let (mut browser, _) = hub.browser().await;
    let read = format!("{}/read", path(&session));
    let before = hub.fingerprint().await;
    hub.cli("POST", &read, Value::Null).await.expect(204);
    assert_eq!(hub.fingerprint().await, before, "there was nothing to read");
    hub.sql("UPDATE chat_session SET unread_since = 1").await;
    for _ in 0..2 {
        hub.cli("POST", &read, Value::Null).await.expect(204);
    }
    hub.cli("PATCH", &path(&session), json!({ "title": "t" })).await.expect(200);
    let event = browser.next().await;
    assert_eq!(event["type"], "chat:session_read");
    assert_eq!(event["payload"], json!({ "chat_session_id": session["id"] }));
    assert_eq!(browser.next().await["type"], "chat:session_updated");
    let listed = hub.cli("GET", "/api/chat/sessions", Value::Null).await.expect(200);
    assert_eq!(listed[0]["has_unread"], false);
}

/// Every call about one chat, with a body that would do.
fn calls(session: &str) -> Vec<(&'static str, String, Value)> {
    let path = format!("/api/chat/sessions/{session}");
    vec![
        ("GET", path.clone(), Value::Null),
        ("PATCH", path.clone(), json!({ "title": "t" })),
        ("GET", format!("{path}/messages"), Value::Null),
        ("POST", format!("{path}/messages"), json!({ "content": "c" })),
        ("GET", format!("{path}/pending-task"), Value::Null),
        ("POST", format!("{path}/read"), Value::Null),
        ("DELETE", path, Value::Null),
    ]
}

async fn a_chat_is_its_creators_alone(backend: Backend) {
    let hub = Hub::start(backend).await;
    let agent = agent(&hub, "a", "workspace").await;
    let creator = hub.member("m@example.com", "member").await;
    let session = chat(&hub, &creator, agent).await;
    let task = hub.app.mint_task_token(hub.workspace, user(&hub, &creator).await).await.unwrap();
    let before = hub.fingerprint().await;
    for (method, path, body) in calls(&id(&session).to_string()) {
        hub.cli(method, &path, body.clone()).await.refused(403, "not your chat session");
        hub.cli_as(&task, method, &path, body).await.refused(403, "task tokens may not do this");
    }
    assert_eq!(hub.cli("GET", "/api/chat/sessions?status=all", Value::Null).await.expect(200), json!([]));
    assert_eq!(hub.fingerprint().await, before);
}

async fn whoever_may_not_see_the_agent_has_no_chat_with_it(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (agent, hidden) = (agent(&hub, "a", "workspace").await, agent(&hub, "b", "private").await);
    let member = hub.member("m@example.com", "member").await;
    let session = chat(&hub, &member, agent).await;
    let no_access = "you do not have access to this agent";
    let wish = json!({ "agent_id": hidden });
    hub.cli_as(&member, "POST", "/api/chat/sessions", wish.clone()).await.refused(403, no_access);
    hub.cli("POST", "/api/chat/sessions", wish).await.expect(201);

    hub.cli("PUT", &format!("/api/agents/{agent}"), json!({ "visibility": "private" })).await.expect(200);
    let before = hub.fingerprint().await;
    for (method, path, body) in calls(&id(&session).to_string()) {
        hub.cli_as(&member, method, &path, body).await.refused(403, no_access);
    }
    let list = hub.cli_as(&member, "GET", "/api/chat/sessions", Value::Null).await.expect(200);
    assert_eq!(list, json!([]));
    assert_eq!(hub.fingerprint().await, before);
    hub.cli("PUT", &format!("/api/agents/{agent}"), json!({ "visibility": "workspace" })).await.expect(200);
    hub.cli_as(&member, "GET", &path(&session), Value::Null).await.expect(200);
}

async fn whatever_is_wrong_is_refused_and_changes_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let elsewhere = hub.another_workspace("other").await;
    let runtime = hub.register_as(&hub.token, elsewhere, "e", &["claude"]).await[0];
    let at = |path: &str| format!("{path}?workspace_id={elsewhere}");
    let wish = json!({ "name": "theirs", "runtime_id": runtime });
    let foreign_agent = id(&hub.post(&at("/api/agents"), wish).await.expect(201));
    let wish = json!({ "agent_id": foreign_agent });
    let foreign = hub.post(&at("/api/chat/sessions"), wish).await.expect(201);
    let (agent, old) = (agent(&hub, "a", "workspace").await, agent(&hub, "old", "workspace").await);
    let (session, with_old) = (chat(&hub, &hub.token, agent).await, chat(&hub, &hub.token, old).await);
    let over = hub.cli("POST", "/api/chat/sessions", json!({ "agent_id": agent, "title": "over" })).await.expect(201);
    hub.cli("POST", &format!("/api/agents/{old}/archive"), Value::Null).await.expect(200);
    hub.sql("UPDATE chat_session SET status = 'archived' WHERE title = 'over'").await;
    let before = hub.fingerprint().await;

    let long = "ü".repeat(201);
    for (body, text) in [
        (json!({}), "agent_id is required"),
        (Value::Null, "agent_id is required"),
        (json!({ "agent_id": 1 }), "invalid request body"),
        (json!({ "agent_id": "x" }), "invalid agent_id"),
        (json!({ "agent_id": Uuid::new_v4() }), "invalid agent_id"),
        (json!({ "agent_id": foreign_agent }), "invalid agent_id"),
        (json!({ "agent_id": old }), "agent is archived"),
        (json!({ "agent_id": agent, "title": long }), "title must be 200 characters or fewer"),
    ] {
        hub.cli("POST", "/api/chat/sessions", body).await.refused(400, text);
    }
    for (body, text) in [
        (json!({}), "title is required"),
        (json!({ "title": " " }), "title is required"),
        (json!({ "title": long }), "title must be 200 characters or fewer"),
        (json!({ "title": [] }), "invalid request body"),
    ] {
        hub.cli("PATCH", &path(&session), body).await.refused(400, text);
    }
    for (session, body, text) in [
        (&session, Value::Null, "content is required"),
        (&session, json!({ "content": " \n" }), "content is required"),
        (&session, json!({ "content": "c", "attachment_ids": "x" }), "invalid request body"),
        (&over, json!({ "content": "c" }), "chat session is archived"),
        (&with_old, json!({ "content": "c" }), "agent is archived"),
    ] {
        hub.cli("POST", &format!("{}/messages", path(session)), body).await.refused(400, text);
    }
    for missing in [id(&foreign), Uuid::new_v4()] {
        for (method, path, body) in calls(&missing.to_string()) {
            hub.cli(method, &path, body).await.refused(404, "chat session not found");
        }
    }
    for (method, path, body) in calls("nonsense") {
        hub.cli(method, &path, body).await.refused(400, "invalid chat_session_id");
    }
    hub.get("/api/chat/sessions").await.refused(400, "workspace_id or workspace_slug is required");
    assert_eq!(hub.fingerprint().await, before);
    // 200 characters are not too many, whatever their bytes; one that is over can still be removed.
    hub.cli("PATCH", &path(&session), json!({ "title": long[2..] })).await.expect(200);
    hub.cli("DELETE", &path(&over), Value::Null).await.expect(204);
}
