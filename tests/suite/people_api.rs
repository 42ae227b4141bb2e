//! What people call: themselves, their tokens, their workspaces, their runtimes.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Backend, Hub, hub::id};

const DAY: Duration = Duration::from_secs(86_400);

on_both_stores!(
    me_is_shown_and_changed,
    tokens_are_shown_once_and_end,
    a_token_is_renewed_near_its_end_only,
    the_last_use_of_a_token_is_written_in_batches,
    workspaces_are_made_listed_and_changed,
    another_workspace_is_absent,
    runtimes_are_listed_changed_and_removed,
    a_workspace_is_selected_by_slug_before_id,
    a_change_that_changes_nothing_is_none,
);

async fn me_is_shown_and_changed(backend: Backend) {
    let hub = Hub::start(backend).await;
    let me = hub.get("/api/me").await.expect(200);
    let keys: Vec<&String> = me.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "avatar_url",
            "created_at",
            "email",
            "id",
            "language",
            "name",
            "onboarded_at",
            "onboarding_questionnaire",
            "profile_description",
            "starter_content_state",
            "timezone",
            "updated_at"
        ]
    );
    let change = json!({ "name": " Ada ", "language": "ko", "timezone": "Asia/Kathmandu", "profile_description": "x" });
    let changed = hub.patch("/api/me", change).await.expect(200);
    assert_eq!((&changed["name"], &changed["language"]), (&json!("Ada"), &json!("ko")));
    assert_eq!(changed["timezone"], "Asia/Kathmandu");
    let cleared = hub.patch("/api/me", json!({ "timezone": "", "name": null })).await.expect(200);
    assert_eq!((&cleared["timezone"], &cleared["name"]), (&Value::Null, &json!("Ada")));
    for (bad, text) in [
        (json!({ "name": " " }), "name is required"),
        (json!({ "language": "xx" }), "invalid language"),
        (json!({ "timezone": "Mars/Olympus" }), "invalid timezone"),
        (json!({ "profile_description": "x".repeat(2001) }), "profile_description is too long"),
        (json!({ "name": 1 }), "invalid request body"),
    ] {
        hub.patch("/api/me", bad).await.refused(400, text);
    }
    hub.call("GET", "/api/me", None, Value::Null).await.refused(401, "missing authorization");
    hub.call("GET", "/api/me", Some("nonsense"), Value::Null).await.refused(401, "invalid token");
}

