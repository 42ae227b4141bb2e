//! A machine that registers under another name than before: who takes over what from whom, what is
//! told of it, and what of claims, ends and new agents that come beside it.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    support::{
        Backend, Hub, Socket,
        fleet::{acked, status},
        hub::id,
        race::{rounds, some_time, two},
    },
    tasks::support::{self, Given, ask, task_path},
};

on_both_stores!(
    a_machine_under_another_name_finds_its_agents_and_their_work,
    every_spelling_of_a_former_name_is_merged_and_the_first_is_remembered,
    nothing_happens_where_nothing_matches,
    other_people_s_runtimes_and_custom_ones_stay,
    an_ownerless_runtime_is_merged_with_its_work,
    a_registration_that_is_refused_takes_nothing_over,
    a_daemon_that_knows_of_no_former_names_gets_what_its_configurations_left_behind,
    what_only_looks_left_behind_stays,
);

/// Registers one provider; `former` is the request's list, or `None` for no such member.
async fn register(hub: &Hub, token: &str, daemon: &str, former: Option<Value>, provider: &str) -> Value {
    let entry = json!({ "type": provider, "version": "2.1", "status": "online" });
    let mut body =
        json!({ "workspace_id": hub.workspace, "daemon_id": daemon, "device_name": "box", "runtimes": [entry] });
    if let Some(former) = former {
        body["legacy_daemon_ids"] = former;
    }
    hub.call("POST", "/api/daemon/register", Some(token), body).await.expect(200)["runtimes"][0].clone()
}

async fn runtime_of(hub: &Hub, agent: Uuid) -> Uuid {
    let agent = hub.cli("GET", &format!("/api/agents/{agent}"), Value::Null).await.expect(200);
    agent["runtime_id"].as_str().unwrap().parse().unwrap()
}

/// The runtimes of an agent's tasks with their statuses, oldest first.
async fn tasks_of(hub: &Hub, agent: Uuid) -> Vec<(String, String)> {
    let list = hub.cli("GET", &format!("/api/agents/{agent}/tasks"), Value::Null).await.expect(200);
    let text = |task: &Value, field: &str| task[field].as_str().unwrap().to_owned();
    let mut rows: Vec<_> =
        list.as_array().unwrap().iter().map(|task| (text(task, "status"), text(task, "runtime_id"))).collect();
    rows.sort();
    rows
}

async fn former_names(hub: &Hub) -> Vec<String> {
    hub.rows("SELECT daemon_id || ': ' || COALESCE(legacy_daemon_id, '-') FROM agent_runtime ORDER BY daemon_id").await
}

/// An agent with one task of each of three kinds: over, running, waiting.
async fn busy_agent(hub: &Hub, name: &str, runtime: Uuid) -> (Uuid, Value, Uuid) {
    let agent = support::agent(hub, name, runtime).await;
    let given = |issue: Uuid| Given { agent, runtime, issue: Some(issue), ..Given::default() };
    let over = given(support::issue(hub, "over").await);
    support::give(hub, &Given { status: "completed", completed: Some(60), ..over }).await;
    let running = support::given(hub, given(support::issue(hub, "running").await)).await;
    hub.post(&task_path(&running, "start"), json!({})).await.expect(200);
    let waiting = support::give(hub, &given(support::issue(hub, "waiting").await)).await;
    (agent, running, waiting)
}

