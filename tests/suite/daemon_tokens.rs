//! Daemon tokens: one workspace, one daemon id, in their creator's name.

use serde_json::{Value, json};

use crate::support::{Backend, Hub, Socket, hub::id};

on_both_stores!(
    a_june_daemon_starts_with_one,
    it_is_good_for_its_own_daemon_only,
    members_see_their_own_and_admins_all,
    the_command_line_makes_one_while_the_hub_runs,
);

async fn mint(hub: &Hub, by: &str, daemon: &str) -> Value {
    let path = format!("/api/workspaces/{}/daemon-tokens", hub.workspace);
    hub.call("POST", &path, Some(by), json!({ "daemon_id": daemon })).await.expect(201)
}

/// The calls of a June daemon's start, in order, with their real bodies.
async fn a_june_daemon_starts_with_one(backend: Backend) {
    let hub = Hub::start(backend).await;
    hub.another_workspace("not-this-one").await;
    let made = mint(&hub, &hub.token, "host-1").await;
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("mdt_"));
    hub.call("POST", "/api/tokens/current/renew", Some(token), json!({}))
        .await
        .refused(400, "only personal access tokens can be renewed");
    let workspaces = hub.call("GET", "/api/workspaces", Some(token), Value::Null).await.expect(200);
    assert_eq!(workspaces.as_array().unwrap().len(), 1, "the one it is good for: {workspaces}");
    assert_eq!(id(&workspaces[0]), hub.workspace);
    let profiles = format!("/api/daemon/workspaces/{}/runtime-profiles", hub.workspace);
    hub.call("GET", &profiles, Some(token), Value::Null).await.expect(200);
    let register = json!({
        "workspace_id": hub.workspace, "daemon_id": "host-1", "legacy_daemon_ids": null, "device_name": "host-1",
        "cli_version": "0.3.0", "launched_by": "",
        "runtimes": [{ "name": "Claude", "type": "claude", "version": "2.1", "status": "online" }],
    });
    let answer = hub.call("POST", "/api/daemon/register", Some(token), register).await.expect(200);
    let runtime = id(&answer["runtimes"][0]);
    let me = hub.get("/api/me").await.expect(200);
    assert_eq!(answer["runtimes"][0]["owner_id"], me["id"], "what it registers is its creator's");
    hub.call("POST", &format!("/api/daemon/runtimes/{runtime}/recover-orphans"), Some(token), json!({}))
        .await
        .expect(200);
    hub.call("GET", &format!("/api/daemon/workspaces/{}/repos", hub.workspace), Some(token), Value::Null)
        .await
        .expect(200);
    let beat = json!({ "runtime_id": runtime, "supports_batch_import": true });
    assert_eq!(hub.call("POST", "/api/daemon/heartbeat", Some(token), beat.clone()).await.expect(200)["status"], "ok");
    let mut socket = Socket::open(&hub.daemon_url(&[runtime]), Some(token)).await;
    socket.send(json!({ "type": "daemon:heartbeat", "payload": beat })).await;
    assert_eq!(socket.next().await["payload"]["status"], "ok");
    hub.call("POST", &format!("/api/daemon/runtimes/{runtime}/tasks/claim"), Some(token), json!({})).await.expect(200);
    let gone = json!({ "runtime_ids": [runtime] });
    hub.call("POST", "/api/daemon/deregister", Some(token), gone).await.expect(200);
    assert_eq!(hub.runtime(runtime).await.unwrap()["status"], "offline");
}

