//! Autopilots of private agents: what they say is what the agent is asked.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{
    agents::browser_with,
    autopilots::{make, me, path},
};
use crate::support::{Backend, Hub, hub::id, until};

on_both_stores!(
    who_may_not_see_the_agent_sees_none_of_its_autopilots,
    a_squad_is_as_private_as_its_leader,
    events_of_private_autopilots_are_ids_to_others,
);

const REFUSAL: &str = "you do not have access to this agent";

async fn make_private(hub: &Hub, autopilot: &Value) {
    let agent = format!("/api/agents/{}", autopilot["assignee_id"].as_str().unwrap());
    hub.cli("PUT", &agent, json!({ "visibility": "private" })).await.expect(200);
}

async fn listed(hub: &Hub, token: &str) -> usize {
    let list = hub.cli_as(token, "GET", "/api/autopilots", Value::Null).await.expect(200);
    let listed = list["autopilots"].as_array().unwrap().len();
    assert_eq!(list["total"], listed);
    listed
}

async fn who_may_not_see_the_agent_sees_none_of_its_autopilots(backend: Backend) {
    let hub = Hub::start(backend).await;
    let plain = hub.member("plain@example.com", "member").await;
    let admin = hub.member("admin@example.com", "admin").await;
    let task = hub.app.mint_task_token(hub.workspace, me(&hub).await).await.unwrap();
    let made = make(&hub).await;
    hub.sql(
        "INSERT INTO autopilot_run (id, autopilot_id, source, status, triggered_at, created_at)
         SELECT id, id, 'manual', 'running', 1, 1 FROM autopilot",
    )
    .await;
    let one = path(&made);
    let reads = [one.clone(), format!("{one}/runs"), format!("{one}/runs/{}", id(&made))];
    for read in &reads {
        hub.cli_as(&plain, "GET", read, Value::Null).await.expect(200);
    }
    assert_eq!(listed(&hub, &plain).await, 1);
    make_private(&hub, &made).await;
    for read in &reads {
        hub.cli_as(&plain, "GET", read, Value::Null).await.refused(403, REFUSAL);
    }
    assert_eq!(listed(&hub, &plain).await, 0);
    for token in [&hub.token, &admin, &task] {
        assert_eq!(listed(&hub, token).await, 1);
        for read in &reads {
            hub.cli_as(token, "GET", read, Value::Null).await.expect(200);
        }
    }
}

async fn a_squad_is_as_private_as_its_leader(backend: Backend) {
    let hub = Hub::start(backend).await;
    let plain = hub.member("plain@example.com", "member").await;
    let made = make(&hub).await;
    let wish = json!({ "name": "s", "leader_id": made["assignee_id"] });
    let squad = hub.cli("POST", "/api/squads", wish).await.expect(201);
    let given = json!({ "assignee_type": "squad", "assignee_id": squad["id"] });
    hub.cli("PATCH", &path(&made), given).await.expect(200);
    assert_eq!(listed(&hub, &plain).await, 1);
    make_private(&hub, &made).await;
    assert_eq!(listed(&hub, &plain).await, 0);
    hub.cli_as(&plain, "GET", &path(&made), Value::Null).await.refused(403, REFUSAL);
    hub.cli_as(&plain, "PATCH", &path(&made), json!({ "title": "x" })).await.refused(403, REFUSAL);
    let (mut theirs, (mut mine, _)) = (browser_with(&hub, &plain).await, hub.browser().await);
    let changed = hub.cli("PATCH", &path(&made), json!({ "title": "u" })).await.expect(200);
    assert_eq!(mine.next().await["payload"], json!({ "autopilot": changed }));
    assert_eq!(theirs.next().await["payload"], json!({ "autopilot_id": made["id"] }));
    // Its end leaves the work to the leader, and tells no more of it.
    hub.cli("DELETE", &format!("/api/squads/{}", id(&squad)), Value::Null).await.expect(204);
    let event = theirs.next().await;
    assert_eq!(
        (&event["type"], &event["payload"]),
        (&json!("autopilot:updated"), &json!({ "autopilot_id": made["id"] }))
    );
    assert_eq!(mine.next().await["payload"]["autopilot"]["assignee_type"], "agent");
}