async fn a_machine_under_another_name_finds_its_agents_and_their_work(backend: Backend) {
    let hub = Hub::start(backend).await;
    let old = id(&register(&hub, &hub.token, "Box.local", None, "claude").await);
    let (agent, running, waiting) = busy_agent(&hub, "ann", old).await;
    let archived = support::agent(&hub, "archie", old).await;
    hub.cli("POST", &format!("/api/agents/{archived}/archive"), Value::Null).await.expect(200);
    hub.cli("POST", "/api/chat/sessions", json!({ "agent_id": agent })).await.expect(201);
    hub.sql("UPDATE chat_session SET runtime_id = (SELECT id FROM agent_runtime)").await;
    let usage = json!({ "usage": [{ "model": "m", "input_tokens": 1 }] });
    hub.post(&task_path(&running, "usage"), usage).await.expect(200);
    let mut socket = hub.daemon(&[old]).await;
    acked(&mut socket, old).await;
    let (mut browser, _) = hub.browser().await;

    let former = json!([" box.LOCAL ", "box", ""]);
    let registered = register(&hub, &hub.token, "0192-machine", Some(former), "claude").await;
    let new = id(&registered);
    assert_ne!(new, old);
    assert!(hub.runtime(old).await.is_none(), "the old row is gone");
    assert_eq!(former_names(&hub).await, ["0192-machine: box.LOCAL"], "as it was sent");
    assert_eq!((runtime_of(&hub, agent).await, runtime_of(&hub, archived).await), (new, new));
    let expected = ["completed", "queued", "running"].map(|status| (status.to_owned(), new.to_string()));
    assert_eq!(tasks_of(&hub, agent).await, expected);
    assert_eq!(hub.rows("SELECT DISTINCT daemon_id FROM task").await, ["0192-machine"]);
    let pointers = "SELECT r.daemon_id FROM chat_session s JOIN agent_runtime r ON r.id = s.runtime_id";
    assert_eq!(hub.rows(pointers).await, ["0192-machine"]);
    let used_at = "SELECT r.daemon_id FROM task_usage u JOIN agent_runtime r ON r.id = u.runtime_id";
    assert_eq!(hub.rows(used_at).await, ["0192-machine"]);

    // The new one is told before what moves to it, and that before the old one's end.
    let event = browser.next().await;
    assert_eq!(event["payload"]["runtimes"][0]["id"], json!(new));
    for moved in [agent, archived] {
        let event = browser.next().await;
        assert_eq!((&event["type"], &event["actor_type"]), (&json!("agent:status"), &json!("system")));
        assert_eq!(event["payload"]["agent"]["id"], json!(moved));
        assert_eq!(event["payload"]["agent"]["runtime_id"], json!(new));
    }
    let event = browser.next().await;
    assert_eq!(event["type"], "daemon:register");
    assert_eq!(event["payload"], json!({ "action": "delete", "runtime_id": old }));
    let gone = socket.next_of("daemon:heartbeat_ack").await;
    assert_eq!((&gone["payload"]["runtime_gone"], &gone["payload"]["runtime_id"]), (&json!(true), &json!(old)));
    hub.post("/api/daemon/heartbeat", json!({ "runtime_id": old })).await.refused(404, "runtime not found");

    // What runs is the daemon's that registered, also by a token that is good for its new name only.
    let tokens = format!("/api/workspaces/{}/daemon-tokens", hub.workspace);
    let made = hub.post(&tokens, json!({ "daemon_id": "0192-machine" })).await.expect(201);
    let token = made["token"].as_str();
    let report = json!({ "output": "done" });
    let done = hub.call("POST", &task_path(&running, "complete"), token, report).await.expect(200);
    assert_eq!(done["status"], "completed");
    let claimed = ask(&hub, token.unwrap(), new).await.expect(200);
    assert_eq!(id(&claimed["task"]), waiting);
    // Once more, there is nothing left to do.
    let before = former_names(&hub).await;
    let again = register(&hub, &hub.token, "0192-machine", Some(json!(["box.local"])), "claude").await;
    assert_eq!((id(&again), former_names(&hub).await), (new, before));
}

