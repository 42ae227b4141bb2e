//! The removal of a runtime with all of its agents.

use serde_json::{Value, json};

use super::scene::{Scene, cascade, remove};
use crate::{
    support::{Backend, Hub, hub::id},
    tasks::desk,
};

on_both_stores!(
    a_runtime_goes_with_its_agents_and_all_their_work,
    work_of_its_agents_elsewhere_ends_too,
    runs_of_autopilots_fail_with_their_tasks,
    two_hundred_agents_cost_as_many_statements_as_two,
);

async fn a_runtime_goes_with_its_agents_and_all_their_work(backend: Backend) {
    let hub = Hub::start(backend).await;
    let scene = Scene::set(&hub).await;
    let answer = scene.cascade(&hub).await.expect(200);
    assert_eq!(answer, json!({ "status": "ok", "agents_archived": 2, "tasks_cancelled": 5 }));
    scene.is_gone(&hub).await;
    // Autopilots rest, and can be given to another.
    let pilot = format!("/api/autopilots/{}", scene.pilots[0]);
    assert_eq!(hub.cli("GET", &pilot, Value::Null).await.expect(200)["autopilot"]["status"], "paused");
    let change = json!({ "assignee_type": "agent", "assignee_id": scene.max, "status": "active" });
    hub.cli("PATCH", &pilot, change).await.expect(200);
    // Whoever is gone is in no squad any more.
    let members = hub.cli("GET", &format!("/api/squads/{}/members", scene.squad), Value::Null).await.expect(200);
    assert_eq!(members.as_array().unwrap().len(), 1, "{members}");
    assert_eq!(hub.rows("SELECT 'x' FROM task_token").await, [""; 0]);
    scene.cascade(&hub).await.refused(404, "runtime not found");
}

async fn work_of_its_agents_elsewhere_ends_too(backend: Backend) {
    let hub = Hub::start(backend).await;
    let owner = hub.member("o@example.com", "admin").await;
    let others = hub.register_as(&owner, hub.workspace, "others", &["claude"]).await[0];
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, others, "a", "workspace").await;
    let running = desk::wish(&hub, &hub.token, agent).await;
    let path = format!("/api/daemon/runtimes/{others}/tasks/claim");
    hub.call("POST", &path, Some(&owner), json!({})).await.expect(200);
    let waiting = desk::wish(&hub, &hub.token, agent).await;
    hub.cli("PUT", &format!("/api/agents/{agent}"), json!({ "runtime_id": runtime })).await.expect(200);
    let (mut browser, _) = hub.browser().await;
    let answer = cascade(&hub, runtime, &[agent]).await.expect(200);
    assert_eq!(answer["tasks_cancelled"], 2);
    let told = desk::events(&mut browser, 4).await;
    assert_eq!(
        told[..2],
        [desk::told(running, agent, "cancelled", None), desk::told(waiting, agent, "cancelled", None)]
    );
    assert_eq!((told[2].0.as_str(), told[3].0.as_str()), ("agent:archived", "daemon:register"));
    assert_eq!(told[2].1["agent"]["status"], "idle", "it works no longer");
    assert_eq!(hub.runtime(others).await.unwrap()["status"], "online");
    // The other daemon learns it when it asks.
    let path = format!("/api/daemon/tasks/{running}/status");
    assert_eq!(hub.call("GET", &path, Some(&owner), Value::Null).await.expect(200)["status"], "cancelled");
}