async fn it_is_good_for_its_own_daemon_only(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = mint(&hub, &hub.token, "host-1").await;
    let token = made["token"].as_str().unwrap();
    let other = hub.register("host-2", &["claude"]).await[0];
    let body = |workspace: uuid::Uuid, daemon: &str| json!({ "workspace_id": workspace, "daemon_id": daemon, "runtimes": [{ "type": "claude" }] });
    let answer = hub.call("POST", "/api/daemon/register", Some(token), body(hub.workspace, "host-2")).await;
    assert_eq!(answer.json()["code"], "daemon_id_mismatch");
    assert_eq!(answer.status, 403);
    let elsewhere = hub.another_workspace("elsewhere").await;
    hub.call("POST", "/api/daemon/register", Some(token), body(elsewhere, "host-1"))
        .await
        .refused(404, "workspace not found");
    // Neither its creator's other machines nor their rank.
    hub.call("POST", "/api/daemon/heartbeat", Some(token), json!({ "runtime_id": other }))
        .await
        .refused(404, "not found");
    hub.call("POST", "/api/daemon/deregister", Some(token), json!({ "runtime_ids": [other] })).await.expect(200);
    assert_eq!(hub.runtime(other).await.unwrap()["status"], "online", "ids of others are skipped");
    let refused = Socket::try_open(&hub.daemon_url(&[other]), Some(token)).await.err().unwrap();
    assert_eq!(refused.0, 404);
    assert!(!refused.1.contains("runtime not found"), "not yours is not gone: {}", refused.1);
    hub.call("GET", &format!("/api/daemon/workspaces/{elsewhere}/repos"), Some(token), Value::Null)
        .await
        .refused(404, "not found");
}

async fn members_see_their_own_and_admins_all(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (one, two) = (hub.member("one@example.com", "member").await, hub.member("two@example.com", "member").await);
    let (a, b) = (mint(&hub, &one, "a").await, mint(&hub, &two, "b").await);
    let path = format!("/api/workspaces/{}/daemon-tokens", hub.workspace);
    let list = async |token: &str| hub.call("GET", &path, Some(token), Value::Null).await.expect(200);
    let seen = list(&one).await;
    assert_eq!(seen.as_array().unwrap().len(), 1);
    let keys: Vec<&String> = seen[0].as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["created_at", "created_by", "daemon_id", "expires_at", "id", "last_used_at", "token_prefix", "workspace_id"]
    );
    assert_eq!(list(&hub.token).await.as_array().unwrap().len(), 2);
    hub.call("DELETE", &format!("{path}/{}", id(&b)), Some(&one), Value::Null)
        .await
        .refused(404, "daemon token not found");
    hub.call("DELETE", &format!("{path}/{}", id(&a)), Some(&one), Value::Null).await.expect(204);
    hub.delete(&format!("{path}/{}", id(&b))).await.expect(204);
    assert_eq!(list(&hub.token).await, json!([]));
    for (body, text) in [
        (json!({}), "daemon_id is required"),
        (json!({ "daemon_id": "x".repeat(256) }), "daemon_id has at most 255 characters"),
    ] {
        hub.post(&path, body).await.refused(400, text);
    }
}

async fn the_command_line_makes_one_while_the_hub_runs(backend: Backend) {
    let hub = Hub::start(backend).await;
    hub.member("m@example.com", "member").await;
    let made = hub.admin(&["create-daemon-token", "--workspace", "home-base", "--daemon-id", "box"]).await;
    let token = made["token"].as_str().unwrap();
    assert_eq!(made["daemon_id"], "box");
    let runtime = hub.register_as(token, hub.workspace, "box", &["claude"]).await[0];
    assert_eq!(hub.runtime(runtime).await.unwrap()["owner_id"], hub.get("/api/me").await.expect(200)["id"]);
    let theirs = hub
        .admin(&["create-daemon-token", "--workspace", "home-base", "--daemon-id", "box", "--owner", "m@example.com"])
        .await;
    assert_ne!(theirs["created_by"], made["created_by"]);
    let output = hub.admin_process(&["create-daemon-token", "--workspace", "nowhere", "--daemon-id", "box"]).await;
    assert!(!output.status.success());
    // Seen in the list once it was used and the hub has written it down.
    let rows = hub.get(&format!("/api/workspaces/{}/daemon-tokens", hub.workspace)).await.expect(200);
    assert_eq!(rows.as_array().unwrap().len(), 2);
}
