//! The removal of a runtime that nobody uses any more.

use serde_json::{Value, json};

use super::scene::Scene;
use crate::{
    support::{
        Backend, Hub,
        fleet::{beat, beat_status},
        hub::id,
    },
    tasks::desk,
};

on_both_stores!(
    a_runtime_goes_with_the_agents_that_were_put_aside,
    archived_squads_of_its_agents_go_and_no_others,
    what_moved_agents_left_there_ends_with_it,
    a_runtime_with_nobody_and_nothing_goes,
);

async fn a_runtime_goes_with_the_agents_that_were_put_aside(backend: Backend) {
    let hub = Hub::start(backend).await;
    let scene = Scene::set(&hub).await;
    scene.archive(&hub).await;
    hub.sql("UPDATE autopilot SET status = 'active'").await;
    let mut daemon = hub.daemon(&[scene.here, scene.there]).await;
    let (mut browser, _) = hub.browser().await;
    assert_eq!(scene.delete(&hub).await.expect(200), json!({ "status": "ok" }));
    scene.is_gone(&hub).await;
    let gone = daemon.next_of("daemon:heartbeat_ack").await;
    let payload = &gone["payload"];
    assert_eq!((&payload["status"], &payload["runtime_id"]), (&json!("runtime_gone"), &json!(scene.here)));
    assert_eq!(beat_status(&hub, scene.here).await, 404);
    daemon.send(beat(scene.there)).await;
    assert_eq!(daemon.next_of("daemon:heartbeat_ack").await["payload"]["status"], "ok");
    // Whoever was put aside before is not told to be put aside.
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "daemon:register") {
        kinds.push(browser.next().await["type"].as_str().unwrap().to_owned());
    }
    assert!(!kinds.contains(&"agent:archived".to_owned()), "{kinds:?}");
    // Nor is anything left that would set them off.
    assert_eq!(kinds.iter().filter(|kind| *kind == "autopilot:updated").count(), 2, "{kinds:?}");
    assert_eq!(hub.rows("SELECT status FROM autopilot").await, ["paused"; 2]);
    scene.delete(&hub).await.refused(404, "runtime not found");
}

async fn archived_squads_of_its_agents_go_and_no_others(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["claude", "codex"]).await;
    // Archived and active squads, of archived and of active leaders, on two runtimes.
    for (place, runtime) in runtimes.iter().enumerate() {
        for (archived_leader, archived) in [(true, true), (true, false), (false, true), (false, false)] {
            if place == 0 && !(archived_leader && archived) {
                continue;
            }
            let name = format!("{place} {archived_leader} {archived}");
            let agent = desk::agent(&hub, *runtime, &name, "workspace").await;
            let squad = json!({ "name": name, "leader_id": agent });
            let squad = id(&hub.cli("POST", "/api/squads", squad).await.expect(201));
            if archived {
                hub.cli("DELETE", &format!("/api/squads/{squad}"), Value::Null).await.expect(204);
            }
            if archived_leader {
                hub.cli("POST", &format!("/api/agents/{agent}/archive"), Value::Null).await.expect(200);
            }
        }
    }
    hub.delete(&format!("/api/runtimes/{}", runtimes[0])).await.expect(200);
    assert_eq!(
        hub.rows("SELECT name FROM squad ORDER BY name").await,
        ["1 false false", "1 false true", "1 true false", "1 true true"]
    );
}

async fn what_moved_agents_left_there_ends_with_it(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["claude", "codex"]).await;
    let agent = desk::agent(&hub, runtimes[0], "a", "workspace").await;
    let running = desk::wish(&hub, &hub.token, agent).await;
    let token = desk::claim(&hub, runtimes[0]).await["auth_token"].as_str().unwrap().to_owned();
    let waiting = desk::wish(&hub, &hub.token, agent).await;
    hub.cli("PUT", &format!("/api/agents/{agent}"), json!({ "runtime_id": runtimes[1] })).await.expect(200);
    let elsewhere = desk::wish(&hub, &hub.token, agent).await;
    let (mut browser, _) = hub.browser().await;
    let mut daemon = hub.daemon(&[runtimes[1]]).await;
    hub.delete(&format!("/api/runtimes/{}", runtimes[0])).await.expect(200);
    let told = desk::events(&mut browser, 4).await;
    assert!(desk::is_agent_status(&told[0], agent, "idle"), "{told:?}");
    assert_eq!(
        told[1..3],
        [desk::told(running, agent, "cancelled", None), desk::told(waiting, agent, "cancelled", None)]
    );
    assert_eq!(told[3], ("daemon:register".into(), json!({ "action": "delete", "runtime_id": runtimes[0] })));
    assert_eq!(hub.call("GET", "/api/me", Some(&token), Value::Null).await.status, 401, "its token ended with it");
    // The agent is free for what waits where it is now, and its daemon is told.
    assert_eq!(desk::woken(&mut daemon).await, (runtimes[1], elsewhere));
    assert_eq!(id(&desk::claim(&hub, runtimes[1]).await), elsewhere);
}

async fn a_runtime_with_nobody_and_nothing_goes(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["claude", "codex"]).await;
    let (mut browser, _) = hub.browser().await;
    let before = hub.app.statements();
    hub.delete(&format!("/api/runtimes/{}", runtimes[0])).await.expect(200);
    let statements = hub.app.statements() - before;
    assert!(statements <= 20, "{statements} statements");
    assert_eq!(browser.next().await["payload"], json!({ "action": "delete", "runtime_id": runtimes[0] }));
    assert!(hub.runtime(runtimes[0]).await.is_none());
    // Its daemon registers it anew, as another row.
    let again = hub.register("d", &["claude", "codex"]).await;
    assert_eq!(again[1], runtimes[1]);
    assert_ne!(again[0], runtimes[0]);
}
