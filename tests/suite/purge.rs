//! What is left of removed workspaces: nothing, after a while.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::{
    foreign_ids::furnish,
    support::{Backend, Hub, hub::id},
};

on_both_stores!(a_removed_workspace_leaves_nothing_and_its_log_a_day_longer, what_cannot_go_does_not_hold_up_others,);

/// Everything that a workspace may have something in, for itself or by way of something else.
const TABLES: &[&str] = &[
    "member",
    "agent_runtime",
    "runtime_profile",
    "daemon_token",
    "task_token",
    "agent",
    "skill",
    "skill_file",
    "agent_skill",
    "squad",
    "squad_member",
    "project",
    "project_resource",
    "issue_number",
    "issue",
    "issue_tally",
    "issue_metadata",
    "comment",
    "issue_activity",
    "chat_session",
    "chat_message",
    "attachment",
    "attachment_chunk",
    "autopilot",
    "autopilot_subscriber",
    "autopilot_trigger",
    "autopilot_run",
    "task",
    "squad_evaluation",
    "task_stream",
    "task_message",
    "task_usage",
];
/// What outlives it by a day.
const HISTORY: &[&str] = &["workspace", "event_counter", "event_log"];

async fn counts(hub: &Hub, tables: &[&'static str]) -> BTreeMap<&'static str, String> {
    let mut counts = BTreeMap::new();
    for table in tables {
        let sql = format!("SELECT CAST(COUNT(*) AS text) FROM {table}").leak();
        counts.insert(*table, hub.rows(sql).await.remove(0));
    }
    counts
}

async fn a_removed_workspace_leaves_nothing_and_its_log_a_day_longer(backend: Backend) {
    let hub = Hub::start(backend).await;
    furnish(&hub, hub.workspace, "").await;
    let (before, history) = (counts(&hub, TABLES).await, counts(&hub, HISTORY).await);

    let elsewhere = hub.another_workspace("elsewhere").await;
    let made = furnish(&hub, elsewhere, "e").await;
    let runtime = made["eruntime"];
    let claimed = hub.post(&format!("/api/daemon/runtimes/{runtime}/tasks/claim"), json!({})).await.expect(200);
    let call = async |what: &str, body: Value| {
        hub.post(&format!("/api/daemon/tasks/{}/{what}", id(&claimed["task"])), body).await.expect(200);
    };
    call("start", json!({})).await;
    call("messages", json!({ "messages": [{ "seq": 1, "content": "c" }, { "seq": 2, "content": "c" }] })).await;
    call("usage", json!({ "usage": [{ "model": "m", "input_tokens": 1 }] })).await;
    let issue = format!("/api/issues/{}/comments?workspace_id={elsewhere}", made["eissue"]);
    let answer = json!({ "content": "answer", "parent_id": made["ecomment"] });
    hub.call("POST", &issue, Some(&hub.token), answer).await.expect(201);
    let then = counts(&hub, TABLES).await;
    for table in ["task_message", "task_usage", "comment", "attachment_chunk", "chat_message", "skill_file"] {
        assert_ne!(then[table], before[table], "{table}");
    }

    assert_eq!(hub.app.purge().await.unwrap(), 0, "nothing was removed yet");
    hub.delete(&format!("/api/workspaces/{elsewhere}")).await.expect(204);
    assert!(hub.app.purge().await.unwrap() > 0);
    assert_eq!(counts(&hub, TABLES).await, before);
    let kept = counts(&hub, HISTORY).await;
    assert!(HISTORY.iter().all(|table| kept[table] != history[table]), "{kept:?}");
    assert_eq!(hub.app.purge().await.unwrap(), 0, "it is empty, and need not be looked through again");
    assert_eq!(hub.rows("SELECT slug FROM workspace WHERE emptied_at IS NOT NULL").await, [elsewhere.to_string()]);

    hub.app.advance_clock(Duration::from_secs(25 * 3600));
    assert!(hub.app.purge().await.unwrap() > 0);
    assert_eq!(counts(&hub, HISTORY).await, history);
    assert_eq!(counts(&hub, TABLES).await, before);
    assert_eq!(hub.app.purge().await.unwrap(), 0);
}

async fn what_cannot_go_does_not_hold_up_others(backend: Backend) {
    let hub = Hub::start(backend).await;
    let rest = "SELECT title FROM project ORDER BY title";
    for (slug, step) in [("first", 1), ("second", 2)] {
        let workspace = hub.another_workspace(slug).await;
        let project = json!({ "title": slug });
        hub.call("POST", &format!("/api/projects?workspace_id={workspace}"), Some(&hub.token), project)
            .await
            .expect(201);
        hub.delete(&format!("/api/workspaces/{workspace}")).await.expect(204);
        hub.app.advance_clock(Duration::from_secs(step));
    }
    hub.sql("CREATE TABLE holds (project uuid REFERENCES project (id))").await;
    hub.sql("INSERT INTO holds SELECT id FROM project WHERE title = 'first'").await;
    assert!(hub.app.purge().await.is_err());
    assert_eq!(hub.rows(rest).await, ["first"]);
    hub.sql("DROP TABLE holds").await;
    assert!(hub.app.purge().await.unwrap() > 0);
    assert_eq!(hub.rows(rest).await, [""; 0]);
}
