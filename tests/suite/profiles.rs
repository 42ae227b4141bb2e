//! Runtime profiles: who makes them, what they may be, what daemons register of them, and their ends.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    support::{
        Backend, Hub, Socket,
        fleet::acked,
        hub::{id, keys},
    },
    tasks::support::{self, Given},
};

on_both_stores!(
    owners_and_admins_make_change_and_remove_profiles,
    a_profile_is_checked_before_it_is_stored,
    a_workspace_has_so_many_profiles_and_no_more,
    members_and_tasks_read_profiles,
    a_daemon_gets_the_enabled_ones,
    a_custom_runtime_is_of_its_profile_s_family,
    a_registration_with_a_profile_that_cannot_be_is_refused_whole,
    a_profile_that_somebody_needs_stays,
    a_profile_s_end_takes_its_runtimes_along,
);
on_all_stores!(daemons_of_the_workspace_are_told_of_every_change);

fn path(hub: &Hub) -> String {
    format!("/api/workspaces/{}/runtime-profiles", hub.workspace)
}

fn wish(name: &str) -> Value {
    json!({ "display_name": name, "protocol_family": "claude", "command_name": "claude-x" })
}

async fn make(hub: &Hub, name: &str) -> Uuid {
    id(&hub.post(&path(hub), wish(name)).await.expect(201))
}

async fn register(hub: &Hub, token: &str, daemon: &str, entries: Value) -> Value {
    let body = json!({ "workspace_id": hub.workspace, "daemon_id": daemon, "device_name": "box", "runtimes": entries });
    hub.call("POST", "/api/daemon/register", Some(token), body).await.expect(200)["runtimes"].clone()
}

async fn runtimes(hub: &Hub) -> Vec<Value> {
    let list = hub.get(&format!("/api/runtimes?workspace_id={}", hub.workspace)).await.expect(200);
    list.as_array().unwrap().clone()
}

async fn owners_and_admins_make_change_and_remove_profiles(backend: Backend) {
    let hub = Hub::start(backend).await;
    let admin = hub.member("a@example.com", "admin").await;
    let admin_id = hub.call("GET", "/api/me", Some(&admin), Value::Null).await.expect(200)["id"].clone();
    let (mut browser, _) = hub.browser().await;
    let body = json!({
        "display_name": "  Our Claude ", "protocol_family": " claude ", "command_name": " claude-x ",
        "description": " d ", "fixed_args": ["--a", " b "], "visibility": "private",
    });
    let made = hub.call("POST", &path(&hub), Some(&admin), body).await.expect(201);
    assert_eq!(
        keys(&made),
        [
            "command_name",
            "created_at",
            "created_by",
            "description",
            "display_name",
            "enabled",
            "fixed_args",
            "id",
            "protocol_family",
            "updated_at",
            "visibility",
            "workspace_id",
        ]
    );
    assert_eq!(made["display_name"], "Our Claude");
    assert_eq!(made["protocol_family"], "claude");
    assert_eq!(made["command_name"], "claude-x");
    assert_eq!(made["description"], "d");
    assert_eq!(made["fixed_args"], json!(["--a", " b "]), "arguments are passed as they are");
    assert_eq!(made["visibility"], "workspace", "whatever is asked for");
    assert_eq!(hub.rows("SELECT visibility FROM runtime_profile").await, ["workspace"]);
    assert_eq!(made["enabled"], true);
    assert_eq!(made["created_by"], admin_id);
    let event = browser.next_of("daemon:register").await;
    assert_eq!(event["payload"], json!({ "runtime_profile_id": made["id"] }));
    assert_eq!((&event["actor_type"], &event["actor_id"]), (&json!("member"), &admin_id));

    let second = hub.post(&path(&hub), wish("Second")).await.expect(201);
    assert_eq!((&second["description"], &second["fixed_args"]), (&Value::Null, &json!([])));
    browser.next_of("daemon:register").await;
    let listed = hub.get(&path(&hub)).await;
    assert!(listed.headers.contains_key("x-event-epoch") && listed.headers.contains_key("x-event-seq"));
    assert_eq!(listed.expect(200), json!({ "runtime_profiles": [made, second] }), "oldest first");
    let one = format!("{}/{}", path(&hub), id(&made));
    assert_eq!(hub.get(&one).await.expect(200), made);

    // A change that changes nothing is none.
    let before = hub.fingerprint().await;
    for body in [
        json!({}),
        Value::Null,
        json!({ "display_name": " Our Claude ", "protocol_family": "claude", "enabled": true, "fixed_args": null }),
        json!({ "description": null, "command_name": null, "visibility": "private" }),
    ] {
        let body = if body.is_null() { b"null".to_vec() } else { body.to_string().into_bytes() };
        assert_eq!(hub.raw("PUT", &one, Some(&hub.token), body, &[]).await.expect(200), made);
    }
    assert_eq!(hub.fingerprint().await, before);
    let changed = hub.patch(&one, json!({ "enabled": false, "fixed_args": [], "description": " " })).await.expect(200);
    assert_eq!(
        (&changed["enabled"], &changed["fixed_args"], &changed["description"]),
        (&json!(false), &json!([]), &Value::Null)
    );
    assert_eq!(browser.next_of("daemon:register").await["payload"], json!({ "runtime_profile_id": made["id"] }));
    assert_eq!(hub.get(&one).await.expect(200), changed);
    hub.patch(&one, json!({ "display_name": "Second" }))
        .await
        .refused(409, "a runtime profile with this display_name already exists");
    hub.patch(&one, json!({ "protocol_family": "codex" })).await.refused(400, "protocol_family cannot be changed");
    hub.patch(&one, json!({ "fixed_args": [" "] })).await.refused(400, "fixed_args[0] is blank");
    assert_eq!(hub.get(&one).await.expect(200), changed);

    let answer = hub.call("DELETE", &one, Some(&admin), Value::Null).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    let event = browser.next_of("daemon:register").await;
    assert_eq!(event["payload"], json!({ "deleted_runtime_profile_id": made["id"] }));
    for method in ["GET", "PATCH", "PUT", "DELETE"] {
        hub.call(method, &one, Some(&hub.token), json!({})).await.refused(404, "runtime profile not found");
    }
    // Its name is free again.
    hub.post(&path(&hub), wish("Our Claude")).await.expect(201);
}

