//! The daemon's calls, as the daemons that nobody here wrote make them.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Backend, Hub, hub::id};

on_both_stores!(
    a_june_daemon_starts,
    a_registration_echoes_every_runtime_and_keeps_its_id,
    every_optional_field_may_be_absent_or_null,
    a_bad_registration_stores_nothing,
    a_runtime_belongs_to_whoever_registered_it,
    repos_are_trimmed_distinct_and_versioned_by_their_set,
    beats_are_recorded_and_gone_is_said_of_gone_rows_only,
    a_deregistered_runtime_comes_back_with_a_later_request_only,
    a_failing_database_never_says_gone,
    bad_input_has_a_clear_answer,
    what_is_stored_and_sent_of_a_registration_has_limits,
    a_deregistration_does_not_soften_a_revocation,
);

async fn a_june_daemon_starts(backend: Backend) {
    let hub = Hub::start(backend).await;
    let renewed = hub.post("/api/tokens/current/renew", json!({})).await.expect(200);
    assert_eq!(renewed, json!({ "expires_at": "", "renewed": false }));

    let workspaces = hub.get("/api/workspaces").await.expect(200);
    assert_eq!(workspaces.as_array().map(Vec::len), Some(1));
    let workspace = workspaces[0]["id"].as_str().unwrap();
    let members: Vec<&String> = workspaces[0].as_object().unwrap().keys().collect();
    assert_eq!(
        members,
        [
            "avatar_url",
            "context",
            "created_at",
            "description",
            "id",
            "issue_prefix",
            "name",
            "repos",
            "settings",
            "slug",
            "updated_at"
        ]
    );

    let profiles = hub.get(&format!("/api/daemon/workspaces/{workspace}/runtime-profiles")).await.expect(200);
    assert_eq!(profiles, json!({ "workspace_id": workspace, "runtime_profiles": [] }));

    let registered = hub
        .post(
            "/api/daemon/register",
            json!({
                "workspace_id": workspace, "daemon_id": "0192-machine", "legacy_daemon_ids": ["box.local", "box"],
                "device_name": "box", "cli_version": "dev", "launched_by": "",
                "runtimes": [
                    { "name": "Claude (box)", "type": "claude", "version": "2.1.0 (Claude Code)", "status": "online" },
                    { "name": "Codex (box)", "type": "codex", "version": "", "status": "online" },
                ],
            }),
        )
        .await
        .expect(200);
    assert_eq!(registered["repos"], json!([]));
    assert_eq!(registered["repos_version"].as_str().map(str::len), Some(64));
    assert_eq!(registered["settings"], json!({}));
    let claude = &registered["runtimes"][0];
    assert_eq!(claude["name"], "Claude (box)");
    assert_eq!(claude["provider"], "claude");
    assert_eq!(claude["status"], "online");
    assert_eq!(claude["profile_id"], Value::Null);
    assert_eq!(claude["device_info"], "box · 2.1.0 (Claude Code)");
    assert_eq!(claude["launch_header"], "claude (stream-json)");
    assert_eq!(claude["visibility"], "private");
    assert_eq!(claude["daemon_id"], "0192-machine");
    assert_eq!(claude["runtime_mode"], "local");
    assert_eq!(
        claude["metadata"],
        json!({ "version": "2.1.0 (Claude Code)", "cli_version": "dev", "launched_by": "" })
    );
    assert_eq!(registered["runtimes"][1]["device_info"], "box");

    let runtime = id(claude);
    let recovered = hub.post(&format!("/api/daemon/runtimes/{runtime}/recover-orphans"), json!({})).await.expect(200);
    assert_eq!(recovered, json!({ "orphaned": 0, "retried": 0 }));
    let beat = hub
        .post("/api/daemon/heartbeat", json!({ "runtime_id": runtime, "supports_batch_import": true }))
        .await
        .expect(200);
    assert_eq!(beat, json!({ "status": "ok" }));
    let claim = hub.post(&format!("/api/daemon/runtimes/{runtime}/tasks/claim"), json!({})).await.expect(200);
    assert_eq!(claim, json!({ "task": null }));
    let repos = hub.get(&format!("/api/daemon/workspaces/{workspace}/repos")).await.expect(200);
    assert_eq!(repos["workspace_id"], workspace);
    assert_eq!(repos["settings"], json!({}));
    let gone = hub.post("/api/daemon/deregister", json!({ "runtime_ids": [runtime] })).await.expect(200);
    assert_eq!(gone, json!({ "status": "ok" }));
    assert_eq!(hub.runtime(runtime).await.unwrap()["status"], "offline");
}

