//! Whatever fails on the way: nothing changed, and nobody was told.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::scene::{Scene, remove};
use crate::{
    support::{Backend, Hub, Socket, hub::id},
    tasks::desk,
};

on_both_stores!(
    a_strict_removal_happens_wholly_or_not_at_all,
    a_cascade_happens_wholly_or_not_at_all,
    a_member_s_removal_happens_wholly_or_not_at_all,
    a_leave_happens_wholly_or_not_at_all,
    a_workspace_s_removal_happens_wholly_or_not_at_all,
    a_profile_s_removal_happens_wholly_or_not_at_all,
    a_merge_happens_wholly_or_not_at_all,
    a_removal_after_a_week_happens_wholly_or_not_at_all,
);

/// Lets one statement after the other fail until none is left to; then it has happened, and is the
/// first thing that anybody is told of. A removal sends so many statements at least.
async fn fails_at_each_statement(hub: &Hub, daemon: &mut Socket, least: usize, attempt: impl AsyncFn() -> u16) {
    let (mut browser, ack) = hub.browser().await;
    let before = hub.fingerprint().await;
    for statement in 1.. {
        assert!(statement < 100, "it never happens");
        hub.app.fail_statement(hub.workspace, statement);
        let status = attempt().await;
        if status < 300 {
            assert!(statement > least, "only {statement} statements");
            break;
        }
        assert_eq!(status, 500, "statement {statement}");
        assert_eq!(hub.fingerprint().await, before, "statement {statement} failed, and something changed");
        if statement == least {
            browser.quiet_for(Duration::from_millis(50)).await;
            daemon.quiet_for(Duration::from_millis(50)).await;
        }
    }
    assert_ne!(hub.fingerprint().await, before);
    assert_eq!(browser.next().await["seq"], json!(ack["seq"].as_u64().unwrap() + 1));
}

async fn a_strict_removal_happens_wholly_or_not_at_all(backend: Backend) {
    let hub = Hub::start(backend).await;
    let scene = Scene::set(&hub).await;
    scene.archive(&hub).await;
    let mut daemon = hub.daemon(&[scene.here]).await;
    fails_at_each_statement(&hub, &mut daemon, 18, async || scene.delete(&hub).await.status).await;
    assert_eq!(daemon.next_of("daemon:heartbeat_ack").await["payload"]["status"], "runtime_gone");
    scene.is_gone(&hub).await;
}

async fn a_cascade_happens_wholly_or_not_at_all(backend: Backend) {
    let hub = Hub::start(backend).await;
    let scene = Scene::set(&hub).await;
    let mut daemon = hub.daemon(&[scene.here]).await;
    fails_at_each_statement(&hub, &mut daemon, 20, async || scene.cascade(&hub).await.status).await;
    assert_eq!(daemon.next_of("daemon:heartbeat_ack").await["payload"]["status"], "runtime_gone");
    scene.is_gone(&hub).await;
}

async fn a_member_s_removal_happens_wholly_or_not_at_all(backend: Backend) {
    let hub = Hub::start(backend).await;
    let token = hub.member("m@example.com", "admin").await;
    let scene = Scene::set_as(&hub, &token).await;
    let mut daemon = Socket::open(&hub.daemon_url(&[scene.here]), Some(&token)).await;
    fails_at_each_statement(&hub, &mut daemon, 14, async || remove(&hub, "m@example.com").await.status).await;
    assert_eq!(daemon.closed().await.0, 4502);
    assert_eq!(hub.rows("SELECT 'x' FROM agent WHERE archived_at IS NULL").await, [""; 0]);
}

async fn a_leave_happens_wholly_or_not_at_all(backend: Backend) {
    let hub = Hub::start(backend).await;
    let token = hub.member("m@example.com", "admin").await;
    let scene = Scene::set_as(&hub, &token).await;
    let mut daemon = Socket::open(&hub.daemon_url(&[scene.here]), Some(&token)).await;
    let path = format!("/api/workspaces/{}/leave", hub.workspace);
    let leave = async || hub.call("POST", &path, Some(&token), Value::Null).await.status;
    fails_at_each_statement(&hub, &mut daemon, 14, leave).await;
    assert_eq!(daemon.closed().await.0, 4502);
}

