//! Agents: whose runtimes they may be bound to, who sees them, what they hide.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Backend, Hub, Socket,
    hub::{id, keys},
};

on_both_stores!(
    agents_have_the_fields_that_clients_read,
    agents_are_bound_to_runtimes_that_the_caller_may_use,
    agents_change_field_by_field,
    private_agents_are_ids_to_those_who_may_not_see_them,
    secrets_are_in_no_answer_and_in_no_event,
    agents_are_put_aside_and_taken_up_again,
    agents_have_skills,
    a_runtime_stays_as_long_as_it_has_agents,
    whatever_is_wrong_is_refused_and_changes_nothing,
);

const AGENT: [&str; 25] = [
    "archived_at",
    "archived_by",
    "avatar_url",
    "created_at",
    "custom_args",
    "custom_env_key_count",
    "description",
    "has_custom_env",
    "id",
    "instructions",
    "max_concurrent_tasks",
    "mcp_config",
    "mcp_config_redacted",
    "model",
    "name",
    "owner_id",
    "runtime_config",
    "runtime_id",
    "runtime_mode",
    "skills",
    "status",
    "thinking_level",
    "updated_at",
    "visibility",
    "workspace_id",
];

async fn me(hub: &Hub) -> Uuid {
    id(&hub.get("/api/me").await.expect(200))
}

/// A browser of somebody else's on the first workspace.
/// A browser socket of somebody's, authenticated.
pub async fn browser_with(hub: &Hub, token: &str) -> Socket {
    let mut socket = Socket::open(&hub.ws(&format!("/ws?workspace_id={}", hub.workspace)), None).await;
    socket.send(json!({ "type": "auth", "payload": { "token": token } })).await;
    assert_eq!(socket.next().await["type"], "auth_ack");
    socket
}

fn path(agent: &Value) -> String {
    format!("/api/agents/{}", id(agent))
}

async fn agents_have_the_fields_that_clients_read(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let (mut browser, _) = hub.browser().await;
    let wish = json!({ "name": " Ada ", "runtime_id": runtime, "custom_env": null, "mcp_config": null });
    let made = hub.cli("POST", "/api/agents", wish).await.expect(201);
    assert_eq!(keys(&made), AGENT);
    assert_eq!(
        made,
        json!({
            "id": made["id"], "workspace_id": hub.workspace, "runtime_id": runtime, "name": "Ada", "description": "",
            "instructions": "", "avatar_url": null, "runtime_mode": "local", "runtime_config": {}, "custom_args": [],
            "mcp_config": null, "has_custom_env": false, "custom_env_key_count": 0, "mcp_config_redacted": false,
            "visibility": "private", "status": "offline", "max_concurrent_tasks": 6, "model": "",
            "thinking_level": "", "owner_id": me(&hub).await, "skills": [], "created_at": made["created_at"],
            "updated_at": made["created_at"], "archived_at": null, "archived_by": null,
        })
    );
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("agent:created"), &json!({ "agent": made })));
    browser.quiet_for(std::time::Duration::from_millis(50)).await;

    let wish = json!({
        "name": "Bob", "runtime_id": runtime, "description": "d", "instructions": "i", "avatar_url": "u",
        "runtime_config": { "a": 1 }, "custom_env": { "K": "v" }, "custom_args": ["-x"], "mcp_config": { "m": {} },
        "visibility": "workspace", "max_concurrent_tasks": 2, "model": "opus", "thinking_level": "high",
    });
    let bob = hub.cli("POST", "/api/agents", wish).await.expect(201);
    assert_eq!((&bob["has_custom_env"], &bob["custom_env_key_count"]), (&json!(true), &json!(1)));
    assert_eq!((&bob["mcp_config"], &bob["mcp_config_redacted"]), (&json!({ "m": {} }), &json!(false)));
    let answer = hub.cli("GET", "/api/agents", Value::Null).await;
    assert_eq!(answer.headers["x-event-seq"], "3");
    assert_eq!(answer.expect(200), json!([made, bob]), "oldest first");
    assert_eq!(hub.cli("GET", &path(&bob), Value::Null).await.expect(200), bob);
}

