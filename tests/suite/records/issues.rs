//! Issues: what they hold, how they change, who may be asked to do them.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Backend, Hub,
    hub::{id, keys},
};

on_both_stores!(
    issues_have_the_fields_that_clients_read,
    numbers_are_given_once_and_identifiers_find_their_issue,
    issues_change_field_by_field,
    an_open_issue_of_the_same_title_is_refused_even_at_once,
    issues_are_given_to_whoever_may_do_them,
    whatever_is_wrong_is_refused_and_changes_nothing,
);

pub const ISSUE: [&str; 20] = [
    "assignee_id",
    "assignee_type",
    "created_at",
    "creator_id",
    "creator_type",
    "description",
    "due_date",
    "id",
    "identifier",
    "metadata",
    "number",
    "parent_issue_id",
    "position",
    "priority",
    "project_id",
    "start_date",
    "status",
    "title",
    "updated_at",
    "workspace_id",
];

/// Makes so many issues of the only project, in the order of their numbers.
macro_rules! many_issues {
    ($backend:expr, $count:literal) => {
        match $backend {
            Backend::Sqlite => concat!(
                "INSERT INTO issue (id, workspace_id, number, title, title_key, status, priority, priority_rank,
                                    creator_type, creator_id, project_id, position, created_at, updated_at)
                 WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ",
                $count,
                ") SELECT randomblob(16), workspace_id, n, 't', 't', 'todo', 'none', 0, 'member', id, id, n, 1, 1
                 FROM project, n"
            ),
            _ => concat!(
                "INSERT INTO issue (id, workspace_id, number, title, title_key, status, priority, priority_rank,
                                    creator_type, creator_id, project_id, position, created_at, updated_at)
                 SELECT gen_random_uuid(), workspace_id, n, 't', 't', 'todo', 'none', 0, 'member', id, id, n, 1, 1
                 FROM project, generate_series(1, ",
                $count,
                ") n"
            ),
        }
    };
}
pub(super) use many_issues;

pub async fn me(hub: &Hub) -> Uuid {
    id(&hub.get("/api/me").await.expect(200))
}

pub async fn create(hub: &Hub, wish: Value) -> Value {
    hub.cli("POST", "/api/issues", wish).await.expect(201)
}

pub async fn titles(hub: &Hub, query: &str) -> Vec<String> {
    let list = hub.cli("GET", &format!("/api/issues?{query}"), Value::Null).await.expect(200);
    list["issues"].as_array().unwrap().iter().map(|issue| issue["title"].as_str().unwrap().to_owned()).collect()
}

pub fn path(issue: &Value) -> String {
    format!("/api/issues/{}", id(issue))
}

fn with<'k>(more: &[&'k str]) -> Vec<&'k str> {
    let mut all: Vec<&str> = ISSUE.iter().copied().chain(more.iter().copied()).collect();
    all.sort_unstable();
    all
}

async fn issues_have_the_fields_that_clients_read(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (mut browser, _) = hub.browser().await;
    let made = create(&hub, json!({ "title": " Fix it " })).await;
    assert_eq!(
        made,
        json!({
            "id": made["id"], "workspace_id": hub.workspace, "number": 1, "identifier": "HOM-1", "title": "Fix it",
            "description": null, "status": "todo", "priority": "none", "assignee_type": null, "assignee_id": null,
            "creator_type": "member", "creator_id": me(&hub).await, "parent_issue_id": null, "project_id": null,
            "position": 0.0, "start_date": null, "due_date": null, "created_at": made["created_at"],
            "updated_at": made["created_at"], "metadata": {},
        })
    );
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("issue:created"), &json!({ "issue": made })));
    let wish = json!({
        "title": "Second", "description": "d", "status": "backlog", "priority": "urgent", "assignee_type": "member",
        "assignee_id": me(&hub).await, "start_date": "2026-01-02", "due_date": "2026-01-03T00:00:00Z",
        "parent_issue_id": made["id"],
    });
    let second = create(&hub, wish).await;
    assert_eq!((&second["start_date"], &second["due_date"]), (&json!("2026-01-02"), &json!("2026-01-03")));
    assert_eq!(browser.next().await["payload"]["issue"], second);

    let detail = hub.cli("GET", &path(&made), Value::Null).await.expect(200);
    assert_eq!(keys(&detail), with(&["attachments", "labels", "reactions"]));
    assert_eq!((&detail["labels"], &detail["reactions"]), (&json!([]), &json!([])));
    let answer = hub.cli("GET", "/api/issues?limit=50", Value::Null).await;
    assert_eq!(answer.headers["x-event-seq"], "2");
    let list = answer.expect(200);
    assert_eq!((keys(&list), &list["total"]), (vec!["issues", "total"], &json!(2)));
    assert_eq!(keys(&list["issues"][0]), with(&["labels"]), "absent labels would mean: unchanged");
    // By its task's token, an agent makes it.
    let task = hub.app.mint_task_token(hub.workspace, me(&hub).await).await.unwrap();
    let by_agent = hub.cli_as(&task, "POST", "/api/issues", json!({ "title": "found" })).await.expect(201);
    assert_eq!(by_agent["creator_type"], "agent");
    let event = browser.next().await;
    assert_eq!((&event["actor_type"], &event["actor_id"]), (&json!("agent"), &by_agent["creator_id"]));
}