async fn a_profile_is_checked_before_it_is_stored(backend: Backend) {
    let hub = Hub::start(backend).await;
    make(&hub, "Taken").await;
    let families = "claude, codebuddy, codex, copilot, opencode, openclaw, hermes, gemini, pi, cursor, kimi, kiro, \
                    antigravity";
    let with = |field: &str, value: Value| {
        let mut body = wish("New");
        body[field] = value;
        body
    };
    let before = hub.fingerprint().await;
    for (body, status, text) in [
        (with("display_name", json!("  ")), 400, "display_name is required".to_owned()),
        (with("display_name", Value::Null), 400, "display_name is required".into()),
        (with("display_name", json!("x".repeat(256))), 400, "display_name must be 255 characters or fewer".into()),
        (with("display_name", json!(" Taken ")), 409, "a runtime profile with this display_name already exists".into()),
        (with("protocol_family", json!("")), 400, "protocol_family is required".into()),
        (
            with("protocol_family", json!("Claude")),
            400,
            format!("invalid protocol_family \"Claude\"; valid values: {families}"),
        ),
        (with("command_name", json!(" ")), 400, "command_name is required".into()),
        (with("command_name", json!("x".repeat(256))), 400, "command_name must be 255 characters or fewer".into()),
        (with("description", json!("x".repeat(2001))), 400, "description must be 2000 characters or fewer".into()),
        (with("fixed_args", json!(["a", " "])), 400, "fixed_args[1] is blank".into()),
        (with("fixed_args", json!([null])), 400, "fixed_args[0] is blank".into()),
        (with("fixed_args", json!(vec!["a"; 101])), 400, "fixed_args has at most 100 entries".into()),
        (with("fixed_args", json!(["x".repeat(1025)])), 400, "fixed_args[0] must be 1024 characters or fewer".into()),
        (with("fixed_args", json!("a")), 400, "invalid request body".into()),
        (with("enabled", json!("yes")), 400, "invalid request body".into()),
    ] {
        hub.post(&path(&hub), body).await.refused(status, &text);
    }
    assert_eq!(hub.fingerprint().await, before);
    for family in families.split(", ") {
        let body = json!({ "display_name": family, "protocol_family": family, "command_name": "c" });
        hub.post(&path(&hub), body).await.expect(201);
    }
    let off = hub.post(&path(&hub), with("enabled", json!(false))).await.expect(201);
    assert_eq!(off["enabled"], false);
    hub.get(&format!("{}/x", path(&hub))).await.refused(400, "invalid runtime_profile_id");
    hub.get("/api/workspaces/x/runtime-profiles").await.refused(400, "invalid workspace_id");
}

