//! The store under trouble: a server that goes away and comes back.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Backend, Gate, Hub, postgres, until};

/// Every connection of the pool is dead at once; the next calls find living ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_died_in_the_pool_are_replaced() {
    let hub = Hub::start(Backend::Postgres).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let (mut browser, ack) = hub.browser().await;
    for round in 0..3 {
        // Fill the pool, then end all of it.
        let beats = (0..30).map(|_| hub.post("/api/daemon/heartbeat", json!({ "runtime_id": runtime })));
        for answer in futures_util::future::join_all(beats).await {
            answer.expect(200);
        }
        hub.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
        hub.post("/api/daemon/heartbeat", json!({ "runtime_id": runtime })).await.expect(200);
        hub.get("/api/me").await.expect(200);
        hub.app.emit(&[(hub.workspace, 1)], "x", 0).await.unwrap();
        assert_eq!(browser.next().await["seq"], ack["seq"].as_u64().unwrap() + round + 1);
    }
}

/// A server that is away answers 503 with a time to come back, and never "gone".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_503_and_comes_back() {
    let server = postgres::Server::start();
    let url = postgres::fresh_database(&server).await;
    let name = url.rsplit_once('/').unwrap().1.to_owned();
    let hub = Hub::start_on(Some(url.clone()), &[]).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let (mut browser, ack) = hub.browser().await;
    let away = |allowed: bool| {
        let (server, name) = (server.url.clone(), name.clone());
        async move {
            use sqlx::Connection;
            let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
            for sql in [
                format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}"),
                format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"),
            ] {
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
            }
        }
    };
    away(false).await;
    let answer = hub.post("/api/daemon/heartbeat", json!({ "runtime_id": runtime })).await;
    assert!(answer.status == 503 || answer.status == 500, "{answer:?}");
    assert!(!answer.text.contains("not found") && answer.headers.contains_key("retry-after"), "{answer:?}");
    assert_eq!(hub.get("/readyz").await.status, 503);
    assert_eq!(hub.get("/health").await.status, 200);
    away(true).await;
    until("the hub serves again", async || hub.get("/readyz").await.status == 200).await;
    hub.post("/api/daemon/heartbeat", json!({ "runtime_id": runtime })).await.expect(200);
    hub.app.emit(&[(hub.workspace, 1)], "x", 0).await.unwrap();
    let next = ack["seq"].as_u64().unwrap() + 1;
    assert_eq!(browser.next().await["seq"], next, "the open socket follows on");
}

/// A hub that does not wait long for its database, which is behind a gate.
async fn behind_a_gate(limit: Duration) -> (Hub, Gate) {
    let url = postgres::fresh_database(postgres::shared()).await;
    let gate = Gate::before(&url).await;
    let settings = [("HEARTWIRE_DB_CONNECTIONS", "4")];
    let hub = Hub::start_hurried(Some(gate.url(&url)), &settings, |config| config.wait_for_database(limit)).await;
    (hub, gate)
}

/// A machine that lost its power, or a firewall that forgot its connections: no answer, and no end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_falls_silent_is_503_and_its_connections_are_not_waited_for() {
    let (hub, gate) = behind_a_gate(Duration::from_secs(2)).await;
    // All connections are there.
    futures_util::future::join_all((0..30).map(|_| hub.patch("/api/me", json!({ "name": "N" })))).await;
    let began = Instant::now();
    gate.darken();
    // More than there are connections, of both kinds.
    let reads = futures_util::future::join_all((0..6).map(|_| hub.get("/api/workspaces")));
    let writes = futures_util::future::join_all((0..6).map(|_| hub.patch("/api/me", json!({ "name": "N" }))));
    let (reads, writes) = tokio::join!(reads, writes);
    for answer in reads.into_iter().chain(writes) {
        assert_eq!(answer.status, 503, "{answer:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    // What is behind the old connections never comes back; others take their place.
    gate.open();
    until("the hub serves again", async || hub.get("/readyz").await.status == 200).await;
    hub.patch("/api/me", json!({ "name": "Later" })).await.expect(200);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

/// Who was told that nothing was changed must not find it changed later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_given_up_does_not_happen_later() {
    let (hub, gate) = behind_a_gate(Duration::from_secs(2)).await;
    hub.patch("/api/me", json!({ "name": "Before" })).await.expect(200);
    gate.freeze();
    assert_eq!(hub.patch("/api/me", json!({ "name": "After" })).await.status, 503);
    gate.open();
    until("the hub serves again", async || hub.get("/readyz").await.status == 200).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(hub.get("/api/me").await.expect(200)["name"], "Before");
}

/// Two processes that start at once on an empty store make one schema and one first owner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_at_once_take_turns() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let dir = tempfile::tempdir().unwrap();
        let database = match backend {
            Backend::Sqlite => None,
            Backend::Postgres | Backend::PostgresRedis => Some(postgres::fresh_database(postgres::shared()).await),
        };
        let run = |n: usize| {
            let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_heartwire"));
            command.args(["admin", "create-user", "--json", "--name", "N", "--email"]).arg(format!("{n}@example.com"));
            command.env_clear().arg("--data-dir").arg(dir.path());
            if let Some(url) = &database {
                command.arg("--database-url").arg(url);
            }
            command.output()
        };
        for output in futures_util::future::join_all((0..6).map(run)).await {
            let output = output.unwrap();
            assert!(output.status.success(), "{backend:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