async fn agents_are_bound_to_runtimes_that_the_caller_may_use(backend: Backend) {
    let hub = Hub::start(backend).await;
    let plain = hub.member("plain@example.com", "member").await;
    let other = hub.member("other@example.com", "member").await;
    let admin = hub.member("admin@example.com", "admin").await;
    let runtime = hub.register_as(&plain, hub.workspace, "theirs", &["claude"]).await[0];
    let mut n = 0;
    let mut wish = || {
        n += 1;
        json!({ "name": format!("a{n}"), "runtime_id": runtime, "visibility": "workspace" })
    };
    const PRIVATE: &str = "this runtime is private: only its owner or a workspace admin can create agents on it";
    hub.cli_as(&other, "POST", "/api/agents", wish()).await.refused(403, PRIVATE);
    let theirs = hub.cli_as(&plain, "POST", "/api/agents", wish()).await.expect(201);
    hub.cli_as(&admin, "POST", "/api/agents", wish()).await.expect(201);
    hub.cli("POST", "/api/agents", wish()).await.expect(201);
    // Moved to somebody's private runtime: as when made on it.
    let mine = hub.register("mine", &["claude"]).await[0];
    hub.cli_as(&plain, "PUT", &path(&theirs), json!({ "runtime_id": mine })).await.refused(403, PRIVATE);
    hub.patch(&format!("/api/runtimes/{mine}"), json!({ "visibility": "public" })).await.expect(200);
    let moved = hub.cli_as(&plain, "PUT", &path(&theirs), json!({ "runtime_id": mine })).await.expect(200);
    assert_eq!(moved["runtime_id"], json!(mine));
    hub.call("PATCH", &format!("/api/runtimes/{runtime}"), Some(&plain), json!({ "visibility": "public" }))
        .await
        .expect(200);
    hub.cli_as(&other, "POST", "/api/agents", wish()).await.expect(201);
}

