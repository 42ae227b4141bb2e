//! How issues are found: orders, filters, pages, and what they are marked with.

use serde_json::{Value, json};
use uuid::Uuid;

use super::issues::{create, many_issues, me, path, titles};
use crate::support::{Backend, Hub, hub::id};

on_both_stores!(
    issues_are_listed_in_every_order_and_narrowed_by_every_filter,
    the_open_ones_are_listed_in_one_piece_up_to_a_bound,
    metadata_marks_issues,
);

async fn issues_are_listed_in_every_order_and_narrowed_by_every_filter(backend: Backend) {
    let hub = Hub::start(backend).await;
    let me = me(&hub).await;
    let project = id(&hub.cli("POST", "/api/projects", json!({ "title": "p" })).await.expect(201));
    for wish in [
        json!({ "title": "beta", "priority": "low", "due_date": "2026-03-01", "project_id": project }),
        json!({ "title": "Alpha", "priority": "urgent", "status": "done", "start_date": "2026-01-01" }),
        json!({ "title": "gamma", "assignee_type": "member", "assignee_id": me, "due_date": "2026-01-01" }),
        json!({ "title": "delta", "priority": "high", "status": "cancelled", "start_date": "2026-02-01" }),
    ] {
        create(&hub, wish).await;
    }
    for (query, expected) in [
        // New ones on top of their column; equal positions newest first.
        ("", "gamma delta Alpha beta"),
        ("sort=position&direction=desc", "gamma delta Alpha beta"),
        ("sort=title", "Alpha beta delta gamma"),
        ("sort=title&direction=desc", "gamma delta beta Alpha"),
        ("sort=created_at", "beta Alpha gamma delta"),
        ("sort=created_at&direction=desc", "delta gamma Alpha beta"),
        ("sort=priority", "Alpha delta beta gamma"),
        ("sort=priority&direction=desc", "gamma beta delta Alpha"),
        ("sort=due_date", "gamma beta delta Alpha"),
        ("sort=due_date&direction=desc", "beta gamma delta Alpha"),
        ("sort=start_date", "Alpha delta gamma beta"),
        ("sort=start_date&direction=desc", "delta Alpha gamma beta"),
        ("status=todo", "gamma beta"),
        ("priority=urgent", "Alpha"),
        ("status=nonsense", ""),
        ("open_only=true", "gamma beta"),
        ("open_only=true&status=done&scheduled=true&sort=title&limit=1", "gamma beta"),
        ("scheduled=true&sort=title", "Alpha beta delta gamma"),
        ("sort=title&limit=2", "Alpha beta"),
        ("sort=title&limit=2&offset=2", "delta gamma"),
        ("sort=title&limit=0&include_closed=true", "Alpha beta delta gamma"),
        ("date_field=created_at&date_start=2020-01-01T00:00:00Z&date_end=2021-01-01T00:00:00Z", ""),
        (
            "date_field=updated_at&date_start=2020-01-01T00:00:00Z&date_end=2999-01-01T00:00:00Z&sort=title",
            "Alpha beta delta gamma",
        ),
    ] {
        assert_eq!(titles(&hub, query).await.join(" "), expected, "{query}");
    }
    for (query, expected) in [
        (format!("project_id={project}"), "beta"),
        (format!("assignee_id={me}"), "gamma"),
        (format!("assignee_ids={},{me}", Uuid::new_v4()), "gamma"),
        (format!("creator_id={me}&sort=title"), "Alpha beta delta gamma"),
        (format!("creator_id={}", Uuid::new_v4()), ""),
        (format!("project_id={project}&status=done"), ""),
    ] {
        assert_eq!(titles(&hub, &query).await.join(" "), expected, "{query}");
    }
    for (query, total) in [
        ("", 4),
        ("limit=1", 4),
        ("status=todo&limit=1", 2),
        ("priority=high&limit=1", 1),
        ("scheduled=true&limit=1", 4),
        ("open_only=true", 2),
    ] {
        let list = hub.cli("GET", &format!("/api/issues?{query}"), Value::Null).await.expect(200);
        assert_eq!(list["total"], total, "{query}");
    }
    for (query, text) in [
        ("sort=nonsense", "invalid sort value"),
        ("date_field=created_at", "date_field, date_start and date_end go together"),
        (
            "date_field=x&date_start=2020-01-01T00:00:00Z&date_end=2020-01-01T00:00:00Z",
            "date_field, date_start and date_end go together",
        ),
        ("assignee_ids=x", "invalid assignee_id"),
        ("project_id=x", "invalid project_id"),
        ("metadata=[]", "invalid metadata: an object of strings, numbers and booleans"),
        ("metadata=%7B%22a%22%3Anull%7D", "invalid metadata: an object of strings, numbers and booleans"),
    ] {
        hub.cli("GET", &format!("/api/issues?{query}"), Value::Null).await.refused(400, text);
    }
}

