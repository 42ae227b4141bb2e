//! Comments: threads, pages of them, who may take them back.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Backend, Hub,
    hub::{Answer, id, keys},
};

on_both_stores!(
    comments_have_the_fields_that_clients_read,
    threads_are_answered_settled_and_opened_again,
    comments_are_listed_by_thread_and_by_page,
    answers_to_answers_go_however_many_there_are,
    comments_are_changed_by_their_authors_and_by_admins,
    whatever_is_wrong_is_refused_and_changes_nothing,
);

const COMMENT: [&str; 14] = [
    "attachments",
    "author_id",
    "author_type",
    "content",
    "created_at",
    "id",
    "issue_id",
    "parent_id",
    "reactions",
    "resolved_at",
    "resolved_by_id",
    "resolved_by_type",
    "type",
    "updated_at",
];

async fn issue(hub: &Hub) -> Value {
    hub.cli("POST", "/api/issues", json!({ "title": "t" })).await.expect(201)
}

async fn say(hub: &Hub, issue: &Value, content: &str, parent: Option<&Value>) -> Value {
    let wish = json!({ "content": content, "parent_id": parent.map(|parent| &parent["id"]) });
    hub.cli("POST", &format!("/api/issues/{}/comments", id(issue)), wish).await.expect(201)
}

async fn list(hub: &Hub, issue: &Value, query: &str) -> Answer {
    hub.cli("GET", &format!("/api/issues/{}/comments?{query}", id(issue)), Value::Null).await
}

async fn said(hub: &Hub, issue: &Value, query: &str) -> String {
    let comments = list(hub, issue, query).await.expect(200);
    let all: Vec<&str> = comments.as_array().unwrap().iter().map(|one| one["content"].as_str().unwrap()).collect();
    all.join(" ")
}

fn path(comment: &Value) -> String {
    format!("/api/comments/{}", id(comment))
}

async fn comments_have_the_fields_that_clients_read(backend: Backend) {
    let hub = Hub::start(backend).await;
    let me = id(&hub.get("/api/me").await.expect(200));
    let issue = issue(&hub).await;
    let (mut browser, _) = hub.browser().await;
    let made = say(&hub, &issue, "hello", None).await;
    assert_eq!(
        made,
        json!({
            "id": made["id"], "issue_id": issue["id"], "author_type": "member", "author_id": me, "content": "hello",
            "type": "comment", "parent_id": null, "created_at": made["created_at"], "updated_at": made["created_at"],
            "resolved_at": null, "resolved_by_type": null, "resolved_by_id": null, "reactions": [], "attachments": [],
        })
    );
    let event = browser.next().await;
    assert_eq!(event["type"], "comment:created");
    assert_eq!(
        event["payload"],
        json!({
            "comment": made, "issue_title": "t", "issue_assignee_type": null, "issue_assignee_id": null,
            "issue_status": "todo",
        })
    );
    let answer = list(&hub, &issue, "").await;
    assert_eq!(answer.headers["x-event-seq"], "2");
    assert_eq!(answer.expect(200), json!([made]));
    let long = say(&hub, &issue, &"ä".repeat(250), None).await;
    let comments = list(&hub, &issue, "summary=true").await.expect(200);
    assert_eq!(keys(&comments[0]), COMMENT);
    assert_eq!(comments[1]["content_truncated"], true);
    assert_eq!(comments[1]["content"], json!(format!("{}…", "ä".repeat(200))));
    let timeline = hub.cli("GET", &format!("/api/issues/{}/timeline", id(&issue)), Value::Null).await.expect(200);
    assert_eq!(
        timeline[0],
        json!({
            "type": "comment", "id": made["id"], "actor_type": "member", "actor_id": me,
            "created_at": made["created_at"], "content": "hello", "updated_at": made["created_at"],
            "comment_type": "comment", "reactions": [], "attachments": [],
        })
    );
    assert_eq!(timeline[1]["content"], long["content"]);
    // An agent's words name its task.
    let task = hub.app.mint_task_token(hub.workspace, me).await.unwrap();
    let path = format!("/api/issues/{}/comments", id(&issue));
    let by_agent = hub.cli_as(&task, "POST", &path, json!({ "content": "done", "type": "progress_update" })).await;
    let by_agent = by_agent.expect(201);
    assert_eq!((&by_agent["author_type"], by_agent["source_task_id"].is_string()), (&json!("agent"), true));
}