async fn a_workspace_has_so_many_profiles_and_no_more(backend: Backend) {
    let hub = Hub::start(backend).await;
    for number in 0..98 {
        make(&hub, &format!("p{number}")).await;
    }
    let path = path(&hub);
    let racers = (0..6).map(|number| hub.post(&path, wish(&format!("late {number}"))));
    let answers = futures_util::future::join_all(racers).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 2);
    for answer in answers.into_iter().filter(|answer| answer.status != 201) {
        answer.refused(409, "a workspace has at most 100 runtime profiles");
    }
}

async fn members_and_tasks_read_profiles(backend: Backend) {
    let hub = Hub::start(backend).await;
    let profile = make(&hub, "P").await;
    let member = hub.member("m@example.com", "member").await;
    let user = id(&hub.call("GET", "/api/me", Some(&member), Value::Null).await.expect(200));
    let task = hub.app.mint_task_token(hub.workspace, user).await.unwrap();
    for token in [&member, &task] {
        let list = hub.call("GET", &path(&hub), Some(token), Value::Null).await.expect(200);
        assert_eq!(list["runtime_profiles"].as_array().unwrap().len(), 1);
        let one = format!("{}/{profile}", path(&hub));
        assert_eq!(hub.call("GET", &one, Some(token), Value::Null).await.expect(200), list["runtime_profiles"][0]);
    }
    let one = format!("{}/{profile}", path(&hub));
    for (method, path) in [("POST", &path(&hub)), ("PATCH", &one), ("PUT", &one), ("DELETE", &one)] {
        hub.call(method, path, Some(&member), wish("x")).await.refused(403, "insufficient permissions");
        hub.call(method, path, Some(&task), wish("x")).await.refused(403, "task tokens may not do this");
    }
}

async fn a_daemon_gets_the_enabled_ones(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (on, off) = (make(&hub, "On").await, make(&hub, "Off").await);
    hub.patch(&format!("{}/{off}", path(&hub)), json!({ "enabled": false })).await.expect(200);
    let member = hub.member("m@example.com", "member").await;
    let answer = async |token: &str| {
        let path = format!("/api/daemon/workspaces/{}/runtime-profiles", hub.workspace);
        hub.call("GET", &path, Some(token), Value::Null).await
    };
    let got = answer(&member).await.expect(200);
    let whole = hub.get(&format!("{}/{on}", path(&hub))).await.expect(200);
    assert_eq!(got, json!({ "workspace_id": hub.workspace, "runtime_profiles": [whole] }));
    let stranger = hub.stranger("s@example.com").await;
    answer(&stranger).await.refused(404, "not found");
}

async fn a_custom_runtime_is_of_its_profile_s_family(backend: Backend) {
    let hub = Hub::start(backend).await;
    let profile = make(&hub, "Mine").await;
    let entries = json!([
        { "type": "claude", "version": "1" },
        { "type": "codex", "profile_id": format!(" {profile} "), "name": "Named" },
        { "type": "claude", "profile_id": profile },
    ]);
    let registered = register(&hub, &hub.token, "d", entries.clone()).await;
    let [builtin, custom, same] = &registered.as_array().unwrap()[..] else { panic!("{registered}") };
    assert_eq!(builtin["profile_id"], Value::Null);
    assert_ne!(builtin["id"], custom["id"], "beside the built-in one of the same provider");
    assert_eq!(custom["id"], same["id"], "one profile is one runtime");
    assert_eq!(custom["provider"], "claude", "the profile knows better than the daemon");
    assert_eq!(custom["launch_header"], "claude (stream-json)");
    assert_eq!(custom["profile_id"], json!(profile));
    assert_eq!(same["name"], "Mine (box)");
    assert_eq!(runtimes(&hub).await.len(), 2);
    let again = register(&hub, &hub.token, "d", entries.clone()).await;
    assert_eq!((&again[0]["id"], &again[1]["id"]), (&builtin["id"], &custom["id"]));

    // Somebody else who has the same daemon id gets runtimes of their own.
    let member = hub.member("m@example.com", "member").await;
    let theirs = register(&hub, &member, "d", entries.clone()).await;
    assert_ne!(theirs[1]["id"], custom["id"]);
    assert_eq!(runtimes(&hub).await.len(), 4);
    // An ownerless one is the next one's who registers it.
    hub.sql("UPDATE agent_runtime SET owner_id = NULL WHERE profile_id IS NOT NULL").await;
    let adopted = register(&hub, &hub.token, "d", entries).await;
    assert_eq!(adopted[1]["id"], custom["id"], "the oldest of them");
    assert_eq!(adopted[0]["id"], builtin["id"]);

    // It takes work as any other.
    let runtime = id(custom);
    let agent = support::agent(&hub, "ann", runtime).await;
    let issue = Some(support::issue(&hub, "i").await);
    support::given(&hub, Given { agent, runtime, issue, ..Given::default() }).await;
}

