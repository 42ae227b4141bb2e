//! What a team's lists and details cost once there is much in them: 100,000 issues and 1,000,000
//! comments in one workspace on PostgreSQL, a tenth of that on SQLite.
//!
//! Each call goes over HTTP to the real hub, so often that the middle and the worst mean something.
//! The plans are the databases' own, of the very statements that the hub sent during one of the
//! calls, taken from sqlx's log; for PostgreSQL the generic ones, which hold for any parameters. A
//! scan of a whole growing table, or a sort of more than a page, would show there.

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
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, Connection, Row};
use support::{Hub, Store, Table, introduce};
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    store: Store,
    /// Issues; ten times as many comments. A tenth of the default on the embedded store.
    #[arg(long)]
    issues: Option<u32>,
    /// Calls of each kind.
    #[arg(long, default_value_t = 40)]
    calls: usize,
}

/// The statements that were sent while somebody was watching.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<Option<BTreeSet<String>>>>);

impl Sent {
    fn watch<T>(&self, call: impl FnOnce() -> T) -> (T, BTreeSet<String>) {
        *self.0.lock() = Some(BTreeSet::new());
        let answer = call();
        (answer, self.0.lock().take().unwrap_or_default())
    }
}

impl<S: tracing::Subscriber> Layer<S> for Sent {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        #[derive(Default)]
        struct Fields {
            summary: String,
            statement: String,
        }
        impl tracing::field::Visit for Fields {
            fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
                match field.name() {
                    "summary" => value.clone_into(&mut self.summary),
                    "db.statement" => value.clone_into(&mut self.statement),
                    _ => {}
                }
            }
            fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn std::fmt::Debug) {}
        }
        if event.metadata().target() != "sqlx::query" {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let text = if fields.statement.trim().is_empty() { fields.summary } else { fields.statement };
        if let Some(sent) = &mut *self.0.lock() {
            sent.insert(text);
        }
    }
}

