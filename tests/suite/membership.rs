//! Members come, change and go, and what rests on a membership goes with it.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Backend, Hub, Socket, hub::id};

on_both_stores!(
    members_are_added_at_once_by_address,
    roles_are_changed_by_who_may,
    the_removed_see_their_removal_and_nothing_after_it,
    whoever_leaves_takes_their_runtimes_offline,
    two_owners_cannot_remove_each_other_at_once,
    a_deleted_workspace_ends_for_everybody,
    a_revoked_token_closes_its_sockets,
    an_added_member_s_other_pages_get_a_hint,
);

async fn member_id(hub: &Hub, email: &str) -> Uuid {
    let members = hub.get(&format!("/api/workspaces/{}/members", hub.workspace)).await.expect(200);
    id(members.as_array().unwrap().iter().find(|member| member["email"] == email).expect(email))
}

fn members(hub: &Hub) -> String {
    format!("/api/workspaces/{}/members", hub.workspace)
}

async fn browser_with(hub: &Hub, token: &str) -> Socket {
    let mut socket = Socket::open(&hub.ws(&format!("/ws?workspace_id={}", hub.workspace)), None).await;
    socket.send(json!({ "type": "auth", "payload": { "token": token } })).await;
    assert_eq!(socket.next().await["type"], "auth_ack");
    socket
}

async fn members_are_added_at_once_by_address(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (mut browser, _) = hub.browser().await;
    let added = hub.post(&members(&hub), json!({ "email": " New@Example.com " })).await.expect(201);
    let keys: Vec<&String> = added.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["avatar_url", "created_at", "email", "id", "name", "role", "user_id", "workspace_id"]);
    assert_eq!(
        (&added["email"], &added["name"], &added["role"]),
        (&json!("new@example.com"), &json!("New"), &json!("member"))
    );
    let event = browser.next().await;
    assert_eq!(
        (&event["type"], &event["payload"]),
        (&json!("member:added"), &json!({ "member": added, "workspace_name": "Home" }))
    );
    hub.post(&members(&hub), json!({ "email": "new@example.com", "role": "admin" }))
        .await
        .refused(409, "user is already a member");
    hub.stranger("known@example.com").await;
    let known = hub.post(&members(&hub), json!({ "email": "known@example.com", "role": "admin" })).await.expect(201);
    assert_eq!((&known["name"], &known["role"]), (&json!("Stranger"), &json!("admin")));
    for (body, text) in [
        (json!({}), "invalid email"),
        (json!({ "email": "nobody" }), "invalid email"),
        (json!({ "email": "@x" }), "invalid email"),
        (json!({ "email": "a@example.com", "role": "king" }), "invalid member role"),
    ] {
        hub.post(&members(&hub), body).await.refused(400, text);
    }
    let answer = hub.get(&members(&hub)).await;
    assert_eq!(answer.headers["x-event-seq"], "2", "the list says from where on it may be out of date");
    assert_eq!(answer.expect(200).as_array().unwrap().len(), 3);
    // Ten invitations of one new address at once are one person, one member.
    let path = members(&hub);
    let at_once = (0..10).map(|_| hub.post(&path, json!({ "email": "race@example.com" })));
    let statuses: Vec<u16> = futures_util::future::join_all(at_once).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 9, "{statuses:?}");
}

