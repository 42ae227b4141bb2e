//! Many daemons that claim at once, while tasks are cancelled, agents archived and issues given to
//! others. What happened is read from the event log: it is in the order of the commits.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Backend, Hub, hub::id, postgres};

const AGENTS: usize = 40;
const RUNTIMES: usize = 8;
const TASKS: usize = 2000;

/// A task as it was put into the queue.
struct Put {
    agent: String,
    serial: Option<String>,
    priority: i64,
    created_at: i64,
}

/// The queue: agents with limits 1 to 6 on several runtimes, and tasks of all kinds in it.
async fn fill(hub: &Hub) -> (Vec<Uuid>, Vec<Uuid>) {
    let mut runtimes = Vec::new();
    for index in 0..RUNTIMES {
        runtimes.push(hub.register(&format!("d{index}"), &["claude"]).await[0]);
    }
    let mut agents = Vec::new();
    for index in 0..AGENTS {
        let wish = json!({
            "name": format!("agent {index}"),
            "runtime_id": runtimes[index % RUNTIMES],
            "max_concurrent_tasks": index % 6 + 1,
        });
        agents.push(id(&hub.cli("POST", "/api/agents", wish).await.expect(201)));
    }
    // A fifth of the tasks each: issues of their own, issues that several agents share, chats with two
    // or three tasks each, runs, wishes.
    hub.sql(match hub.database_url {
        Some(_) => POSTGRES_FILL,
        None => SQLITE_FILL,
    })
    .await;
    (runtimes, agents)
}

const POSTGRES_FILL: &str = "
    INSERT INTO issue (id, workspace_id, number, title, title_key, status, priority, priority_rank, creator_type,
                       creator_id, position, created_at, updated_at)
    SELECT gen_random_uuid(), w.id, n, 'issue ' || n, 'issue ' || n, 'todo', 'none', 0, 'member', u.id, n, n, n
    FROM workspace w, users u, generate_series(1, 600) n;
    INSERT INTO chat_session (id, workspace_id, agent_id, creator_id, created_at, updated_at)
    SELECT gen_random_uuid(), a.workspace_id, a.id, a.owner_id, n, n FROM agent a, generate_series(1, 4) n;
    INSERT INTO autopilot (id, workspace_id, title, assignee_type, assignee_id, status, execution_mode,
                           created_by_type, created_by_id, created_at, updated_at)
    SELECT gen_random_uuid(), a.workspace_id, a.name, 'agent', a.id, 'active', 'run_only', 'member', a.owner_id, 1, 1
    FROM agent a;
    INSERT INTO autopilot_run (id, autopilot_id, source, status, triggered_at, created_at)
    SELECT gen_random_uuid(), p.id, 'manual', 'running', n, n FROM autopilot p, generate_series(1, 10) n;
    WITH numbered AS (
        SELECT a.*, r.daemon_id, ROW_NUMBER() OVER (ORDER BY a.created_at) AS agent_number
        FROM agent a JOIN agent_runtime r ON r.id = a.runtime_id
    ), work AS (
        SELECT a.id AS agent, i.id AS issue, NULL::uuid AS chat, NULL::uuid AS run, i.id AS serial, i.number AS n
        FROM numbered a JOIN issue i ON i.number % 40 = a.agent_number % 40 AND i.number <= 400
        UNION ALL
        SELECT a.id, i.id, NULL, NULL, i.id, i.number
        FROM numbered a JOIN issue i ON i.number > 400 AND i.number <= 410
        UNION ALL
        SELECT s.agent_id, NULL, s.id, NULL, s.id, n
        FROM chat_session s, generate_series(1, 3) n WHERE s.created_at + n <= 6 OR n = 1
        UNION ALL
        SELECT p.assignee_id, NULL, NULL, r.id, NULL, r.created_at
        FROM autopilot_run r JOIN autopilot p ON p.id = r.autopilot_id
        UNION ALL
        SELECT a.id, NULL, NULL, NULL, a.id, n FROM numbered a, generate_series(1, 10) n
    )
    INSERT INTO task (id, workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status, priority,
                      issue_id, chat_session_id, autopilot_run_id, serial_key, initiator_user_id,
                      context, created_at)
    SELECT gen_random_uuid(), a.workspace_id, a.id, a.runtime_id, a.runtime_id, a.owner_id, a.daemon_id, 'queued',
           w.n % 5, w.issue, w.chat, w.run, w.serial, a.owner_id,
           CASE WHEN w.serial = a.id THEN jsonb_build_object('type', 'quick_create', 'prompt', 'p',
                'requester_id', a.owner_id, 'workspace_id', a.workspace_id) END,
           1000000 + ROW_NUMBER() OVER ()
    FROM work w JOIN numbered a ON a.id = w.agent";

