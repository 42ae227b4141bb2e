//! What it costs to remove a runtime with 200 agents and 20,000 tasks that have not ended, and what
//! another workspace's daemons feel of it: their beats and claims go on all the while.
//!
//! Each round fills a runtime anew, with as many finished tasks besides, messages, tokens, chats and
//! autopilots, lets the other workspace beat and claim for a while, and then removes it in the one call
//! that people have for it. A beat or claim counts as "meanwhile" if it overlaps with that call. On
//! SQLite there is one writer: claims wait for it, beats need none. Browsers of the workspace, in a child
//! process, follow all of it; the bench ends if one misses an event or is cut off.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench that cannot go on should say why and stop"
)]

#[allow(dead_code, unused_imports, reason = "each bench uses its part")]
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection};
use support::{Hub, RemoteSwarm, Store, Table, introduce, spread};
use uuid::Uuid;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    store: Store,
    /// Agents of the runtime.
    #[arg(long, default_value_t = 200)]
    agents: u32,
    /// Tasks of each that have not ended, and as many that have.
    #[arg(long, default_value_t = 100)]
    tasks: u32,
    /// Messages of each task that has not ended.
    #[arg(long, default_value_t = 100)]
    messages: u32,
    /// Browsers of the workspace.
    #[arg(long, default_value_t = 100)]
    browsers: usize,
    /// Removals.
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// Clients of the other workspace that beat, and as many that claim.
    #[arg(long, default_value_t = 2)]
    clients: usize,
    /// Seconds of each round before the removal.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
}

/// For what is still on its way to browsers.
const FOLLOWED: Duration = Duration::from_secs(120);

/// When calls began and ended.
type Calls = Arc<Mutex<Vec<(Instant, Instant)>>>;

/// A client of the hub.
#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Client {
    async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.token).json(body);
        let answer = request.send().await.unwrap_or_else(|error| panic!("{path}: {error}"));
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    async fn register(&self, workspace: Uuid, provider: &str) -> Uuid {
        let body = json!({
            "workspace_id": workspace, "daemon_id": "d", "runtimes": [{ "type": provider, "status": "online" }],
        });
        let answer = self.post("/api/daemon/register", &body).await;
        answer["runtimes"][0]["id"].as_str().expect("an id").parse().expect("a UUID")
    }

    /// Beats slowly, so that nobody calls the runtime's daemon dead.
    async fn stay(self, runtime: Uuid) {
        loop {
            self.post("/api/daemon/heartbeat", &json!({ "runtime_id": runtime })).await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }

    /// Beats, or claims and completes, until told to stop; notes the beats, or the claims.
    async fn go_on(self, runtime: Uuid, claims: bool, calls: Calls, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            if !claims {
                self.post("/api/daemon/heartbeat", &json!({ "runtime_id": runtime })).await;
                calls.lock().push((began, Instant::now()));
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            let claimed = self.post(&format!("/api/daemon/runtimes/{runtime}/tasks/claim"), &json!({})).await;
            calls.lock().push((began, Instant::now()));
            let task = claimed["task"]["id"].as_str().expect("there is enough to do");
            self.post(&format!("/api/daemon/tasks/{task}/start"), &json!({})).await;
            self.post(&format!("/api/daemon/tasks/{task}/complete"), &json!({ "output": "o" })).await;
        }
    }
}