async fn a_registration_echoes_every_runtime_and_keeps_its_id(backend: Backend) {
    let hub = Hub::start(backend).await;
    let first = hub.register("d", &["codex", "claude", "Claude ", ""]).await;
    assert_eq!(first[1], first[2], "a provider is trimmed and lower-cased");
    let again = hub.register("d", &["claude", "", "codex"]).await;
    assert_eq!(again, [first[1], first[3], first[0]], "the answer is in the order of the request");
    assert_eq!(hub.runtime(first[3]).await.unwrap()["provider"], "unknown");
    let list = hub.get(&format!("/api/runtimes?workspace_id={}", hub.workspace)).await.expect(200);
    assert_eq!(list.as_array().map(Vec::len), Some(3));
}

async fn every_optional_field_may_be_absent_or_null(backend: Backend) {
    let hub = Hub::start(backend).await;
    let workspace = hub.workspace;
    let full = json!({
        "workspace_id": workspace, "daemon_id": "d", "legacy_daemon_ids": ["x"], "device_name": "box",
        "cli_version": "1", "launched_by": "desktop",
        "runtimes": [{ "name": "N", "type": "claude", "version": "1", "status": "online", "profile_id": "" }],
    });
    let id_of = async |body: Value| id(&hub.post("/api/daemon/register", body).await.expect(200)["runtimes"][0]);
    let runtime = id_of(full.clone()).await;
    for field in ["legacy_daemon_ids", "device_name", "cli_version", "launched_by"] {
        for gone in [false, true] {
            let mut body = full.clone();
            if gone {
                drop(body.as_object_mut().unwrap().remove(field))
            } else {
                body[field] = Value::Null
            }
            assert_eq!(id_of(body).await, runtime, "{field}");
        }
    }
    for field in ["name", "version", "status", "profile_id"] {
        for gone in [false, true] {
            let mut body = full.clone();
            let entry = &mut body["runtimes"][0];
            if gone {
                drop(entry.as_object_mut().unwrap().remove(field))
            } else {
                entry[field] = Value::Null
            }
            assert_eq!(id_of(body).await, runtime, "{field}");
        }
    }
    // Without a type there is a provider all the same; it is another one.
    for kind in [None, Some(Value::Null)] {
        let mut body = full.clone();
        match kind {
            None => drop(body["runtimes"][0].as_object_mut().unwrap().remove("type")),
            Some(null) => body["runtimes"][0]["type"] = null,
        }
        assert_ne!(id_of(body).await, runtime);
    }
    for beat in [json!({ "runtime_id": runtime }), json!({ "runtime_id": runtime, "supports_batch_import": null })] {
        hub.post("/api/daemon/heartbeat", beat).await.expect(200);
    }
    // Calls whose body says nothing take any.
    for body in ["", "null", "{}", "what?"] {
        let path = format!("/api/daemon/runtimes/{runtime}/recover-orphans");
        hub.raw("POST", &path, Some(&hub.token), body.into(), &[]).await.expect(200);
        hub.raw("POST", "/api/tokens/current/renew", Some(&hub.token), body.into(), &[]).await.expect(200);
    }
    // No Content-Type was sent in any of these; a wrong one changes nothing.
    hub.raw(
        "POST",
        "/api/daemon/register",
        Some(&hub.token),
        full.to_string().into_bytes(),
        &[("content-type", "text/plain")],
    )
    .await
    .expect(200);
}