async fn numbers_are_given_once_and_identifiers_find_their_issue(backend: Backend) {
    let hub = Hub::start(backend).await;
    let wish = |n: usize| json!({ "title": format!("t{n}") });
    let at_once = (0..20).map(|n| create(&hub, wish(n)));
    let made = futures_util::future::join_all(at_once).await;
    let mut numbers: Vec<i64> = made.iter().map(|issue| issue["number"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    let last = made.iter().find(|issue| issue["number"] == 20).unwrap();
    hub.cli("DELETE", &path(last), Value::Null).await.expect(204);
    assert_eq!(create(&hub, wish(99)).await["number"], 21, "a number is never given again");

    let seventh = made.iter().find(|issue| issue["number"] == 7).unwrap();
    for reference in ["HOM-7", "hom-7", &id(seventh).to_string()] {
        let found = hub.cli("GET", &format!("/api/issues/{reference}"), Value::Null).await.expect(200);
        assert_eq!(found["id"], seventh["id"], "{reference}");
    }
    for reference in ["ABC-7", "HOM-99", "HOM-", "7", "nonsense", "HOM-7x", "HOM-0x7", "HOM-99999999999999999999"] {
        hub.cli("GET", &format!("/api/issues/{reference}"), Value::Null).await.refused(404, "issue not found");
    }
    // Another prefix is that of all issues from there on.
    hub.patch(&format!("/api/workspaces/{}", hub.workspace), json!({ "issue_prefix": "new" })).await.expect(200);
    let found = hub.cli("GET", "/api/issues/NEW-7", Value::Null).await.expect(200);
    assert_eq!(found["identifier"], "NEW-7");
    hub.cli("GET", "/api/issues/HOM-7", Value::Null).await.refused(404, "issue not found");
    hub.cli("PUT", "/api/issues/NEW-7", json!({ "title": "x" })).await.expect(200);
    hub.cli("DELETE", "/api/issues/NEW-7", Value::Null).await.expect(204);
}

async fn issues_change_field_by_field(backend: Backend) {
    let hub = Hub::start(backend).await;
    let project = id(&hub.cli("POST", "/api/projects", json!({ "title": "p" })).await.expect(201));
    let made = create(&hub, json!({ "title": "t", "description": "d", "due_date": "2026-01-01" })).await;
    let (mut browser, _) = hub.browser().await;
    let put = async |change: Value| hub.cli("PUT", &path(&made), change).await.expect(200);
    for nothing in [json!({}), Value::Null, json!({ "title": "t", "status": null, "description": null })] {
        assert_eq!(put(nothing).await, made);
    }
    let me = me(&hub).await;
    let change = json!({
        "title": "u", "status": "in_review", "priority": "low", "assignee_type": "member", "assignee_id": me,
        "project_id": project, "position": -7.5, "start_date": "2026-02-01", "due_date": "2026-02-02",
    });
    let changed = put(change.clone()).await;
    for (field, value) in change.as_object().unwrap() {
        assert_eq!(changed[field], *value, "{field}");
    }
    assert_eq!((keys(&changed), &changed["description"]), (ISSUE.to_vec(), &json!("d")));
    let event = browser.next().await;
    assert_eq!(event["type"], "issue:updated");
    assert_eq!(
        event["payload"],
        json!({
            "issue": changed, "assignee_changed": true, "status_changed": true, "priority_changed": true,
            "start_date_changed": true, "due_date_changed": true, "description_changed": false,
            "title_changed": true, "prev_title": "t", "prev_assignee_type": null, "prev_assignee_id": null,
            "prev_status": "todo", "prev_priority": "none", "prev_start_date": null, "prev_due_date": "2026-01-01",
            "prev_description": "d", "creator_type": "member", "creator_id": me,
        })
    );
    let cleared = put(json!({
        "assignee_type": null, "assignee_id": null, "project_id": null, "start_date": null, "due_date": "",
    }))
    .await;
    for field in ["assignee_type", "assignee_id", "project_id", "start_date", "due_date"] {
        assert_eq!(cleared[field], Value::Null, "{field}");
    }
    assert_eq!(browser.next().await["payload"]["prev_assignee_id"], json!(me));
    put(json!({ "assignee_type": "member", "assignee_id": me })).await;
    put(json!({ "assignee_id": null })).await;
    for _ in 0..2 {
        browser.next().await;
    }
    browser.quiet_for(std::time::Duration::from_millis(50)).await;
    let timeline = hub.cli("GET", &format!("{}/timeline", path(&made)), Value::Null).await.expect(200);
    let actions: Vec<&Value> = timeline.as_array().unwrap().iter().map(|entry| &entry["action"]).collect();
    assert_eq!(
        actions,
        ["status_changed", "assignee_changed", "assignee_changed", "assignee_changed", "assignee_changed"]
    );
    assert_eq!(
        timeline[0],
        json!({
            "type": "activity", "id": timeline[0]["id"], "actor_type": "member", "actor_id": me,
            "created_at": timeline[0]["created_at"], "action": "status_changed",
            "details": { "from": "todo", "to": "in_review" },
        })
    );

    hub.cli("DELETE", &path(&made), Value::Null).await.expect(204);
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("issue:deleted"), &json!({ "issue_id": made["id"] })));
}

