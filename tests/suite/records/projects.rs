//! Projects and what they are about.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Backend, Hub,
    hub::{id, keys},
};

on_both_stores!(
    projects_have_the_fields_that_clients_read,
    projects_change_field_by_field,
    resources_are_one_of_a_kind,
    whatever_is_wrong_is_refused_and_changes_nothing,
    a_project_leaves_with_its_resources_and_lets_its_issues_be,
);

const PROJECT: [&str; 14] = [
    "created_at",
    "description",
    "done_count",
    "icon",
    "id",
    "issue_count",
    "lead_id",
    "lead_type",
    "priority",
    "resource_count",
    "status",
    "title",
    "updated_at",
    "workspace_id",
];
const RESOURCE: [&str; 9] = [
    "created_at",
    "created_by",
    "id",
    "label",
    "position",
    "project_id",
    "resource_ref",
    "resource_type",
    "workspace_id",
];

async fn me(hub: &Hub) -> Uuid {
    id(&hub.get("/api/me").await.expect(200))
}

async fn projects_have_the_fields_that_clients_read(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (mut browser, _) = hub.browser().await;
    let made = hub.cli("POST", "/api/projects", json!({ "title": " Launch " })).await.expect(201);
    assert_eq!(keys(&made), PROJECT, "without resources there is no such member");
    assert_eq!(
        made,
        json!({
            "id": made["id"], "workspace_id": hub.workspace, "title": "Launch", "description": null, "icon": null,
            "status": "planned", "priority": "none", "lead_type": null, "lead_id": null,
            "created_at": made["created_at"], "updated_at": made["created_at"],
            "issue_count": 0, "done_count": 0, "resource_count": 0,
        })
    );
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("project:created"), &json!({ "project": made })));
    assert_eq!((&event["actor_type"], &event["actor_id"]), (&json!("member"), &json!(me(&hub).await)));

    let wish = json!({
        "title": "Site", "description": "d", "icon": "🚀", "status": "in_progress", "priority": "high",
        "lead_type": "member", "lead_id": me(&hub).await,
        "resources": [
            { "resource_type": "github_repo", "resource_ref": { "url": "https://h/a", "x": 1 }, "label": "code" },
            { "resource_type": "local_directory", "resource_ref": { "local_path": "/src", "daemon_id": "d" } },
        ],
    });
    let site = hub.cli("POST", "/api/projects", wish).await.expect(201);
    assert_eq!((&site["resource_count"], &site["lead_id"]), (&json!(2), &json!(me(&hub).await)));
    assert_eq!(keys(&site["resources"][0]), RESOURCE);
    assert_eq!(
        site["resources"][0],
        json!({
            "id": site["resources"][0]["id"], "project_id": site["id"], "workspace_id": hub.workspace,
            "resource_type": "github_repo", "resource_ref": { "url": "https://h/a" }, "label": "code",
            "position": 0, "created_at": site["created_at"], "created_by": me(&hub).await,
        })
    );
    assert_eq!(browser.next().await["type"], "project:created");
    for resource in site["resources"].as_array().unwrap() {
        let event = browser.next().await;
        assert_eq!(event["type"], "project_resource:created");
        assert_eq!(event["payload"], json!({ "resource": resource, "project_id": site["id"] }));
    }

    let answer = hub.cli("GET", "/api/projects", Value::Null).await;
    assert_eq!(answer.headers["x-event-seq"], "4");
    let list = answer.expect(200);
    assert_eq!((keys(&list), &list["total"]), (vec!["projects", "total"], &json!(2)));
    let titles: Vec<&Value> = list["projects"].as_array().unwrap().iter().map(|project| &project["title"]).collect();
    assert_eq!(titles, ["Site", "Launch"], "newest first");
    for (query, count) in
        [("status=planned", 1), ("priority=high", 1), ("status=planned&priority=high", 0), ("status=", 2)]
    {
        let list = hub.cli("GET", &format!("/api/projects?{query}"), Value::Null).await.expect(200);
        assert_eq!(list["total"], count, "{query}");
    }
    let path = format!("/api/projects/{}", id(&site));
    let one = hub.cli("GET", &path, Value::Null).await.expect(200);
    assert_eq!((keys(&one), &one["resource_count"]), (PROJECT.to_vec(), &json!(2)));
    let resources = hub.cli("GET", &format!("{path}/resources"), Value::Null).await.expect(200);
    assert_eq!(resources, json!({ "resources": site["resources"], "total": 2 }));
}