async fn agents_change_field_by_field(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["claude", "codex", "pi"]).await;
    let wish = json!({
        "name": "a", "runtime_id": runtimes[0], "visibility": "workspace", "model": "claude-opus",
        "mcp_config": { "m": 1 },
    });
    let made = hub.cli("POST", "/api/agents", wish).await.expect(201);
    let (mut browser, _) = hub.browser().await;
    let put = async |change: Value| hub.cli("PUT", &path(&made), change).await;

    assert_eq!(put(json!({})).await.expect(200), made);
    assert_eq!(put(Value::Null).await.expect(200), made);
    assert_eq!(put(json!({ "name": "a", "runtime_id": runtimes[0], "model": null })).await.expect(200), made);
    let change = json!({
        "name": "b", "description": "d", "instructions": "i", "avatar_url": "u", "custom_args": ["x"],
        "visibility": "private", "status": "idle", "max_concurrent_tasks": 1, "thinking_level": "max",
    });
    let changed = put(change.clone()).await.expect(200);
    for (field, value) in change.as_object().unwrap() {
        assert_eq!(changed[field], *value, "{field}");
    }
    assert_eq!(changed["mcp_config"], json!({ "m": 1 }), "absent is no change");
    let event = browser.next().await;
    assert_eq!(event["type"], "agent:status");
    let mut redacted = changed.clone();
    redacted["mcp_config"] = Value::Null;
    redacted["mcp_config_redacted"] = json!(true);
    assert_eq!(event["payload"], json!({ "agent": redacted }), "no event has an MCP configuration");
    assert_eq!(put(json!({ "mcp_config": null })).await.expect(200)["mcp_config"], Value::Null);
    // Another provider: a level that it does not know is refused, a model that is foreign to it goes.
    put(json!({ "runtime_id": runtimes[1] }))
        .await
        .refused(400, r#"invalid thinking_level "max" for provider "codex""#);
    let moved = put(json!({ "runtime_id": runtimes[1], "thinking_level": "low" })).await.expect(200);
    assert_eq!((&moved["model"], &moved["runtime_id"]), (&json!(""), &json!(runtimes[1])));
    put(json!({ "runtime_id": runtimes[2] })).await.refused(400, r#"invalid thinking_level "low" for provider "pi""#);
    put(json!({ "runtime_id": runtimes[2], "thinking_level": "" })).await.expect(200);
}

async fn private_agents_are_ids_to_those_who_may_not_see_them(backend: Backend) {
    let hub = Hub::start(backend).await;
    let plain = hub.member("plain@example.com", "member").await;
    let rising = hub.member("rising@example.com", "member").await;
    let admin = hub.member("admin@example.com", "admin").await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut theirs = browser_with(&hub, &plain).await;
    let mut rises = browser_with(&hub, &rising).await;
    let mut admins = browser_with(&hub, &admin).await;
    let (mut mine, ack) = hub.browser().await;
    let wish = json!({ "name": "secret", "runtime_id": runtime, "instructions": "hush" });
    let made = hub.cli("POST", "/api/agents", wish).await.expect(201);
    for socket in [&mut mine, &mut admins] {
        assert_eq!(socket.next().await["payload"]["agent"], made);
    }
    let reduced = theirs.next().await;
    assert_eq!((&reduced["type"], &reduced["payload"]), (&json!("agent:created"), &json!({ "agent_id": made["id"] })));
    assert_eq!(rises.next().await, reduced, "the same event, encoded once");

    assert_eq!(hub.cli_as(&plain, "GET", "/api/agents", Value::Null).await.expect(200), json!([]));
    hub.cli_as(&plain, "GET", &path(&made), Value::Null).await.refused(403, "you do not have access to this agent");
    hub.cli_as(&plain, "GET", &format!("{}/skills", path(&made)), Value::Null)
        .await
        .refused(403, "you do not have access to this agent");
    hub.cli_as(&plain, "PUT", &path(&made), json!({ "name": "x" }))
        .await
        .refused(403, "you do not have access to this agent");
    let seen = hub.cli_as(&admin, "GET", &path(&made), Value::Null).await.expect(200);
    assert_eq!(seen, made, "owners and admins see all");

    // Replayed and by long poll as it was live.
    let (epoch, since) = (ack["epoch"].as_str().unwrap().to_owned(), ack["seq"].as_u64().unwrap());
    let mut again = Socket::open(&hub.ws(&format!("/ws?workspace_id={}", hub.workspace)), None).await;
    again.send(json!({ "type": "auth", "payload": { "token": plain, "since": since, "epoch": epoch } })).await;
    assert_eq!(again.next().await["payload"]["recovered"], true);
    assert_eq!(again.next().await, reduced);
    let poll = format!("/api/events?workspace_id={}&since={since}&epoch={epoch}", hub.workspace);
    let polled = hub.call("GET", &poll, Some(&plain), Value::Null).await.expect(200);
    assert_eq!(polled["events"], json!([reduced]));
    let polled = hub.get(&poll).await.expect(200);
    assert_eq!(polled["events"][0]["payload"]["agent"], made);

    // Who becomes an admin sees all from there on; who no longer is one, does not.
    let members = hub.get(&format!("/api/workspaces/{}/members", hub.workspace)).await.expect(200);
    let member = |email: &str| {
        let found = members.as_array().unwrap().iter().find(|member| member["email"] == email);
        format!("/api/workspaces/{}/members/{}", hub.workspace, id(found.unwrap()))
    };
    hub.patch(&member("rising@example.com"), json!({ "role": "admin" })).await.expect(200);
    hub.patch(&member("admin@example.com"), json!({ "role": "member" })).await.expect(200);
    let changed = hub.cli("PUT", &path(&made), json!({ "description": "d" })).await.expect(200);
    assert_eq!(rises.next_of("agent:status").await["payload"]["agent"], changed);
    assert_eq!(admins.next_of("agent:status").await["payload"], json!({ "agent_id": made["id"] }));
    assert_eq!(theirs.next_of("agent:status").await["payload"], json!({ "agent_id": made["id"] }));
    let opened = hub.cli("PUT", &path(&made), json!({ "visibility": "workspace" })).await.expect(200);
    assert_eq!(theirs.next_of("agent:status").await["payload"]["agent"], opened);
}

async fn secrets_are_in_no_answer_and_in_no_event(backend: Backend) {
    let hub = Hub::start(backend).await;
    let plain = hub.member("plain@example.com", "member").await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let (mut browser, _) = hub.browser().await;
    let wish = json!({
        "name": "a", "runtime_id": runtime, "visibility": "workspace", "mcp_config": { "key": "mcp-secret" },
        "custom_env": { "A": "env-secret", "B": "b" },
        "runtime_config": { "gateway": { "host": "h", "token": "gateway-secret" } },
    });
    let made = hub.cli("POST", "/api/agents", wish).await.expect(201);
    assert_eq!(made["runtime_config"], json!({ "gateway": { "host": "h", "token": "***" } }));
    let theirs = hub.cli_as(&plain, "GET", &path(&made), Value::Null).await.expect(200);
    assert_eq!((&theirs["mcp_config"], &theirs["mcp_config_redacted"]), (&Value::Null, &json!(true)));
    hub.cli_as(&plain, "PUT", &path(&made), json!({ "name": "x" }))
        .await
        .refused(403, "only the agent owner or a workspace admin can do this");
    let task = hub.app.mint_task_token(hub.workspace, me(&hub).await).await.unwrap();
    let agents = hub.cli_as(&task, "GET", &path(&made), Value::Null).await.expect(200);
    assert_eq!(agents["mcp_config_redacted"], true, "agents see no MCP configuration, whoever is behind them");

    // What comes back masked is kept.
    let change = json!({ "runtime_config": { "gateway": { "host": "new", "token": "***" } } });
    hub.cli("PUT", &path(&made), change).await.expect(200);
    let stored = hub.rows("SELECT CAST(runtime_config AS text) FROM agent").await;
    assert!(stored[0].contains("gateway-secret") && stored[0].contains("new"), "{stored:?}");

    let env = format!("{}/env", path(&made));
    let whole = json!({ "agent_id": made["id"], "custom_env": { "A": "env-secret", "B": "b" } });
    assert_eq!(hub.cli("GET", &env, Value::Null).await.expect(200), whole);
    hub.cli_as(&plain, "GET", &env, Value::Null).await.refused(403, "insufficient permissions");
    hub.cli_as(&task, "GET", &env, Value::Null).await.refused(403, "task tokens may not do this");
    let change = json!({ "custom_env": { "A": "****", "C": "c", "D": "****" } });
    let changed = hub.cli("PUT", &env, change).await.expect(200);
    assert_eq!(changed["custom_env"], json!({ "A": "env-secret", "C": "c" }));
    hub.cli("PUT", &env, json!({ "custom_env": { "a=b": "x" } }))
        .await
        .refused(400, r#"invalid environment variable name "a=b""#);
    hub.cli("PUT", &path(&made), json!({ "custom_env": {} }))
        .await
        .refused(400, "custom_env cannot be changed here; use PUT /api/agents/{id}/env");

    hub.patch(&format!("/api/workspaces/{}", hub.workspace), json!({ "settings": { "always_redact_env": true } }))
        .await
        .expect(200);
    let mine = hub.cli("GET", &path(&made), Value::Null).await.expect(200);
    assert_eq!(mine["mcp_config_redacted"], true, "the workspace hides them from everybody");
    for kind in ["agent:created", "agent:status", "agent:status"] {
        let event = browser.next().await;
        assert_eq!(event["type"], kind);
        let text = event.to_string();
        for secret in ["mcp-secret", "env-secret", "gateway-secret"] {
            assert!(!text.contains(secret), "{kind} tells {secret}");
        }
    }
}

async fn agents_are_put_aside_and_taken_up_again(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let made = hub.cli("POST", "/api/agents", json!({ "name": "a", "runtime_id": runtime })).await.expect(201);
    let (mut browser, _) = hub.browser().await;
    let (archive, restore) = (format!("{}/archive", path(&made)), format!("{}/restore", path(&made)));
    hub.cli("POST", &restore, Value::Null).await.refused(409, "agent is not archived");
    let archived = hub.cli("POST", &archive, Value::Null).await.expect(200);
    assert_eq!((archived["archived_at"].is_string(), &archived["archived_by"]), (true, &json!(me(&hub).await)));
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]["agent"]), (&json!("agent:archived"), &archived));
    hub.cli("POST", &archive, Value::Null).await.refused(409, "agent is already archived");
    assert_eq!(hub.cli("GET", "/api/agents", Value::Null).await.expect(200), json!([]));
    let all = hub.cli("GET", "/api/agents?include_archived=true", Value::Null).await.expect(200);
    assert_eq!(all, json!([archived]));
    let restored = hub.cli("POST", &restore, Value::Null).await.expect(200);
    assert_eq!((&restored["archived_at"], &restored["archived_by"]), (&Value::Null, &Value::Null));
    assert_eq!(browser.next().await["type"], "agent:restored");
}