async fn runs_of_autopilots_fail_with_their_tasks(backend: Backend) {
    let hub = Hub::start(backend).await;
    let token = hub.member("m@example.com", "admin").await;
    let mine = hub.register("d", &["claude"]).await[0];
    let theirs = hub.register_as(&token, hub.workspace, "m", &["claude"]).await[0];
    let mut pilots = Vec::new();
    for (name, runtime) in [("mine", mine), ("theirs", theirs)] {
        let agent = desk::agent(&hub, runtime, name, "workspace").await;
        let wish = json!({ "title": name, "execution_mode": "run_only", "assignee_id": agent });
        let pilot = id(&hub.cli("POST", "/api/autopilots", wish).await.expect(201));
        let run = hub.cli("POST", &format!("/api/autopilots/{pilot}/trigger"), Value::Null).await.expect(200);
        assert_eq!(run["status"], "running");
        pilots.push((pilot, agent, run));
    }
    let (mut browser, _) = hub.browser().await;
    cascade(&hub, mine, &[pilots[0].1]).await.expect(200);
    remove(&hub, "m@example.com").await.expect(204);
    for (pilot, _, run) in pilots {
        let told = browser.next_of("autopilot:run_done").await;
        let payload = json!({ "run_id": run["id"], "autopilot_id": pilot, "status": "failed" });
        assert_eq!(told["payload"], payload);
        let runs = hub.cli("GET", &format!("/api/autopilots/{pilot}/runs"), Value::Null).await.expect(200);
        let run = &runs["runs"][0];
        assert_eq!(
            (&run["status"], &run["failure_reason"]),
            (&json!("failed"), &json!("task was cancelled")),
            "{runs}"
        );
    }
}

const MANY_POSTGRES: &str = "
    INSERT INTO agent (id, workspace_id, owner_id, runtime_id, name, created_at, updated_at)
    SELECT gen_random_uuid(), r.workspace_id, r.owner_id, r.id, 'agent ' || n, n, n
    FROM agent_runtime r, generate_series(1, 200) n WHERE r.provider = 'many';
    INSERT INTO task (id, workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status, priority,
                      dispatched_at, created_at)
    SELECT gen_random_uuid(), a.workspace_id, a.id, a.runtime_id, a.runtime_id, a.owner_id, 'd',
           CASE WHEN n = 1 THEN 'dispatched' ELSE 'queued' END, 0, CASE WHEN n = 1 THEN 1 END, n
    FROM agent a, generate_series(1, 5) n WHERE a.name LIKE 'agent %';";
const MANY_SQLITE: &str = "
    CREATE TEMP TABLE n AS WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 200) SELECT n FROM s;
    INSERT INTO agent (id, workspace_id, owner_id, runtime_id, name, created_at, updated_at)
    SELECT randomblob(16), r.workspace_id, r.owner_id, r.id, 'agent ' || n, n, n
    FROM agent_runtime r, n WHERE r.provider = 'many';
    INSERT INTO task (id, workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status, priority,
                      dispatched_at, created_at)
    SELECT randomblob(16), a.workspace_id, a.id, a.runtime_id, a.runtime_id, a.owner_id, 'd',
           CASE WHEN n = 1 THEN 'dispatched' ELSE 'queued' END, 0, CASE WHEN n = 1 THEN 1 END, n
    FROM agent a, n WHERE a.name LIKE 'agent %' AND n <= 5;";

async fn two_hundred_agents_cost_as_many_statements_as_two(backend: Backend) {
    let hub = Hub::start(backend).await;
    let scene = Scene::set(&hub).await;
    let before = hub.app.statements();
    scene.cascade(&hub).await.expect(200);
    let few = hub.app.statements() - before;
    let many = hub.register("d", &["many"]).await[0];
    hub.sql(if hub.database_url.is_some() { MANY_POSTGRES } else { MANY_SQLITE }).await;
    let agents = hub.cli("GET", "/api/agents", Value::Null).await.expect(200);
    let bound = agents.as_array().unwrap().iter().filter(|agent| agent["runtime_id"] == json!(many));
    let bound: Vec<_> = bound.map(id).collect();
    let (mut browser, _) = hub.browser().await;
    let before = hub.app.statements();
    let answer = cascade(&hub, many, &bound).await.expect(200);
    let statements = hub.app.statements() - before;
    assert_eq!(answer, json!({ "status": "ok", "agents_archived": 200, "tasks_cancelled": 1000 }));
    // Whatever else the hub asks for meanwhile is little.
    assert!(statements <= few + 3 && statements <= 45, "{statements} statements, {few} for two agents");
    let told = desk::events(&mut browser, 1201).await;
    assert!(told[..1000].iter().all(|(kind, _)| kind == "task:cancelled"));
    assert!(told[1000..1200].iter().all(|(kind, _)| kind == "agent:archived"));
    assert_eq!(told[1200].0, "daemon:register");
}