async fn roles_are_changed_by_who_may(backend: Backend) {
    let hub = Hub::start(backend).await;
    let admin = hub.member("admin@example.com", "admin").await;
    hub.member("plain@example.com", "member").await;
    let owner = member_id(&hub, "owner@localhost").await;
    let plain = member_id(&hub, "plain@example.com").await;
    let path = |member: Uuid| format!("{}/{member}", members(&hub));
    let (mut browser, _) = hub.browser().await;

    let changed = hub.call("PATCH", &path(plain), Some(&admin), json!({ "role": "admin" })).await.expect(200);
    assert_eq!(changed["role"], "admin");
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]["member"]), (&json!("member:updated"), &changed));
    hub.call("PATCH", &path(plain), Some(&admin), json!({ "role": "admin" })).await.expect(200);
    browser.quiet_for(Duration::from_millis(100)).await;

    hub.call("PATCH", &path(plain), Some(&admin), json!({ "role": "owner" }))
        .await
        .refused(403, "insufficient permissions");
    hub.call("PATCH", &path(owner), Some(&admin), json!({ "role": "member" }))
        .await
        .refused(403, "insufficient permissions");
    hub.call("DELETE", &path(owner), Some(&admin), Value::Null).await.refused(403, "insufficient permissions");
    hub.call("POST", &members(&hub), Some(&admin), json!({ "email": "x@example.com", "role": "owner" }))
        .await
        .refused(403, "insufficient permissions");
    hub.patch(&path(owner), json!({ "role": "member" })).await.refused(400, "workspace must have at least one owner");
    hub.delete(&path(owner)).await.refused(400, "workspace must have at least one owner");
    hub.post(&format!("/api/workspaces/{}/leave", hub.workspace), Value::Null)
        .await
        .refused(400, "workspace must have at least one owner");
    hub.patch(&path(plain), json!({ "role": "king" })).await.refused(400, "invalid member role");
    hub.patch(&path(plain), json!({})).await.refused(400, "invalid member role");
    hub.patch(&path(Uuid::new_v4()), json!({ "role": "member" })).await.refused(404, "member not found");
    hub.patch(&format!("{}/x", members(&hub)), json!({ "role": "member" })).await.refused(400, "invalid member_id");
    // A member of another workspace is not found here.
    let elsewhere = hub.another_workspace("other").await;
    let there = hub.get(&format!("/api/workspaces/{elsewhere}/members")).await.expect(200);
    hub.delete(&path(id(&there[0]))).await.refused(404, "member not found");

    hub.patch(&path(plain), json!({ "role": "owner" })).await.expect(200);
    hub.patch(&path(owner), json!({ "role": "member" })).await.expect(200);
}

async fn the_removed_see_their_removal_and_nothing_after_it(backend: Backend) {
    let hub = Hub::start(backend).await;
    let token = hub.member("gone@example.com", "member").await;
    let member = member_id(&hub, "gone@example.com").await;
    let mut theirs = browser_with(&hub, &token).await;
    let (mut mine, _) = hub.browser().await;
    let runtime = hub.register_as(&token, hub.workspace, "their-daemon", &["claude"]).await[0];
    let mut daemon = Socket::open(&hub.daemon_url(&[runtime]), Some(&token)).await;
    let bound = hub
        .call(
            "POST",
            &format!("/api/workspaces/{}/daemon-tokens", hub.workspace),
            Some(&token),
            json!({ "daemon_id": "d" }),
        )
        .await
        .expect(201);
    let poll = format!("/api/events?workspace_id={}&since=1&epoch={}", hub.workspace, "x");
    hub.call("GET", &poll, Some(&token), Value::Null).await.expect(200);

    // Many changes around the removal, in flight with it.
    let register = async |n: usize| {
        for index in 0..20 {
            hub.register(&format!("d{n}-{index}"), &["claude"]).await;
        }
    };
    let removal = async {
        tokio::time::sleep(Duration::from_millis(15)).await;
        hub.delete(&format!("{}/{member}", members(&hub))).await.expect(204);
    };
    tokio::join!(register(0), register(1), removal);

    let mut last = None;
    let end = loop {
        match theirs.next_or_close().await {
            Ok(frame) => last = Some(frame),
            Err(end) => break end,
        }
    };
    assert_eq!(end.0, 4502);
    let last = last.expect("frames");
    assert_eq!((&last["type"], &last["payload"]["member_id"]), (&json!("member:removed"), &json!(member)));
    assert_eq!(daemon.closed().await.0, 4502);

    // The others see all of it, in order, the runtimes' end before the member's.
    let mut kinds = Vec::new();
    let mut expected = 0;
    while kinds.len() < 43 {
        let frame = mine.next().await;
        expected = if expected == 0 { frame["seq"].as_u64().unwrap() } else { expected + 1 };
        assert_eq!(frame["seq"], expected);
        kinds.push((
            frame["type"].as_str().unwrap().to_owned(),
            frame["payload"]["action"].as_str().unwrap_or("").to_owned(),
        ));
    }
    let revoke = kinds.iter().position(|(_, action)| action == "revoke").expect("daemon:register revoke");
    assert_eq!(kinds[revoke + 1].0, "member:removed");

    hub.call("GET", &poll, Some(&token), Value::Null).await.refused(404, "workspace not found");
    hub.call("GET", &format!("/api/daemon/workspaces/{}/repos", hub.workspace), bound["token"].as_str(), Value::Null)
        .await
        .refused(401, "invalid token");
    let row = hub.runtime(runtime).await.expect("the row stays");
    assert_eq!(row["status"], "offline");
    // Only registering anew would bring it back, and they may not.
    hub.call("POST", "/api/daemon/heartbeat", Some(&token), json!({ "runtime_id": runtime }))
        .await
        .refused(404, "not found");
    // Added again, they register and go on with the same row.
    hub.post(&members(&hub), json!({ "email": "gone@example.com" })).await.expect(201);
    hub.call("POST", "/api/daemon/heartbeat", Some(&token), json!({ "runtime_id": runtime })).await.expect(200);
    assert_eq!(hub.runtime(runtime).await.unwrap()["status"], "offline", "revoked ends by registration only");
    assert_eq!(hub.register_as(&token, hub.workspace, "their-daemon", &["claude"]).await, [runtime]);
    assert_eq!(hub.runtime(runtime).await.unwrap()["status"], "online");
    // And a replay across their own removal gives all of it.
    let mut again = Socket::open(&hub.ws(&format!("/ws?workspace_id={}", hub.workspace)), None).await;
    let epoch = hub.browser().await.1["epoch"].clone();
    again.send(json!({ "type": "auth", "payload": { "token": token, "since": 1, "epoch": epoch } })).await;
    let ack = again.next().await;
    assert_eq!(ack["payload"]["recovered"], true);
    for seq in 2..=ack["payload"]["seq"].as_u64().unwrap() {
        assert_eq!(again.next().await["seq"], seq);
    }
}