async fn a_bad_registration_stores_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let entry = json!({ "type": "claude" });
    let with = |entries: Value| json!({ "workspace_id": hub.workspace, "daemon_id": "d", "runtimes": entries });
    let profile = Uuid::new_v4();
    for (body, status, text) in [
        (json!({}), 400, "daemon_id is required".to_owned()),
        (json!({ "daemon_id": " " }), 400, "daemon_id is required".into()),
        (json!({ "daemon_id": "d" }), 400, "workspace_id is required".into()),
        (json!({ "daemon_id": "d", "workspace_id": "x" }), 400, "at least one runtime is required".into()),
        (with(Value::Null), 400, "at least one runtime is required".into()),
        (json!({ "daemon_id": "d", "workspace_id": "x", "runtimes": [entry] }), 400, "invalid workspace_id".into()),
        (
            json!({ "daemon_id": "d", "workspace_id": Uuid::new_v4(), "runtimes": [entry] }),
            404,
            "workspace not found".into(),
        ),
        (with(json!([entry, { "type": "codex", "profile_id": "x" }])), 400, "invalid profile_id".into()),
        (with(json!([entry, { "profile_id": profile }])), 400, format!("unknown runtime profile: {profile}")),
        (
            with(json!([entry, { "type": "x".repeat(256) }])),
            400,
            "daemon_id and type have at most 255 characters".into(),
        ),
        (with(json!({ "type": "claude" })), 400, "invalid request body".into()),
        (with(json!([{ "type": 1 }])), 400, "invalid request body".into()),
    ] {
        hub.post("/api/daemon/register", body).await.refused(status, &text);
    }
    let list = hub.get(&format!("/api/runtimes?workspace_id={}", hub.workspace)).await.expect(200);
    assert_eq!(list, json!([]), "all or nothing");
}

async fn a_runtime_belongs_to_whoever_registered_it(backend: Backend) {
    let hub = Hub::start(backend).await;
    let mine = hub.register("shared-name", &["claude"]).await[0];
    let member = hub.member("m@example.com", "member").await;
    let theirs = hub.register_as(&member, hub.workspace, "shared-name", &["claude"]).await[0];
    assert_ne!(mine, theirs, "another person who registers the same daemon id gets a row of their own");

    let beat = json!({ "runtime_id": mine });
    hub.call("POST", "/api/daemon/heartbeat", Some(&member), beat.clone()).await.refused(404, "not found");
    for call in ["recover-orphans", "tasks/claim"] {
        let path = format!("/api/daemon/runtimes/{mine}/{call}");
        hub.call("POST", &path, Some(&member), json!({})).await.refused(404, "not found");
    }
    let stranger = hub.stranger("s@example.com").await;
    hub.call("POST", "/api/daemon/heartbeat", Some(&stranger), beat).await.refused(404, "not found");
    let path = format!("/api/daemon/workspaces/{}/repos", hub.workspace);
    hub.call("GET", &path, Some(&stranger), Value::Null).await.refused(404, "not found");

    // Foreign and unknown ids are skipped, one's own is taken offline.
    let body = json!({ "runtime_ids": [mine, theirs, Uuid::new_v4()] });
    hub.call("POST", "/api/daemon/deregister", Some(&member), body).await.expect(200);
    assert_eq!(hub.runtime(mine).await.unwrap()["status"], "online");
    assert_eq!(hub.runtime(theirs).await.unwrap()["status"], "offline");
    // An owner of the workspace may deregister anybody's.
    hub.call("POST", "/api/daemon/heartbeat", Some(&member), json!({ "runtime_id": theirs })).await.expect(200);
    assert_eq!(hub.runtime(theirs).await.unwrap()["status"], "online");
    hub.post("/api/daemon/deregister", json!({ "runtime_ids": [theirs] })).await.expect(200);
    assert_eq!(hub.runtime(theirs).await.unwrap()["status"], "offline");

    // An ownerless row is adopted by the first registration.
    hub.sql("UPDATE agent_runtime SET owner_id = NULL WHERE owner_id IS NOT NULL AND provider = 'claude'").await;
    hub.post("/api/daemon/heartbeat", json!({ "runtime_id": mine })).await.refused(404, "not found");
    let adopted = hub.register("shared-name", &["claude"]).await[0];
    assert_eq!(adopted, mine, "the oldest of them");
}