async fn a_runtime_stays_as_long_as_it_has_agents(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["claude", "codex"]).await;
    let made = hub.cli("POST", "/api/agents", json!({ "name": "a", "runtime_id": runtimes[0] })).await.expect(201);
    let before = hub.fingerprint().await;
    let answer = hub.delete(&format!("/api/runtimes/{}", runtimes[0])).await.expect(409);
    assert_eq!(
        answer,
        json!({
            "error": "cannot delete runtime: it has active agents bound to it. Archive or reassign the agents first.",
            "code": "runtime_has_active_agents",
            "active_agents": [{ "id": made["id"], "name": "a", "status": "offline", "avatar_url": null }],
        })
    );
    assert_eq!(hub.fingerprint().await, before);
    for n in 0..60 {
        let wish = json!({ "name": format!("a{n}"), "runtime_id": runtimes[0], "avatar_url": "u".repeat(40) });
        hub.cli("POST", "/api/agents", wish).await.expect(201);
    }
    let answer = hub.delete(&format!("/api/runtimes/{}", runtimes[0])).await;
    assert!(answer.json()["active_agents"][0].get("status").is_none(), "in few words");
    // Bound and removed at once, one of the two wins.
    let wish = json!({ "name": "late", "runtime_id": runtimes[1] });
    let path = format!("/api/runtimes/{}", runtimes[1]);
    let (bound, removed) = tokio::join!(hub.cli("POST", "/api/agents", wish), hub.delete(&path));
    assert!([(201, 409), (400, 200)].contains(&(bound.status, removed.status)), "{} {}", bound.text, removed.text);
}