async fn every_spelling_of_a_former_name_is_merged_and_the_first_is_remembered(backend: Backend) {
    let hub = Hub::start(backend).await;
    let mut agents = Vec::new();
    for name in ["Böx", "bÖX", "other", "later"] {
        let old = id(&register(&hub, &hub.token, name, Some(json!([])), "claude").await);
        agents.push(support::agent(&hub, name, old).await);
    }
    let codex = id(&register(&hub, &hub.token, "Böx", Some(json!([])), "codex").await);
    for row in hub.get(&format!("/api/runtimes?workspace_id={}", hub.workspace)).await.expect(200).as_array().unwrap() {
        if row["daemon_id"] == "bÖX" {
            hub.patch(&format!("/api/runtimes/{}", id(row)), json!({ "visibility": "public" })).await.expect(200);
        }
    }
    let first = register(&hub, &hub.token, "new", Some(json!(["none", "BÖX", "OTHER", "böx"])), "claude").await;
    let new = id(&first);
    assert_eq!(first["visibility"], "public", "who could bind agents to the old one still can");
    for agent in &agents[..3] {
        assert_eq!(runtime_of(&hub, *agent).await, new);
    }
    assert_ne!(runtime_of(&hub, agents[3]).await, new);
    assert!(hub.runtime(codex).await.is_some(), "another provider's is another runtime's");
    assert_eq!(former_names(&hub).await, ["Böx: -", "later: -", "new: BÖX"]);
    let second = register(&hub, &hub.token, "new", Some(json!(["later"])), "claude").await;
    assert_eq!((id(&second), runtime_of(&hub, agents[3]).await), (new, new));
    assert_eq!(former_names(&hub).await, ["Böx: -", "new: BÖX"], "the first one ever");
}

async fn nothing_happens_where_nothing_matches(backend: Backend) {
    let hub = Hub::start(backend).await;
    let other = id(&register(&hub, &hub.token, "box-2", Some(json!([])), "claude").await);
    let agent = support::agent(&hub, "ann", other).await;
    // Its own name is no former one.
    let new = id(&register(&hub, &hub.token, "box", Some(json!(["box", "nobody", "bo_-2"])), "claude").await);
    assert_eq!(former_names(&hub).await, ["box: -", "box-2: -"]);
    assert_eq!(runtime_of(&hub, agent).await, other);
    assert!(hub.runtime(new).await.is_some());
    let names: Vec<String> = (0..257).map(|n| n.to_string()).collect();
    let body = json!({ "workspace_id": hub.workspace, "daemon_id": "box", "legacy_daemon_ids": names,
        "runtimes": [{ "type": "claude" }] });
    hub.post("/api/daemon/register", body).await.refused(400, "at most 256 legacy_daemon_ids");
}

async fn other_people_s_runtimes_and_custom_ones_stay(backend: Backend) {
    let hub = Hub::start(backend).await;
    let member = hub.member("m@example.com", "member").await;
    let theirs = id(&register(&hub, &member, "box", Some(json!([])), "claude").await);
    let wish = json!({ "name": "theirs", "runtime_id": theirs });
    let agent = id(&hub.cli_as(&member, "POST", "/api/agents", wish).await.expect(201));
    let wish = json!({ "display_name": "P", "protocol_family": "claude", "command_name": "c" });
    let profiles = format!("/api/workspaces/{}/runtime-profiles", hub.workspace);
    let profile = id(&hub.post(&profiles, wish).await.expect(201));
    let body = json!({ "workspace_id": hub.workspace, "daemon_id": "box", "runtimes": [{ "profile_id": profile }] });
    let custom = id(&hub.post("/api/daemon/register", body).await.expect(200)["runtimes"][0]);
    // The caller rules the workspace, and that does not matter.
    let new = id(&register(&hub, &hub.token, "new", Some(json!(["box"])), "claude").await);
    assert!(hub.runtime(theirs).await.is_some() && hub.runtime(custom).await.is_some());
    assert_eq!(runtime_of(&hub, agent).await, theirs);
    assert_eq!(former_names(&hub).await, ["box: -", "box: -", "new: -"]);
    // Nor does a custom runtime take anything over.
    let body = json!({ "workspace_id": hub.workspace, "daemon_id": "newer", "legacy_daemon_ids": ["new"],
        "runtimes": [{ "profile_id": profile }] });
    hub.post("/api/daemon/register", body).await.expect(200);
    assert!(hub.runtime(new).await.is_some());
}