async fn an_open_issue_of_the_same_title_is_refused_even_at_once(backend: Backend) {
    let hub = Hub::start(backend).await;
    let first = create(&hub, json!({ "title": "Fix  the Bug" })).await;
    let answer = hub.cli("POST", "/api/issues", json!({ "title": "fix the bug" })).await.expect(409);
    assert_eq!(
        answer,
        json!({
            "error": "an open issue with this title exists: HOM-1", "code": "active_duplicate_issue",
            "issue": { "id": first["id"], "identifier": "HOM-1", "title": "Fix  the Bug" },
        })
    );
    let project = id(&hub.cli("POST", "/api/projects", json!({ "title": "p" })).await.expect(201));
    create(&hub, json!({ "title": "fix the bug", "project_id": project })).await;
    create(&hub, json!({ "title": "fix the bug", "parent_issue_id": first["id"] })).await;
    create(&hub, json!({ "title": "fix the bug", "allow_duplicate": true })).await;
    let at_once = (0..8).map(|_| hub.cli("POST", "/api/issues", json!({ "title": "once" })));
    let statuses: Vec<u16> = futures_util::future::join_all(at_once).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7, "{statuses:?}");
    let long = "x".repeat(300);
    create(&hub, json!({ "title": format!("{long}a") })).await;
    create(&hub, json!({ "title": format!("{long}b") })).await;
    let answer = hub.cli("POST", "/api/issues", json!({ "title": format!("{long}a") })).await;
    assert!(answer.text.len() < 4096);
    answer.expect(409);
    // What is done or cancelled is no obstacle.
    let done = create(&hub, json!({ "title": "again", "status": "done" })).await;
    create(&hub, json!({ "title": "again" })).await;
    drop(done);
}