fn main() {
    let args = Args::parse();
    introduce(&args.store);
    let sent = Sent::default();
    let watched = sent
        .clone()
        .with_filter(tracing_subscriber::filter::Targets::new().with_target("sqlx::query", tracing::Level::DEBUG));
    tracing_subscriber::registry().with(watched).init();
    let hub = Hub::start(&args.store);
    let shared = args.store.database_url.clone();
    let issues = args.issues.unwrap_or(if shared.is_some() { 100_000 } else { 10_000 });
    let began = Instant::now();
    let store = shared.unwrap_or_else(|| format!("sqlite://{}", hub.folder().join("heartwire.db").display()));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let largest = runtime.block_on(fill(&store, issues));
    println!("{issues} issues and {} comments filled in {:.0?}\n", issues * 10, began.elapsed());

    let mut table = Table::new(&["call", "p50", "max", "KiB", "statements"]);
    let mut plans = Vec::new();
    for (name, path) in calls(&largest) {
        let get = || hub.fetch(&path);
        let mut times: Vec<Duration> = (0..args.calls)
            .map(|_| {
                let start = Instant::now();
                get();
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        let (bytes, statements) = sent.watch(get);
        table.row([
            name.to_owned(),
            format!("{:.1} ms", times[times.len() / 2].as_secs_f64() * 1e3),
            format!("{:.1} ms", times[times.len() - 1].as_secs_f64() * 1e3),
            format!("{}", bytes / 1024),
            statements.len().to_string(),
        ]);
        plans.push((name, runtime.block_on(explain(&store, &statements))));
    }
    println!("{}:\n", args.store.name());
    table.print();
    println!("\nPlans:");
    for (name, plan) in plans {
        println!("\n{name}");
        plan.iter().for_each(|line| println!("    {line}"));
    }
    hub.stop();
}

/// The calls, by what they show.
fn calls(largest: &str) -> Vec<(&'static str, String)> {
    let issues = |query: &str| format!("/api/issues?{query}");
    let comments = |query: &str| format!("/api/issues/{largest}/comments?{query}");
    vec![
        ("issues, the board", issues("limit=50")),
        ("issues of one status", issues("status=in_progress&limit=50")),
        ("issues, page 1,000", issues("limit=50&offset=49950")),
        ("issues by title", issues("sort=title&limit=50")),
        ("issues by title, descending", issues("sort=title&direction=desc&limit=50")),
        ("issues by creation, descending", issues("sort=created_at&direction=desc&limit=50")),
        ("issues by priority", issues("sort=priority&limit=50")),
        ("issues by due date", issues("sort=due_date&limit=50")),
        ("issues of a status by due date", issues("status=todo&sort=due_date&limit=50")),
        ("issues of one assignee", issues("assignee_id=00000000-0000-4000-8000-000000000007&limit=50")),
        ("issues of one creator", issues("creator_id=00000000-0000-4000-8000-000000000003&limit=50")),
        ("issues marked so", issues("metadata=%7B%22team%22%3A%22t7%22%7D&limit=50")),
        ("issues with a date", issues("scheduled=true&limit=50")),
        (
            "issues changed in a span",
            issues("date_field=updated_at&date_start=1970-01-01T00:00:10Z&date_end=1970-01-01T00:00:11Z&limit=50"),
        ),
        ("projects", "/api/projects".into()),
        ("one issue by its identifier", "/api/issues/HOM-777".into()),
        ("one issue's timeline", "/api/issues/HOM-777/timeline".into()),
        ("comments of the largest issue", comments("")),
        ("the largest issue's threads, roots only", comments("roots_only=true&summary=true")),
        ("its threads that moved last", comments("recent=10")),
        ("its newest", comments("since=1970-01-01T02:46:00Z")),
        ("its timeline", format!("/api/issues/{largest}/timeline")),
    ]
}

/// Fills the first workspace; gives the id of the issue that has a tenth of all comments.
async fn fill(store: &str, issues: u32) -> String {
    let comments = issues * 10;
    if store.starts_with("postgres") {
        let mut connection = sqlx::PgConnection::connect(store).await.expect("the store");
        let text = FILL_POSTGRES.replace("ISSUES", &issues.to_string()).replace("COMMENTS", &comments.to_string());
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.expect("filled");
        sqlx::raw_sql("VACUUM ANALYZE").execute(&mut connection).await.expect("analysed");
        sqlx::query_scalar("SELECT id::text FROM issue WHERE number = 1").fetch_one(&mut connection).await.expect("1")
    } else {
        let mut connection = sqlx::SqliteConnection::connect(store).await.expect("the store");
        let text = FILL_SQLITE.replace("ISSUES", &issues.to_string()).replace("COMMENTS", &comments.to_string());
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.expect("filled");
        let id: Vec<u8> =
            sqlx::query_scalar("SELECT id FROM issue WHERE number = 1").fetch_one(&mut connection).await.expect("1");
        uuid::Uuid::from_slice(&id).expect("an id").to_string()
    }
}

const FILL_POSTGRES: &str = "
    INSERT INTO project (id, workspace_id, title, status, priority, created_at, updated_at)
    SELECT gen_random_uuid(), w.id, 'project ' || n, 'planned', 'none', n, n
    FROM workspace w, generate_series(1, 50) n;
    INSERT INTO issue (id, workspace_id, number, title, title_key, description, status, priority, priority_rank,
                       assignee_type, assignee_id, creator_type, creator_id, project_id, position, start_date,
                       due_date, metadata, created_at, updated_at)
    SELECT gen_random_uuid(), w.id, n, 'Issue ' || md5(n::text), 'issue ' || md5(n::text), repeat('words ', 60),
           (ARRAY['backlog','todo','in_progress','in_review','done','done','done','done','blocked','cancelled'])[1 + n % 10],
           'none', n % 5, 'member', ('00000000-0000-4000-8000-' || lpad((n % 100)::text, 12, '0'))::uuid, 'member',
           ('00000000-0000-4000-8000-' || lpad((n % 40)::text, 12, '0'))::uuid,
           CASE WHEN n % 2 = 0 THEN p.ids[1 + n % 50] END, -n, NULL,
           CASE WHEN n % 7 = 0 THEN '2026-01-' || lpad((1 + n % 28)::text, 2, '0') END,
           jsonb_build_object('team', 't' || n % 500), n * 1000::bigint, n * 1000::bigint
    FROM workspace w, (SELECT array_agg(id) AS ids FROM project) p, generate_series(1, ISSUES) n;
    INSERT INTO issue_metadata (issue_id, workspace_id, key, value)
    SELECT id, workspace_id, 'team', '\"t' || number % 500 || '\"' FROM issue;
    INSERT INTO comment (id, workspace_id, issue_id, author_type, author_id, content, type, parent_id, root_id,
                         last_activity_at, created_at, updated_at)
    SELECT c.id, i.workspace_id, i.id, 'member', i.creator_id, repeat('said ', 40), 'comment', NULL, c.id,
           c.n * 10000, c.n * 10000, c.n * 10000
    FROM (SELECT gen_random_uuid() AS id, n FROM generate_series(1::bigint, COMMENTS) n) c
    JOIN issue i ON i.number = CASE WHEN c.n % 10 = 0 THEN 1 ELSE 1 + c.n % ISSUES END;";

const FILL_SQLITE: &str = "
    PRAGMA foreign_keys = OFF;
    BEGIN;
    CREATE TEMP TABLE n AS WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < COMMENTS) SELECT n FROM s;
    INSERT INTO project (id, workspace_id, title, status, priority, created_at, updated_at)
    SELECT randomblob(16), w.id, 'project ' || n, 'planned', 'none', n, n FROM workspace w, n WHERE n <= 50;
    INSERT INTO issue (id, workspace_id, number, title, title_key, description, status, priority, priority_rank,
                       assignee_type, assignee_id, creator_type, creator_id, project_id, position, start_date,
                       due_date, metadata, created_at, updated_at)
    SELECT randomblob(16), w.id, n, 'Issue ' || hex(n * 7919 % 10007), 'issue ' || hex(n * 7919 % 10007),
           replace(hex(zeroblob(60)), '00', 'words '),
           CASE n % 10 WHEN 0 THEN 'backlog' WHEN 1 THEN 'todo' WHEN 2 THEN 'in_progress' WHEN 3 THEN 'in_review'
                       WHEN 8 THEN 'blocked' WHEN 9 THEN 'cancelled' ELSE 'done' END,
           'none', n % 5, 'member', unhex('000000000000400080000000000000' || printf('%02d', n % 100)), 'member',
           unhex('000000000000400080000000000000' || printf('%02d', n % 40)), NULL, -n, NULL,
           CASE WHEN n % 7 = 0 THEN '2026-01-' || printf('%02d', 1 + n % 28) END,
           json_object('team', 't' || (n % 500)), n * 1000, n * 1000
    FROM workspace w, n WHERE n <= ISSUES;
    INSERT INTO issue_metadata (issue_id, workspace_id, key, value)
    SELECT id, workspace_id, 'team', '\"t' || (number % 500) || '\"' FROM issue;
    INSERT INTO comment (id, workspace_id, issue_id, author_type, author_id, content, type, parent_id, root_id,
                         last_activity_at, created_at, updated_at)
    SELECT unhex(printf('%032x', c.n)), i.workspace_id, i.id, 'member', i.creator_id,
           replace(hex(zeroblob(40)), '00', 'said '), 'comment', NULL, unhex(printf('%032x', c.n)),
           c.n * 10000, c.n * 10000, c.n * 10000
    FROM n c JOIN issue i ON i.number = CASE WHEN c.n % 10 = 0 THEN 1 ELSE 1 + c.n % ISSUES END;
    COMMIT;";

/// What the database does for each statement, in short.
async fn explain(store: &str, statements: &BTreeSet<String>) -> Vec<String> {
    let mut lines = Vec::new();
    for statement in statements {
        let growing = ["issue", "comment", "project", "tally"].iter().any(|table| statement.contains(table));
        if !growing || statement.contains("PRAGMA") {
            continue;
        }
        let plan: Vec<String> = if store.starts_with("postgres") {
            let mut connection = sqlx::PgConnection::connect(store).await.expect("the store");
            let values = (1..).take_while(|n| statement.contains(&format!("${n}"))).map(|_| "NULL").collect::<Vec<_>>();
            let values = if values.is_empty() { String::new() } else { format!("({})", values.join(", ")) };
            let prepare = format!("SET plan_cache_mode = force_generic_plan; PREPARE p AS {statement}");
            sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut connection).await.expect("prepared");
            let rows = sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN (COSTS off) EXECUTE p{values}")))
                .fetch_all(&mut connection)
                .await
                .expect("a plan");
            rows.iter().map(|row| row.get::<String, _>(0)).collect()
        } else {
            let mut connection = sqlx::SqliteConnection::connect(store).await.expect("the store");
            let rows = sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")))
                .fetch_all(&mut connection)
                .await
                .expect("a plan");
            rows.iter().map(|row| row.get::<String, _>(3)).collect()
        };
        let short: String = statement.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(110).collect();
        lines.push(short);
        lines.extend(plan.into_iter().filter(|line| is_telling(line)).map(|line| format!("  {line}")));
    }
    lines
}

/// Scans, sorts and joins; not their conditions.
fn is_telling(line: &str) -> bool {
    ["Scan", "Sort", "SCAN", "SEARCH", "B-TREE", "Limit", "Aggregate"].iter().any(|word| line.contains(word))
}