async fn an_ownerless_runtime_is_merged_with_its_work(backend: Backend) {
    let hub = Hub::start(backend).await;
    let old = id(&register(&hub, &hub.token, "box", None, "claude").await);
    let (agent, _, waiting) = busy_agent(&hub, "ann", old).await;
    hub.sql("UPDATE agent_runtime SET owner_id = NULL; UPDATE task SET owner_id = NULL").await;
    let member = hub.member("m@example.com", "member").await;
    let new = id(&register(&hub, &member, "new", Some(json!(["box"])), "claude").await);
    assert!(hub.runtime(old).await.is_none());
    assert_eq!(runtime_of(&hub, agent).await, new);
    let strangers = "SELECT 'x' FROM task t JOIN agent_runtime r ON r.id = t.runtime_id AND r.owner_id = t.owner_id";
    assert_eq!(hub.rows(strangers).await.len(), 3, "the work is whoever's the runtime is");
    assert_eq!(id(&ask(&hub, &member, new).await.expect(200)["task"]), waiting);
}

async fn a_registration_that_is_refused_takes_nothing_over(backend: Backend) {
    let hub = Hub::start(backend).await;
    let old = id(&register(&hub, &hub.token, "box", None, "claude").await);
    busy_agent(&hub, "ann", old).await;
    let before = hub.fingerprint().await;
    let unknown = Uuid::new_v4();
    let body = json!({ "workspace_id": hub.workspace, "daemon_id": "new", "legacy_daemon_ids": ["box"],
        "runtimes": [{ "type": "claude" }, { "profile_id": unknown }] });
    hub.post("/api/daemon/register", body).await.refused(400, &format!("unknown runtime profile: {unknown}"));
    assert_eq!(hub.fingerprint().await, before);
    assert_eq!(former_names(&hub).await, ["box: -"]);
}

async fn deregister(hub: &Hub, runtime: Uuid) {
    hub.post("/api/daemon/deregister", json!({ "runtime_ids": [runtime] })).await.expect(200);
}

async fn a_daemon_that_knows_of_no_former_names_gets_what_its_configurations_left_behind(backend: Backend) {
    let hub = Hub::start(backend).await;
    let old = id(&register(&hub, &hub.token, "host-staging", None, "claude").await);
    let (agent, running, waiting) = busy_agent(&hub, "ann", old).await;
    // Somebody who has moved on leaves work behind.
    let elsewhere = id(&register(&hub, &hub.token, "elsewhere", None, "claude").await);
    let moved = support::agent(&hub, "moved", elsewhere).await;
    let left = Given { agent: moved, runtime: old, status: "running", started: Some(1), ..Given::default() };
    support::give(&hub, &Given { dispatched: Some(1), ..left }).await;
    deregister(&hub, old).await;
    let (mut browser, _) = hub.browser().await;
    let new = id(&register(&hub, &hub.token, "host", None, "claude").await);
    assert_eq!(runtime_of(&hub, agent).await, new);
    let expected = [("completed", old), ("queued", new), ("running", new)];
    let expected = expected.map(|(status, runtime)| (status.to_owned(), runtime.to_string()));
    assert_eq!(tasks_of(&hub, agent).await, expected, "what is over stays where it was");
    assert_eq!(tasks_of(&hub, moved).await, [("running".to_owned(), old.to_string())]);
    assert_eq!(status(&hub, old).await, "offline", "the row stays until it is forgotten");
    assert_eq!(former_names(&hub).await, ["elsewhere: -", "host: -", "host-staging: -"]);
    assert!(browser.next().await["payload"]["runtimes"].is_array());
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]["agent"]["id"]), (&json!("agent:status"), &json!(agent)));
    browser.quiet_for(Duration::from_millis(200)).await;
    hub.post(&task_path(&running, "complete"), json!({ "output": "done" })).await.expect(200);
    assert_eq!(id(&support::claim(&hub, new).await), waiting);
}