fn main() {
    RemoteSwarm::serve_if_child();
    let args = Args::parse();
    introduce(&args.store);
    let hub = Hub::start(&args.store);
    let places = hub.workspaces(2);
    let store = args.store.database_url.clone();
    let store = store.unwrap_or_else(|| format!("sqlite://{}", hub.folder().join("heartwire.db").display()));
    let clients =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let client =
        Client { http: reqwest::Client::new(), base: format!("http://{}", hub.address()), token: hub.token.clone() };
    let (beside, staying_beside) = clients.block_on(async {
        let runtime = client.register(places[1], "beside").await;
        let staying = tokio::spawn(client.clone().stay(runtime));
        fill(&store, BESIDE, &[]).await;
        (runtime, staying)
    });
    let mut browsers = RemoteSwarm::open(args.browsers, hub.target(places[0]));
    let head = || RemoteSwarm::open(1, hub.target(places[0])).position;
    let first = browsers.position;

    let mut removals =
        Table::new(&["round", "took", "statements", "tasks cancelled", "events", "all browsers had them after"]);
    let (mut quiet, mut meanwhile) = (Samples::default(), Samples::default());
    for round in 0..args.rounds {
        let (runtime, staying) = clients.block_on(async {
            let provider = format!("torn{round}");
            let runtime = client.register(places[0], &provider).await;
            let staying = tokio::spawn(client.clone().stay(runtime));
            let sizes = [("AGENTS", args.agents), ("TASKS", args.tasks), ("MESSAGES", args.messages)];
            let sizes = sizes.into_iter().map(|(word, size)| (word, size.to_string()));
            fill(&store, TORN, &sizes.chain([("PROVIDER", provider)]).collect::<Vec<_>>()).await;
            (runtime, staying)
        });
        let before_it = head();
        // Once without anybody beside, for the statements.
        let busy = round > 0;
        let (beats, claims) = (Calls::default(), Calls::default());
        let stop = Arc::new(AtomicBool::new(false));
        let mut working = Vec::new();
        if busy {
            for _ in 0..args.clients {
                for (claiming, calls) in [(false, &beats), (true, &claims)] {
                    working.push(clients.spawn(client.clone().go_on(beside, claiming, calls.clone(), stop.clone())));
                }
            }
            support::rest(Duration::from_secs(args.seconds));
        }
        let before = hub.app.statements();
        let (began, answer, ended) = clients.block_on(async {
            let path = format!("{}/api/agents?workspace_id={}", client.base, places[0]);
            let agents = client.http.get(path).bearer_auth(&client.token).send().await.expect("an answer");
            let agents: Value = agents.json().await.expect("JSON");
            let ids: Vec<&Value> = agents.as_array().expect("a list").iter().map(|agent| &agent["id"]).collect();
            let path = format!("/api/runtimes/{runtime}/archive-agents-and-delete");
            staying.abort();
            let _ = staying.await;
            let began = Instant::now();
            let answer = client.post(&path, &json!({ "expected_active_agent_ids": ids })).await;
            (began, answer, Instant::now())
        });
        let statements = hub.app.statements() - before;
        let after_it = head();
        let followed = browsers.wait_for(after_it, FOLLOWED);
        let all_had = began.elapsed();
        assert_eq!(followed, (after_it - first) * args.browsers as u64, "events that the browsers were given");
        stop.store(true, Ordering::Relaxed);
        clients.block_on(async {
            for client in working {
                client.await.expect("no panic");
            }
        });
        removals.row([
            if busy { format!("{round}") } else { format!("{round}, nobody beside") },
            format!("{:.2} s", (ended - began).as_secs_f64()),
            if busy { "-".into() } else { statements.to_string() },
            answer["tasks_cancelled"].to_string(),
            (after_it - before_it).to_string(),
            format!("{:.2} s", all_had.as_secs_f64()),
        ]);
        for (calls, without, during) in
            [(beats, &mut quiet.beats, &mut meanwhile.beats), (claims, &mut quiet.claims, &mut meanwhile.claims)]
        {
            for (from, to) in calls.lock().drain(..) {
                let nanos = (to - from).as_nanos() as i64;
                if to < began {
                    without.push(nanos);
                } else if from < ended {
                    during.push(nanos);
                }
            }
        }
    }
    staying_beside.abort();
    println!(
        "{}: {} agents, {} tasks that have not ended, {} messages each, and as many that have; {} browsers, each of \
         which had every event in order\n",
        args.store.name(),
        args.agents,
        args.agents * args.tasks,
        args.messages,
        args.browsers,
    );
    removals.print();
    let mut table = Table::new(&["another workspace's", "calls", "p50 / p99", "worst"]);
    for (name, samples) in [
        ("beats, before", quiet.beats),
        ("beats, meanwhile", meanwhile.beats),
        ("claims, before", quiet.claims),
        ("claims, meanwhile", meanwhile.claims),
    ] {
        let worst = samples.iter().max().map_or("-".into(), |nanos| format!("{:.0} ms", *nanos as f64 / 1e6));
        table.row([name.into(), samples.len().to_string(), spread(samples), worst]);
    }
    table.print();
    hub.stop();
}

/// Nanoseconds of calls.
#[derive(Default)]
struct Samples {
    beats: Vec<i64>,
    claims: Vec<i64>,
}

/// The same for both databases.
struct Fill {
    postgres: &'static str,
    sqlite: &'static str,
}

async fn fill(store: &str, fill: Fill, words: &[(&str, String)]) {
    let text = if store.starts_with("postgres") { fill.postgres } else { fill.sqlite };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros().to_string();
    let text = words.iter().fold(text.replace("NOW", &now), |text, (word, value)| text.replace(word, value));
    if store.starts_with("postgres") {
        let mut connection = sqlx::PgConnection::connect(store).await.expect("the store");
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.expect("filled");
        sqlx::raw_sql("VACUUM ANALYZE").execute(&mut connection).await.expect("analysed");
    } else {
        let mut connection = sqlx::SqliteConnection::connect(store).await.expect("the store");
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.expect("filled");
    }
}