async fn projects_change_field_by_field(backend: Backend) {
    let hub = Hub::start(backend).await;
    let wish =
        json!({ "title": "t", "description": "d", "icon": "i", "lead_type": "member", "lead_id": me(&hub).await });
    let made = hub.cli("POST", "/api/projects", wish).await.expect(201);
    let path = format!("/api/projects/{}", id(&made));
    let (mut browser, _) = hub.browser().await;

    let same = hub.cli("PUT", &path, json!({ "title": "t", "status": null, "unknown": 1 })).await.expect(200);
    assert_eq!(same, made, "nothing changed");
    assert_eq!(hub.cli("PUT", &path, Value::Null).await.expect(200), made, "the literal null is an empty body");

    let changed = hub.cli("PUT", &path, json!({ "title": "new", "status": "paused" })).await.expect(200);
    assert_eq!(
        (&changed["title"], &changed["status"], &changed["icon"]),
        (&json!("new"), &json!("paused"), &json!("i"))
    );
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("project:updated"), &json!({ "project": changed })));

    let cleared = json!({ "description": null, "icon": null, "lead_type": null, "lead_id": null });
    let cleared = hub.cli("PUT", &path, cleared).await.expect(200);
    for field in ["description", "icon", "lead_type", "lead_id"] {
        assert_eq!(cleared[field], Value::Null, "{field}");
    }
    assert_eq!(browser.next().await["payload"]["project"], cleared);
}

async fn resources_are_one_of_a_kind(backend: Backend) {
    let hub = Hub::start(backend).await;
    let project = id(&hub.cli("POST", "/api/projects", json!({ "title": "t" })).await.expect(201));
    let path = format!("/api/projects/{project}/resources");
    let (mut browser, _) = hub.browser().await;
    let repo = |url: &str| json!({ "resource_type": "github_repo", "resource_ref": { "url": url } });
    let folder = |path: &str, daemon: &str| json!({ "resource_type": "local_directory", "resource_ref": { "local_path": path, "daemon_id": daemon } });
    let first = hub.cli("POST", &path, repo("https://h/a")).await.expect(201);
    let event = browser.next().await;
    assert_eq!(event["type"], "project_resource:created");
    hub.cli("POST", &path, repo(" https://h/a ")).await.refused(409, "project already has this resource");
    let second = hub.cli("POST", &path, repo("https://h/b")).await.expect(201);
    hub.cli("POST", &path, folder("/src", "d1")).await.expect(201);
    hub.cli("POST", &path, folder("/other", "d1"))
        .await
        .refused(409, "project already has a local directory of this daemon");
    hub.cli("POST", &path, folder("/src", "d2")).await.expect(201);
    for _ in 0..3 {
        assert_eq!(browser.next().await["type"], "project_resource:created");
    }

    let one = format!("{path}/{}", id(&second));
    let change = json!({ "resource_ref": { "url": "https://h/a" } });
    hub.cli("PUT", &one, change).await.refused(409, "project already has this resource");
    let change = json!({ "resource_ref": { "url": "https://h/c" }, "label": "l", "position": 9 });
    let changed = hub.cli("PUT", &one, change).await.expect(200);
    assert_eq!((&changed["label"], &changed["position"]), (&json!("l"), &json!(9)));
    let event = browser.next().await;
    assert_eq!(event["type"], "project_resource:updated");
    assert_eq!(event["payload"], json!({ "resource": changed, "project_id": project }));
    assert_eq!(hub.cli("PUT", &one, json!({ "label": "" })).await.expect(200)["label"], Value::Null);
    browser.next().await;
    hub.cli("PUT", &one, json!({})).await.expect(200);

    hub.cli("DELETE", &format!("{path}/{}", id(&first)), Value::Null).await.expect(204);
    let event = browser.next().await;
    assert_eq!(event["type"], "project_resource:deleted");
    assert_eq!(event["payload"], json!({ "project_id": project, "resource_id": first["id"] }));
    hub.cli("DELETE", &format!("{path}/{}", id(&first)), Value::Null).await.refused(404, "project resource not found");
    // By position: what was moved comes last.
    let list = hub.cli("GET", &path, Value::Null).await.expect(200);
    assert_eq!((&list["total"], &list["resources"][2]["id"]), (&json!(3), &second["id"]));
}