const SQLITE_FILL: &str = "
    CREATE TEMP TABLE n AS WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 600) SELECT n FROM n;
    INSERT INTO issue (id, workspace_id, number, title, title_key, status, priority, priority_rank, creator_type,
                       creator_id, position, created_at, updated_at)
    SELECT randomblob(16), w.id, n, 'issue ' || n, 'issue ' || n, 'todo', 'none', 0, 'member', u.id, n, n, n
    FROM workspace w, users u, n;
    INSERT INTO chat_session (id, workspace_id, agent_id, creator_id, created_at, updated_at)
    SELECT randomblob(16), a.workspace_id, a.id, a.owner_id, n, n FROM agent a, n WHERE n <= 4;
    INSERT INTO autopilot (id, workspace_id, title, assignee_type, assignee_id, status, execution_mode,
                           created_by_type, created_by_id, created_at, updated_at)
    SELECT randomblob(16), a.workspace_id, a.name, 'agent', a.id, 'active', 'run_only', 'member', a.owner_id, 1, 1
    FROM agent a;
    INSERT INTO autopilot_run (id, autopilot_id, source, status, triggered_at, created_at)
    SELECT randomblob(16), p.id, 'manual', 'running', n, n FROM autopilot p, n WHERE n <= 10;
    CREATE TEMP TABLE numbered AS
        SELECT a.*, r.daemon_id, ROW_NUMBER() OVER (ORDER BY a.created_at) AS agent_number
        FROM agent a JOIN agent_runtime r ON r.id = a.runtime_id;
    CREATE TEMP TABLE work AS
        SELECT a.id AS agent, i.id AS issue, NULL AS chat, NULL AS run, i.id AS serial, i.number AS n
        FROM numbered a JOIN issue i ON i.number % 40 = a.agent_number % 40 AND i.number <= 400
        UNION ALL
        SELECT a.id, i.id, NULL, NULL, i.id, i.number
        FROM numbered a JOIN issue i ON i.number > 400 AND i.number <= 410
        UNION ALL
        SELECT s.agent_id, NULL, s.id, NULL, s.id, n
        FROM chat_session s, n WHERE n <= 3 AND (s.created_at + n <= 6 OR n = 1)
        UNION ALL
        SELECT p.assignee_id, NULL, NULL, r.id, NULL, r.created_at
        FROM autopilot_run r JOIN autopilot p ON p.id = r.autopilot_id
        UNION ALL
        SELECT a.id, NULL, NULL, NULL, a.id, n FROM numbered a, n WHERE n <= 10;
    INSERT INTO task (id, workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status, priority,
                      issue_id, chat_session_id, autopilot_run_id, serial_key, initiator_user_id,
                      context, created_at)
    SELECT randomblob(16), a.workspace_id, a.id, a.runtime_id, a.runtime_id, a.owner_id, a.daemon_id, 'queued',
           w.n % 5, w.issue, w.chat, w.run, w.serial, a.owner_id,
           CASE WHEN w.serial = a.id THEN '{\"type\":\"quick_create\",\"prompt\":\"p\",\"requester_id\":\"' || u.uuid
                || '\",\"workspace_id\":\"' || s.uuid || '\"}' END,
           1000000 + ROW_NUMBER() OVER ()
    FROM work w JOIN numbered a ON a.id = w.agent
    JOIN (SELECT id, substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-' || substr(h, 13, 4) || '-' || substr(h, 17, 4)
              || '-' || substr(h, 21) AS uuid FROM (SELECT id, lower(hex(id)) AS h FROM users)) u ON u.id = a.owner_id
    JOIN (SELECT id, substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-' || substr(h, 13, 4) || '-' || substr(h, 17, 4)
              || '-' || substr(h, 21) AS uuid FROM (SELECT id, lower(hex(id)) AS h FROM workspace)) s
      ON s.id = a.workspace_id";