async fn tokens_are_shown_once_and_end(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = hub.post("/api/tokens", json!({ "name": " CLI (box) ", "expires_in_days": 90 })).await.expect(201);
    let token = made["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("mul_") && token.len() == 44);
    assert_eq!(made["name"], "CLI (box)");
    assert_eq!(made["token_prefix"], token[..12]);
    let listed = hub.get("/api/tokens").await.expect(200);
    assert_eq!(listed[0]["id"], made["id"], "newest first");
    assert_eq!(listed[0].get("token"), None);
    let never = hub.post("/api/tokens", json!({ "name": "never" })).await.expect(201);
    assert_eq!(never["expires_at"], Value::Null);
    hub.post("/api/tokens", json!({ "expires_in_days": 1 })).await.refused(400, "name is required");
    hub.post("/api/tokens", json!({ "name": "x", "expires_in_days": 1_000_000 }))
        .await
        .refused(400, "expires_in_days is too large");

    hub.call("GET", "/api/me", Some(&token), Value::Null).await.expect(200);
    let path = format!("/api/tokens/{}", id(&made));
    // Another person's DELETE does nothing, and says no more than for an unknown one.
    let stranger = hub.stranger("s@example.com").await;
    hub.call("DELETE", &path, Some(&stranger), Value::Null).await.expect(204);
    hub.call("GET", "/api/me", Some(&token), Value::Null).await.expect(200);
    hub.delete(&path).await.expect(204);
    hub.call("GET", "/api/me", Some(&token), Value::Null).await.refused(401, "invalid token");
    hub.delete(&path).await.expect(204);
    hub.delete("/api/tokens/nonsense").await.refused(400, "invalid token id");
    assert_eq!(hub.get("/api/tokens").await.expect(200).as_array().map(Vec::len), Some(2));

    let short = hub.post("/api/tokens", json!({ "name": "short", "expires_in_days": 1 })).await.expect(201);
    let short = short["token"].as_str().unwrap();
    hub.call("GET", "/api/me", Some(short), Value::Null).await.expect(200);
    hub.app.advance_clock(DAY);
    hub.call("GET", "/api/me", Some(short), Value::Null).await.refused(401, "invalid token");
}

async fn a_token_is_renewed_near_its_end_only(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = hub.post("/api/tokens", json!({ "name": "t", "expires_in_days": 90 })).await.expect(201);
    let token = made["token"].as_str().unwrap();
    let renew = async || hub.call("POST", "/api/tokens/current/renew", Some(token), json!({})).await.expect(200);
    assert_eq!(renew().await, json!({ "expires_at": made["expires_at"], "renewed": false }));
    hub.app.advance_clock(83 * DAY);
    let first = renew().await;
    assert_eq!(first["renewed"], true);
    assert!(first["expires_at"].as_str() > made["expires_at"].as_str());
    assert_eq!(renew().await, json!({ "expires_at": first["expires_at"], "renewed": false }));
}

async fn the_last_use_of_a_token_is_written_in_batches(backend: Backend) {
    let hub = Hub::start(backend).await;
    for _ in 0..5 {
        hub.get("/api/me").await.expect(200);
    }
    let before = hub.get("/api/tokens").await.expect(200);
    assert_eq!(before[0]["last_used_at"], Value::Null, "a request costs no write");
    // A shutdown writes what was noted.
    let hub = hub.restart().await;
    let after = hub.get("/api/tokens").await.expect(200);
    assert!(after[0]["last_used_at"].is_string(), "{after}");
}

async fn workspaces_are_made_listed_and_changed(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = hub.post("/api/workspaces", json!({ "name": "Second One", "slug": "Second-1" })).await.expect(201);
    assert_eq!((&made["slug"], &made["issue_prefix"]), (&json!("second-1"), &json!("SEC")));
    let listed = hub.get("/api/workspaces").await.expect(200);
    assert_eq!((id(&listed[0]), id(&listed[1])), (hub.workspace, id(&made)), "oldest first");
    for (body, status, text) in [
        (json!({ "slug": "a" }), 400, "name is required"),
        (json!({ "name": "a", "slug": "a b" }), 400, "slug must be lower-case letters, digits and single hyphens"),
        (json!({ "name": "a", "slug": "api" }), 400, "slug is reserved"),
        (json!({ "name": "a", "slug": "second-1" }), 409, "workspace slug already exists"),
    ] {
        hub.post("/api/workspaces", body).await.refused(status, text);
    }
    let path = format!("/api/workspaces/{}", id(&made));
    let (mut browser, _) = hub.browser_of(id(&made), json!({})).await;
    let changed = hub.patch(&path, json!({ "description": "d", "issue_prefix": "", "name": null })).await.expect(200);
    assert_eq!((&changed["description"], &changed["issue_prefix"]), (&json!("d"), &json!("SEC")));
    let event = browser.next().await;
    assert_eq!(event["type"], "workspace:updated");
    assert_eq!(event["payload"]["workspace"], changed);
    assert_eq!(event["actor_type"], "member");
    hub.call("PUT", &path, Some(&hub.token), json!({ "name": "Third" })).await.expect(200);
    assert_eq!(hub.get(&path).await.expect(200)["name"], "Third");

    let members = hub.get(&format!("{path}/members")).await.expect(200);
    assert_eq!(members[0]["role"], "owner");
    assert_eq!(members[0]["email"], "owner@localhost");
    let member = hub.member("m@example.com", "member").await;
    let home = format!("/api/workspaces/{}", hub.workspace);
    hub.call("GET", &home, Some(&member), Value::Null).await.expect(200);
    hub.call("PATCH", &home, Some(&member), json!({ "name": "x" })).await.refused(403, "insufficient permissions");
}

async fn another_workspace_is_absent(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let stranger = hub.stranger("s@example.com").await;
    let absent = Uuid::new_v4();
    for (method, there, nowhere, body, text) in [
        (
            "GET",
            format!("/api/workspaces/{}", hub.workspace),
            format!("/api/workspaces/{absent}"),
            Value::Null,
            "workspace not found",
        ),
        (
            "PATCH",
            format!("/api/workspaces/{}", hub.workspace),
            format!("/api/workspaces/{absent}"),
            json!({ "name": "x" }),
            "workspace not found",
        ),
        (
            "GET",
            format!("/api/workspaces/{}/members", hub.workspace),
            format!("/api/workspaces/{absent}/members"),
            Value::Null,
            "workspace not found",
        ),
        (
            "GET",
            format!("/api/runtimes?workspace_id={}", hub.workspace),
            format!("/api/runtimes?workspace_id={absent}"),
            Value::Null,
            "workspace not found",
        ),
        (
            "GET",
            "/api/runtimes?workspace_slug=home-base".into(),
            "/api/runtimes?workspace_slug=nowhere".into(),
            Value::Null,
            "workspace not found",
        ),
        (
            "PATCH",
            format!("/api/runtimes/{runtime}"),
            format!("/api/runtimes/{absent}"),
            json!({ "visibility": "public" }),
            "runtime not found",
        ),
        (
            "DELETE",
            format!("/api/runtimes/{runtime}"),
            format!("/api/runtimes/{absent}"),
            Value::Null,
            "runtime not found",
        ),
    ] {
        let foreign = hub.call(method, &there, Some(&stranger), body.clone()).await;
        let unknown = hub.call(method, &nowhere, Some(&stranger), body).await;
        assert_eq!(foreign.text, unknown.text, "{method} {there} tells them apart");
        foreign.refused(404, text);
    }
    let row = hub.runtime(runtime).await.expect("still there");
    assert_eq!(row["visibility"], "private");
}

async fn runtimes_are_listed_changed_and_removed(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let member = hub.member("m@example.com", "member").await;
    let theirs = hub.register_as(&member, hub.workspace, "e", &["codex"]).await[0];
    let list = format!("/api/runtimes?workspace_id={}", hub.workspace);
    let ids = async |path: String, token: &str| {
        let rows = hub.call("GET", &path, Some(token), Value::Null).await.expect(200);
        rows.as_array().unwrap().iter().map(id).collect::<Vec<_>>()
    };
    assert_eq!(ids(list.clone(), &member).await, [runtime, theirs], "oldest first, private ones too");
    assert_eq!(ids(format!("{list}&owner=me"), &member).await, [theirs]);
    assert_eq!(ids(format!("{list}&owner=x"), &member).await, [runtime, theirs]);
    let row = hub.runtime(runtime).await.unwrap();
    let keys: Vec<&String> = row.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "created_at",
            "daemon_id",
            "device_info",
            "id",
            "last_seen_at",
            "launch_header",
            "metadata",
            "name",
            "owner_id",
            "presence",
            "profile_id",
            "provider",
            "runtime_mode",
            "status",
            "updated_at",
            "visibility",
            "workspace_id"
        ]
    );

    // Owners and admins change everybody's.
    let admin = hub.member("admin@example.com", "admin").await;
    for (who, visibility) in [(&hub.token, "public"), (&admin, "private"), (&admin, "public"), (&hub.token, "private")]
    {
        let path = format!("/api/runtimes/{theirs}");
        let patched = hub.call("PATCH", &path, Some(who), json!({ "visibility": visibility })).await.expect(200);
        assert_eq!(patched["visibility"], visibility);
    }
    let (mut browser, _) = hub.browser().await;
    let path = format!("/api/runtimes/{runtime}");
    let old = json!({ "visibility": "public", "timezone": "UTC" });
    let patched = hub.patch(&path, old).await.expect(200);
    assert_eq!(patched["visibility"], "public");
    assert_eq!(patched.get("timezone"), None);
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("daemon:register"), &json!({ "action": "update" })));
    let unchanged = hub.patch(&path, json!({ "visibility": "public" })).await.expect(200);
    assert_eq!(unchanged["updated_at"], patched["updated_at"]);
    hub.patch(&path, json!({})).await.expect(200);
    hub.patch(&path, json!({ "visibility": "everyone" }))
        .await
        .refused(400, "visibility must be 'private' or 'public'");
    hub.raw("PATCH", &path, Some(&hub.token), "{".into(), &[]).await.refused(400, "invalid JSON body");
    hub.patch("/api/runtimes/not-a-uuid", json!({})).await.refused(400, "invalid runtime_id");
    hub.delete("/api/runtimes/not-a-uuid").await.refused(400, "invalid runtime_id");
    // Permission comes before the body.
    hub.raw("PATCH", &path, Some(&member), "{".into(), &[]).await.refused(403, "you can only edit your own runtimes");
    hub.call("DELETE", &path, Some(&member), Value::Null).await.refused(403, "you can only delete your own runtimes");
    // A selection that differs from the runtime's own workspace.
    let other = hub.another_workspace("other").await;
    let headers = [("x-workspace-id", other.to_string())];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    hub.raw("DELETE", &path, Some(&hub.token), Vec::new(), &headers).await.refused(404, "runtime not found");

    assert_eq!(hub.delete(&path).await.expect(200), json!({ "status": "ok" }));
    let event = browser.next().await;
    assert_eq!(event["payload"], json!({ "action": "delete", "runtime_id": runtime }));
    hub.delete(&path).await.refused(404, "runtime not found");
    // The workspace's owner may remove a member's.
    hub.delete(&format!("/api/runtimes/{theirs}")).await.expect(200);
    assert_eq!(hub.get(&list).await.expect(200), json!([]));
}