async fn whatever_is_wrong_is_refused_and_changes_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let project = id(&hub.cli("POST", "/api/projects", json!({ "title": "t" })).await.expect(201));
    let elsewhere = hub.another_workspace("other").await;
    let path = format!("/api/projects?workspace_id={elsewhere}");
    let foreign = id(&hub.post(&path, json!({ "title": "theirs" })).await.expect(201));
    let stranger = hub.stranger("s@example.com").await;
    let stranger = id(&hub.call("GET", "/api/me", Some(&stranger), Value::Null).await.expect(200));
    let before = hub.fingerprint().await;
    let repo = json!({ "resource_type": "github_repo", "resource_ref": { "url": "https://h/a" } });
    let statuses = "planned, in_progress, paused, completed, cancelled";
    for (body, text) in [
        (json!({}), "title is required".to_owned()),
        (json!({ "title": "  " }), "title is required".to_owned()),
        (json!({ "title": 1 }), "invalid request body".to_owned()),
        (json!({ "title": "t", "status": "x" }), format!("invalid status \"x\"; valid values: {statuses}")),
        (json!({ "title": "t", "lead_type": "member" }), "lead_type and lead_id go together".to_owned()),
        (json!({ "title": "t", "lead_type": "member", "lead_id": stranger }), "invalid lead_id".to_owned()),
        (json!({ "title": "t", "lead_type": "agent", "lead_id": stranger }), "invalid lead_id".to_owned()),
        (json!({ "title": "t", "lead_type": "member", "lead_id": "x" }), "invalid lead_id".to_owned()),
        (
            json!({ "title": "t", "resources": [repo, { "resource_type": "s3" }] }),
            "resources[1]: invalid resource_type \"s3\"; valid values: github_repo, local_directory".to_owned(),
        ),
        (
            json!({ "title": "t", "resources": [repo, repo] }),
            "resources[1]: project already has this resource".to_owned(),
        ),
    ] {
        let status = if text.contains("already") { 409 } else { 400 };
        hub.cli("POST", "/api/projects", body).await.refused(status, &text);
    }
    let one = format!("/api/projects/{project}");
    hub.cli("PUT", &one, json!({ "title": "" })).await.refused(400, "title is required");
    hub.cli("PUT", &one, json!({ "lead_type": "member", "lead_id": stranger })).await.refused(400, "invalid lead_id");
    for missing in [foreign, Uuid::new_v4()] {
        for (method, path, body) in [
            ("GET", format!("/api/projects/{missing}"), Value::Null),
            ("PUT", format!("/api/projects/{missing}"), json!({ "title": "mine" })),
            ("DELETE", format!("/api/projects/{missing}"), Value::Null),
            ("GET", format!("/api/projects/{missing}/resources"), Value::Null),
            ("POST", format!("/api/projects/{missing}/resources"), repo.clone()),
            ("PUT", format!("/api/projects/{missing}/resources/{missing}"), json!({})),
            ("DELETE", format!("/api/projects/{missing}/resources/{missing}"), Value::Null),
        ] {
            hub.cli(method, &path, body).await.refused(404, "project not found");
        }
    }
    hub.cli("GET", "/api/projects/nonsense", Value::Null).await.refused(400, "invalid project_id");
    hub.cli("DELETE", &format!("{one}/resources/x"), Value::Null).await.refused(400, "invalid resource_id");
    hub.get("/api/projects").await.refused(400, "workspace_id or workspace_slug is required");
    assert_eq!(hub.fingerprint().await, before);
}

async fn a_project_leaves_with_its_resources_and_lets_its_issues_be(backend: Backend) {
    let hub = Hub::start(backend).await;
    let repo = json!({ "resource_type": "github_repo", "resource_ref": { "url": "https://h/a" } });
    let made = hub.cli("POST", "/api/projects", json!({ "title": "t", "resources": [repo] })).await.expect(201);
    let (mut browser, _) = hub.browser().await;
    hub.cli("DELETE", &format!("/api/projects/{}", id(&made)), Value::Null).await.expect(204);
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("project:deleted"), &json!({ "project_id": made["id"] })));
    assert_eq!(hub.rows("SELECT 'x' FROM project_resource").await.len(), 0);
    hub.cli("GET", &format!("/api/projects/{}", id(&made)), Value::Null).await.refused(404, "project not found");
}