async fn whoever_leaves_takes_their_runtimes_offline(backend: Backend) {
    let hub = Hub::start(backend).await;
    let token = hub.member("leaver@example.com", "admin").await;
    let own = hub.register_as(&token, hub.workspace, "d", &["claude"]).await[0];
    let others = hub.register("o", &["claude"]).await[0];
    let elsewhere = {
        let made = hub.call("POST", "/api/workspaces", Some(&token), json!({ "name": "e", "slug": "elsewhere" })).await;
        id(&made.expect(201))
    };
    let kept = hub.register_as(&token, elsewhere, "d", &["claude"]).await[0];
    // One socket for both workspaces' runtimes loses the one and keeps the other.
    let mut daemon = Socket::open(&hub.daemon_url(&[own, kept]), Some(&token)).await;
    hub.call("POST", &format!("/api/workspaces/{}/leave", hub.workspace), Some(&token), Value::Null).await.expect(204);
    assert_eq!(hub.runtime(own).await.unwrap()["status"], "offline");
    assert_eq!(hub.runtime(others).await.unwrap()["status"], "online");
    daemon.send(json!({ "type": "daemon:heartbeat", "payload": { "runtime_id": own } })).await;
    daemon.send(json!({ "type": "daemon:heartbeat", "payload": { "runtime_id": kept } })).await;
    assert_eq!(daemon.next().await["payload"]["runtime_id"], json!(kept), "the revoked one is not acknowledged");
    hub.call("POST", &format!("/api/workspaces/{}/leave", hub.workspace), Some(&token), Value::Null)
        .await
        .refused(404, "workspace not found");
}