async fn a_workspace_is_selected_by_slug_before_id(backend: Backend) {
    let hub = Hub::start(backend).await;
    hub.register("d", &["claude"]).await;
    let empty = hub.another_workspace("empty").await;
    let rows = async |path: &str, headers: &[(&str, &str)]| {
        let answer = hub.raw("GET", path, Some(&hub.token), Vec::new(), headers).await.expect(200);
        answer.as_array().unwrap().len()
    };
    let id = empty.to_string();
    assert_eq!(rows("/api/runtimes", &[("x-workspace-slug", "home-base"), ("x-workspace-id", &id)]).await, 1);
    assert_eq!(rows(&format!("/api/runtimes?workspace_id={id}"), &[]).await, 0);
    assert_eq!(rows(&format!("/api/runtimes?workspace_id={id}"), &[("x-workspace-slug", "home-base")]).await, 1);
    hub.get("/api/runtimes").await.refused(400, "workspace_id or workspace_slug is required");
    hub.get("/api/runtimes?workspace_id=x").await.refused(400, "invalid workspace_id");
    hub.get(&format!("/api/runtimes?workspace_slug=nowhere&workspace_id={id}"))
        .await
        .refused(404, "workspace not found");
}

async fn a_change_that_changes_nothing_is_none(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (mut browser, _) = hub.browser().await;
    hub.app.advance_clock(std::time::Duration::from_secs(5));
    let workspace = hub.get(&format!("/api/workspaces/{}", hub.workspace)).await.expect(200);
    let same = json!({ "name": workspace["name"], "repos": workspace["repos"], "settings": workspace["settings"], "issue_prefix": "" });
    assert_eq!(hub.patch(&format!("/api/workspaces/{}", hub.workspace), same).await.expect(200), workspace);
    let me = hub.get("/api/me").await.expect(200);
    assert_eq!(hub.patch("/api/me", json!({ "name": me["name"], "timezone": "" })).await.expect(200), me);
    browser.quiet_for(std::time::Duration::from_millis(100)).await;
    let changed = hub.patch(&format!("/api/workspaces/{}", hub.workspace), json!({ "context": "c" })).await.expect(200);
    assert_ne!(changed["updated_at"], workspace["updated_at"]);
    assert_eq!(browser.next().await["type"], "workspace:updated");
}
