//! Another workspace's ids, wherever a request can name one, by somebody who is at home in both:
//! 404 in an address, the field's 400 in a body, and nothing changed. A route whose address names a
//! record and that is not in this table fails.

use std::collections::HashMap;

use heartwire::test_hooks;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Backend, Hub, hub::id};

on_both_stores!(
    an_address_with_another_workspace_s_id_leads_nowhere,
    a_body_with_another_workspace_s_id_is_refused_and_changes_nothing,
);

/// Routes whose address names records, and what they say of one that is not there.
const ADDRESSES: &[(&str, &str, &str)] = &[
    ("GET", "/api/agents/{agent}", "agent not found"),
    ("PUT", "/api/agents/{agent}", "agent not found"),
    ("POST", "/api/agents/{agent}/archive", "agent not found"),
    ("POST", "/api/agents/{agent}/restore", "agent not found"),
    ("POST", "/api/agents/{agent}/cancel-tasks", "agent not found"),
    ("GET", "/api/agents/{agent}/tasks", "agent not found"),
    ("GET", "/api/agents/{agent}/skills", "agent not found"),
    ("PUT", "/api/agents/{agent}/skills", "agent not found"),
    ("POST", "/api/agents/{agent}/skills/add", "agent not found"),
    ("GET", "/api/agents/{agent}/env", "agent not found"),
    ("PUT", "/api/agents/{agent}/env", "agent not found"),
    ("GET", "/api/skills/{skill}", "skill not found"),
    ("PUT", "/api/skills/{skill}", "skill not found"),
    ("DELETE", "/api/skills/{skill}", "skill not found"),
    ("GET", "/api/skills/{skill}/files", "skill not found"),
    ("PUT", "/api/skills/{skill}/files", "skill not found"),
    ("DELETE", "/api/skills/{skill}/files/{file}", "skill not found"),
    ("GET", "/api/squads/{squad}", "squad not found"),
    ("PUT", "/api/squads/{squad}", "squad not found"),
    ("DELETE", "/api/squads/{squad}", "squad not found"),
    ("GET", "/api/squads/{squad}/members", "squad not found"),
    ("POST", "/api/squads/{squad}/members", "squad not found"),
    ("DELETE", "/api/squads/{squad}/members", "squad not found"),
    ("GET", "/api/projects/{project}", "project not found"),
    ("PUT", "/api/projects/{project}", "project not found"),
    ("DELETE", "/api/projects/{project}", "project not found"),
    ("GET", "/api/projects/{project}/resources", "project not found"),
    ("POST", "/api/projects/{project}/resources", "project not found"),
    ("PUT", "/api/projects/{project}/resources/{resource}", "project not found"),
    ("PUT", "/api/projects/{own_project}/resources/{resource}", "project resource not found"),
    ("DELETE", "/api/projects/{project}/resources/{resource}", "project not found"),
    ("DELETE", "/api/projects/{own_project}/resources/{resource}", "project resource not found"),
    ("GET", "/api/issues/{issue}", "issue not found"),
    ("PUT", "/api/issues/{issue}", "issue not found"),
    ("DELETE", "/api/issues/{issue}", "issue not found"),
    ("POST", "/api/issues/{issue}/rerun", "issue not found"),
    ("POST", "/api/issues/{issue}/squad-evaluated", "issue not found"),
    ("GET", "/api/issues/{issue}/children", "issue not found"),
    ("GET", "/api/issues/{issue}/timeline", "issue not found"),
    ("GET", "/api/issues/{issue}/metadata", "issue not found"),
    ("PUT", "/api/issues/{issue}/metadata/key", "issue not found"),
    ("DELETE", "/api/issues/{issue}/metadata/key", "issue not found"),
    ("GET", "/api/issues/{issue}/comments", "issue not found"),
    ("POST", "/api/issues/{issue}/comments", "issue not found"),
    ("GET", "/api/issues/{issue}/active-task", "issue not found"),
    ("GET", "/api/issues/{issue}/task-runs", "issue not found"),
    ("POST", "/api/issues/{issue}/tasks/{task}/cancel", "issue not found"),
    ("POST", "/api/issues/{own_issue}/tasks/{task}/cancel", "task not found"),
    ("POST", "/api/issues/{own_issue}/tasks/{own_task}/cancel", "task not found"),
    ("GET", "/api/tasks/{task}/messages", "task not found"),
    ("POST", "/api/tasks/{task}/cancel", "task not found"),
    ("PUT", "/api/comments/{comment}", "comment not found"),
    ("DELETE", "/api/comments/{comment}", "comment not found"),
    ("POST", "/api/comments/{comment}/resolve", "comment not found"),
    ("DELETE", "/api/comments/{comment}/resolve", "comment not found"),
    ("GET", "/api/attachments/{attachment}", "attachment not found"),
    ("GET", "/api/attachments/{attachment}/content", "attachment not found"),
    ("DELETE", "/api/attachments/{attachment}", "attachment not found"),
    ("GET", "/api/autopilots/{autopilot}", "autopilot not found"),
    ("PATCH", "/api/autopilots/{autopilot}", "autopilot not found"),
    ("DELETE", "/api/autopilots/{autopilot}", "autopilot not found"),
    ("POST", "/api/autopilots/{autopilot}/trigger", "autopilot not found"),
    ("GET", "/api/autopilots/{autopilot}/runs", "autopilot not found"),
    ("GET", "/api/autopilots/{autopilot}/runs/{run}", "autopilot not found"),
    ("GET", "/api/autopilots/{own_autopilot}/runs/{run}", "run not found"),
    ("POST", "/api/autopilots/{autopilot}/triggers", "autopilot not found"),
    ("PATCH", "/api/autopilots/{autopilot}/triggers/{trigger}", "autopilot not found"),
    ("PATCH", "/api/autopilots/{own_autopilot}/triggers/{trigger}", "trigger not found"),
    ("DELETE", "/api/autopilots/{autopilot}/triggers/{trigger}", "autopilot not found"),
    ("DELETE", "/api/autopilots/{own_autopilot}/triggers/{trigger}", "trigger not found"),
    ("GET", "/api/chat/sessions/{chat}", "chat session not found"),
    ("PATCH", "/api/chat/sessions/{chat}", "chat session not found"),
    ("DELETE", "/api/chat/sessions/{chat}", "chat session not found"),
    ("GET", "/api/chat/sessions/{chat}/messages", "chat session not found"),
    ("POST", "/api/chat/sessions/{chat}/messages", "chat session not found"),
    ("GET", "/api/chat/sessions/{chat}/pending-task", "chat session not found"),
    ("POST", "/api/chat/sessions/{chat}/read", "chat session not found"),
];