async fn agents_have_skills(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let made = hub.cli("POST", "/api/agents", json!({ "name": "a", "runtime_id": runtime })).await.expect(201);
    let mut skills = Vec::new();
    for name in ["b", "a", "c"] {
        skills.push(id(&hub.cli("POST", "/api/skills", json!({ "name": name })).await.expect(201)));
    }
    let (mut browser, _) = hub.browser().await;
    let path = format!("{}/skills", path(&made));
    let set = hub.cli("PUT", &path, json!({ "skill_ids": [skills[0], skills[1], skills[0]] })).await.expect(200);
    let names: Vec<&Value> = set.as_array().unwrap().iter().map(|skill| &skill["name"]).collect();
    assert_eq!(names, ["a", "b"], "by name");
    let summary = ["config", "created_at", "created_by", "description", "id", "name", "updated_at", "workspace_id"];
    assert_eq!(keys(&set[0]), summary);
    let event = browser.next().await;
    assert_eq!(event["type"], "agent:status");
    assert_eq!(event["payload"], json!({ "agent_id": made["id"], "skills": set }));
    let added = hub.cli("POST", &format!("{path}/add"), json!({ "skill_ids": [skills[2]] })).await.expect(200);
    assert_eq!(added.as_array().unwrap().len(), 3);
    assert_eq!(browser.next().await["payload"]["skills"], added);
    assert_eq!(hub.cli("GET", &path, Value::Null).await.expect(200), added);
    let agent = hub.cli("GET", &format!("/api/agents/{}", id(&made)), Value::Null).await.expect(200);
    assert_eq!(agent["skills"][0], json!({ "id": skills[1], "name": "a", "description": "" }));
    for bad in [json!([Uuid::new_v4()]), json!([skills[0], Uuid::new_v4()])] {
        hub.cli("PUT", &path, json!({ "skill_ids": bad })).await.refused(404, "skill not found");
    }
    hub.cli("PUT", &path, json!({ "skill_ids": ["x"] })).await.refused(400, "invalid skill_ids");
    assert_eq!(hub.cli("GET", &path, Value::Null).await.expect(200), added, "a refused list changes nothing");
    assert_eq!(hub.cli("PUT", &path, json!({ "skill_ids": null })).await.expect(200), json!([]));
}

