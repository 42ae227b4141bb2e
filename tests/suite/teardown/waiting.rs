//! Calls that have to wait for a lock and find, once they have it, that they may no more: what they were
//! allowed is looked up again. Only PostgreSQL lets them wait where they can be overtaken.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::support::{Backend, Hub, hub::id, until};

/// Makes a call that has to wait for what another transaction holds; its answer, once that has made its change.
async fn overtaken<T>(hub: &Hub, hold: &'static str, change: &'static str, call: impl Future<Output = T>) -> T {
    const WAITING: &str =
        "SELECT 'x' FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let mut other = PgConnection::connect(hub.database_url.as_ref().unwrap()).await.unwrap();
    for statement in ["BEGIN", hold] {
        sqlx::raw_sql(statement).execute(&mut other).await.unwrap();
    }
    let (answer, ()) = tokio::join!(call, async {
        until("it waits", async || !hub.rows(WAITING).await.is_empty()).await;
        for statement in [change, "COMMIT"] {
            sqlx::raw_sql(statement).execute(&mut other).await.unwrap();
        }
    });
    answer
}

const END_OF_MEMBERSHIP: &str = "DELETE FROM member WHERE role = 'member'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_is_not_removed_by_whoever_is_no_member_any_more() {
    let hub = Hub::start(Backend::Postgres).await;
    let token = hub.member("m@example.com", "member").await;
    let runtime = hub.register_as(&token, hub.workspace, "d", &["claude"]).await[0];
    let hold = "SELECT 1 FROM agent_runtime FOR UPDATE";
    let path = format!("/api/runtimes/{runtime}");
    let call = hub.cli_as(&token, "DELETE", &path, Value::Null);
    overtaken(&hub, hold, END_OF_MEMBERSHIP, call).await.refused(404, "runtime not found");
    assert!(hub.runtime(runtime).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_is_not_removed_by_whoever_is_no_admin_any_more() {
    let hub = Hub::start(Backend::Postgres).await;
    let token = hub.member("a@example.com", "admin").await;
    let profiles = format!("/api/workspaces/{}/runtime-profiles", hub.workspace);
    let wish = json!({ "display_name": "p", "protocol_family": "claude", "command_name": "c" });
    let profile = id(&hub.cli("POST", &profiles, wish).await.expect(201));
    let hold = "SELECT 1 FROM runtime_profile FOR UPDATE";
    let change = "UPDATE member SET role = 'member' WHERE role = 'admin'";
    let path = format!("{profiles}/{profile}");
    let call = hub.cli_as(&token, "DELETE", &path, Value::Null);
    overtaken(&hub, hold, change, call).await.refused(403, "insufficient permissions");
    assert_eq!(hub.rows("SELECT display_name FROM runtime_profile").await, ["p"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_s_token_is_not_made_by_whoever_is_no_member_any_more() {
    let hub = Hub::start(Backend::Postgres).await;
    let token = hub.member("m@example.com", "member").await;
    let hold = "SELECT 1 FROM member FOR UPDATE";
    let tokens = format!("/api/workspaces/{}/daemon-tokens", hub.workspace);
    let call = hub.cli_as(&token, "POST", &tokens, json!({ "daemon_id": "d" }));
    overtaken(&hub, hold, END_OF_MEMBERSHIP, call).await.refused(404, "workspace not found");
    assert_eq!(hub.rows("SELECT daemon_id FROM daemon_token").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_joins_a_workspace_that_is_being_removed() {
    let hub = Hub::start(Backend::Postgres).await;
    let hold = "SELECT 1 FROM workspace FOR NO KEY UPDATE";
    let change = "UPDATE workspace SET deleted_at = 1";
    let members = format!("/api/workspaces/{}/members", hub.workspace);
    let call = hub.cli("POST", &members, json!({ "email": "late@example.com", "role": "member" }));
    overtaken(&hub, hold, change, call).await.refused(404, "workspace not found");
    assert_eq!(hub.rows("SELECT role FROM member").await, ["owner"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_to_which_somebody_came_back_at_the_last_moment_stays() {
    let hub = Hub::start(Backend::Postgres).await;
    let runtimes = hub.register("d", &["claude", "codex", "gemini"]).await;
    let wish = json!({ "name": "ann", "runtime_id": runtimes[0] });
    hub.cli("POST", "/api/agents", wish).await.expect(201);
    hub.post("/api/daemon/deregister", json!({ "runtime_ids": runtimes })).await.expect(200);
    hub.app.advance_clock(Duration::from_secs(8 * 24 * 3600));
    let hold = "SELECT 1 FROM agent_runtime FOR UPDATE";
    let change = "UPDATE agent SET runtime_id = (SELECT id FROM agent_runtime WHERE provider = 'codex')";
    let removed = overtaken(&hub, hold, change, hub.app.sweep()).await.1;
    assert_eq!(removed, 1);
    assert_eq!(hub.rows("SELECT provider FROM agent_runtime ORDER BY provider").await, ["claude", "codex"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_that_is_reported_during_a_merge_is_of_the_runtime_that_stays() {
    let hub = Hub::start(Backend::Postgres).await;
    let runtime = hub.register("old", &["claude"]).await[0];
    let stays = hub.register("new", &["claude"]).await[0];
    let agent = id(&hub.cli("POST", "/api/agents", json!({ "name": "ann", "runtime_id": runtime })).await.expect(201));
    let wish = json!({ "title": "work", "assignee_type": "agent", "assignee_id": agent });
    hub.cli("POST", "/api/issues", wish).await.expect(201);
    let claimed = hub.post(&format!("/api/daemon/runtimes/{runtime}/tasks/claim"), json!({})).await.expect(200);
    let hold = "UPDATE task SET origin_runtime_id = (SELECT id FROM agent_runtime WHERE daemon_id = 'new')";
    let change = "UPDATE task_usage SET runtime_id = (SELECT id FROM agent_runtime WHERE daemon_id = 'new')";
    let path = format!("/api/daemon/tasks/{}/usage", id(&claimed["task"]));
    let call = hub.post(&path, json!({ "usage": [{ "model": "m", "input_tokens": 1 }] }));
    overtaken(&hub, hold, change, call).await.expect(200);
    assert_eq!(hub.rows("SELECT CAST(runtime_id AS text) FROM task_usage").await, [stays.to_string()]);
}