async fn events_of_private_autopilots_are_ids_to_others(backend: Backend) {
    let hub = Hub::start(backend).await;
    let plain = hub.member("plain@example.com", "member").await;
    let admin = hub.member("admin@example.com", "admin").await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = async |name: &str, visibility: &str| {
        let wish = json!({ "name": name, "runtime_id": runtime, "visibility": visibility });
        id(&hub.cli("POST", "/api/agents", wish).await.expect(201))
    };
    let (private, open) = (agent("p", "private").await, agent("o", "workspace").await);
    let mut theirs = browser_with(&hub, &plain).await;
    let mut admins = browser_with(&hub, &admin).await;
    let wish = json!({ "title": "hush", "assignee_id": private, "execution_mode": "run_only" });
    let made = hub.cli("POST", "/api/autopilots", wish).await.expect(201);
    let reduced = json!({ "autopilot_id": made["id"] });
    let mut told = async |kind: &str, full: Value, of_plain: Value| {
        let (all, part) = (admins.next().await, theirs.next().await);
        assert_eq!((&all["type"], &all["payload"]), (&json!(kind), &full));
        assert_eq!((&part["type"], &part["payload"]), (&json!(kind), &of_plain));
        assert_eq!((&part["seq"], &part["event_id"]), (&all["seq"], &all["event_id"]), "the same event");
    };
    told("autopilot:created", json!({ "autopilot": made }), reduced.clone()).await;
    let changed = hub.cli("PATCH", &path(&made), json!({ "description": "more" })).await.expect(200);
    told("autopilot:updated", json!({ "autopilot": changed }), reduced.clone()).await;

    let triggers = format!("{}/triggers", path(&made));
    let wish = json!({ "kind": "schedule", "cron_expression": "0 0 1 1 *", "label": "hush" });
    let trigger = hub.cli("POST", &triggers, wish).await.expect(201);
    let full = json!({ "autopilot_id": made["id"], "trigger": trigger });
    told("autopilot:updated", full, reduced.clone()).await;
    let one = format!("{triggers}/{}", id(&trigger));
    let trigger = hub.cli("PATCH", &one, json!({ "enabled": false })).await.expect(200);
    let full = json!({ "autopilot_id": made["id"], "trigger": trigger });
    told("autopilot:updated", full, reduced.clone()).await;
    hub.cli("DELETE", &one, Value::Null).await.expect(204);
    let ids = json!({ "autopilot_id": made["id"], "trigger_id": trigger["id"] });
    told("autopilot:updated", ids.clone(), ids).await;

    // Given to an agent that everybody may use, it is everybody's.
    let opened = hub.cli("PATCH", &path(&made), json!({ "assignee_id": open })).await.expect(200);
    told("autopilot:updated", json!({ "autopilot": opened }), json!({ "autopilot": opened })).await;
    let closed = hub.cli("PATCH", &path(&made), json!({ "assignee_id": private })).await.expect(200);
    told("autopilot:updated", json!({ "autopilot": closed }), reduced.clone()).await;
    hub.cli("DELETE", &path(&made), Value::Null).await.expect(204);
    told("autopilot:deleted", reduced.clone(), reduced).await;
    theirs.quiet_for(Duration::from_millis(50)).await;
}

/// SQLite has one writer at a time, and nothing in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_change_one_is_asked_when_nobody_else_can_any_more() {
    let hub = Hub::start(Backend::Postgres).await;
    let plain = hub.member("plain@example.com", "member").await;
    let made = make(&hub).await;
    let runtime = hub.runtime(hub.register("d", &["claude"]).await[0]).await.expect("it");
    let private = json!({ "name": "private", "runtime_id": runtime["id"] });
    let private: Uuid = id(&hub.cli("POST", "/api/agents", private).await.expect(201));
    let triggers = format!("{}/triggers", path(&made));
    let wish = json!({ "kind": "schedule", "cron_expression": "0 0 1 1 *" });
    let trigger = format!("{triggers}/{}", id(&hub.cli("POST", &triggers, wish.clone()).await.expect(201)));
    let mut other = PgConnection::connect(hub.database_url.as_deref().expect("a server")).await.expect("the server");
    for (method, path, body) in [
        ("PATCH", path(&made), json!({ "description": "mine" })),
        ("POST", triggers.clone(), wish),
        ("PATCH", trigger.clone(), json!({ "enabled": false })),
        ("DELETE", trigger.clone(), Value::Null),
        ("DELETE", path(&made), Value::Null),
    ] {
        let given = json!({ "assignee_id": made["assignee_id"] });
        hub.cli("PATCH", &self::path(&made), given).await.expect(200);
        let before = hub.fingerprint().await;
        // It goes to a private agent while somebody who may use the present one changes it.
        sqlx::query("BEGIN").execute(&mut other).await.expect("BEGIN");
        sqlx::query("UPDATE autopilot SET assignee_id = $1").bind(private).execute(&mut other).await.expect("UPDATE");
        let (answer, ()) = tokio::join!(hub.cli_as(&plain, method, &path, body), async {
            until("it waits", async || {
                const WAITING: &str = "SELECT 'x' FROM pg_stat_activity
                                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
                !hub.rows(WAITING).await.is_empty()
            })
            .await;
            sqlx::query("COMMIT").execute(&mut other).await.expect("COMMIT");
        });
        answer.refused(403, REFUSAL);
        assert_eq!(hub.fingerprint().await, before, "{method} {path}");
    }
}