async fn a_registration_with_a_profile_that_cannot_be_is_refused_whole(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (on, off) = (make(&hub, "On").await, make(&hub, "Off").await);
    hub.patch(&format!("{}/{off}", path(&hub)), json!({ "enabled": false })).await.expect(200);
    let elsewhere = hub.another_workspace("elsewhere").await;
    let foreign = hub.post(&format!("/api/workspaces/{elsewhere}/runtime-profiles"), wish("F")).await.expect(201);
    let (foreign, unknown) = (id(&foreign), Uuid::new_v4());
    let before = hub.fingerprint().await;
    for (profile, status, text) in [
        (json!("x"), 400, "invalid profile_id".to_owned()),
        (json!(unknown), 400, format!("unknown runtime profile: {unknown}")),
        (json!(foreign), 400, format!("unknown runtime profile: {foreign}")),
        (json!(off), 409, format!("runtime profile is disabled: {off}")),
    ] {
        let entries = json!([{ "type": "claude" }, { "profile_id": on }, { "type": "claude", "profile_id": profile }]);
        let body = json!({ "workspace_id": hub.workspace, "daemon_id": "d", "runtimes": entries });
        hub.post("/api/daemon/register", body).await.refused(status, &text);
    }
    assert_eq!(hub.fingerprint().await, before, "all or nothing");
}

async fn daemons_of_the_workspace_are_told_of_every_change(backend: Backend) {
    let hub = Hub::start(backend).await;
    let elsewhere = hub.another_workspace("elsewhere").await;
    let here = hub.register("d", &["claude"]).await[0];
    let there = hub.register_as(&hub.token, elsewhere, "d", &["claude"]).await[0];
    let mut both = hub.daemon(&[here, there]).await;
    let mut other = hub.daemon(&[there]).await;
    let member = hub.member("m@example.com", "member").await;
    let theirs = hub.register_as(&member, hub.workspace, "m", &["codex"]).await[0];
    let mut members = Socket::open(&hub.daemon_url(&[theirs]), Some(&member)).await;
    acked(&mut both, here).await;
    let changed = |workspace: Uuid, profile: Uuid| {
        let payload = json!({ "workspace_id": workspace, "runtime_profile_id": profile });
        json!({ "type": "daemon:runtime_profiles_changed", "payload": payload })
    };
    let profile = make(&hub, "P").await;
    let one = format!("{}/{profile}", path(&hub));
    hub.patch(&one, json!({ "enabled": false })).await.expect(200);
    // No change, no word.
    hub.patch(&one, json!({ "enabled": false })).await.expect(200);
    hub.delete(&one).await.expect(204);
    for _ in 0..3 {
        assert_eq!(both.next().await, changed(hub.workspace, profile));
        assert_eq!(members.next().await, changed(hub.workspace, profile));
    }
    let made = hub.post(&format!("/api/workspaces/{elsewhere}/runtime-profiles"), wish("F")).await.expect(201);
    assert_eq!(both.next().await, changed(elsewhere, id(&made)), "a socket is told for each of its workspaces");
    assert_eq!(other.next().await, changed(elsewhere, id(&made)), "and of no other one");
    members.quiet_for(std::time::Duration::from_millis(200)).await;
}