async fn issues_are_given_to_whoever_may_do_them(backend: Backend) {
    let hub = Hub::start(backend).await;
    let plain = hub.member("plain@example.com", "member").await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = |name: &str, visibility: &str| json!({ "name": name, "runtime_id": runtime, "visibility": visibility });
    let open = id(&hub.cli("POST", "/api/agents", agent("open", "workspace")).await.expect(201));
    let private = id(&hub.cli("POST", "/api/agents", agent("private", "private")).await.expect(201));
    let gone = id(&hub.cli("POST", "/api/agents", agent("gone", "workspace")).await.expect(201));
    hub.cli("POST", &format!("/api/agents/{gone}/archive"), Value::Null).await.expect(200);
    let given = |agent: Uuid| json!({ "title": agent, "assignee_type": "agent", "assignee_id": agent });
    let made = hub.cli_as(&plain, "POST", "/api/issues", given(open)).await.expect(201);
    hub.cli_as(&plain, "POST", "/api/issues", given(private)).await.refused(403, "cannot assign to private agent");
    hub.cli_as(&plain, "PUT", &path(&made), given(private)).await.refused(403, "cannot assign to private agent");
    hub.cli("POST", "/api/issues", given(private)).await.expect(201);
    hub.cli("POST", "/api/issues", given(gone)).await.refused(400, "cannot assign to an archived agent");
    for (kind, wished) in [("agent", Uuid::new_v4()), ("member", open), ("squad", open)] {
        let wish = json!({ "title": "x", "assignee_type": kind, "assignee_id": wished });
        hub.cli("POST", "/api/issues", wish).await.refused(400, "invalid assignee_id");
    }
    for half in [json!({ "assignee_type": "agent" }), json!({ "assignee_id": open })] {
        let mut wish = half.clone();
        wish["title"] = json!("half");
        hub.cli("POST", "/api/issues", wish).await.refused(400, "assignee_type and assignee_id go together");
    }
    let owner = me(&hub).await;
    assert_eq!(titles(&hub, &format!("involves_user_id={owner}&sort=created_at")).await.len(), 2, "by their agents");
    // Changing something else asks nobody again.
    hub.cli("PUT", &path(&made), json!({ "assignee_type": "agent", "assignee_id": open, "title": "y" }))
        .await
        .expect(200);
}

async fn whatever_is_wrong_is_refused_and_changes_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = create(&hub, json!({ "title": "t" })).await;
    let elsewhere = hub.another_workspace("other").await;
    let there = |what: &str| format!("/api/{what}?workspace_id={elsewhere}");
    let theirs = hub.post(&there("issues"), json!({ "title": "t" })).await.expect(201);
    let project = hub.post(&there("projects"), json!({ "title": "t" })).await.expect(201);
    let before = hub.fingerprint().await;
    let statuses = "backlog, todo, in_progress, in_review, done, blocked, cancelled";
    for (field, value, text) in [
        ("title", json!(" "), "title is required".to_owned()),
        ("title", json!("x".repeat(501)), "title must be 500 characters or fewer".to_owned()),
        ("description", json!("x".repeat(70_000)), "description must be 64 KiB or less".to_owned()),
        ("status", json!("x"), format!("invalid status \"x\"; valid values: {statuses}")),
        ("priority", json!("x"), "invalid priority \"x\"; valid values: urgent, high, medium, low, none".to_owned()),
        ("parent_issue_id", theirs["id"].clone(), "invalid parent_issue_id".to_owned()),
        ("parent_issue_id", json!("x"), "invalid parent_issue_id".to_owned()),
        ("project_id", project["id"].clone(), "invalid project_id".to_owned()),
        ("project_id", json!("x"), "invalid project_id".to_owned()),
        ("start_date", json!("tomorrow"), "invalid start_date: use YYYY-MM-DD".to_owned()),
        ("due_date", json!("2026-02-30"), "invalid due_date: use YYYY-MM-DD".to_owned()),
        ("title", json!(7), "invalid request body".to_owned()),
    ] {
        let mut body = json!({ "title": "new" });
        body[field] = value;
        hub.cli("POST", "/api/issues", body.clone()).await.refused(400, &text);
        hub.cli("PUT", &path(&made), body).await.refused(400, &text);
    }
    hub.cli("POST", "/api/issues", json!({ "title": "x", "origin_type": "autopilot" }))
        .await
        .refused(400, "invalid origin_type; valid values: quick_create");
    for missing in [id(&theirs).to_string(), Uuid::new_v4().to_string(), "HOM-77".to_owned()] {
        for (method, rest) in [
            ("GET", ""),
            ("PUT", ""),
            ("DELETE", ""),
            ("GET", "/children"),
            ("GET", "/timeline"),
            ("GET", "/metadata"),
            ("PUT", "/metadata/k"),
            ("DELETE", "/metadata/k"),
            ("GET", "/comments"),
            ("POST", "/comments"),
        ] {
            let path = format!("/api/issues/{missing}{rest}");
            hub.cli(method, &path, json!({ "value": 1, "content": "x" })).await.refused(404, "issue not found");
        }
    }
    assert_eq!(hub.fingerprint().await, before);
}
