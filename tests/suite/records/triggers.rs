//! What sets autopilots off, and what became of it.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::autopilots::{make, me, path};
use crate::support::{
    Backend, Hub,
    hub::{id, keys},
};

on_both_stores!(
    schedules_say_when_they_come_due,
    triggers_change_field_by_field,
    taking_one_up_again_does_not_make_up_for_what_it_missed,
    runs_are_listed_by_page,
);

async fn schedules_say_when_they_come_due(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = make(&hub).await;
    let triggers = format!("{}/triggers", path(&made));
    let (mut browser, _) = hub.browser().await;
    let wish = json!({
        "kind": "schedule", "cron_expression": " 0 0 1 1 * ", "timezone": null, "label": null, "enabled": null,
    });
    let plain = hub.cli("POST", &triggers, wish).await.expect(201);
    assert!(plain["next_run_at"].as_str().unwrap().ends_with("-01-01T00:00:00Z"), "{plain}");
    assert_eq!(
        plain,
        json!({
            "id": plain["id"], "autopilot_id": made["id"], "kind": "schedule", "enabled": true,
            "cron_expression": "0 0 1 1 *", "timezone": null, "next_run_at": plain["next_run_at"], "label": null,
            "last_fired_at": null, "created_at": plain["created_at"], "updated_at": plain["created_at"],
            "webhook_token": null, "event_filters": null,
        })
    );
    let event = browser.next().await;
    assert_eq!(event["type"], "autopilot:updated");
    assert_eq!(event["payload"], json!({ "autopilot_id": made["id"], "trigger": plain }));
    assert_eq!((&event["actor_type"], &event["actor_id"]), (&json!("member"), &json!(me(&hub).await)));

    let wish = json!({
        "kind": "schedule", "cron_expression": "0 9 1 1 *", "timezone": "asia/tokyo", "label": "New Year",
    });
    let tokyo = hub.cli("POST", &triggers, wish).await.expect(201);
    assert_eq!((&tokyo["timezone"], &tokyo["label"]), (&json!("Asia/Tokyo"), &json!("New Year")));
    assert_eq!(tokyo["next_run_at"], plain["next_run_at"], "nine o'clock there is midnight UTC");
    browser.next().await;
    let wish = json!({ "kind": "schedule", "cron_expression": "* * * * *", "enabled": false });
    let off = hub.cli("POST", &triggers, wish).await.expect(201);
    assert_eq!((&off["enabled"], &off["next_run_at"]), (&json!(false), &Value::Null));
    browser.next().await;
    let one = hub.cli("GET", &path(&made), Value::Null).await.expect(200);
    assert_eq!(one["triggers"], json!([plain, tokyo, off]), "oldest first");
    assert_eq!(one["autopilot"], made, "the autopilot itself has not changed");

    let before = hub.fingerprint().await;
    let cron = "invalid cron_expression; five fields are wanted: minute, hour, day of month, month, day of week";
    let zone = "invalid timezone; an IANA name is wanted, like Europe/Berlin";
    for (body, text) in [
        (json!({}), "invalid kind \"\"; valid values: schedule"),
        (json!({ "kind": "api" }), "invalid kind \"api\"; valid values: schedule"),
        (json!({ "kind": "webhook", "label": "l" }), "webhook triggers are not supported"),
        (json!({ "kind": "schedule" }), "cron_expression is required"),
        (json!({ "kind": "schedule", "cron_expression": "0 0 * * * *" }), cron),
        (json!({ "kind": "schedule", "cron_expression": "@daily" }), cron),
        (json!({ "kind": "schedule", "cron_expression": "0 0 30 2 *" }), "cron_expression never comes due"),
        (
            json!({ "kind": "schedule", "cron_expression": "0 0 30 2 *", "enabled": false }),
            "cron_expression never comes due",
        ),
        (json!({ "kind": "schedule", "cron_expression": "* * * * *", "timezone": "Mars/Olympus" }), zone),
        (json!({ "kind": "schedule", "cron_expression": 5 }), "invalid request body"),
    ] {
        hub.cli("POST", &triggers, body).await.refused(400, text);
    }
    assert_eq!(hub.fingerprint().await, before);
    browser.quiet_for(Duration::from_millis(50)).await;
}