async fn a_workspace_s_removal_happens_wholly_or_not_at_all(backend: Backend) {
    let hub = Hub::start(backend).await;
    let scene = Scene::set(&hub).await;
    let mut daemon = hub.daemon(&[scene.here]).await;
    let path = format!("/api/workspaces/{}", hub.workspace);
    fails_at_each_statement(&hub, &mut daemon, 14, async || hub.delete(&path).await.status).await;
    assert_eq!(daemon.closed().await.0, 4502);
}

async fn a_profile_s_removal_happens_wholly_or_not_at_all(backend: Backend) {
    let hub = Hub::start(backend).await;
    let profiles = format!("/api/workspaces/{}/runtime-profiles", hub.workspace);
    let wish = json!({ "display_name": "p", "protocol_family": "claude", "command_name": "c" });
    let profile = id(&hub.cli("POST", &profiles, wish).await.expect(201));
    let entries = json!([{ "profile_id": profile }, { "type": "codex" }]);
    let body = json!({ "workspace_id": hub.workspace, "daemon_id": "d", "runtimes": entries });
    let runtimes = hub.post("/api/daemon/register", body).await.expect(200)["runtimes"].take();
    let (here, there) = (id(&runtimes[0]), id(&runtimes[1]));
    leave_work(&hub, here, there).await;
    let mut daemon = hub.daemon(&[here]).await;
    let path = format!("{profiles}/{profile}");
    fails_at_each_statement(&hub, &mut daemon, 12, async || hub.delete(&path).await.status).await;
    assert_eq!(daemon.next_of("daemon:heartbeat_ack").await["payload"]["status"], "runtime_gone");
    assert!(hub.runtime(here).await.is_none());
}

async fn a_merge_happens_wholly_or_not_at_all(backend: Backend) {
    let hub = Hub::start(backend).await;
    let scene = Scene::set(&hub).await;
    let mut daemon = hub.daemon(&[scene.here]).await;
    let entries = json!([{ "type": "claude" }, { "type": "codex" }]);
    let body = json!({ "workspace_id": hub.workspace, "daemon_id": "new", "legacy_daemon_ids": ["torn"],
        "runtimes": entries });
    let merge = async || hub.post("/api/daemon/register", body.clone()).await.status;
    fails_at_each_statement(&hub, &mut daemon, 12, merge).await;
    assert_eq!(daemon.next_of("daemon:heartbeat_ack").await["payload"]["status"], "runtime_gone");
    assert_eq!(hub.rows("SELECT DISTINCT daemon_id FROM agent_runtime").await, ["new"]);
}

async fn a_removal_after_a_week_happens_wholly_or_not_at_all(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["claude", "codex"]).await;
    leave_work(&hub, runtimes[0], runtimes[1]).await;
    let mut daemon = hub.daemon(&[runtimes[0]]).await;
    hub.post("/api/daemon/deregister", json!({ "runtime_ids": runtimes })).await.expect(200);
    hub.app.advance_clock(Duration::from_secs(8 * 24 * 3600));
    let sweep = async || if hub.app.sweep().await.1 == 1 { 200 } else { 500 };
    fails_at_each_statement(&hub, &mut daemon, 8, sweep).await;
    assert_eq!(daemon.next_of("daemon:heartbeat_ack").await["payload"]["status"], "runtime_gone");
    assert!(hub.runtime(runtimes[0]).await.is_none());
}

/// What an agent that has moved has done at a runtime, and what it has still to do there.
async fn leave_work(hub: &Hub, here: Uuid, there: Uuid) {
    let agent = desk::agent(hub, here, "moved", "workspace").await;
    desk::wish(hub, &hub.token, agent).await;
    desk::work(hub, here).await;
    desk::wish(hub, &hub.token, agent).await;
    hub.cli("PUT", &format!("/api/agents/{agent}"), json!({ "runtime_id": there })).await.expect(200);
}
