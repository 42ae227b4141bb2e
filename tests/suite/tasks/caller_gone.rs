//! Somebody asks for work and goes away before there is any.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::support::{
    Backend, Hub,
    hub::{http_client, id},
    until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_claimed_for_who_has_gone() {
    let hub = Hub::start(Backend::Postgres).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = id(&hub.cli("POST", "/api/agents", json!({ "name": "ann", "runtime_id": runtime })).await.expect(201));
    let wish = json!({ "title": "work", "assignee_type": "agent", "assignee_id": agent });
    hub.cli("POST", "/api/issues", wish).await.expect(201);

    // Somebody else has the agent, so the claim has to wait.
    let mut other = PgConnection::connect(hub.database_url.as_ref().unwrap()).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut other).await.unwrap();
    sqlx::query("SELECT 1 FROM agent WHERE id = $1 FOR UPDATE").bind(agent).execute(&mut other).await.unwrap();
    let path = format!("/api/daemon/runtimes/{runtime}/tasks/claim");
    let claim = http_client().post(hub.url(&path)).bearer_auth(&hub.token).body("{}").timeout(Duration::from_secs(1));
    assert!(claim.send().await.is_err(), "it waits for the agent");
    let waiting =
        "SELECT 'waits' FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    assert_eq!(hub.rows(waiting).await.len(), 1, "the claim is still at it");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    until("the claim is over", async || hub.rows(waiting).await.is_empty()).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(hub.rows("SELECT status FROM task").await, ["queued"]);
    assert_eq!(hub.rows("SELECT status FROM agent WHERE status = 'working'").await.len(), 0);

    // Whoever asks next gets it.
    let task = hub.post(&path, json!({})).await.expect(200)["task"].take();
    assert_ne!(task, Value::Null);
}