async fn repos_are_trimmed_distinct_and_versioned_by_their_set(backend: Backend) {
    let hub = Hub::start(backend).await;
    let path = format!("/api/workspaces/{}", hub.workspace);
    let version = async || {
        let repos = hub.get(&format!("/api/daemon/workspaces/{}/repos", hub.workspace)).await.expect(200);
        (repos["repos"].clone(), repos["repos_version"].as_str().unwrap().to_owned())
    };
    let (_, empty) = version().await;
    let repos =
        json!([{ "url": " https://h/a ", "description": "A" }, { "url": "git@h:b.git" }, { "url": "https://h/a" }]);
    hub.patch(&path, json!({ "repos": repos })).await.expect(200);
    let (listed, one) = version().await;
    assert_eq!(listed, json!([{ "url": "https://h/a", "description": "A" }, { "url": "git@h:b.git" }]));
    assert_ne!(one, empty);
    hub.patch(&path, json!({ "repos": [{ "url": "git@h:b.git", "description": "B" }, { "url": "https://h/a" }] }))
        .await
        .expect(200);
    assert_eq!(version().await.1, one, "order and descriptions do not matter");
    hub.patch(&path, json!({ "repos": [{ "url": "file:///etc" }] }))
        .await
        .refused(400, "repos[0]: url must be an http(s), ssh, git or scp-like address");
    hub.patch(&path, json!({ "settings": { "github_enabled": false } })).await.expect(200);
    let settings =
        hub.get(&format!("/api/daemon/workspaces/{}/repos", hub.workspace)).await.expect(200)["settings"].clone();
    assert_eq!(settings, json!({ "github_enabled": false }));
    assert_eq!(version().await.1, one);
}

async fn beats_are_recorded_and_gone_is_said_of_gone_rows_only(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let before = hub.runtime(runtime).await.unwrap();
    hub.app.advance_clock(std::time::Duration::from_secs(3600));
    hub.post("/api/daemon/heartbeat", json!({ "runtime_id": runtime })).await.expect(200);
    assert_eq!(hub.app.flush().await, 1);
    let after = hub.runtime(runtime).await.unwrap();
    assert!(after["last_seen_at"].as_str() > before["last_seen_at"].as_str(), "{before} {after}");
    assert_eq!(after["updated_at"], before["updated_at"], "a beat is no change");

    hub.delete(&format!("/api/runtimes/{runtime}")).await.expect(200);
    for gone in [runtime, Uuid::new_v4()] {
        hub.post("/api/daemon/heartbeat", json!({ "runtime_id": gone })).await.refused(404, "runtime not found");
        hub.post(&format!("/api/daemon/runtimes/{gone}/tasks/claim"), json!({}))
            .await
            .refused(404, "runtime not found");
    }
    for (body, text) in [
        (json!({}), "runtime_id is required"),
        (json!({ "runtime_id": null }), "runtime_id is required"),
        (json!({ "runtime_id": "x" }), "invalid runtime_id"),
        (json!({ "runtime_id": 7 }), "invalid request body"),
    ] {
        hub.post("/api/daemon/heartbeat", body).await.refused(400, text);
    }
    hub.post("/api/daemon/runtimes/x/tasks/claim", json!({})).await.refused(400, "invalid runtime_id");
    hub.post("/api/daemon/deregister", json!({ "runtime_ids": null })).await.refused(400, "runtime_ids is required");
    hub.post("/api/daemon/deregister", json!({ "runtime_ids": ["x"] })).await.refused(400, "invalid runtime_ids");
    let again = hub.register("d", &["claude"]).await[0];
    assert_ne!(again, runtime, "what registers after a delete is a new runtime");
}