/// What was put into the queue, by task.
async fn queued(hub: &Hub) -> HashMap<String, Put> {
    let sql = match hub.database_url {
        Some(_) => {
            "SELECT id || ' ' || agent_id || ' ' || COALESCE(serial_key::text, '-') || ' ' || priority || ' ' || created_at
             FROM task"
        }
        None => {
            "SELECT lower(hex(id)) || ' ' || lower(hex(agent_id)) || ' ' || CASE WHEN serial_key IS NULL THEN '-' ELSE lower(hex(serial_key)) END || ' '
                 || priority || ' ' || created_at FROM task"
        }
    };
    let mut tasks = HashMap::new();
    for row in hub.rows(sql).await {
        let words: Vec<&str> = row.split(' ').collect();
        let put = Put {
            agent: plain(words[1]),
            serial: (words[2] != "-").then(|| plain(words[2])),
            priority: words[3].parse().unwrap(),
            created_at: words[4].parse().unwrap(),
        };
        tasks.insert(plain(words[0]), put);
    }
    tasks
}

fn plain(id: &str) -> String {
    id.replace('-', "")
}

/// Walks the log and checks every promise at every step. Returns how many tasks were dispatched.
async fn check_history(hub: &Hub, put: &HashMap<String, Put>, limits: &HashMap<String, usize>) -> usize {
    let events = hub.rows("SELECT kind || ' ' || payload FROM event_log WHERE kind LIKE 'task:%' ORDER BY seq").await;
    let mut in_flight: HashMap<String, BTreeSet<String>> = HashMap::new();
    let mut ended: BTreeSet<String> = BTreeSet::new();
    let mut dispatched: BTreeSet<String> = BTreeSet::new();
    let mut runs: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for event in &events {
        let (kind, payload) = event.split_once(' ').unwrap();
        let payload: Value = serde_json::from_str(payload).unwrap();
        let task = plain(payload["task_id"].as_str().unwrap());
        let agent = plain(payload["agent_id"].as_str().unwrap());
        let wanted = &put[&task];
        let running = in_flight.entry(agent.clone()).or_default();
        match kind {
            "task:dispatch" => {
                assert!(dispatched.insert(task.clone()), "{task} was dispatched twice");
                assert!(!ended.contains(&task), "{task} was dispatched after its end");
                assert_eq!(wanted.agent, agent);
                if let Some(serial) = &wanted.serial {
                    let twin = running.iter().find(|other| put[*other].serial.as_ref() == Some(serial));
                    let told = |id: &String| {
                        events.iter().filter(|event| plain(event).contains(id.as_str())).collect::<Vec<_>>()
                    };
                    assert_eq!(
                        twin.map(told),
                        None,
                        "{task} runs beside another of the same issue, chat or wish: {:?}",
                        told(&task)
                    );
                } else {
                    // Nothing blocks a run, so those of one agent come in the order of the queue.
                    let place = (-wanted.priority, wanted.created_at);
                    let last = runs.insert(agent.clone(), place);
                    assert!(last < Some(place), "{task} came before its turn");
                }
                running.insert(task);
                assert!(running.len() <= limits[&agent], "{agent} has {} of {}", running.len(), limits[&agent]);
            }
            "task:completed" | "task:failed" | "task:cancelled" => {
                assert!(ended.insert(task.clone()), "{task} ended twice");
                running.remove(&task);
            }
            _ => {}
        }
    }
    dispatched.len()
}