async fn two_owners_cannot_remove_each_other_at_once(backend: Backend) {
    let hub = Hub::start(backend).await;
    for round in 0..5 {
        let email = format!("owner{round}@example.com");
        let other = hub.member(&email, "owner").await;
        let mine = hub.get(&members(&hub)).await.expect(200);
        let me = id(&hub.get("/api/me").await.expect(200)).to_string();
        let my_member = id(mine.as_array().unwrap().iter().find(|m| m["user_id"] == me.as_str()).unwrap());
        let theirs = member_id(&hub, &email).await;
        let (path_theirs, path_mine) =
            (format!("{}/{theirs}", members(&hub)), format!("{}/{my_member}", members(&hub)));
        let (a, b) = tokio::join!(
            hub.delete(&path_theirs),
            hub.call("PATCH", &path_mine, Some(&other), json!({ "role": "member" })),
        );
        // One of them wins; the other is refused, or is the last owner.
        let owners = hub.rows("SELECT 'x' FROM member WHERE role = 'owner'").await.len();
        assert_eq!(owners, 1, "{} {}", a.status, b.status);
        if b.status == 200 {
            // They demoted the first owner: hand it back for the next round.
            hub.call("PATCH", &format!("{}/{my_member}", members(&hub)), Some(&other), json!({ "role": "owner" }))
                .await
                .expect(200);
            hub.delete(&format!("{}/{theirs}", members(&hub))).await.expect(204);
        }
    }
}

async fn a_deleted_workspace_ends_for_everybody(backend: Backend) {
    let hub = Hub::start(backend).await;
    let admin = hub.member("admin@example.com", "admin").await;
    let mut theirs = browser_with(&hub, &admin).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut daemon = hub.daemon(&[runtime]).await;
    let path = format!("/api/workspaces/{}", hub.workspace);
    hub.call("DELETE", &path, Some(&admin), Value::Null).await.refused(403, "insufficient permissions");
    hub.delete(&path).await.expect(204);
    assert_eq!(theirs.next_of("workspace:deleted").await["payload"], json!({ "workspace_id": hub.workspace }));
    assert_eq!(theirs.closed().await.0, 4503);
    assert_eq!(daemon.closed().await.0, 4502);
    hub.get(&path).await.refused(404, "workspace not found");
    assert_eq!(hub.get("/api/workspaces").await.expect(200), json!([]));
    // Its slug is free again.
    hub.post("/api/workspaces", json!({ "name": "Home", "slug": "home-base" })).await.expect(201);
}

async fn a_revoked_token_closes_its_sockets(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = hub.post("/api/tokens", json!({ "name": "t" })).await.expect(201);
    let token = made["token"].as_str().unwrap();
    let mut browser = browser_with(&hub, token).await;
    let (mut mine, _) = hub.browser().await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut daemon = Socket::open(&hub.daemon_url(&[runtime]), Some(token)).await;
    let tokens = format!("/api/workspaces/{}/daemon-tokens", hub.workspace);
    let bound = hub.post(&tokens, json!({ "daemon_id": "d" })).await.expect(201);
    let mut by_bound = Socket::open(&hub.daemon_url(&[runtime]), bound["token"].as_str()).await;

    hub.delete(&format!("/api/tokens/{}", made["id"].as_str().unwrap())).await.expect(204);
    assert_eq!(browser.closed().await.0, 4502);
    assert_eq!(daemon.closed().await.0, 4502);
    hub.delete(&format!("{tokens}/{}", bound["id"].as_str().unwrap())).await.expect(204);
    assert_eq!(by_bound.closed().await.0, 4502);
    mine.next_of("daemon:register").await;
}

async fn an_added_member_s_other_pages_get_a_hint(backend: Backend) {
    let hub = Hub::start(backend).await;
    let token = hub.stranger("s@example.com").await;
    let made = hub.call("POST", "/api/workspaces", Some(&token), json!({ "name": "e", "slug": "elsewhere" })).await;
    let elsewhere = id(&made.expect(201));
    let mut socket = Socket::open(&hub.ws(&format!("/ws?workspace_id={elsewhere}")), None).await;
    socket.send(json!({ "type": "auth", "payload": { "token": token } })).await;
    assert_eq!(socket.next().await["type"], "auth_ack");
    hub.post(&members(&hub), json!({ "email": "s@example.com" })).await.expect(201);
    let hint = socket.next().await;
    assert_eq!(hint["type"], "member:added");
    assert_eq!(hint["payload"]["workspace_name"], "Home");
    assert!(hint.get("seq").is_none(), "a hint is no part of a sequence: {hint}");
}