async fn a_profile_that_somebody_needs_stays(backend: Backend) {
    let hub = Hub::start(backend).await;
    let profile = make(&hub, "P").await;
    let one = format!("{}/{profile}", path(&hub));
    let runtime = id(&register(&hub, &hub.token, "d", json!([{ "profile_id": profile }])).await[0]);
    let elsewhere = hub.register("d", &["claude"]).await[0];
    let agent = support::agent(&hub, "ann", runtime).await;
    let deputy = support::agent(&hub, "deputy", elsewhere).await;
    let squad = hub.cli("POST", "/api/squads", json!({ "name": "s", "leader_id": agent })).await.expect(201);
    let refused = async |code: &str| {
        let before = hub.fingerprint().await;
        let answer = hub.delete(&one).await.expect(409);
        assert_eq!(answer["code"], code, "{answer}");
        assert!(answer["error"].as_str().unwrap().starts_with("cannot delete runtime profile: "), "{answer}");
        assert_eq!(hub.fingerprint().await, before);
        answer
    };
    let answer = refused("runtime_has_active_agents").await;
    assert_eq!(keys(&answer["active_agents"][0]), ["avatar_url", "id", "name", "status"]);
    assert_eq!(id(&answer["active_agents"][0]), agent);
    hub.cli("POST", &format!("/api/agents/{agent}/archive"), Value::Null).await.expect(200);
    let answer = refused("runtime_has_active_squads").await;
    assert_eq!(answer["active_squads"], json!([{ "id": squad["id"], "name": "s", "leader_id": agent }]));
    hub.cli("PUT", &format!("/api/squads/{}", id(&squad)), json!({ "leader_id": deputy })).await.expect(200);
    // What was put aside goes along, and work that was left there by an agent that lives elsewhere ends.
    let task = support::give(&hub, &Given { agent: deputy, runtime, ..Given::default() }).await;
    let (mut browser, _) = hub.browser().await;
    hub.delete(&one).await.expect(204);
    assert_eq!(browser.next_of("task:cancelled").await["payload"]["task_id"], json!(task));
    assert!(hub.runtime(runtime).await.is_none() && hub.runtime(elsewhere).await.is_some());
    hub.cli("GET", &format!("/api/agents/{agent}"), Value::Null).await.refused(404, "agent not found");
    hub.cli("GET", &format!("/api/agents/{deputy}"), Value::Null).await.expect(200);
}

async fn a_profile_s_end_takes_its_runtimes_along(backend: Backend) {
    let hub = Hub::start(backend).await;
    let profile = make(&hub, "P").await;
    let entries = json!([{ "type": "claude" }, { "profile_id": profile }]);
    let first = register(&hub, &hub.token, "d", entries.clone()).await;
    let second = register(&hub, &hub.token, "e", entries).await;
    let mut socket = hub.daemon(&[id(&first[0]), id(&first[1])]).await;
    acked(&mut socket, id(&first[1])).await;
    // Another daemon's socket drives nothing but what goes.
    let mut bare = hub.daemon(&[id(&second[1])]).await;
    acked(&mut bare, id(&second[1])).await;
    let (mut browser, _) = hub.browser().await;
    hub.delete(&format!("{}/{profile}", path(&hub))).await.expect(204);
    for payload in [
        json!({ "action": "delete", "runtime_id": first[1]["id"] }),
        json!({ "action": "delete", "runtime_id": second[1]["id"] }),
        json!({ "deleted_runtime_profile_id": profile }),
    ] {
        let event = browser.next_of("daemon:register").await;
        assert_eq!(event["payload"], payload);
        assert_eq!(event["actor_type"], "member");
    }
    for (mut socket, lost) in [(socket, &first[1]), (bare, &second[1])] {
        let (mut gone, mut hinted) = (false, false);
        while !(gone && hinted) {
            let frame = socket.next().await;
            gone |= frame["payload"]["runtime_gone"] == true && frame["payload"]["runtime_id"] == lost["id"];
            hinted |= frame["type"] == "daemon:runtime_profiles_changed";
        }
    }
    let left: Vec<Value> = runtimes(&hub).await.iter().map(|row| row["id"].clone()).collect();
    assert_eq!(left, [first[0]["id"].clone(), second[0]["id"].clone()]);
    let beat = json!({ "runtime_id": first[1]["id"] });
    hub.post("/api/daemon/heartbeat", beat).await.refused(404, "runtime not found");
}