async fn a_deregistered_runtime_comes_back_with_a_later_request_only(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut socket = hub.daemon(&[runtime]).await;
    socket.send(json!({ "type": "daemon:heartbeat", "payload": { "runtime_id": runtime } })).await;
    socket.next_of("daemon:heartbeat_ack").await;
    hub.post("/api/daemon/deregister", json!({ "runtime_ids": [runtime] })).await.expect(200);
    // The socket is older than the deregistration: its beats bring nothing back.
    socket.send(json!({ "type": "daemon:heartbeat", "payload": { "runtime_id": runtime } })).await;
    socket.quiet_for(std::time::Duration::from_millis(300)).await;
    assert_eq!(hub.runtime(runtime).await.unwrap()["status"], "offline");
    // A request that begins now does.
    let (mut browser, _) = hub.browser().await;
    hub.post("/api/daemon/heartbeat", json!({ "runtime_id": runtime })).await.expect(200);
    let event = browser.next_of("daemon:register").await;
    assert_eq!(event["payload"], json!({ "action": "online", "runtime_ids": [runtime] }));
    assert_eq!(hub.runtime(runtime).await.unwrap()["status"], "online");
}

async fn a_failing_database_never_says_gone(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut socket = hub.daemon(&[runtime]).await;
    hub.sql("ALTER TABLE agent_runtime RENAME TO away").await;
    for (path, body) in [
        ("/api/daemon/heartbeat".to_owned(), json!({ "runtime_id": runtime })),
        (format!("/api/daemon/runtimes/{runtime}/tasks/claim"), json!({})),
        (format!("/api/daemon/runtimes/{runtime}/recover-orphans"), json!({})),
    ] {
        let answer = hub.post(&path, body).await;
        assert!(answer.status == 500 || answer.status == 503, "{answer:?}");
        assert!(!answer.text.contains("not found"), "{answer:?}");
        assert!(!answer.text.contains("agent_runtime"), "internal detail: {answer:?}");
        assert!(answer.headers.contains_key("retry-after"));
    }
    socket.send(json!({ "type": "daemon:heartbeat", "payload": { "runtime_id": runtime } })).await;
    socket.quiet_for(std::time::Duration::from_millis(300)).await;
    hub.sql("ALTER TABLE away RENAME TO agent_runtime").await;
    socket.send(json!({ "type": "daemon:heartbeat", "payload": { "runtime_id": runtime } })).await;
    assert_eq!(socket.next_of("daemon:heartbeat_ack").await["payload"]["status"], "ok");
}