async fn whatever_is_wrong_is_refused_and_changes_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let elsewhere = hub.another_workspace("other").await;
    let foreign_runtime = hub.register_as(&hub.token, elsewhere, "d", &["claude"]).await[0];
    let theirs = json!({ "name": "theirs", "runtime_id": foreign_runtime });
    let theirs = hub.post(&format!("/api/agents?workspace_id={elsewhere}"), theirs).await.expect(201);
    let made = hub.cli("POST", "/api/agents", json!({ "name": "a", "runtime_id": runtime })).await.expect(201);
    let other = hub.cli("POST", "/api/agents", json!({ "name": "b", "runtime_id": runtime })).await.expect(201);
    let before = hub.fingerprint().await;
    let wish = |more: Value| {
        let mut wish = json!({ "name": "new", "runtime_id": runtime });
        wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        wish
    };
    for (body, status, text) in [
        (json!({}), 400, "name is required"),
        (json!({ "name": "x" }), 400, "runtime_id is required"),
        (wish(json!({ "name": "x".repeat(256) })), 400, "name must be 255 characters or fewer"),
        (wish(json!({ "runtime_id": "x" })), 400, "invalid runtime_id"),
        (wish(json!({ "runtime_id": Uuid::new_v4() })), 400, "invalid runtime_id"),
        (wish(json!({ "runtime_id": foreign_runtime })), 400, "invalid runtime_id"),
        (wish(json!({ "description": "ä".repeat(256) })), 400, "description must be 255 characters or fewer"),
        (wish(json!({ "visibility": "x" })), 400, "invalid visibility \"x\"; valid values: workspace, private"),
        (wish(json!({ "max_concurrent_tasks": -1 })), 400, "max_concurrent_tasks must be between 1 and 1000"),
        (wish(json!({ "thinking_level": "x" })), 400, "invalid thinking_level \"x\" for provider \"claude\""),
        (wish(json!({ "runtime_config": [] })), 400, "runtime_config must be an object"),
        (wish(json!({ "custom_env": { "": "x" } })), 400, "invalid environment variable name \"\""),
        (wish(json!({ "name": "a" })), 409, "an agent with this name already exists"),
        (wish(json!({ "custom_args": "x" })), 400, "invalid request body"),
    ] {
        hub.cli("POST", "/api/agents", body).await.refused(status, text);
    }
    for (body, status, text) in [
        (json!({ "name": " " }), 400, "name is required"),
        (json!({ "name": "b" }), 409, "an agent with this name already exists"),
        (json!({ "status": "x" }), 400, "invalid status \"x\"; valid values: idle, working, blocked, error, offline"),
        (json!({ "runtime_id": foreign_runtime }), 400, "invalid runtime_id"),
        (json!({ "max_concurrent_tasks": 0 }), 400, "max_concurrent_tasks must be between 1 and 1000"),
    ] {
        hub.cli("PUT", &path(&made), body).await.refused(status, text);
    }
    for missing in [id(&theirs), Uuid::new_v4()] {
        for (method, rest) in [
            ("GET", ""),
            ("PUT", ""),
            ("POST", "/archive"),
            ("POST", "/restore"),
            ("GET", "/skills"),
            ("PUT", "/skills"),
            ("POST", "/skills/add"),
            ("GET", "/env"),
            ("PUT", "/env"),
        ] {
            let path = format!("/api/agents/{missing}{rest}");
            hub.cli(method, &path, json!({})).await.refused(404, "agent not found");
        }
    }
    hub.cli("GET", "/api/agents/x", Value::Null).await.refused(400, "invalid agent_id");
    assert_eq!(hub.fingerprint().await, before);
    drop(other);
}
