//! What issues belong to, and what becomes of them when that goes.

use serde_json::{Value, json};
use uuid::Uuid;

use super::issues::{create, many_issues, me, path};
use crate::support::{Backend, Hub, hub::id};

on_both_stores!(
    issues_lie_below_each_other,
    a_project_counts_its_issues_and_lets_them_go,
    a_large_project_ends_in_pieces,
    what_goes_while_it_is_referred_to_is_a_refusal,
);

async fn issues_lie_below_each_other(backend: Backend) {
    let hub = Hub::start(backend).await;
    let project = id(&hub.cli("POST", "/api/projects", json!({ "title": "p" })).await.expect(201));
    let top = create(&hub, json!({ "title": "top", "project_id": project })).await;
    let below = create(&hub, json!({ "title": "below", "parent_issue_id": top["id"] })).await;
    assert_eq!(below["project_id"], json!(project), "the parent's, unless another is named");
    let lowest = create(&hub, json!({ "title": "lowest", "parent_issue_id": below["id"] })).await;
    hub.cli("PUT", &path(&top), json!({ "parent_issue_id": top["id"] }))
        .await
        .refused(400, "an issue cannot be its own parent");
    hub.cli("PUT", &path(&top), json!({ "parent_issue_id": lowest["id"] }))
        .await
        .refused(400, "parent_issue_id would make a cycle");
    hub.cli("PUT", &path(&top), json!({ "parent_issue_id": Uuid::new_v4() }))
        .await
        .refused(400, "invalid parent_issue_id");
    let children = hub.cli("GET", &format!("{}/children", path(&top)), Value::Null).await.expect(200);
    assert_eq!((children["issues"].as_array().unwrap().len(), &children["issues"][0]["id"]), (1, &below["id"]));

    // What is done is said on the issue above, unless that is closed or a person's.
    let (mut browser, _) = hub.browser().await;
    hub.cli("PUT", &path(&lowest), json!({ "status": "done" })).await.expect(200);
    assert_eq!(browser.next().await["type"], "issue:updated");
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["actor_type"]), (&json!("comment:created"), &json!("system")));
    let comment = &event["payload"]["comment"];
    assert_eq!((&comment["issue_id"], &comment["type"]), (&below["id"], &json!("system")));
    assert_eq!(comment["author_id"], json!(Uuid::nil()));
    let said = format!("[HOM-3](mention://issue/{}) is done: lowest", id(&lowest));
    assert_eq!(comment["content"], json!(said));
    hub.cli("PUT", &path(&lowest), json!({ "status": "done", "title": "lower" })).await.expect(200);
    hub.cli("PUT", &path(&top), json!({ "assignee_type": "member", "assignee_id": me(&hub).await })).await.expect(200);
    hub.cli("PUT", &path(&below), json!({ "status": "done" })).await.expect(200);
    for _ in 0..3 {
        assert_eq!(browser.next().await["type"], "issue:updated");
    }

    hub.cli("DELETE", &path(&below), Value::Null).await.expect(204);
    let event = browser.next().await;
    assert_eq!(
        (&event["type"], &event["payload"]["issue"]["parent_issue_id"]),
        (&json!("issue:updated"), &Value::Null)
    );
    assert_eq!(event["payload"]["issue"]["id"], lowest["id"], "what was below it is told to be on its own");
    assert_eq!(browser.next().await["type"], "issue:deleted");
    assert_eq!(hub.rows("SELECT 'x' FROM comment").await.len(), 0);
}

async fn a_project_counts_its_issues_and_lets_them_go(backend: Backend) {
    let hub = Hub::start(backend).await;
    let project = hub.cli("POST", "/api/projects", json!({ "title": "p" })).await.expect(201);
    let path_of = format!("/api/projects/{}", id(&project));
    let counts = async || {
        let project = hub.cli("GET", &path_of, Value::Null).await.expect(200);
        (project["issue_count"].as_i64().unwrap(), project["done_count"].as_i64().unwrap())
    };
    let first = create(&hub, json!({ "title": "a", "project_id": project["id"] })).await;
    let second = create(&hub, json!({ "title": "b", "project_id": project["id"], "status": "done" })).await;
    let third = create(&hub, json!({ "title": "c" })).await;
    assert_eq!(counts().await, (2, 1));
    hub.cli("PUT", &path(&third), json!({ "project_id": project["id"], "status": "cancelled" })).await.expect(200);
    assert_eq!(counts().await, (3, 2));
    hub.cli("DELETE", &path(&second), Value::Null).await.expect(204);
    assert_eq!(counts().await, (2, 1));
    let (mut browser, _) = hub.browser().await;
    hub.cli("DELETE", &path_of, Value::Null).await.expect(204);
    for issue in [&first, &third] {
        let event = browser.next().await;
        assert_eq!((&event["type"], &event["payload"]["issue"]["id"]), (&json!("issue:updated"), &issue["id"]));
        assert_eq!(event["payload"]["issue"]["project_id"], Value::Null);
    }
    assert_eq!(browser.next().await["type"], "project:deleted");
    let list = hub.cli("GET", "/api/issues", Value::Null).await.expect(200);
    assert_eq!(list["total"], 2);
}

async fn a_large_project_ends_in_pieces(backend: Backend) {
    let hub = Hub::start(backend).await;
    let project = hub.cli("POST", "/api/projects", json!({ "title": "p" })).await.expect(201);
    hub.sql(many_issues!(backend, 1200)).await;
    let (mut browser, _) = hub.browser().await;
    hub.cli("DELETE", &format!("/api/projects/{}", id(&project)), Value::Null).await.expect(204);
    let mut moved = std::collections::HashSet::new();
    loop {
        let event = browser.next().await;
        match event["type"].as_str().unwrap() {
            "issue:updated" => assert!(moved.insert(event["payload"]["issue"]["number"].as_i64()), "one twice"),
            other => break assert_eq!(other, "project:deleted"),
        }
    }
    assert_eq!(moved.len(), 1200);
    // No transaction of more than 500.
    let most = "SELECT CAST(MAX(n) AS text) FROM (SELECT COUNT(*) AS n FROM event_log GROUP BY created_at) t";
    assert_eq!(hub.rows(most).await, ["500"]);
}

async fn what_goes_while_it_is_referred_to_is_a_refusal(backend: Backend) {
    let hub = Hub::start(backend).await;
    for round in 0..15 {
        let made = create(&hub, json!({ "title": format!("t{round}") })).await;
        let path = path(&made);
        let below = json!({ "title": format!("b{round}"), "parent_issue_id": made["id"] });
        let comments = format!("{path}/comments");
        let (gone, child, said) = tokio::join!(
            hub.cli("DELETE", &path, Value::Null),
            hub.cli("POST", "/api/issues", below),
            hub.cli("POST", &comments, json!({ "content": "x" })),
        );
        assert_eq!(gone.status, 204, "{}", gone.text);
        assert!([201, 400].contains(&child.status), "{}", child.text);
        assert!([201, 404].contains(&said.status), "{}", said.text);
        // Whoever came in time was told to be on its own.
        if child.status == 201 {
            let child = hub.cli("GET", &self::path(&child.json()), Value::Null).await.expect(200);
            assert_eq!(child["parent_issue_id"], Value::Null);
        }
    }
}