async fn the_open_ones_are_listed_in_one_piece_up_to_a_bound(backend: Backend) {
    let hub = Hub::start(backend).await;
    let project = id(&hub.cli("POST", "/api/projects", json!({ "title": "p" })).await.expect(201));
    hub.sql(many_issues!(backend, 5003)).await;
    hub.sql("UPDATE issue SET status = 'done' WHERE number = 1").await;
    for query in ["open_only=true", &format!("open_only=true&project_id={project}&scheduled=true&status=done")] {
        let list = hub.cli("GET", &format!("/api/issues?{query}"), Value::Null).await.expect(200);
        let numbers = list["issues"].as_array().unwrap().iter().map(|issue| issue["number"].as_i64().unwrap());
        assert!(numbers.eq(2..=5_001), "{query}: the first, in order");
        assert_eq!(list["total"], 5_002, "{query}: of all");
    }
    // Where the tally does not know them they are counted.
    let list = hub.cli("GET", "/api/issues?open_only=true&priority=none", Value::Null).await.expect(200);
    assert_eq!((list["issues"].as_array().unwrap().len(), &list["total"]), (5_000, &json!(5_002)));
}

async fn metadata_marks_issues(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = create(&hub, json!({ "title": "a" })).await;
    create(&hub, json!({ "title": "b" })).await;
    let path = format!("{}/metadata", path(&made));
    let (mut browser, _) = hub.browser().await;
    assert_eq!(hub.cli("GET", &path, Value::Null).await.expect(200), json!({ "metadata": {} }));
    let put = async |key: &str, value: Value| hub.cli("PUT", &format!("{path}/{key}"), json!({ "value": value })).await;
    assert_eq!(put("pr", json!("x/1")).await.expect(200), json!({ "metadata": { "pr": "x/1" } }));
    let event = browser.next().await;
    assert_eq!(event["type"], "issue_metadata:changed");
    assert_eq!(event["payload"], json!({ "issue_id": made["id"], "metadata": { "pr": "x/1" } }));
    put("pr", json!("x/1")).await.expect(200);
    put("n", json!(7)).await.expect(200);
    put("ok", json!(true)).await.expect(200);
    for _ in 0..2 {
        browser.next().await;
    }
    browser.quiet_for(std::time::Duration::from_millis(50)).await;
    for (filter, expected) in [
        (json!({ "pr": "x/1" }), "a"),
        (json!({ "pr": "x/1", "n": 7, "ok": true }), "a"),
        (json!({ "n": 7.0 }), "a"),
        (json!({ "n": "7" }), ""),
        (json!({ "other": 1 }), ""),
        (json!({}), "b a"),
    ] {
        let query =
            format!("metadata={}", filter.to_string().replace('{', "%7B").replace('}', "%7D").replace('"', "%22"));
        assert_eq!(titles(&hub, &query).await.join(" "), expected, "{filter}");
    }
    for bad in [Value::Null, json!([]), json!({})] {
        put("k", bad).await.refused(400, "value must be a string, a number or a boolean");
    }
    put("1k", json!(1)).await.refused(400, "metadata keys match ^[a-zA-Z_][a-zA-Z0-9_.-]{0,63}$");
    put("big", json!("x".repeat(9000))).await.refused(400, "an issue's metadata is at most 8 KB");
    let gone = hub.cli("DELETE", &format!("{path}/pr"), Value::Null).await.expect(200);
    assert_eq!(gone, json!({ "metadata": { "n": 7, "ok": true } }));
    browser.next().await;
    hub.cli("DELETE", &format!("{path}/pr"), Value::Null).await.expect(200);
    for n in 0..48 {
        put(&format!("k{n}"), json!(n)).await.expect(200);
    }
    put("one_more", json!(1)).await.refused(400, "an issue has at most 50 metadata keys");
}
