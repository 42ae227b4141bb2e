//! What becomes of tasks while Redis stays away: what the database knows decides.

use std::time::Duration;

use serde_json::json;

use super::ground::{QUIET, World, people};
use crate::{
    support::{Hub, fleet::http_beat, hub::id, postgres, redis, until},
    tasks::{
        desk,
        support::{Given, give},
    },
};

/// Beyond the stale window.
const STALE: Duration = Duration::from_secs(155);

/// A hub that has been there for long, and its Redis, which may be ill-treated.
async fn world() -> (World, redis::Server) {
    let server = tokio::task::spawn_blocking(redis::Server::start).await.unwrap();
    let database = postgres::fresh_database(postgres::shared()).await;
    let hub = Hub::start_on(Some(database), &[("REDIS_URL", &server.url), QUIET]).await;
    hub.connected().await;
    let world = people(hub).await;
    world.hub.app.advance_clock(STALE);
    (world, server)
}

async fn ends(world: &World, mut server: redis::Server) {
    tokio::task::spawn_blocking(move || server.end()).await.unwrap();
    until("it is noticed", async || !world.hub.app.is_connected()).await;
    // That leases are away as well is noticed by a touch, and noted by the next look at how things are.
    http_beat(&world.hub, world.runtime).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
}

async fn sweep(world: &World) -> usize {
    world.hub.app.sweep_tasks().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_a_daemon_that_is_lost_fail_though_redis_stays_away() {
    let (world, server) = world().await;
    world.assigned("t").await;
    let job = world.begin().await;
    ends(&world, server).await;
    let body = json!({ "runtime_ids": [world.runtime] });
    world.hub.post("/api/daemon/deregister", body).await.expect(200);
    world.hub.app.advance_clock(Duration::from_secs(140));
    assert_eq!(sweep(&world).await, 0, "Redis may be back in a moment and know better");
    world.hub.app.advance_clock(Duration::from_secs(20));
    assert_eq!(sweep(&world).await, 1);
    assert_eq!(world.of_task(job.task, "failure_reason").await, "runtime_offline");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_are_told_from_what_runs_though_redis_stays_away() {
    let (world, server) = world().await;
    let mut tasks = Vec::new();
    for title in ["runs", "lost"] {
        let issue = world.issue(title).await;
        let (agent, runtime) = (world.agent, world.runtime);
        let given = Given { agent, runtime, issue: Some(issue), status: "running", ..Given::default() };
        tasks.push(give(&world.hub, &Given { dispatched: Some(30), started: Some(20), ..given }).await);
    }
    ends(&world, server).await;
    let path = format!("/api/daemon/runtimes/{}/recover-orphans", world.runtime);
    let recovered = world.hub.post(&path, json!({})).await.expect(200);
    assert_eq!(recovered, json!({ "orphaned": 0, "retried": 0 }), "nobody knows what was heard of");
    for task in &tasks {
        assert_ne!(world.of_task(*task, "orphan_check_at").await, "", "both are suspected");
    }
    assert_eq!(desk::status(&world.hub, tasks[0]).await, "running");
    until("it is under no suspicion", async || world.of_task(tasks[0], "orphan_check_at").await.is_empty()).await;
    world.hub.app.advance_clock(Duration::from_secs(20));
    assert_eq!(sweep(&world).await, 0, "Redis has not been away for long");
    world.hub.app.advance_clock(STALE);
    assert_eq!(sweep(&world).await, 1);
    assert_eq!(world.of_task(tasks[0], "status").await, "running");
    assert_eq!(world.of_task(tasks[1], "failure_reason").await, "runtime_recovery");
    let listed = world.hub.cli("GET", "/api/agent-task-snapshot", serde_json::Value::Null).await.expect(200);
    assert!(listed.as_array().unwrap().iter().any(|task| id(task) == tasks[0]));
}