/// One daemon: claims for its runtimes in turn until told that everything was disposed of.
async fn claim_until_done(hub: &Hub, runtimes: &[Uuid], first: usize, given: &AtomicUsize, done: &AtomicBool) {
    let mut at = first;
    while !done.load(Ordering::Relaxed) {
        at += 1;
        let path = format!("/api/daemon/runtimes/{}/tasks/claim", runtimes[at % runtimes.len()]);
        let task = hub.post(&path, json!({})).await.expect(200)["task"].clone();
        if task.is_null() {
            tokio::time::sleep(Duration::from_millis(40)).await;
            continue;
        }
        given.fetch_add(1, Ordering::Relaxed);
        let task = task["id"].as_str().unwrap().to_owned();
        // What was cancelled meanwhile cannot be started.
        let started = hub.post(&format!("/api/daemon/tasks/{task}/start"), json!({})).await;
        if started.status == 200 {
            let (end, body) = match at % 3 {
                0 => ("fail", json!({ "error": "exit status 1" })),
                _ => ("complete", json!({ "output": "done" })),
            };
            hub.post(&format!("/api/daemon/tasks/{task}/{end}"), body).await.expect(200);
        } else {
            assert_eq!((started.status, started.json()["code"].as_str()), (400, Some("illegal_transition")));
        }
    }
}

/// Tasks are cancelled, agents archived and issues given to others, until everything is over.
async fn disturb(hub: &Hub, agents: &[Uuid], done: &AtomicBool) {
    let tasks = queued(hub).await;
    let shared =
        hub.cli("GET", "/api/issues?sort=created_at&direction=asc&limit=10&offset=400", Value::Null).await.expect(200);
    let shared: Vec<Uuid> = shared["issues"].as_array().unwrap().iter().map(id).collect();
    for (index, task) in tasks.keys().enumerate().take(400) {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let task = Uuid::parse_str(task).unwrap();
        hub.cli("POST", &format!("/api/tasks/{task}/cancel"), Value::Null).await.expect(200);
        if index % 100 == 50 {
            let agent = agents[index / 100 * 9];
            hub.cli("POST", &format!("/api/agents/{agent}/archive"), Value::Null).await.expect(200);
        }
        if index % 20 == 10 {
            let issue = format!("/api/issues/{}", shared[index / 20 % shared.len()]);
            let wish = json!({ "assignee_type": "agent", "assignee_id": agents[(index + 1) % agents.len()] });
            let answer = hub.cli("PUT", &issue, wish).await;
            // An archived agent is given nothing.
            assert!(answer.status == 200 || answer.status == 400, "{}", answer.text);
        }
    }
}

async fn run(hubs: &[&Hub], claimers: usize) {
    let hub = hubs[0];
    let (runtimes, agents) = fill(hub).await;
    let put = queued(hub).await;
    assert!(put.len() >= TASKS * 4 / 5, "{} tasks", put.len());
    let list = hub.cli("GET", "/api/agents", Value::Null).await.expect(200);
    let limits: HashMap<String, usize> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|agent| (plain(agent["id"].as_str().unwrap()), agent["max_concurrent_tasks"].as_u64().unwrap() as usize))
        .collect();
    let (given, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let daemons =
        (0..claimers).map(|index| claim_until_done(hubs[index % hubs.len()], &runtimes, index, &given, &done));
    let over = async {
        disturb(hub, &agents, &done).await;
        loop {
            let left = hub
                .rows(
                    "SELECT CAST(COUNT(*) AS text) FROM task WHERE status NOT IN ('completed', 'failed', 'cancelled')",
                )
                .await;
            if left == ["0"] {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        done.store(true, Ordering::Relaxed);
    };
    let work = async { tokio::join!(futures_util::future::join_all(daemons), over) };
    tokio::time::timeout(Duration::from_secs(240), work).await.expect("everything comes to an end");
    // Issues that were given to others have made more.
    let all = queued(hub).await;
    let dispatched = check_history(hub, &all, &limits).await;
    assert!(dispatched > put.len() / 3, "{dispatched} of {}", all.len());
    assert!(given.load(Ordering::Relaxed) >= dispatched, "every dispatched task reached its daemon");
    let working = hub.cli("GET", "/api/agents?include_archived=true", Value::Null).await.expect(200);
    assert!(working.as_array().unwrap().iter().all(|agent| agent["status"] != "working"), "nobody works any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_claimers_at_two_nodes_keep_every_rule() {
    let a = Hub::start_with(Backend::PostgresRedis, &[]).await;
    let b = a.another_node(&[]).await;
    run(&[&a, &b], 64).await;
    assert!(!postgres::shared().log().contains("deadlock detected"), "claims deadlock");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_claimers_on_sqlite_keep_every_rule() {
    run(&[&Hub::start(Backend::Sqlite).await], 4).await;
}