/// A runtime with its agents: of each, four tasks in flight with a token, the rest waiting, as many
/// finished, a chat, and an autopilot of every fourth.
const TORN: Fill = Fill {
    postgres: "
    INSERT INTO agent (id, workspace_id, owner_id, runtime_id, name, instructions, max_concurrent_tasks,
                       created_at, updated_at)
    SELECT gen_random_uuid(), r.workspace_id, r.owner_id, r.id, 'PROVIDER ' || n, repeat('words ', 200), 6, n, n
    FROM agent_runtime r, generate_series(1, AGENTS) n WHERE r.provider = 'PROVIDER';
    INSERT INTO chat_session (id, workspace_id, agent_id, creator_id, created_at, updated_at)
    SELECT gen_random_uuid(), a.workspace_id, a.id, a.owner_id, 1, 1 FROM agent a WHERE a.name LIKE 'PROVIDER %';
    INSERT INTO autopilot (id, workspace_id, title, assignee_type, assignee_id, status, execution_mode,
                           created_by_type, created_by_id, created_at, updated_at)
    SELECT gen_random_uuid(), a.workspace_id, a.name, 'agent', a.id, 'active', 'run_only', 'member', a.owner_id, 1, 1
    FROM agent a WHERE a.name LIKE 'PROVIDER %' AND a.created_at % 4 = 0;
    INSERT INTO task (id, workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status, priority,
                      issue_id, serial_key, dispatched_at, started_at, completed_at, result, created_at)
    SELECT gen_random_uuid(), a.workspace_id, a.id, a.runtime_id, a.runtime_id, a.owner_id, 'd',
           CASE WHEN n > TASKS THEN 'completed' WHEN n <= 4 THEN 'running' ELSE 'queued' END, 0,
           i.issue, i.issue, CASE WHEN n <= 4 OR n > TASKS THEN NOW + n END,
           CASE WHEN n <= 4 OR n > TASKS THEN NOW + n END, CASE WHEN n > TASKS THEN NOW + n END,
           CASE WHEN n > TASKS THEN '{\"output\":\"an answer\"}'::jsonb END, NOW + n
    FROM agent a, generate_series(1, 2 * TASKS) n, LATERAL (SELECT gen_random_uuid() AS issue WHERE n > 0) i
    WHERE a.name LIKE 'PROVIDER %';
    INSERT INTO task_token (id, task_id, agent_id, workspace_id, user_id, token_hash, expires_at, created_at)
    SELECT gen_random_uuid(), t.id, t.agent_id, t.workspace_id, t.owner_id, t.id::text::bytea, 9000000000000000, 1
    FROM task t JOIN agent a ON a.id = t.agent_id WHERE t.status = 'running' AND a.name LIKE 'PROVIDER %';
    INSERT INTO task_message (task_id, pos, seq, type, content, digest, created_at)
    SELECT t.id, n, n, 'text', repeat('said ', 20), n, NOW + n
    FROM (SELECT t.id FROM task t JOIN agent a ON a.id = t.agent_id
          WHERE t.status IN ('queued', 'running') AND a.name LIKE 'PROVIDER %' ORDER BY t.id) t,
         generate_series(1, MESSAGES) n;",
    sqlite: "
    PRAGMA foreign_keys = OFF;
    BEGIN IMMEDIATE;
    CREATE TEMP TABLE n AS WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 10000) SELECT n FROM s;
    INSERT INTO agent (id, workspace_id, owner_id, runtime_id, name, instructions, max_concurrent_tasks,
                       created_at, updated_at)
    SELECT randomblob(16), r.workspace_id, r.owner_id, r.id, 'PROVIDER ' || n, hex(zeroblob(600)), 6, n, n
    FROM agent_runtime r, n WHERE r.provider = 'PROVIDER' AND n <= AGENTS;
    INSERT INTO chat_session (id, workspace_id, agent_id, creator_id, created_at, updated_at)
    SELECT randomblob(16), a.workspace_id, a.id, a.owner_id, 1, 1 FROM agent a WHERE a.name LIKE 'PROVIDER %';
    INSERT INTO autopilot (id, workspace_id, title, assignee_type, assignee_id, status, execution_mode,
                           created_by_type, created_by_id, created_at, updated_at)
    SELECT randomblob(16), a.workspace_id, a.name, 'agent', a.id, 'active', 'run_only', 'member', a.owner_id, 1, 1
    FROM agent a WHERE a.name LIKE 'PROVIDER %' AND a.created_at % 4 = 0;
    CREATE TEMP TABLE work AS
        SELECT a.id AS agent, a.workspace_id, a.runtime_id, a.owner_id, n.n AS n, randomblob(16) AS issue
        FROM agent a, n WHERE a.name LIKE 'PROVIDER %' AND n.n <= 2 * TASKS;
    INSERT INTO task (id, workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status, priority,
                      issue_id, serial_key, dispatched_at, started_at, completed_at, result, created_at)
    SELECT randomblob(16), workspace_id, agent, runtime_id, runtime_id, owner_id, 'd',
           CASE WHEN n > TASKS THEN 'completed' WHEN n <= 4 THEN 'running' ELSE 'queued' END, 0,
           issue, issue, CASE WHEN n <= 4 OR n > TASKS THEN NOW + n END,
           CASE WHEN n <= 4 OR n > TASKS THEN NOW + n END, CASE WHEN n > TASKS THEN NOW + n END,
           CASE WHEN n > TASKS THEN '{\"output\":\"an answer\"}' END, NOW + n
    FROM work;
    INSERT INTO task_token (id, task_id, agent_id, workspace_id, user_id, token_hash, expires_at, created_at)
    SELECT randomblob(16), t.id, t.agent_id, t.workspace_id, t.owner_id, t.id, 9000000000000000, 1
    FROM task t JOIN agent a ON a.id = t.agent_id WHERE t.status = 'running' AND a.name LIKE 'PROVIDER %';
    CREATE TEMP TABLE said AS
        SELECT t.id FROM task t JOIN agent a ON a.id = t.agent_id
        WHERE t.status IN ('queued', 'running') AND a.name LIKE 'PROVIDER %' ORDER BY t.id;
    INSERT INTO task_message (task_id, pos, seq, type, content, digest, created_at)
    SELECT said.id, n.n, n.n, 'text', hex(zeroblob(50)), n.n, NOW + n.n
    FROM said CROSS JOIN n WHERE n.n <= MESSAGES;
    COMMIT;",
};