async fn threads_are_answered_settled_and_opened_again(backend: Backend) {
    let hub = Hub::start(backend).await;
    let issue = issue(&hub).await;
    let root = say(&hub, &issue, "root", None).await;
    let answer = say(&hub, &issue, "answer", Some(&root)).await;
    assert_eq!(answer["parent_id"], root["id"]);
    let deep = say(&hub, &issue, "deep", Some(&answer)).await;
    assert_eq!(deep["parent_id"], answer["id"], "what it answers, exactly");
    let (mut browser, _) = hub.browser().await;
    let resolve = format!("{}/resolve", path(&root));
    let settled = hub.cli("POST", &resolve, Value::Null).await.expect(200);
    assert_eq!((settled["resolved_at"].is_string(), &settled["resolved_by_type"]), (true, &json!("member")));
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("comment:resolved"), &json!({ "comment": settled })));
    assert_eq!(hub.cli("POST", &resolve, Value::Null).await.expect(200), settled);
    hub.cli("POST", &format!("{}/resolve", path(&answer)), Value::Null)
        .await
        .refused(400, "only the first comment of a thread can be resolved");
    say(&hub, &issue, "late", Some(&deep)).await;
    assert_eq!(browser.next().await["type"], "comment:created");
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]["comment"]["id"]), (&json!("comment:unresolved"), &root["id"]));
    assert_eq!(event["payload"]["comment"]["resolved_at"], Value::Null);
    hub.cli("POST", &resolve, Value::Null).await.expect(200);
    let opened = hub.cli("DELETE", &resolve, Value::Null).await.expect(200);
    assert_eq!(opened["resolved_by_id"], Value::Null);
    assert_eq!(browser.next().await["type"], "comment:resolved");
    assert_eq!(browser.next().await["type"], "comment:unresolved");

    // One that goes takes its answers along, each with a word.
    hub.cli("DELETE", &path(&answer), Value::Null).await.expect(204);
    let mut gone = Vec::new();
    for _ in 0..3 {
        let event = browser.next().await;
        assert_eq!((&event["type"], &event["payload"]["issue_id"]), (&json!("comment:deleted"), &issue["id"]));
        gone.push(event["payload"]["comment_id"].clone());
    }
    assert_eq!((&gone[0], &gone[1]), (&answer["id"], &deep["id"]));
    assert_eq!(said(&hub, &issue, "").await, "root");
    let roots = list(&hub, &issue, "roots_only=true").await.expect(200);
    assert_eq!((&roots[0]["reply_count"], &roots[0]["last_activity_at"]), (&json!(0), &root["created_at"]));
}

