//! A membership ends, and with it everything that the member's runtimes carried.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use uuid::Uuid;

use super::scene::{Scene, member_id, remove};
use crate::{
    support::{
        Backend, Hub, Socket,
        fleet::{acked, beat},
        hub::{Answer, id},
    },
    tasks::desk,
};

on_both_stores!(
    a_removed_member_loses_runtimes_agents_tasks_and_tokens,
    whoever_leaves_loses_the_same,
    work_of_their_agents_at_other_people_s_runtimes_ends_as_well,
    a_member_without_runtimes_only_goes,
    runtimes_that_were_offline_are_not_told_of,
    a_daemon_keeps_what_it_has_in_other_workspaces,
);
on_all_stores!(
    a_revocation_is_told_in_order_and_last_of_all_to_whom_it_is_about,
    nothing_that_follows_their_removal_reaches_the_removed,
);

const WHO: &str = "m@example.com";

async fn daemon_token(hub: &Hub, token: &str, daemon: &str) -> String {
    let path = format!("/api/workspaces/{}/daemon-tokens", hub.workspace);
    let made = hub.call("POST", &path, Some(token), json!({ "daemon_id": daemon })).await.expect(201);
    made["token"].as_str().unwrap().to_owned()
}

/// What is left of a member with a busy runtime once their membership ended.
async fn loses(hub: &Hub, token: &str, end: impl AsyncFn() -> Answer) {
    let scene = Scene::set_as(hub, token).await;
    // Whose a daemon's token is says who made it, not which daemon it is for.
    let of_daemon = daemon_token(hub, token, "torn").await;
    daemon_token(hub, token, "never seen").await;
    let kept = daemon_token(hub, &hub.token, "torn").await;
    let others = hub.register("o", &["claude"]).await[0];
    let own = desk::agent(hub, others, "own", "workspace").await;
    let untouched = desk::wish(hub, &hub.token, own).await;
    end().await.expect(204);
    for runtime in [scene.here, scene.there] {
        assert_eq!(hub.runtime(runtime).await.unwrap()["status"], "offline");
    }
    assert_eq!(hub.runtime(others).await.unwrap()["status"], "online");
    let agents = hub.cli("GET", "/api/agents?include_archived=true", Value::Null).await.expect(200);
    let archived: BTreeMap<&str, bool> = agents
        .as_array()
        .unwrap()
        .iter()
        .map(|agent| (agent["name"].as_str().unwrap(), agent["archived_at"].is_string()))
        .collect();
    let wanted = [("ann", true), ("bob", true), ("max", true), ("own", false), ("zoe", true)];
    assert_eq!(archived, BTreeMap::from(wanted));
    let active = hub.rows("SELECT status FROM task WHERE status NOT IN ('completed', 'failed', 'cancelled')").await;
    assert_eq!(active, ["queued"]);
    assert_eq!(desk::status(hub, untouched).await, "queued");
    // History and what was built on the agents stays.
    let runtimes = hub.rows("SELECT 'x' FROM task WHERE runtime_id IS NULL").await;
    assert_eq!(runtimes, [""; 0]);
    assert_eq!(hub.rows("SELECT 'x' FROM chat_session").await.len(), 1);
    assert_eq!(hub.rows("SELECT 'x' FROM task_token").await, [""; 0]);
    assert_eq!(hub.rows("SELECT daemon_id FROM daemon_token").await, ["torn"]);
    let repos = format!("/api/daemon/workspaces/{}/repos", hub.workspace);
    hub.call("GET", &repos, Some(&of_daemon), Value::Null).await.refused(401, "invalid token");
    hub.call("GET", &repos, Some(&kept), Value::Null).await.expect(200);
    let members = hub.get(&format!("/api/workspaces/{}/members", hub.workspace)).await.expect(200);
    assert_eq!(members.as_array().unwrap().len(), 1);
    let claim = format!("/api/daemon/runtimes/{}/tasks/claim", scene.here);
    hub.call("POST", &claim, Some(token), json!({})).await.refused(404, "not found");
}

async fn a_removed_member_loses_runtimes_agents_tasks_and_tokens(backend: Backend) {
    let hub = Hub::start(backend).await;
    let token = hub.member(WHO, "admin").await;
    loses(&hub, &token, async || remove(&hub, WHO).await).await;
}

async fn whoever_leaves_loses_the_same(backend: Backend) {
    let hub = Hub::start(backend).await;
    let token = hub.member(WHO, "admin").await;
    let path = format!("/api/workspaces/{}/leave", hub.workspace);
    loses(&hub, &token, async || hub.call("POST", &path, Some(&token), Value::Null).await).await;
}

