//! What waits behind a wish that is in flight costs nobody anything.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    desk,
    support::{agent, issue},
};
use crate::support::{Backend, Hub, hub::id};

on_both_stores!(wishes_are_done_one_by_one_and_stop_nothing_else, what_waits_makes_neither_a_claim_nor_an_end_slower);

async fn wish(hub: &Hub, agent: Uuid) -> Uuid {
    desk::wish(hub, &hub.token, agent).await
}

async fn assign(hub: &Hub, issue: Uuid, agent: Uuid, priority: &str) {
    let change = json!({ "assignee_type": "agent", "assignee_id": agent, "priority": priority });
    hub.cli("PUT", &format!("/api/issues/{issue}"), change).await.expect(200);
}

async fn wishes_are_done_one_by_one_and_stop_nothing_else(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let (ann, bob) = (agent(&hub, "ann", runtime).await, agent(&hub, "bob", runtime).await);
    let (low, urgent) = (issue(&hub, "low").await, issue(&hub, "urgent").await);
    let first = wish(&hub, ann).await;
    let second = wish(&hub, ann).await;
    let bobs = wish(&hub, bob).await;
    assign(&hub, low, ann, "low").await;
    assign(&hub, urgent, ann, "urgent").await;
    let mut given = Vec::new();
    for _ in 0..4 {
        given.push(desk::claim(&hub, runtime).await);
    }
    let issues: Vec<&Value> = given.iter().map(|task| &task["issue_id"]).filter(|id| **id != json!("")).collect();
    assert_eq!(issues, [&json!(urgent), &json!(low)]);
    let mut wishes: Vec<Uuid> = given.iter().filter(|task| task["kind"] == "quick_create").map(id).collect();
    wishes.sort();
    assert_eq!(wishes, [first, bobs]);
    assert_eq!(desk::claim(&hub, runtime).await, Value::Null, "one wish of an agent at a time");
    let mut daemon = hub.daemon(&[runtime]).await;
    desk::report(&hub, first, "fail", json!({ "error": "x" })).await;
    assert_eq!(desk::woken(&mut daemon).await, (runtime, second));
    assert_eq!(id(&desk::claim(&hub, runtime).await), second);
}

/// How long a claim takes that finds nothing, and the end of a task.
async fn cost(hub: &Hub, runtime: Uuid, agent: Uuid) -> [Duration; 2] {
    let issue = issue(hub, &Uuid::new_v4().to_string()).await;
    assign(hub, issue, agent, "urgent").await;
    let task = id(&desk::claim(hub, runtime).await);
    let began = Instant::now();
    assert_eq!(desk::claim(hub, runtime).await, Value::Null);
    let claim = began.elapsed();
    let began = Instant::now();
    desk::report(hub, task, "fail", json!({ "error": "x" })).await;
    [claim, began.elapsed()]
}

/// The fastest of some rounds, as soon as that is fast enough: others work on this machine, too.
async fn fastest(hub: &Hub, runtime: Uuid, agent: Uuid, rounds: usize, enough: [Duration; 2]) -> [Duration; 2] {
    let mut fastest = [Duration::MAX; 2];
    for _ in 0..rounds {
        let took = cost(hub, runtime, agent).await;
        fastest = [fastest[0].min(took[0]), fastest[1].min(took[1])];
        if fastest[0] <= enough[0] && fastest[1] <= enough[1] {
            break;
        }
    }
    fastest
}

async fn what_waits_makes_neither_a_claim_nor_an_end_slower(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = agent(&hub, "ann", runtime).await;
    let running = wish(&hub, agent).await;
    assert_eq!(id(&desk::claim(&hub, runtime).await), running);
    wish(&hub, agent).await;
    let before = fastest(&hub, runtime, agent, 5, [Duration::ZERO; 2]).await;
    hub.sql(match backend {
        Backend::Sqlite => "
            INSERT INTO task (id, workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status,
                              priority, serial_key, context, created_at)
            WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100000)
            SELECT randomblob(16), workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status,
                   priority, serial_key, context, created_at + n FROM task, n WHERE status = 'queued'",
        _ => "
            INSERT INTO task (id, workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status,
                              priority, serial_key, context, created_at)
            SELECT gen_random_uuid(), workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status,
                   priority, serial_key, context, created_at + n FROM task, generate_series(1, 100000) n
            WHERE status = 'queued';
            ANALYZE task",
    })
    .await;
    let enough = before.map(|before| before * 2 + Duration::from_millis(20));
    let after = fastest(&hub, runtime, agent, 60, enough).await;
    assert!(after[0] <= enough[0], "a claim: {:?} was {:?}", after[0], before[0]);
    assert!(after[1] <= enough[1], "an end: {:?} was {:?}", after[1], before[1]);
}