async fn bad_input_has_a_clear_answer(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    for body in ["", "{", "[]", "7", "\"x\"", "{\"runtime_id\":"] {
        hub.raw("POST", "/api/daemon/heartbeat", Some(&hub.token), body.into(), &[])
            .await
            .refused(400, "invalid request body");
    }
    hub.raw("POST", "/api/daemon/heartbeat", Some(&hub.token), "null".into(), &[])
        .await
        .refused(400, "runtime_id is required");
    let large = format!("{{\"runtime_id\":\"{}\"}}", "x".repeat(1 << 20));
    hub.raw("POST", "/api/daemon/heartbeat", Some(&hub.token), large.into(), &[])
        .await
        .refused(413, "request body too large");
    for (method, path) in [
        ("GET", "/api/daemon/nothing"),
        ("GET", "/api/daemon/heartbeat"),
        ("PUT", "/api/daemon/register"),
        ("GET", "/nothing"),
    ] {
        hub.call(method, path, Some(&hub.token), Value::Null).await.refused(404, "404 page not found");
    }
    hub.call("PUT", "/api/me", Some(&hub.token), Value::Null).await.refused(405, "method not allowed");
    for (header, text) in [
        (None, "missing authorization header"),
        (Some("Basic abc"), "invalid authorization format"),
        (Some("Bearer"), "invalid authorization format"),
        (Some("Bearer mul_0000000000000000000000000000000000000000"), "invalid token"),
        (Some("Bearer mul_x"), "invalid token"),
        (Some("Bearer mdt_0000000000000000000000000000000000000000"), "invalid token"),
    ] {
        let headers: Vec<(&str, &str)> = header.map(|value| ("authorization", value)).into_iter().collect();
        let body = json!({ "runtime_id": runtime }).to_string();
        hub.raw("POST", "/api/daemon/heartbeat", None, body.into(), &headers).await.refused(401, text);
    }
    // What PostgreSQL cannot store is replaced, on both.
    let body = format!(
        r#"{{"workspace_id":"{}","daemon_id":"nul","runtimes":[{{"type":"claude","name":"a\u0000b","version":"\ud800"}}]}}"#,
        hub.workspace
    );
    let answer = hub.raw("POST", "/api/daemon/register", Some(&hub.token), body.into(), &[]).await.expect(200);
    assert_eq!(answer["runtimes"][0]["name"], "a\u{FFFD}b");
    assert_eq!(answer["runtimes"][0]["device_info"], "\u{FFFD}");
}

async fn what_is_stored_and_sent_of_a_registration_has_limits(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (mut browser, _) = hub.browser().await;
    let register = async |device: String, entries: usize| {
        let runtimes: Vec<Value> =
            (0..entries).map(|index| json!({ "type": format!("p{index}"), "name": "n".repeat(500) })).collect();
        let body =
            json!({ "workspace_id": hub.workspace, "daemon_id": "d", "device_name": device, "runtimes": runtimes });
        hub.post("/api/daemon/register", body).await
    };
    register("x".repeat(513), 1).await.refused(400, "names and versions have at most 512 characters");
    register("x".repeat(500_000), 256).await.refused(400, "names and versions have at most 512 characters");
    register("x".into(), 257).await.refused(400, "at most 256 runtimes");
    // The largest one allowed: sockets get what is small of it, and the mark.
    register("x".repeat(512), 256).await.expect(200);
    assert_eq!(browser.next().await["payload"], json!({ "truncated": true }));
    // Two entries of one provider are one row, and one in the event.
    let body = json!({ "workspace_id": hub.workspace, "daemon_id": "e", "runtimes": [{ "type": "claude" }, { "type": " Claude " }] });
    let answer = hub.post("/api/daemon/register", body).await.expect(200);
    assert_eq!(answer["runtimes"][0]["id"], answer["runtimes"][1]["id"], "one for each entry");
    assert_eq!(browser.next().await["payload"]["runtimes"].as_array().unwrap().len(), 1);
}

async fn a_deregistration_does_not_soften_a_revocation(backend: Backend) {
    let hub = Hub::start(backend).await;
    let token = hub.member("m@example.com", "member").await;
    let runtime = hub.register_as(&token, hub.workspace, "d", &["claude"]).await[0];
    hub.call("POST", &format!("/api/workspaces/{}/leave", hub.workspace), Some(&token), Value::Null).await.expect(204);
    hub.post("/api/daemon/deregister", json!({ "runtime_ids": [runtime] })).await.expect(200);
    hub.post(&format!("/api/workspaces/{}/members", hub.workspace), json!({ "email": "m@example.com" }))
        .await
        .expect(201);
    hub.call("POST", "/api/daemon/heartbeat", Some(&token), json!({ "runtime_id": runtime })).await.expect(200);
    assert_eq!(hub.runtime(runtime).await.unwrap()["status"], "offline");
}