async fn what_only_looks_left_behind_stays(backend: Backend) {
    let hub = Hub::start(backend).await;
    let member = hub.member("m@example.com", "member").await;
    let mut agents = Vec::new();
    let mut olds = Vec::new();
    // Online; another prefix, though a pattern would match; no dash; another spelling; somebody else's.
    for (daemon, token, ends) in [
        ("h_st-online", &hub.token, false),
        ("host-other", &hub.token, true),
        ("h_stx", &hub.token, true),
        ("H_ST-upper", &hub.token, true),
        ("h_st-theirs", &member, true),
    ] {
        let old = id(&register(&hub, token, daemon, None, "claude").await);
        let wish = json!({ "name": daemon, "runtime_id": old });
        agents.push(id(&hub.cli_as(token, "POST", "/api/agents", wish).await.expect(201)));
        olds.push(old);
        if ends {
            deregister(&hub, old).await;
        }
    }
    // Another device, another provider, and a custom one.
    let body = json!({ "workspace_id": hub.workspace, "daemon_id": "h_st-device", "device_name": "another",
        "runtimes": [{ "type": "claude", "version": "box" }] });
    olds.push(id(&hub.post("/api/daemon/register", body).await.expect(200)["runtimes"][0]));
    olds.push(id(&register(&hub, &hub.token, "h_st-codex", None, "codex").await));
    let wish = json!({ "display_name": "P", "protocol_family": "claude", "command_name": "c" });
    let profiles = format!("/api/workspaces/{}/runtime-profiles", hub.workspace);
    let profile = id(&hub.post(&profiles, wish).await.expect(201));
    let body = json!({ "workspace_id": hub.workspace, "daemon_id": "h_st-custom", "device_name": "box",
        "runtimes": [{ "profile_id": profile }] });
    olds.push(id(&hub.post("/api/daemon/register", body).await.expect(200)["runtimes"][0]));
    for (number, old) in olds.iter().enumerate().skip(5) {
        agents.push(support::agent(&hub, &format!("agent {number}"), *old).await);
        deregister(&hub, *old).await;
    }
    let real = id(&register(&hub, &hub.token, "h_st-real", None, "claude").await);
    let follower = support::agent(&hub, "follower", real).await;
    deregister(&hub, real).await;
    // Who says anything of former names, be it nothing, is of those who know of them.
    for former in [Value::Null, json!([]), json!(["x"])] {
        register(&hub, &hub.token, "h_st", Some(former), "claude").await;
        assert_eq!(runtime_of(&hub, follower).await, real);
    }
    let new = id(&register(&hub, &hub.token, "h_st", None, "claude").await);
    assert_eq!(runtime_of(&hub, follower).await, new);
    for (agent, old) in agents.iter().zip(&olds) {
        assert_eq!(runtime_of(&hub, *agent).await, *old);
    }
    // Without a device's name nothing says that it is the same machine.
    deregister(&hub, new).await;
    let body = json!({ "workspace_id": hub.workspace, "daemon_id": "h", "runtimes": [{ "type": "claude" }] });
    hub.post("/api/daemon/register", body).await.expect(200);
    assert_eq!(runtime_of(&hub, follower).await, new);
}