/// Fields that name records: the call, a body that would do but for the field, the field, whose id.
const FIELDS: &[(&str, &str, &str, &str, &str)] = &[
    ("POST", "/api/agents", r#"{"name":"x"}"#, "runtime_id", "runtime"),
    ("PUT", "/api/agents/{own_agent}", "{}", "runtime_id", "runtime"),
    ("POST", "/api/chat/sessions", "{}", "agent_id", "agent"),
    ("POST", "/api/autopilots", r#"{"title":"x","execution_mode":"run_only"}"#, "assignee_id", "agent"),
    (
        "POST",
        "/api/autopilots",
        r#"{"title":"x","execution_mode":"run_only","assignee_type":"squad"}"#,
        "assignee_id",
        "squad",
    ),
    ("PATCH", "/api/autopilots/{own_autopilot}", "{}", "assignee_id", "agent"),
    ("PATCH", "/api/autopilots/{own_autopilot}", "{}", "project_id", "project"),
    ("POST", "/api/squads", r#"{"name":"x"}"#, "leader_id", "agent"),
    ("PUT", "/api/squads/{own_squad}", "{}", "leader_id", "agent"),
    ("POST", "/api/squads/{own_squad}/members", r#"{"member_type":"agent"}"#, "member_id", "agent"),
    ("POST", "/api/squads/{own_squad}/members", r#"{"member_type":"member"}"#, "member_id", "stranger"),
    ("POST", "/api/projects", r#"{"title":"x","lead_type":"agent"}"#, "lead_id", "agent"),
    ("POST", "/api/projects", r#"{"title":"x","lead_type":"member"}"#, "lead_id", "stranger"),
    ("PUT", "/api/projects/{own_project}", r#"{"lead_type":"agent"}"#, "lead_id", "agent"),
    ("POST", "/api/issues", r#"{"title":"x"}"#, "project_id", "project"),
    ("POST", "/api/issues", r#"{"title":"x"}"#, "parent_issue_id", "issue"),
    ("POST", "/api/issues", r#"{"title":"x","assignee_type":"agent"}"#, "assignee_id", "agent"),
    ("POST", "/api/issues", r#"{"title":"x","assignee_type":"squad"}"#, "assignee_id", "squad"),
    ("POST", "/api/issues", r#"{"title":"x","assignee_type":"member"}"#, "assignee_id", "stranger"),
    ("PUT", "/api/issues/{own_issue}", "{}", "project_id", "project"),
    ("PUT", "/api/issues/{own_issue}", "{}", "parent_issue_id", "issue"),
    ("PUT", "/api/issues/{own_issue}", r#"{"assignee_type":"agent"}"#, "assignee_id", "agent"),
    ("PUT", "/api/issues/{own_issue}", r#"{"assignee_type":"squad"}"#, "assignee_id", "squad"),
    ("PUT", "/api/issues/{own_issue}", r#"{"assignee_type":"member"}"#, "assignee_id", "stranger"),
    ("POST", "/api/issues/quick-create", r#"{"prompt":"x"}"#, "agent_id", "agent"),
    ("POST", "/api/issues/quick-create", r#"{"prompt":"x","agent_id":"{own_agent}"}"#, "project_id", "project"),
    ("POST", "/api/issues/quick-create", r#"{"prompt":"x","agent_id":"{own_agent}"}"#, "parent_issue_id", "issue"),
    ("POST", "/api/issues/{own_issue}/comments", r#"{"content":"x"}"#, "parent_id", "comment"),
];

/// Whose addresses have to be in the table.
const RECORDS: &[&str] =
    &["agents", "skills", "squads", "projects", "issues", "comments", "attachments", "chat", "autopilots", "tasks"];

/// One of each record in a workspace, by name.
async fn furnish(hub: &Hub, workspace: Uuid, named: &str) -> HashMap<String, Uuid> {
    let make = async |method: &str, path: String, body: Value| {
        let path = format!("{path}?workspace_id={workspace}");
        let answer = hub.call(method, &path, Some(&hub.token), body).await;
        assert!(answer.status < 300, "{path}: {}", answer.text);
        answer.json()
    };
    let post = async |path: &str, body: Value| make("POST", path.to_owned(), body).await;
    let runtime = hub.register_as(&hub.token, workspace, &format!("{named}d"), &["claude"]).await[0];
    let agent = post("/api/agents", json!({ "name": "a", "runtime_id": runtime, "visibility": "workspace" })).await;
    let skill = post("/api/skills", json!({ "name": "s", "files": [{ "path": "a" }] })).await;
    let squad = post("/api/squads", json!({ "name": "s", "leader_id": agent["id"] })).await;
    let repo = json!({ "resource_type": "github_repo", "resource_ref": { "url": "https://h/a" } });
    let project = post("/api/projects", json!({ "title": "p", "resources": [repo] })).await;
    let issue = post("/api/issues", json!({ "title": "i" })).await;
    let comment = post(&format!("/api/issues/{}/comments", id(&issue)), json!({ "content": "c" })).await;
    let chat = post("/api/chat/sessions", json!({ "agent_id": agent["id"] })).await;
    let sent = post(&format!("/api/chat/sessions/{}/messages", id(&chat)), json!({ "content": "c" })).await;
    let file = format!("/api/upload-file?workspace_id={workspace}");
    let headers = [("content-type", "multipart/form-data; boundary=B")];
    let body = b"--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nx\r\n--B--\r\n".to_vec();
    let attachment = hub.raw("POST", &file, Some(&hub.token), body, &headers).await.expect(200);
    let wish = json!({ "title": "a", "execution_mode": "run_only", "assignee_id": agent["id"] });
    let autopilot = post("/api/autopilots", wish).await;
    let wish = json!({ "kind": "schedule", "cron_expression": "0 0 1 1 *" });
    let trigger = post(&format!("/api/autopilots/{}/triggers", id(&autopilot)), wish).await;
    let all = [
        ("autopilot", id(&autopilot)),
        ("trigger", id(&trigger)),
        // None has run yet.
        ("run", Uuid::new_v4()),
        ("chat", id(&chat)),
        ("task", sent["task_id"].as_str().unwrap().parse().unwrap()),
        ("attachment", id(&attachment)),
        ("runtime", runtime),
        ("agent", id(&agent)),
        ("skill", id(&skill)),
        ("file", id(&skill["files"][0])),
        ("squad", id(&squad)),
        ("project", id(&project)),
        ("resource", id(&project["resources"][0])),
        ("issue", id(&issue)),
        ("comment", id(&comment)),
    ];
    all.into_iter().map(|(name, id)| (format!("{named}{name}"), id)).collect()
}

async fn world(hub: &Hub) -> HashMap<String, Uuid> {
    let elsewhere = hub.another_workspace("elsewhere").await;
    let mut world = furnish(hub, hub.workspace, "own_").await;
    world.extend(furnish(hub, elsewhere, "").await);
    let stranger = hub.stranger("stranger@example.com").await;
    let stranger = id(&hub.call("GET", "/api/me", Some(&stranger), Value::Null).await.expect(200));
    world.insert("stranger".into(), stranger);
    world
}

fn fill(path: &str, world: &HashMap<String, Uuid>) -> String {
    world.iter().fold(path.to_owned(), |path, (name, id)| path.replace(&format!("{{{name}}}"), &id.to_string()))
}

/// An address with its parameters' names taken out.
fn shape(path: &str) -> String {
    let part = |part: &str| if part.starts_with('{') || part == "key" { "{}".to_owned() } else { part.to_owned() };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

async fn an_address_with_another_workspace_s_id_leads_nowhere(backend: Backend) {
    for (method, path, _) in test_hooks::routes() {
        let about = path.strip_prefix("/api/").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        if path.contains('{') && RECORDS.contains(&about) {
            let listed = ADDRESSES.iter().any(|(m, p, _)| *m == method && shape(p) == shape(path));
            assert!(listed, "{method} {path} is missing from this test's table");
        }
    }
    let hub = Hub::start(backend).await;
    let world = world(&hub).await;
    let before = hub.fingerprint().await;
    for (method, path, text) in ADDRESSES {
        // A body that would do.
        let body = json!({ "name": "x", "title": "x", "content": "x", "path": "x", "value": 1, "member_type": "agent",
            "member_id": world["own_agent"], "resource_type": "github_repo",
            "resource_ref": { "url": "https://h/x" } });
        hub.cli(method, &fill(path, &world), body.clone()).await.refused(404, text);
        // As if it were nowhere.
        let nowhere: HashMap<String, Uuid> = world
            .iter()
            .map(|(name, id)| (name.clone(), if name.starts_with("own_") { *id } else { Uuid::new_v4() }))
            .collect();
        hub.cli(method, &fill(path, &nowhere), body).await.refused(404, text);
    }
    assert_eq!(hub.fingerprint().await, before);
}

async fn a_body_with_another_workspace_s_id_is_refused_and_changes_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let world = world(&hub).await;
    let before = hub.fingerprint().await;
    for (method, path, body, field, whose) in FIELDS {
        let foreign = world[*whose].to_string();
        for wrong in [foreign.as_str(), &Uuid::new_v4().to_string(), "nonsense"] {
            let mut body: Value = serde_json::from_str(&fill(body, &world)).unwrap();
            body[*field] = json!(wrong);
            let answer = hub.cli(method, &fill(path, &world), body).await;
            assert_eq!(answer.status, 400, "{method} {path} {field} {wrong}: {}", answer.text);
            answer.refused(400, &format!("invalid {field}"));
        }
    }
    assert_eq!(hub.fingerprint().await, before);
}