/// What the other workspace has to do: more than it can get done meanwhile.
const BESIDE: Fill = Fill {
    postgres: "
    INSERT INTO agent (id, workspace_id, owner_id, runtime_id, name, max_concurrent_tasks, created_at, updated_at)
    SELECT gen_random_uuid(), r.workspace_id, r.owner_id, r.id, 'beside ' || n, 100, n, n
    FROM agent_runtime r, generate_series(1, 20) n WHERE r.provider = 'beside';
    INSERT INTO issue (id, workspace_id, number, title, title_key, status, priority, priority_rank, creator_type,
                       creator_id, position, created_at, updated_at)
    SELECT gen_random_uuid(), r.workspace_id, n, 'issue ' || n, 'issue ' || n, 'todo', 'none', 0, 'member', r.owner_id,
           n, n, n
    FROM agent_runtime r, generate_series(1, 40000) n WHERE r.provider = 'beside';
    INSERT INTO task (id, workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status, priority,
                      issue_id, serial_key, created_at)
    SELECT gen_random_uuid(), a.workspace_id, a.id, a.runtime_id, a.runtime_id, a.owner_id, 'd', 'queued', 0,
           i.id, i.id, NOW + i.number
    FROM issue i JOIN agent a ON a.workspace_id = i.workspace_id AND a.created_at = 1 + i.number % 20;",
    sqlite: "
    PRAGMA foreign_keys = OFF;
    BEGIN IMMEDIATE;
    CREATE TEMP TABLE n AS WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 40000) SELECT n FROM s;
    INSERT INTO agent (id, workspace_id, owner_id, runtime_id, name, max_concurrent_tasks, created_at, updated_at)
    SELECT randomblob(16), r.workspace_id, r.owner_id, r.id, 'beside ' || n, 100, n, n
    FROM agent_runtime r, n WHERE r.provider = 'beside' AND n <= 20;
    INSERT INTO issue (id, workspace_id, number, title, title_key, status, priority, priority_rank, creator_type,
                       creator_id, position, created_at, updated_at)
    SELECT randomblob(16), r.workspace_id, n, 'issue ' || n, 'issue ' || n, 'todo', 'none', 0, 'member', r.owner_id,
           n, n, n
    FROM agent_runtime r, n WHERE r.provider = 'beside';
    INSERT INTO task (id, workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status, priority,
                      issue_id, serial_key, created_at)
    SELECT randomblob(16), a.workspace_id, a.id, a.runtime_id, a.runtime_id, a.owner_id, 'd', 'queued', 0,
           i.id, i.id, NOW + i.number
    FROM issue i JOIN agent a ON a.workspace_id = i.workspace_id AND a.created_at = 1 + i.number % 20;
    COMMIT;",
};