async fn triggers_change_field_by_field(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = make(&hub).await;
    let triggers = format!("{}/triggers", path(&made));
    let wish = json!({ "kind": "schedule", "cron_expression": "0 0 1 1 *", "timezone": "Asia/Tokyo", "label": "l" });
    let trigger = hub.cli("POST", &triggers, wish).await.expect(201);
    let one = format!("{triggers}/{}", id(&trigger));
    let (mut browser, _) = hub.browser().await;
    let patch = async |change: Value| hub.cli("PATCH", &one, change).await;

    for same in [
        json!({}),
        Value::Null,
        json!({ "enabled": null, "cron_expression": null, "timezone": null, "label": null }),
        json!({ "enabled": true, "cron_expression": "0 0 1 1 *", "timezone": "asia/tokyo", "label": "l", "kind": "api" }),
    ] {
        assert_eq!(patch(same.clone()).await.expect(200), trigger, "{same}");
    }
    let named = patch(json!({ "label": "" })).await.expect(200);
    assert_eq!((&named["label"], &named["next_run_at"]), (&Value::Null, &trigger["next_run_at"]));
    let event = browser.next().await;
    assert_eq!(event["type"], "autopilot:updated");
    assert_eq!(event["payload"], json!({ "autopilot_id": made["id"], "trigger": named }));
    let utc = patch(json!({ "timezone": "" })).await.expect(200);
    assert_eq!(utc["timezone"], Value::Null);
    assert!(utc["next_run_at"].as_str().unwrap().ends_with("-01-01T00:00:00Z"), "{utc}");
    assert_eq!(browser.next().await["payload"]["trigger"], utc);
    let july = patch(json!({ "cron_expression": "30 6 1 7 *" })).await.expect(200);
    assert!(july["next_run_at"].as_str().unwrap().ends_with("-07-01T06:30:00Z"), "{july}");
    browser.next().await;
    let off = patch(json!({ "enabled": false })).await.expect(200);
    assert_eq!((&off["enabled"], &off["next_run_at"]), (&json!(false), &Value::Null));
    browser.next().await;
    let changed = patch(json!({ "cron_expression": "0 0 2 1 *" })).await.expect(200);
    assert_eq!(changed["next_run_at"], Value::Null, "still disabled");
    browser.next().await;
    let on = patch(json!({ "enabled": true })).await.expect(200);
    assert!(on["next_run_at"].as_str().unwrap().ends_with("-01-02T00:00:00Z"), "{on}");
    browser.next().await;

    let before = hub.fingerprint().await;
    patch(json!({ "cron_expression": "" })).await.refused(400, "cron_expression is required");
    patch(json!({ "cron_expression": "0 0 31 4 *" })).await.refused(400, "cron_expression never comes due");
    patch(json!({ "timezone": "x" }))
        .await
        .refused(400, "invalid timezone; an IANA name is wanted, like Europe/Berlin");
    assert_eq!(hub.fingerprint().await, before);

    // What is no schedule has no next time and can be given none.
    hub.sql("UPDATE autopilot_trigger SET kind = 'webhook', cron_expression = NULL, next_run_at = NULL").await;
    patch(json!({ "cron_expression": "* * * * *" }))
        .await
        .refused(400, "cron_expression and timezone belong to schedule triggers");
    let off = patch(json!({ "enabled": false })).await.expect(200);
    assert_eq!((&off["kind"], &off["next_run_at"]), (&json!("webhook"), &Value::Null));
    browser.next().await;

    hub.cli("DELETE", &one, Value::Null).await.expect(204);
    let event = browser.next().await;
    assert_eq!(event["type"], "autopilot:updated");
    assert_eq!(event["payload"], json!({ "autopilot_id": made["id"], "trigger_id": trigger["id"] }));
    hub.cli("DELETE", &one, Value::Null).await.refused(404, "trigger not found");
    browser.quiet_for(Duration::from_millis(50)).await;
}

async fn taking_one_up_again_does_not_make_up_for_what_it_missed(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = make(&hub).await;
    for (expression, enabled) in [("0 0 1 1 *", true), ("0 0 1 2 *", true), ("0 0 1 3 *", false)] {
        let wish = json!({ "kind": "schedule", "cron_expression": expression, "enabled": enabled });
        hub.cli("POST", &format!("{}/triggers", path(&made)), wish).await.expect(201);
    }
    let triggers = async || hub.cli("GET", &path(&made), Value::Null).await.expect(200)["triggers"].clone();
    let before = triggers().await;
    hub.cli("PATCH", &path(&made), json!({ "status": "paused" })).await.expect(200);
    hub.sql("UPDATE autopilot_trigger SET next_run_at = 1 WHERE cron_expression = '0 0 1 1 *'").await;
    assert_ne!(triggers().await, before);
    hub.cli("PATCH", &path(&made), json!({ "title": "still paused" })).await.expect(200);
    assert_ne!(triggers().await, before);
    hub.cli("PATCH", &path(&made), json!({ "status": "active" })).await.expect(200);
    assert_eq!(triggers().await, before);
}