async fn work_of_their_agents_at_other_people_s_runtimes_ends_as_well(backend: Backend) {
    let hub = Hub::start(backend).await;
    let token = hub.member(WHO, "member").await;
    let others = hub.register("o", &["claude"]).await[0];
    let theirs = hub.register_as(&token, hub.workspace, "t", &["claude"]).await[0];
    // An agent that has moved to their runtime and left work at another's.
    let agent = desk::agent(&hub, others, "a", "workspace").await;
    let left = desk::wish(&hub, &hub.token, agent).await;
    hub.cli("PUT", &format!("/api/agents/{agent}"), json!({ "runtime_id": theirs })).await.expect(200);
    // And one that has moved away from it: it stays, and what it left there ends.
    let away = desk::agent(&hub, theirs, "b", "workspace").await;
    desk::wish(&hub, &hub.token, away).await;
    hub.cli("PUT", &format!("/api/agents/{away}"), json!({ "runtime_id": others })).await.expect(200);
    let stays = desk::wish(&hub, &hub.token, away).await;
    remove(&hub, WHO).await.expect(204);
    assert_eq!(
        (desk::status(&hub, left).await.as_str(), desk::status(&hub, stays).await.as_str()),
        ("cancelled", "queued")
    );
    let cancelled = hub.rows("SELECT 'x' FROM task WHERE status = 'cancelled'").await.len();
    assert_eq!(cancelled, 2);
    let agents = hub.cli("GET", "/api/agents", Value::Null).await.expect(200);
    let active: Vec<Uuid> = agents.as_array().unwrap().iter().map(id).collect();
    assert_eq!(active, [away]);
    assert_eq!(hub.runtime(others).await.unwrap()["status"], "online");
    assert_eq!(id(&desk::claim(&hub, others).await), stays);
}

async fn a_member_without_runtimes_only_goes(backend: Backend) {
    let hub = Hub::start(backend).await;
    hub.member(WHO, "member").await;
    Scene::set(&hub).await;
    let member = member_id(&hub, WHO).await;
    let (mut browser, _) = hub.browser().await;
    let count = async || hub.rows("SELECT status FROM task ORDER BY id").await;
    let before = count().await;
    remove(&hub, WHO).await.expect(204);
    assert_eq!(count().await, before);
    let told = browser.next().await;
    assert_eq!((&told["type"], &told["payload"]["member_id"]), (&json!("member:removed"), &json!(member)));
}

async fn runtimes_that_were_offline_are_not_told_of(backend: Backend) {
    let hub = Hub::start(backend).await;
    let token = hub.member(WHO, "member").await;
    let runtime = hub.register_as(&token, hub.workspace, "d", &["claude"]).await[0];
    let body = json!({ "runtime_ids": [runtime] });
    hub.call("POST", "/api/daemon/deregister", Some(&token), body).await.expect(200);
    let (mut browser, _) = hub.browser().await;
    remove(&hub, WHO).await.expect(204);
    assert_eq!(browser.next().await["type"], "member:removed");
    // Nobody brings it back.
    assert_eq!(hub.rows("SELECT offline_cause FROM agent_runtime").await, ["revoked"]);
}

async fn a_revocation_is_told_in_order_and_last_of_all_to_whom_it_is_about(backend: Backend) {
    let hub = Hub::start(backend).await;
    let node = match backend {
        Backend::PostgresRedis => Some(hub.another_node(&[]).await),
        _ => None,
    };
    let token = hub.member(WHO, "admin").await;
    let scene = Scene::set_as(&hub, &token).await;
    let member = member_id(&hub, WHO).await;
    let place = node.as_ref().unwrap_or(&hub);
    let mut theirs = desk::browser(place, &token).await;
    let (mut mine, ack) = hub.browser().await;
    let mut daemon = Socket::open(&place.daemon_url(&[scene.here]), Some(&token)).await;
    remove(&hub, WHO).await.expect(204);
    let mut frames = Vec::new();
    while frames.last().is_none_or(|frame: &Value| frame["type"] != "member:removed") {
        let frame = mine.next().await;
        assert_eq!(frame["seq"], json!(ack["seq"].as_u64().unwrap() + frames.len() as u64 + 1));
        frames.push(frame);
    }
    let kinds: Vec<&str> = frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
    let wanted = [
        vec!["agent:status"; 2],
        vec!["task:cancelled"; 5],
        vec!["agent:archived"; 3],
        vec!["daemon:register", "member:removed"],
    ];
    assert_eq!(kinds, wanted.concat());
    let ids: Vec<Uuid> = frames[2..7].iter().map(|frame| desk::uuid(&frame["payload"]["task_id"])).collect();
    assert_eq!(ids, [&scene.running[..], &scene.waiting].concat(), "by creation");
    let me = hub.get("/api/me").await.expect(200)["id"].clone();
    for frame in &frames[7..] {
        assert_eq!((&frame["actor_type"], &frame["actor_id"]), (&json!("member"), &me), "{frame}");
    }
    for frame in &frames[7..10] {
        let agent = &frame["payload"]["agent"];
        assert_eq!((&agent["mcp_config"], &agent["status"]), (&Value::Null, &json!("idle")));
    }
    assert_eq!(frames[10]["payload"], json!({ "action": "revoke" }));
    assert_eq!(frames[11]["payload"]["member_id"], json!(member));

    let mut last = Value::Null;
    let mut count = 0;
    let end = loop {
        match theirs.next_or_close().await {
            Ok(frame) => (last, count) = (frame, count + 1),
            Err(end) => break end,
        }
    };
    assert_eq!((end.0, count), (4502, 12));
    assert_eq!(last["payload"]["member_id"], json!(member));
    assert_eq!(daemon.closed().await.0, 4502);
}