async fn assign(hub: &Hub, agent: Uuid) {
    let wish = json!({ "title": "i", "assignee_type": "agent", "assignee_id": agent, "allow_duplicate": true });
    hub.cli("POST", "/api/issues", wish).await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_beside_a_merge_lose_and_strand_nothing() {
    let (a, b) = two(&[]).await;
    for round in 0..rounds(8) {
        let (old_name, new_name) = (format!("old {round}"), format!("new {round}"));
        let old = id(&register(&a, &a.token, &old_name, None, "claude").await);
        let mut agents = Vec::new();
        for number in 0..3 {
            let agent = support::agent(&a, &format!("agent {round} {number}"), old).await;
            for _ in 0..3 {
                assign(&a, agent).await;
            }
            agents.push(agent);
        }
        // One of them runs already, and fails while the merge is under way, to be tried once more.
        let running = support::claim(&a, old).await;
        a.post(&task_path(&running, "start"), json!({})).await.expect(200);
        let merge = async {
            some_time(15_000).await;
            id(&register(&a, &a.token, &new_name, Some(json!([old_name])), "claude").await)
        };
        let claims = async |hub: &Hub| {
            let mut claimed = Vec::new();
            for _ in 0..4 {
                some_time(15_000).await;
                let answer = ask(hub, &hub.token, old).await;
                if answer.status == 404 {
                    answer.refused(404, "runtime not found");
                    break;
                }
                claimed.push(answer.expect(200)["task"].clone());
            }
            claimed
        };
        let fails = async {
            some_time(15_000).await;
            let report = json!({ "error": "e", "failure_reason": "timeout" });
            b.post(&task_path(&running, "fail"), report).await.expect(200)
        };
        let beats = async {
            for _ in 0..4 {
                some_time(15_000).await;
                let answer = b.post("/api/daemon/heartbeat", json!({ "runtime_id": old })).await;
                assert!([200, 404].contains(&answer.status), "{}", answer.text);
            }
        };
        let (new, at_a, at_b, failed, ()) = tokio::join!(merge, claims(&a), claims(&b), fails, beats);
        assert_eq!(failed["status"], "failed", "round {round}");
        let claimed: Vec<Value> = at_a.into_iter().chain(at_b).filter(|task| !task.is_null()).collect();
        for task in &claimed {
            let seen = b.call("GET", &task_path(task, "status"), Some(&b.token), Value::Null).await.expect(200);
            assert_eq!(seen["status"], "dispatched", "round {round}");
            a.post(&task_path(task, "start"), json!({})).await.expect(200);
            b.post(&task_path(task, "complete"), json!({ "output": "o" })).await.expect(200);
        }
        let mut rest = 0;
        while let Some(task) = Some(ask(&b, &b.token, new).await.expect(200)["task"].clone()).filter(|t| !t.is_null()) {
            rest += 1;
            a.post(&task_path(&task, "start"), json!({})).await.expect(200);
            a.post(&task_path(&task, "complete"), json!({ "output": "o" })).await.expect(200);
        }
        // Nine, one of which was tried twice.
        assert_eq!(claimed.len() + rest, 9, "round {round}: {} before, {rest} after", claimed.len());
        for agent in agents {
            assert_eq!(runtime_of(&a, agent).await, new);
            assert!(tasks_of(&b, agent).await.iter().all(|(_, runtime)| *runtime == new.to_string()), "round {round}");
        }
        let names = a.rows("SELECT DISTINCT daemon_id FROM task WHERE daemon_id LIKE 'old%'").await;
        assert!(names.is_empty(), "round {round}: {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_that_are_made_beside_a_merge_end_up_on_the_new_runtime_or_nowhere() {
    let (a, b) = two(&[]).await;
    for round in 0..rounds(8) {
        let (old_name, new_name) = (format!("old {round}"), format!("new {round}"));
        let old = id(&register(&a, &a.token, &old_name, None, "claude").await);
        let other = id(&register(&a, &a.token, "other", None, "claude").await);
        let stays = support::agent(&a, &format!("stays {round}"), old).await;
        let comes = support::agent(&a, &format!("comes {round}"), other).await;
        let leaves = support::agent(&a, &format!("leaves {round}"), old).await;
        let merge = async {
            some_time(15_000).await;
            id(&register(&a, &a.token, &new_name, Some(json!([old_name])), "claude").await)
        };
        let makes = async |hub: &Hub, name: &str| {
            some_time(15_000).await;
            let wish = json!({ "name": format!("{name} {round}"), "runtime_id": old });
            hub.cli("POST", "/api/agents", wish).await
        };
        let moves = async |agent: Uuid, runtime: Uuid| {
            some_time(15_000).await;
            b.cli("PUT", &format!("/api/agents/{agent}"), json!({ "runtime_id": runtime })).await
        };
        let asks = async {
            some_time(15_000).await;
            assign(&b, stays).await;
            assign(&b, leaves).await;
        };
        let (new, at_a, at_b, came, left, ()) =
            tokio::join!(merge, makes(&a, "a"), makes(&b, "b"), moves(comes, old), moves(leaves, other), asks);
        assert_eq!(runtime_of(&a, stays).await, new, "round {round}");
        left.expect(200);
        assert_eq!(runtime_of(&a, leaves).await, other, "round {round}");
        for (made, before) in [(at_a, None), (at_b, None), (came, Some(comes))] {
            match made.status {
                200 | 201 => assert_eq!(runtime_of(&b, id(&made.json())).await, new, "round {round}"),
                _ => {
                    made.refused(400, "invalid runtime_id");
                    if let Some(agent) = before {
                        assert_eq!(runtime_of(&b, agent).await, other, "round {round}");
                    }
                }
            }
        }
        let lost = a.rows(
            "SELECT t.status FROM task t WHERE NOT EXISTS (SELECT 1 FROM agent_runtime r WHERE r.id = t.runtime_id)",
        );
        assert!(lost.await.is_empty(), "round {round}");
        let tasks = tasks_of(&a, stays).await;
        assert_eq!(tasks, [("queued".to_owned(), new.to_string())], "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_of_one_machine_beside_each_other_merge_once() {
    let (a, b) = two(&[]).await;
    for round in 0..rounds(8) {
        let (first, second, new) = (format!("first {round}"), format!("second {round}"), format!("new {round}"));
        let mut agents = Vec::new();
        for name in [&first, &second] {
            for provider in ["claude", "codex"] {
                let old = id(&register(&a, &a.token, name, None, provider).await);
                agents.push(support::agent(&a, &format!("{name} {provider}"), old).await);
            }
        }
        let again = async |hub: &Hub, former: [&String; 2], order: [&str; 2]| {
            some_time(15_000).await;
            let runtimes = order.map(|provider| json!({ "type": provider }));
            let body = json!({ "workspace_id": hub.workspace, "daemon_id": new, "legacy_daemon_ids": former,
                "runtimes": runtimes });
            hub.post("/api/daemon/register", body).await.expect(200);
        };
        tokio::join!(
            again(&a, [&first, &second], ["claude", "codex"]),
            again(&b, [&second, &first], ["codex", "claude"]),
            again(&a, [&second, &first], ["codex", "claude"]),
            async { drop(register(&b, &b.token, &first, None, "claude").await) },
        );
        // Whoever registered the old name last has it again, but for the work; the next time ends that.
        again(&b, [&first, &second], ["claude", "codex"]).await;
        let left = a.rows("SELECT daemon_id || ' ' || provider FROM agent_runtime ORDER BY 1").await;
        let expected: Vec<String> = ["claude", "codex"].iter().map(|provider| format!("{new} {provider}")).collect();
        let of_round: Vec<&String> = left.iter().filter(|row| row.contains(&format!(" {round} "))).collect();
        assert_eq!(of_round, expected.iter().collect::<Vec<_>>());
        for agent in agents {
            let runtime = runtime_of(&a, agent).await;
            assert_eq!(a.runtime(runtime).await.unwrap()["daemon_id"], json!(new), "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_of_a_merged_runtime_is_told_at_the_other_node() {
    let (a, b) = two(&[]).await;
    let old = id(&register(&a, &a.token, "old", None, "claude").await);
    let agent = support::agent(&a, "ann", old).await;
    let mut socket = Socket::open(&b.daemon_url(&[old]), Some(&b.token)).await;
    acked(&mut socket, old).await;
    let new = id(&register(&a, &a.token, "new", Some(json!([])), "claude").await);
    let mut waits = b.daemon(&[new]).await;
    acked(&mut waits, new).await;
    assign(&a, agent).await;
    socket.next_of("daemon:task_available").await;
    register(&a, &a.token, "new", Some(json!(["OLD"])), "claude").await;
    assert_eq!(socket.next_of("daemon:heartbeat_ack").await["payload"]["runtime_gone"], true);
    // What waits there now is told to whoever drives the runtime already.
    let woken = waits.next_of("daemon:task_available").await;
    assert_eq!(woken["payload"]["runtime_id"], json!(new));
    support::claim(&b, new).await;
}