async fn comments_are_listed_by_thread_and_by_page(backend: Backend) {
    let hub = Hub::start(backend).await;
    let issue = issue(&hub).await;
    let a = say(&hub, &issue, "a", None).await;
    let b = say(&hub, &issue, "b", None).await;
    let c = say(&hub, &issue, "c", None).await;
    for n in 1..=4 {
        say(&hub, &issue, &format!("a{n}"), Some(&a)).await;
    }
    let b1 = say(&hub, &issue, "b1", Some(&b)).await;
    assert_eq!(said(&hub, &issue, "").await, "a b c a1 a2 a3 a4 b1");
    assert_eq!(said(&hub, &issue, &format!("thread={}", id(&a))).await, "a a1 a2 a3 a4");
    assert_eq!(said(&hub, &issue, &format!("thread={}", id(&b1))).await, "b b1", "by any comment of it");
    assert_eq!(said(&hub, &issue, "roots_only=true").await, "a b c");
    let roots = list(&hub, &issue, "roots_only=true").await.expect(200);
    assert_eq!((&roots[0]["reply_count"], &roots[2]["reply_count"]), (&json!(4), &json!(0)));

    // A thread from its end: the first comment, and pages of answers.
    let next = |answer: &Answer| {
        let header = |name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        header("x-multica-next-before")
            .map(|before| format!("&before={before}&before_id={}", header("x-multica-next-before-id").unwrap()))
    };
    let tail = format!("thread={}&tail=2", id(&a));
    let page = list(&hub, &issue, &tail).await;
    let more = next(&page).expect("there is more");
    assert_eq!(said(&hub, &issue, &tail).await, "a a3 a4");
    assert_eq!(said(&hub, &issue, &format!("{tail}{more}")).await, "a a1 a2");
    assert_eq!(next(&list(&hub, &issue, &format!("{tail}{more}")).await), None);
    assert_eq!(said(&hub, &issue, &format!("thread={}&tail=0", id(&a))).await, "a");

    // The threads that moved last, with all of their comments.
    let page = list(&hub, &issue, "recent=2").await;
    let more = next(&page).expect("there is more");
    assert_eq!(said(&hub, &issue, "recent=2").await, "a b a1 a2 a3 a4 b1");
    assert_eq!(said(&hub, &issue, &format!("recent=2{more}")).await, "c");
    assert_eq!(said(&hub, &issue, "recent=1&roots_only=true").await, "b");

    // Long ago, `c` at second 41 and `b1` at second 42.
    const AGO: &str = "UPDATE comment SET created_at = (1000000000 + LENGTH(content)) * CAST(1000000 AS bigint) WHERE content IN ('c', 'b1')";
    hub.sql(AGO).await;
    assert_eq!(said(&hub, &issue, "since=2001-09-09T01:46:41Z&roots_only=true").await, "a b", "strictly later");
    assert_eq!(said(&hub, &issue, "since=2001-09-09T01:46:40Z&roots_only=true").await, "c a b");
    assert_eq!(said(&hub, &issue, &format!("thread={}&since=2001-09-09T01:46:42Z", id(&b))).await, "b");

    for (query, text) in [
        ("tail=1".to_owned(), "tail needs thread"),
        (format!("recent=1&thread={}", id(&a)), "recent goes with neither thread nor since"),
        ("recent=1&since=2026-01-01T00:00:00Z".to_owned(), "recent goes with neither thread nor since"),
        (format!("roots_only=true&thread={}", id(&a)), "roots_only does not go with thread"),
        (format!("before=2026-01-01T00:00:00Z&before_id={}", id(&a)), "before needs recent or tail"),
        ("recent=1&before=2026-01-01T00:00:00Z".to_owned(), "before and before_id go together"),
        ("since=yesterday".to_owned(), "invalid since parameter"),
        ("recent=-1".to_owned(), "invalid recent parameter"),
        ("thread=x".to_owned(), "invalid thread"),
    ] {
        list(&hub, &issue, &query).await.refused(400, text);
    }
    list(&hub, &issue, &format!("thread={}", Uuid::new_v4())).await.refused(404, "comment not found");
    let other = hub.cli("POST", "/api/issues", json!({ "title": "other" })).await.expect(201);
    list(&hub, &other, &format!("thread={}", id(&a))).await.refused(404, "comment not found");
    drop(c);
}

async fn answers_to_answers_go_however_many_there_are(backend: Backend) {
    let hub = Hub::start(backend).await;
    let issue = issue(&hub).await;
    let root = say(&hub, &issue, "root", None).await;
    // 1,500 below each other: more than SQLite's foreign keys follow.
    hub.sql(match backend {
        Backend::Sqlite => {
            "INSERT INTO comment (id, workspace_id, issue_id, author_type, author_id, content, type, parent_id, root_id,
                                  last_activity_at, created_at, updated_at)
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1500)
             SELECT CAST(printf('%016d', n) AS blob), workspace_id, issue_id, 'member', author_id, 'x', 'comment',
                    CASE n WHEN 1 THEN c.id ELSE CAST(printf('%016d', n - 1) AS blob) END, c.id, 1, 1, 1
             FROM comment c, n WHERE content = 'root'"
        }
        _ => {
            "INSERT INTO comment (id, workspace_id, issue_id, author_type, author_id, content, type, parent_id, root_id,
                                  last_activity_at, created_at, updated_at)
             SELECT lpad(n::text, 32, '0')::uuid, workspace_id, issue_id, 'member', author_id, 'x', 'comment',
                    CASE n WHEN 1 THEN c.id ELSE lpad((n - 1)::text, 32, '0')::uuid END, c.id, 1, 1, 1
             FROM comment c, generate_series(1, 1500) n WHERE content = 'root'"
        }
    })
    .await;
    hub.cli("DELETE", &path(&root), Value::Null).await.expect(204);
    assert_eq!(hub.rows("SELECT 'x' FROM comment").await.len(), 0);
}