async fn nothing_that_follows_their_removal_reaches_the_removed(backend: Backend) {
    let hub = Hub::start(backend).await;
    let node = match backend {
        Backend::PostgresRedis => Some(hub.another_node(&[]).await),
        _ => None,
    };
    let place = node.as_ref().unwrap_or(&hub);
    let token = hub.member(WHO, "admin").await;
    let scene = Scene::set_as(&hub, &token).await;
    let kept = elsewhere(&hub, &token).await;
    let (mut browsers, mut daemons) = (Vec::new(), Vec::new());
    for hub in [&hub, place] {
        for _ in 0..3 {
            browsers.push(desk::browser(hub, &token).await);
        }
        let mut daemon = Socket::open(&hub.daemon_url(&[scene.here, kept]), Some(&token)).await;
        acked(&mut daemon, scene.here).await;
        daemons.push(daemon);
    }
    let (mut mine, _) = hub.browser().await;
    let (ended, began) = (AtomicBool::new(false), Instant::now());
    let removal = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        remove(&hub, WHO).await.expect(204);
        tokio::time::sleep(Duration::from_millis(500)).await;
        ended.store(true, Ordering::Relaxed);
        began.elapsed()
    };
    let (here, there, took) = tokio::join!(flow(&hub, "a", &ended), flow(place, "b", &ended), removal);
    println!("{} changes in {took:?}", here + there);
    let (mut changes, mut after) = (0, None);
    while changes < here + there {
        match mine.next().await["type"].as_str() {
            Some("member:removed") => after = Some(changes),
            Some("test:event") => changes += 1,
            _ => {}
        }
    }
    assert!(after.is_some_and(|after| 0 < after && after < changes), "in the middle of them: {after:?} of {changes}");
    for mut browser in browsers {
        let (mut last, mut seq) = (Value::Null, None::<u64>);
        let end = loop {
            match browser.next_or_close().await {
                Ok(frame) => {
                    let this = frame["seq"].as_u64().unwrap();
                    assert!(seq.is_none_or(|before| this == before + 1), "{seq:?} {frame}");
                    (last, seq) = (frame, Some(this));
                }
                Err(end) => break end,
            }
        };
        assert_eq!(end.0, 4502);
        assert_eq!(last["type"], "member:removed");
    }
    for daemon in &mut daemons {
        keeps_only(daemon, kept, scene.here).await;
    }
}

/// Changes, 250 a second, until it is ended; how many.
async fn flow(hub: &Hub, mark: &str, ended: &AtomicBool) -> usize {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let mut changes = 0;
    while !ended.load(Ordering::Relaxed) {
        tick.tick().await;
        hub.app.emit(&[(hub.workspace, 5)], &format!("{mark}{changes}"), 0).await.unwrap();
        changes += 5;
    }
    changes
}

/// A runtime of the same daemon in a workspace of their own.
async fn elsewhere(hub: &Hub, token: &str) -> Uuid {
    let made = hub.call("POST", "/api/workspaces", Some(token), json!({ "name": "e", "slug": "elsewhere" })).await;
    hub.register_as(token, id(&made.expect(201)), "torn", &["claude"]).await[0]
}

/// The socket goes on with one runtime, and is not acknowledged for the other any more.
async fn keeps_only(daemon: &mut Socket, kept: Uuid, lost: Uuid) {
    daemon.send(beat(lost)).await;
    daemon.send(beat(kept)).await;
    assert_eq!(daemon.next_of("daemon:heartbeat_ack").await["payload"]["runtime_id"], json!(kept));
}

async fn a_daemon_keeps_what_it_has_in_other_workspaces(backend: Backend) {
    let hub = Hub::start(backend).await;
    let token = hub.member(WHO, "admin").await;
    let scene = Scene::set_as(&hub, &token).await;
    let kept = elsewhere(&hub, &token).await;
    let mut daemon = Socket::open(&hub.daemon_url(&[scene.here, kept]), Some(&token)).await;
    acked(&mut daemon, scene.here).await;
    remove(&hub, WHO).await.expect(204);
    keeps_only(&mut daemon, kept, scene.here).await;
}