async fn runs_are_listed_by_page(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = make(&hub).await;
    let runs = format!("{}/runs", path(&made));
    let none = hub.cli("GET", &runs, Value::Null).await.expect(200);
    assert_eq!(none, json!({ "runs": [], "total": 0 }));
    let mut ids = Vec::new();
    for _ in 0..25 {
        let wish = json!({ "kind": "schedule", "cron_expression": "0 0 1 1 *" });
        let trigger = hub.cli("POST", &format!("{}/triggers", path(&made)), wish).await.expect(201);
        ids.insert(0, trigger["id"].clone());
    }
    // A run of each trigger, with its id.
    hub.sql(
        "INSERT INTO autopilot_run (id, autopilot_id, trigger_id, source, status, issue_id, task_id, triggered_at,
                                    completed_at, failure_reason, trigger_payload, result, created_at)
         SELECT id, autopilot_id, id, 'schedule', 'skipped', id, id, 1000000, 2000000, 'agent is archived',
             '{\"a\":1}', '{\"b\":[2]}', created_at
         FROM autopilot_trigger",
    )
    .await;
    let page = async |query: &str| {
        let list = hub.cli("GET", &format!("{runs}{query}"), Value::Null).await.expect(200);
        let ids: Vec<Value> = list["runs"].as_array().unwrap().iter().map(|run| run["id"].clone()).collect();
        assert_eq!(list["total"], ids.len(), "{query}: of the page");
        ids
    };
    assert_eq!(page("").await, ids[..20], "newest first");
    assert_eq!(page("?limit=3").await, ids[..3]);
    assert_eq!(page("?limit=3&offset=23").await, ids[23..]);
    assert_eq!(page("?limit=1000").await, ids);
    assert_eq!(page("?offset=99").await.len(), 0);
    for odd in ["?limit=0", "?limit=-1", "?limit=x&offset=y", "?limit=&offset=-5"] {
        assert_eq!(page(odd).await, ids[..20], "{odd}");
    }
    let answer = hub.cli("GET", &runs, Value::Null).await;
    assert_eq!(answer.headers["x-event-seq"], hub.cli("GET", "/api/agents", Value::Null).await.headers["x-event-seq"]);
    let mut listed = answer.expect(200)["runs"][0].take();
    assert_eq!(
        listed,
        json!({
            "id": ids[0], "autopilot_id": made["id"], "trigger_id": ids[0], "source": "schedule", "status": "skipped",
            "issue_id": ids[0], "task_id": ids[0], "triggered_at": "1970-01-01T00:00:01Z",
            "completed_at": "1970-01-01T00:00:02Z", "failure_reason": "agent is archived", "trigger_payload": null,
            "result": { "b": [2] }, "created_at": listed["created_at"],
        })
    );
    let one = format!("{runs}/{}", ids[0].as_str().unwrap());
    listed["trigger_payload"] = json!({ "a": 1 });
    assert_eq!(hub.cli("GET", &one, Value::Null).await.expect(200), listed);
    hub.sql(
        "UPDATE autopilot_run SET trigger_id = NULL, source = 'manual', status = 'running', issue_id = NULL,
             task_id = NULL, completed_at = NULL, failure_reason = NULL, trigger_payload = NULL, result = NULL",
    )
    .await;
    let bare = hub.cli("GET", &one, Value::Null).await.expect(200);
    assert_eq!(keys(&bare), keys(&listed), "null, not absent");
    for field in ["trigger_id", "issue_id", "task_id", "completed_at", "failure_reason", "trigger_payload", "result"] {
        assert_eq!(bare[field], Value::Null, "{field}");
    }
    // Another autopilot's run.
    let wish = json!({ "title": "u", "assignee_id": made["assignee_id"], "execution_mode": "run_only" });
    let other = hub.cli("POST", "/api/autopilots", wish).await.expect(201);
    let wrong = format!("{}/runs/{}", path(&other), ids[0].as_str().unwrap());
    hub.cli("GET", &wrong, Value::Null).await.refused(404, "run not found");
    hub.cli("GET", &format!("{runs}/{}", Uuid::new_v4()), Value::Null).await.refused(404, "run not found");
    hub.cli("GET", &format!("{runs}/x"), Value::Null).await.refused(400, "invalid run_id");
    let wrong = format!("{}/triggers/{}", path(&other), ids[0].as_str().unwrap());
    hub.cli("PATCH", &wrong, json!({ "label": "x" })).await.refused(404, "trigger not found");
}
