//! Whatever fails on the way: nothing changed, and nobody was told.

use std::time::Duration;

use serde_json::{Value, json};

use super::scene::{Scene, remove};
use crate::support::{Backend, Hub, Socket, hub::Answer};

on_both_stores!(
    a_strict_removal_happens_wholly_or_not_at_all,
    a_cascade_happens_wholly_or_not_at_all,
    a_member_s_removal_happens_wholly_or_not_at_all,
    a_leave_happens_wholly_or_not_at_all,
    a_workspace_s_removal_happens_wholly_or_not_at_all,
);

/// Lets one statement after the other fail until none is left to; then it has happened, and is the
/// first thing that anybody is told of. A removal sends so many statements at least.
async fn fails_at_each_statement(hub: &Hub, daemon: &mut Socket, least: usize, attempt: impl AsyncFn() -> Answer) {
    let (mut browser, ack) = hub.browser().await;
    let before = hub.fingerprint().await;
    for statement in 1.. {
        hub.app.fail_statement(hub.workspace, statement);
        let answer = attempt().await;
        if answer.status < 300 {
            assert!(statement > least, "only {statement} statements");
            break;
        }
        assert_eq!(answer.status, 500, "statement {statement}: {}", answer.text);
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
    fails_at_each_statement(&hub, &mut daemon, 18, async || scene.delete(&hub).await).await;
    assert_eq!(daemon.next_of("daemon:heartbeat_ack").await["payload"]["status"], "runtime_gone");
    scene.is_gone(&hub).await;
}

async fn a_cascade_happens_wholly_or_not_at_all(backend: Backend) {
    let hub = Hub::start(backend).await;
    let scene = Scene::set(&hub).await;
    let mut daemon = hub.daemon(&[scene.here]).await;
    fails_at_each_statement(&hub, &mut daemon, 20, async || scene.cascade(&hub).await).await;
    assert_eq!(daemon.next_of("daemon:heartbeat_ack").await["payload"]["status"], "runtime_gone");
    scene.is_gone(&hub).await;
}

async fn a_member_s_removal_happens_wholly_or_not_at_all(backend: Backend) {
    let hub = Hub::start(backend).await;
    let token = hub.member("m@example.com", "admin").await;
    let scene = Scene::set_as(&hub, &token).await;
    let mut daemon = Socket::open(&hub.daemon_url(&[scene.here]), Some(&token)).await;
    fails_at_each_statement(&hub, &mut daemon, 14, async || remove(&hub, "m@example.com").await).await;
    assert_eq!(daemon.closed().await.0, 4502);
    assert_eq!(hub.rows("SELECT 'x' FROM agent WHERE archived_at IS NULL").await, [""; 0]);
}

async fn a_leave_happens_wholly_or_not_at_all(backend: Backend) {
    let hub = Hub::start(backend).await;
    let token = hub.member("m@example.com", "admin").await;
    let scene = Scene::set_as(&hub, &token).await;
    let mut daemon = Socket::open(&hub.daemon_url(&[scene.here]), Some(&token)).await;
    let path = format!("/api/workspaces/{}/leave", hub.workspace);
    let leave = async || hub.call("POST", &path, Some(&token), Value::Null).await;
    fails_at_each_statement(&hub, &mut daemon, 14, leave).await;
    assert_eq!(daemon.closed().await.0, 4502);
}

async fn a_workspace_s_removal_happens_wholly_or_not_at_all(backend: Backend) {
    let hub = Hub::start(backend).await;
    let scene = Scene::set(&hub).await;
    let mut daemon = hub.daemon(&[scene.here]).await;
    let path = format!("/api/workspaces/{}", hub.workspace);
    fails_at_each_statement(&hub, &mut daemon, 14, async || hub.delete(&path).await).await;
    assert_eq!(daemon.closed().await.0, 4502);
}
