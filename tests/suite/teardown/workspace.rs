//! A workspace goes, and all work in it ends.

use serde_json::{Value, json};

use super::scene::Scene;
use crate::{
    support::{Backend, Hub},
    tasks::desk,
};

on_all_stores!(a_removed_workspace_ends_all_work_in_it_and_is_told_last_of_all,);

async fn a_removed_workspace_ends_all_work_in_it_and_is_told_last_of_all(backend: Backend) {
    let hub = Hub::start(backend).await;
    let node = match backend {
        Backend::PostgresRedis => Some(hub.another_node(&[]).await),
        _ => None,
    };
    let place = node.as_ref().unwrap_or(&hub);
    let admin = hub.member("a@example.com", "admin").await;
    let scene = Scene::set(&hub).await;
    let elsewhere = hub.another_workspace("elsewhere").await;
    let kept = hub.register_as(&hub.token, elsewhere, "torn", &["claude"]).await[0];
    let path = format!("/api/workspaces/{}", hub.workspace);
    for token in [&hub.token, &admin] {
        let made = hub.call("POST", &format!("{path}/daemon-tokens"), Some(token), json!({ "daemon_id": "d" })).await;
        made.expect(201);
    }
    let mut theirs = desk::browser(place, &admin).await;
    let mut daemon = place.daemon(&[scene.here, kept]).await;
    let mut only_here = place.daemon(&[scene.here]).await;
    let before = hub.fingerprint().await;
    hub.call("DELETE", &path, Some(&admin), Value::Null).await.refused(403, "insufficient permissions");
    assert_eq!(hub.fingerprint().await, before);
    hub.delete(&path).await.expect(204);
    let mut kinds = Vec::new();
    let end = loop {
        match theirs.next_or_close().await {
            Ok(frame) => kinds.push(frame["type"].as_str().unwrap().to_owned()),
            Err(end) => break end,
        }
    };
    assert_eq!(end.0, 4503);
    assert_eq!(only_here.closed().await.0, 4502);
    let wanted = [
        vec!["agent:status"; 2],
        vec!["task:cancelled"; 5],
        vec!["agent:archived"; 3],
        vec!["daemon:register", "workspace:deleted"],
    ];
    assert_eq!(kinds, wanted.concat());
    assert_eq!(hub.rows("SELECT 'x' FROM agent WHERE archived_at IS NULL").await, [""; 0]);
    assert_eq!(hub.rows("SELECT 'x' FROM agent_runtime WHERE status = 'online'").await.len(), 1);
    for table in [
        "SELECT 'x' FROM daemon_token",
        "SELECT 'x' FROM task_token",
        "SELECT m.role FROM member m JOIN workspace w ON w.id = m.workspace_id WHERE w.deleted_at IS NOT NULL",
        "SELECT 'x' FROM workspace WHERE slug = 'home-base'",
    ] {
        assert_eq!(hub.rows(table).await, [""; 0], "{table}");
    }
    // The same daemon goes on elsewhere.
    daemon.send(crate::support::fleet::beat(scene.here)).await;
    daemon.send(crate::support::fleet::beat(kept)).await;
    assert_eq!(daemon.next_of("daemon:heartbeat_ack").await["payload"]["runtime_id"], json!(kept));
    let claim = format!("/api/daemon/runtimes/{}/tasks/claim", scene.here);
    hub.post(&claim, json!({})).await.refused(404, "not found");
}
