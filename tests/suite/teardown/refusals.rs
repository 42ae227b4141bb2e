//! Who may not, what is not there, and what keeps a runtime from being removed: each without effect.

use serde_json::{Value, json};
use uuid::Uuid;

use super::scene::{Scene, cascade};
use crate::support::{Backend, Hub, hub::id};

on_both_stores!(
    a_malformed_id_and_a_bad_list_are_refused_before_anything_is_looked_for,
    only_its_owner_and_the_workspace_s_owners_and_admins_remove_a_runtime,
    active_agents_keep_a_runtime_and_are_named,
    a_plan_that_changed_is_refused_with_what_it_would_be_now,
    active_squads_keep_a_runtime_whose_agents_lead_them,
    a_long_list_is_told_in_few_words,
);

const PLAN: &str = "the active agent set changed; please review and confirm again.";
const HAS_AGENTS: &str =
    "cannot delete runtime: it has active agents bound to it. Archive or reassign the agents first.";

async fn a_malformed_id_and_a_bad_list_are_refused_before_anything_is_looked_for(backend: Backend) {
    let hub = Hub::start(backend).await;
    let stranger = hub.stranger("s@example.com").await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = id(&hub.cli("POST", "/api/agents", json!({ "name": "a", "runtime_id": runtime })).await.expect(201));
    let before = hub.fingerprint().await;
    for (method, path) in
        [("DELETE", "/api/runtimes/not-a-uuid"), ("POST", "/api/runtimes/not-a-uuid/archive-agents-and-delete")]
    {
        hub.cli(method, path, Value::Null).await.refused(400, "invalid runtime_id");
    }
    let path = format!("/api/runtimes/{runtime}/archive-agents-and-delete");
    let nowhere = format!("/api/runtimes/{}/archive-agents-and-delete", Uuid::new_v4());
    for path in [&path, &nowhere] {
        for token in [&hub.token, &stranger] {
            for list in [json!(["x"]), json!([agent, "x"]), json!([agent, null]), json!([""])] {
                let body = json!({ "expected_active_agent_ids": list });
                hub.call("POST", path, Some(token), body)
                    .await
                    .refused(400, "expected_active_agent_ids must be a list of valid UUIDs");
            }
            for body in ["", "{", "[]", r#"{"expected_active_agent_ids":"x"}"#, r#"{"expected_active_agent_ids":[1]}"#]
            {
                let answer = hub.raw("POST", path, Some(token), body.as_bytes().to_vec(), &[]).await;
                answer.refused(400, "invalid request body");
            }
        }
    }
    for token in [&hub.token, &stranger] {
        hub.call("POST", &nowhere, Some(token), json!({})).await.refused(404, "runtime not found");
    }
    assert_eq!(hub.fingerprint().await, before);
    // Nothing stands for an empty list, in every way to say nothing.
    for body in ["null", "{}", r#"{"expected_active_agent_ids":null}"#, r#"{"expected_active_agent_ids":[]}"#] {
        let answer = hub.raw("POST", &path, Some(&hub.token), body.as_bytes().to_vec(), &[]).await;
        answer.refused(409, PLAN);
    }
    // Duplicates are one.
    cascade(&hub, runtime, &[agent, agent]).await.expect(200);
}

async fn only_its_owner_and_the_workspace_s_owners_and_admins_remove_a_runtime(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (plain, admin) = (hub.member("m@example.com", "member").await, hub.member("a@example.com", "admin").await);
    let stranger = hub.stranger("s@example.com").await;
    let elsewhere = hub.another_workspace("elsewhere").await;
    let of_owner = hub.register("d", &["a", "b", "c"]).await;
    let before = hub.fingerprint().await;
    let ways = |runtime: Uuid| {
        [
            ("DELETE", format!("/api/runtimes/{runtime}")),
            ("POST", format!("/api/runtimes/{runtime}/archive-agents-and-delete")),
        ]
    };
    for (method, path) in ways(of_owner[0]) {
        let text = "you can only delete your own runtimes";
        hub.call(method, &path, Some(&plain), json!({})).await.refused(403, text);
        hub.call(method, &path, Some(&stranger), json!({})).await.refused(404, "runtime not found");
        let selected = format!("{path}?workspace_id={elsewhere}");
        hub.call(method, &selected, Some(&hub.token), json!({})).await.refused(404, "runtime not found");
    }
    assert_eq!(hub.fingerprint().await, before);
    // No workspace needs to be named.
    for (runtime, (method, path)) in of_owner.iter().zip(ways(of_owner[0])) {
        let path = path.replace(&of_owner[0].to_string(), &runtime.to_string());
        hub.call(method, &path, Some(&admin), json!({})).await.expect(200);
        hub.call(method, &path, Some(&admin), json!({})).await.refused(404, "runtime not found");
    }
    for (runtime, (method, path)) in
        hub.register_as(&plain, hub.workspace, "p", &["a", "b"]).await.iter().zip(ways(of_owner[0]))
    {
        let path = path.replace(&of_owner[0].to_string(), &runtime.to_string());
        hub.call(method, &path, Some(&plain), json!({})).await.expect(200);
    }
}

async fn active_agents_keep_a_runtime_and_are_named(backend: Backend) {
    let hub = Hub::start(backend).await;
    let scene = Scene::set(&hub).await;
    let before = hub.fingerprint().await;
    let answer = scene.delete(&hub).await.expect(409);
    let named = |agent: Uuid, name: &str, status: &str| json!({ "id": agent, "name": name, "status": status, "avatar_url": null });
    assert_eq!(
        answer,
        json!({
            "error": HAS_AGENTS,
            "code": "runtime_has_active_agents",
            "active_agents": [named(scene.ann, "ann", "working"), named(scene.bob, "bob", "idle")],
        }),
        "neither who was put aside nor who has moved"
    );
    assert_eq!(hub.fingerprint().await, before);
}

async fn a_plan_that_changed_is_refused_with_what_it_would_be_now(backend: Backend) {
    let hub = Hub::start(backend).await;
    let scene = Scene::set(&hub).await;
    let before = hub.fingerprint().await;
    let Scene { ann, bob, zoe, max, here, .. } = scene;
    for confirmed in [vec![], vec![ann], vec![ann, bob, max], vec![ann, max], vec![ann, bob, zoe], vec![Uuid::new_v4()]]
    {
        let answer = cascade(&hub, here, &confirmed).await.expect(409);
        assert_eq!((&answer["error"], &answer["code"]), (&json!(PLAN), &json!("runtime_delete_plan_changed")));
        let now: Vec<Uuid> = answer["active_agents"].as_array().unwrap().iter().map(id).collect();
        assert_eq!(now, [ann, bob], "{confirmed:?}");
        assert!(!answer.to_string().contains("SECRET"));
    }
    assert_eq!(hub.fingerprint().await, before);
    // One who came since.
    let late = json!({ "name": "late", "runtime_id": here });
    let late = id(&hub.cli("POST", "/api/agents", late).await.expect(201));
    let answer = scene.cascade(&hub).await.expect(409);
    let now: Vec<Uuid> = answer["active_agents"].as_array().unwrap().iter().map(id).collect();
    assert_eq!(now, [ann, bob, late]);
    assert!(hub.runtime(here).await.is_some());
    cascade(&hub, here, &[late, bob, ann]).await.expect(200);
    scene.is_gone(&hub).await;
}

async fn active_squads_keep_a_runtime_whose_agents_lead_them(backend: Backend) {
    let hub = Hub::start(backend).await;
    let scene = Scene::set(&hub).await;
    let squad = async |name: &str, leader: Uuid| {
        id(&hub.cli("POST", "/api/squads", json!({ "name": name, "leader_id": leader })).await.expect(201))
    };
    let (first, second) = (squad("first", scene.bob).await, squad("second", scene.ann).await);
    let before = hub.fingerprint().await;
    // The plan is compared before.
    let answer = cascade(&hub, scene.here, &[scene.ann]).await.expect(409);
    assert_eq!(answer["code"], "runtime_delete_plan_changed");
    let answer = scene.cascade(&hub).await.expect(409);
    assert_eq!(
        answer,
        json!({
            "error": "cannot delete runtime: it has active squads led by its agents. \
                      Archive those squads or assign them a new leader first.",
            "code": "runtime_has_active_squads",
            "active_squads": [
                { "id": first, "name": "first", "leader_id": scene.bob },
                { "id": second, "name": "second", "leader_id": scene.ann },
            ],
        })
    );
    assert_eq!(hub.fingerprint().await, before);
    // Whoever leads it may have been put aside.
    scene.archive(&hub).await;
    let before = hub.fingerprint().await;
    let text = "cannot delete runtime: it has active squads led by archived agents. \
                Archive those squads or assign them a new leader first.";
    let answer = scene.delete(&hub).await.expect(409);
    assert_eq!((&answer["error"], &answer["code"]), (&json!(text), &json!("runtime_has_active_squads")));
    assert_eq!(answer["active_squads"].as_array().unwrap().len(), 2, "the archived one is not among them");
    let answer = cascade(&hub, scene.here, &[]).await.expect(409);
    assert_eq!(answer["code"], "runtime_has_active_squads");
    assert_eq!(hub.fingerprint().await, before, "the archived squad is there as well");
    hub.cli("DELETE", &format!("/api/squads/{first}"), Value::Null).await.expect(204);
    hub.cli("PUT", &format!("/api/squads/{second}"), json!({ "leader_id": scene.max })).await.expect(200);
    scene.delete(&hub).await.expect(200);
    assert_eq!(hub.rows("SELECT name FROM squad ORDER BY name").await, ["new", "second"]);
}

async fn a_long_list_is_told_in_few_words(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut long = 0;
    for n in 0..40 {
        let wish = json!({ "name": format!("agent {n}"), "runtime_id": runtime, "avatar_url": "u".repeat(60) });
        hub.cli("POST", "/api/agents", wish).await.expect(201);
        let answer = hub.delete(&format!("/api/runtimes/{runtime}")).await;
        let agents = answer.json()["active_agents"].clone();
        assert_eq!(agents.as_array().unwrap().len(), n + 1);
        let whole = agents[0].get("status").is_some();
        assert_eq!(whole, agents[0].get("avatar_url").is_some());
        if whole {
            assert_eq!(long, 0, "{n}");
            assert!(answer.text.len() <= 4096, "{n}: {}", answer.text.len());
        } else {
            long += 1;
            assert!(answer.text.starts_with(r#"{"error":"#), "what is read first comes first");
        }
    }
    assert!(long > 0 && long < 40, "{long}");
}