async fn comments_are_changed_by_their_authors_and_by_admins(backend: Backend) {
    let hub = Hub::start(backend).await;
    let plain = hub.member("plain@example.com", "member").await;
    let other = hub.member("other@example.com", "member").await;
    let issue = issue(&hub).await;
    let path_of_issue = format!("/api/issues/{}/comments", id(&issue));
    let made = hub.cli_as(&plain, "POST", &path_of_issue, json!({ "content": "x" })).await.expect(201);
    let (mut browser, _) = hub.browser().await;
    const REFUSAL: &str = "only the comment author or a workspace admin can do this";
    hub.cli_as(&other, "PUT", &path(&made), json!({ "content": "y" })).await.refused(403, REFUSAL);
    hub.cli_as(&other, "DELETE", &path(&made), Value::Null).await.refused(403, REFUSAL);
    assert_eq!(hub.cli_as(&plain, "PUT", &path(&made), json!({ "content": "x" })).await.expect(200), made);
    let changed = hub.cli_as(&plain, "PUT", &path(&made), json!({ "content": "y" })).await.expect(200);
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("comment:updated"), &json!({ "comment": changed })));
    hub.cli("PUT", &path(&made), json!({ "content": "z" })).await.expect(200);
    hub.cli("DELETE", &path(&made), Value::Null).await.expect(204);
    hub.cli("DELETE", &path(&made), Value::Null).await.refused(404, "comment not found");
}

async fn whatever_is_wrong_is_refused_and_changes_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let issue = issue(&hub).await;
    let other = hub.cli("POST", "/api/issues", json!({ "title": "other" })).await.expect(201);
    let made = say(&hub, &issue, "x", None).await;
    let elsewhere = hub.another_workspace("other").await;
    let there = |what: &str| format!("/api/{what}?workspace_id={elsewhere}");
    let foreign = hub.post(&there("issues"), json!({ "title": "t" })).await.expect(201);
    let foreign = format!("issues/{}/comments", id(&foreign));
    let foreign = hub.post(&there(&foreign), json!({ "content": "theirs" })).await.expect(201);
    let before = hub.fingerprint().await;
    let path_of_issue = format!("/api/issues/{}/comments", id(&issue));
    let types = "comment, status_change, progress_update, system";
    for (body, text) in [
        (json!({}), "content is required".to_owned()),
        (json!({ "content": " \n" }), "content is required".to_owned()),
        (json!({ "content": "x".repeat(70_000) }), "content must be 64 KiB or less".to_owned()),
        (json!({ "content": "x", "type": "y" }), format!("invalid type \"y\"; valid values: {types}")),
        (json!({ "content": "x", "parent_id": foreign["id"] }), "invalid parent_id".to_owned()),
        (json!({ "content": "x", "parent_id": "y" }), "invalid parent_id".to_owned()),
    ] {
        hub.cli("POST", &path_of_issue, body).await.refused(400, &text);
    }
    let answer = json!({ "content": "x", "parent_id": made["id"] });
    hub.cli("POST", &format!("/api/issues/{}/comments", id(&other)), answer).await.refused(400, "invalid parent_id");
    hub.cli("PUT", &path(&made), json!({ "content": "" })).await.refused(400, "content is required");
    for missing in [id(&foreign), Uuid::new_v4()] {
        for (method, rest) in [("PUT", ""), ("DELETE", ""), ("POST", "/resolve"), ("DELETE", "/resolve")] {
            let path = format!("/api/comments/{missing}{rest}");
            hub.cli(method, &path, json!({ "content": "x" })).await.refused(404, "comment not found");
        }
    }
    hub.cli("PUT", "/api/comments/x", json!({ "content": "x" })).await.refused(400, "invalid comment_id");
    assert_eq!(hub.fingerprint().await, before);
}
