//! Autopilots: who does their work, who is told of it.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Backend, Hub,
    hub::{id, keys},
};

on_both_stores!(
    autopilots_have_the_fields_that_clients_read,
    autopilots_change_field_by_field,
    work_is_given_to_whoever_may_be_given_it,
    subscribers_are_members,
    whatever_is_wrong_is_refused_and_changes_nothing,
    an_autopilot_leaves_with_everything_of_its_own,
    a_private_agent_s_autopilots_are_changed_by_who_may_use_it,
    a_project_s_end_lets_its_autopilots_go,
);

const AUTOPILOT: [&str; 16] = [
    "assignee_id",
    "assignee_type",
    "created_at",
    "created_by_id",
    "created_by_type",
    "description",
    "execution_mode",
    "id",
    "issue_title_template",
    "last_run_at",
    "project_id",
    "status",
    "subscribers",
    "title",
    "updated_at",
    "workspace_id",
];

pub async fn me(hub: &Hub) -> Uuid {
    id(&hub.get("/api/me").await.expect(200))
}

/// An agent of the first owner that everybody may use.
async fn agent(hub: &Hub, name: &str) -> Uuid {
    let runtime = hub.register("d", &["claude"]).await[0];
    let wish = json!({ "name": name, "runtime_id": runtime, "visibility": "workspace" });
    id(&hub.cli("POST", "/api/agents", wish).await.expect(201))
}

/// A squad for each agent, led by it, with its id.
async fn squads(hub: &Hub) {
    hub.sql(
        "INSERT INTO squad (id, workspace_id, name, leader_id, creator_id, created_at, updated_at)
         SELECT id, workspace_id, name, id, owner_id, 1, 1 FROM agent",
    )
    .await;
}

/// One whose work is an agent's.
pub async fn make(hub: &Hub) -> Value {
    let wish = json!({ "title": "t", "assignee_id": agent(hub, "a").await, "execution_mode": "run_only" });
    hub.cli("POST", "/api/autopilots", wish).await.expect(201)
}

pub fn path(autopilot: &Value) -> String {
    format!("/api/autopilots/{}", id(autopilot))
}

async fn a_private_agent_s_autopilots_are_changed_by_who_may_use_it(backend: Backend) {
    let hub = Hub::start(backend).await;
    let plain = hub.member("plain@example.com", "member").await;
    let made = make(&hub).await;
    let wish = json!({ "kind": "schedule", "cron_expression": "0 0 1 1 *" });
    let triggers = format!("{}/triggers", path(&made));
    let trigger = hub.cli_as(&plain, "POST", &triggers, wish.clone()).await.expect(201);
    let agent = format!("/api/agents/{}", made["assignee_id"].as_str().unwrap());
    hub.cli("PUT", &agent, json!({ "visibility": "private" })).await.expect(200);
    const REFUSAL: &str = "you do not have access to this agent";
    hub.cli_as(&plain, "PATCH", &path(&made), json!({ "description": "x" })).await.refused(403, REFUSAL);
    hub.cli_as(&plain, "POST", &triggers, wish).await.refused(403, REFUSAL);
    let one = format!("{triggers}/{}", id(&trigger));
    hub.cli_as(&plain, "PATCH", &one, json!({ "enabled": false })).await.refused(403, REFUSAL);
    hub.cli_as(&plain, "DELETE", &one, Value::Null).await.refused(403, REFUSAL);
    hub.cli_as(&plain, "DELETE", &path(&made), Value::Null).await.refused(403, REFUSAL);
    hub.cli("PATCH", &one, json!({ "enabled": false })).await.expect(200);
}

async fn a_project_s_end_lets_its_autopilots_go(backend: Backend) {
    let hub = Hub::start(backend).await;
    let project = id(&hub.cli("POST", "/api/projects", json!({ "title": "p" })).await.expect(201));
    let made = make(&hub).await;
    hub.cli("PATCH", &path(&made), json!({ "project_id": project })).await.expect(200);
    let (mut browser, _) = hub.browser().await;
    hub.cli("DELETE", &format!("/api/projects/{project}"), Value::Null).await.expect(204);
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]["autopilot"]["id"]), (&json!("autopilot:updated"), &made["id"]));
    assert_eq!(event["payload"]["autopilot"]["project_id"], Value::Null);
    assert_eq!(browser.next().await["type"], "project:deleted");
}

async fn autopilots_have_the_fields_that_clients_read(backend: Backend) {
    let hub = Hub::start(backend).await;
    let agent = agent(&hub, "a").await;
    squads(&hub).await;
    let project = id(&hub.cli("POST", "/api/projects", json!({ "title": "p" })).await.expect(201));
    let (mut browser, _) = hub.browser().await;
    let wish = json!({
        "title": " Nightly ", "assignee_id": agent, "execution_mode": "run_only",
        "assignee_type": null, "description": null, "project_id": null, "issue_title_template": null,
        "subscribers": null, "unknown": 1,
    });
    let made = hub.cli("POST", "/api/autopilots", wish).await.expect(201);
    assert_eq!(keys(&made), AUTOPILOT);
    assert_eq!(
        made,
        json!({
            "id": made["id"], "workspace_id": hub.workspace, "title": "Nightly", "description": null,
            "project_id": null, "assignee_type": "agent", "assignee_id": agent, "status": "active",
            "execution_mode": "run_only", "issue_title_template": null, "created_by_type": "member",
            "created_by_id": me(&hub).await, "last_run_at": null, "created_at": made["created_at"],
            "updated_at": made["created_at"], "subscribers": [],
        })
    );
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("autopilot:created"), &json!({ "autopilot": made })));
    assert_eq!((&event["actor_type"], &event["actor_id"]), (&json!("member"), &json!(me(&hub).await)));

    let wish = json!({
        "title": "Weekly", "assignee_type": "squad", "assignee_id": agent, "execution_mode": "create_issue",
        "description": "d", "project_id": project, "issue_title_template": "Week of {{date}}",
        "subscribers": [{ "user_type": "member", "user_id": me(&hub).await }],
    });
    let weekly = hub.cli("POST", "/api/autopilots", wish.clone()).await.expect(201);
    for field in ["title", "assignee_type", "assignee_id", "execution_mode", "description", "project_id"] {
        assert_eq!(weekly[field], wish[field], "{field}");
    }
    assert_eq!(weekly["issue_title_template"], "Week of {{date}}");
    let subscriber = json!({
        "user_type": "member", "user_id": me(&hub).await, "created_at": weekly["created_at"],
    });
    assert_eq!(weekly["subscribers"], json!([subscriber]));
    assert_eq!(browser.next().await["payload"], json!({ "autopilot": weekly }));
    // An agent in its task makes them, too.
    let task = hub.app.mint_task_token(hub.workspace, me(&hub).await).await.unwrap();
    let wish = json!({ "title": "Theirs", "assignee_id": agent, "execution_mode": "run_only" });
    let theirs = hub.cli_as(&task, "POST", "/api/autopilots", wish).await.expect(201);
    assert_eq!(theirs["created_by_type"], "agent");
    let event = browser.next().await;
    assert_eq!((&event["actor_type"], &event["actor_id"]), (&json!("agent"), &theirs["created_by_id"]));
    browser.quiet_for(Duration::from_millis(50)).await;
    hub.cli_as(&task, "DELETE", &path(&theirs), Value::Null).await.expect(204);

    let one = hub.cli("GET", &path(&weekly), Value::Null).await.expect(200);
    assert_eq!(one, json!({ "autopilot": weekly, "triggers": [] }));
    let seq = hub.cli("GET", "/api/projects", Value::Null).await.headers["x-event-seq"].clone();
    let answer = hub.cli("GET", "/api/autopilots?limit=50&offset=0", Value::Null).await;
    assert_eq!(answer.headers["x-event-seq"], seq);
    let mut listed = weekly.clone();
    listed["subscribers"] = json!([]);
    assert_eq!(
        answer.expect(200),
        json!({ "autopilots": [listed, made], "total": 2 }),
        "newest first; without triggers and runs there are no such members"
    );

    // What the list alone shows.
    let trigger = json!({ "kind": "schedule", "cron_expression": "0 0 1 1 *" });
    let later = hub.cli("POST", &format!("{}/triggers", path(&made)), trigger).await.expect(201);
    let trigger = json!({ "kind": "schedule", "cron_expression": "* * * * *" });
    let sooner = hub.cli("POST", &format!("{}/triggers", path(&made)), trigger).await.expect(201);
    let off = json!({ "kind": "schedule", "cron_expression": "* * * * *", "enabled": false });
    hub.cli("POST", &format!("{}/triggers", path(&weekly)), off).await.expect(201);
    hub.sql(
        "INSERT INTO autopilot_run (id, autopilot_id, source, status, triggered_at, created_at)
         SELECT id, autopilot_id, 'schedule', CASE WHEN cron_expression = '* * * * *' THEN 'failed' ELSE 'completed' END,
             created_at, created_at
         FROM autopilot_trigger WHERE enabled",
    )
    .await;
    let list = hub.cli("GET", "/api/autopilots?status=active", Value::Null).await.expect(200);
    let [of_weekly, of_made] = [&list["autopilots"][0], &list["autopilots"][1]];
    assert_eq!((&of_weekly["trigger_kinds"], of_weekly.get("next_run_at")), (&json!(["schedule"]), None));
    assert_eq!(of_weekly.get("last_run_status"), None);
    assert_eq!(of_made["trigger_kinds"], json!(["schedule"]));
    assert_eq!(of_made["next_run_at"], sooner["next_run_at"]);
    assert!(later["next_run_at"].as_str() > sooner["next_run_at"].as_str(), "{later}");
    assert_eq!(of_made["last_run_status"], "failed", "the latest");
    for (query, count) in [("status=paused", 0), ("status=active", 2), ("status=", 2)] {
        let list = hub.cli("GET", &format!("/api/autopilots?{query}"), Value::Null).await.expect(200);
        assert_eq!(list["total"], count, "{query}");
    }
}

async fn autopilots_change_field_by_field(backend: Backend) {
    let hub = Hub::start(backend).await;
    let agents = [agent(&hub, "a").await, agent(&hub, "b").await];
    squads(&hub).await;
    let project = id(&hub.cli("POST", "/api/projects", json!({ "title": "p" })).await.expect(201));
    let wish = json!({ "title": "t", "assignee_id": agents[0], "execution_mode": "run_only" });
    let made = hub.cli("POST", "/api/autopilots", wish).await.expect(201);
    let (mut browser, _) = hub.browser().await;
    let patch = async |change: Value| hub.cli("PATCH", &path(&made), change).await;

    for same in [
        json!({}),
        Value::Null,
        json!({ "title": null, "status": null, "assignee_id": null, "subscribers": null, "unknown": 1 }),
        json!({ "title": " t ", "status": "active", "assignee_id": agents[0], "subscribers": [], "description": null }),
        json!({ "assignee_type": "agent", "assignee_id": agents[0], "project_id": "", "issue_title_template": "" }),
    ] {
        assert_eq!(patch(same.clone()).await.expect(200), made, "{same}");
    }
    let change = json!({
        "title": "new", "description": "d", "project_id": project, "assignee_type": "squad", "assignee_id": agents[1],
        "status": "paused", "execution_mode": "create_issue", "issue_title_template": "{{date}}",
    });
    let changed = patch(change.clone()).await.expect(200);
    assert_eq!(keys(&changed), AUTOPILOT);
    for (field, value) in change.as_object().unwrap() {
        assert_eq!(changed[field], *value, "{field}");
    }
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("autopilot:updated"), &json!({ "autopilot": changed })));
    // Of the same type as before.
    let moved = patch(json!({ "assignee_id": agents[0] })).await.expect(200);
    assert_eq!((&moved["assignee_type"], &moved["assignee_id"]), (&json!("squad"), &json!(agents[0])));
    browser.next().await;
    let cleared = json!({ "description": null, "project_id": null, "issue_title_template": null });
    let cleared = patch(cleared).await.expect(200);
    for field in ["description", "project_id", "issue_title_template"] {
        assert_eq!(cleared[field], Value::Null, "{field}");
    }
    assert_eq!(browser.next().await["payload"]["autopilot"], cleared);
    patch(json!({ "status": "archived" })).await.expect(200);
    browser.next().await;
    browser.quiet_for(Duration::from_millis(50)).await;
    let list = hub.cli("GET", "/api/autopilots?status=archived", Value::Null).await.expect(200);
    assert_eq!(list["total"], 1);
    // A project's end leaves it in peace.
    patch(json!({ "project_id": project })).await.expect(200);
    hub.cli("DELETE", &format!("/api/projects/{project}"), Value::Null).await.expect(204);
    let one = hub.cli("GET", &path(&made), Value::Null).await.expect(200);
    assert_eq!(one["autopilot"]["project_id"], Value::Null);
}

async fn work_is_given_to_whoever_may_be_given_it(backend: Backend) {
    let hub = Hub::start(backend).await;
    let plain = hub.member("plain@example.com", "member").await;
    let admin = hub.member("admin@example.com", "admin").await;
    let open = agent(&hub, "open").await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let private = id(&hub.cli("POST", "/api/agents", json!({ "name": "p", "runtime_id": runtime })).await.expect(201));
    squads(&hub).await;
    let wish = |kind: &str, id: Uuid| json!({ "title": "t", "assignee_type": kind, "assignee_id": id, "execution_mode": "run_only" });
    const CLOSED: &str = "you do not have access to this agent";
    let mine = hub.cli_as(&plain, "POST", "/api/autopilots", wish("agent", open)).await.expect(201);
    hub.cli_as(&admin, "POST", "/api/autopilots", wish("agent", private)).await.expect(201);
    let task = hub.app.mint_task_token(hub.workspace, me(&hub).await).await.unwrap();
    hub.cli_as(&task, "POST", "/api/autopilots", wish("agent", private)).await.expect(201);
    let theirs = hub.cli("POST", "/api/autopilots", wish("squad", private)).await.expect(201);
    // What it says is as good as talking to the agent.
    let change = json!({ "title": "u", "assignee_id": private });
    hub.cli_as(&plain, "PATCH", &path(&theirs), change.clone()).await.refused(403, CLOSED);
    assert_eq!(hub.cli_as(&admin, "PATCH", &path(&theirs), change).await.expect(200)["title"], "u");
    let before = hub.fingerprint().await;
    for kind in ["agent", "squad"] {
        hub.cli_as(&plain, "POST", "/api/autopilots", wish(kind, private)).await.refused(403, CLOSED);
        let change = json!({ "assignee_type": kind, "assignee_id": private });
        hub.cli_as(&plain, "PATCH", &path(&mine), change).await.refused(403, CLOSED);
    }
    assert_eq!(hub.fingerprint().await, before);

    hub.cli("POST", &format!("/api/agents/{private}/archive"), Value::Null).await.expect(200);
    let before = hub.fingerprint().await;
    for (kind, text) in [("agent", "agent is archived"), ("squad", "squad leader is archived")] {
        hub.cli("POST", "/api/autopilots", wish(kind, private)).await.refused(422, text);
        let change = json!({ "assignee_type": kind, "assignee_id": private });
        hub.cli("PATCH", &path(&mine), change).await.refused(422, text);
    }
    assert_eq!(hub.fingerprint().await, before);
    hub.sql("UPDATE squad SET archived_at = 1").await;
    hub.cli("POST", "/api/autopilots", wish("squad", open)).await.refused(422, "squad is archived");
    // Who has it keeps it.
    let change = json!({ "description": "d", "assignee_type": "squad", "assignee_id": private });
    hub.cli("PATCH", &path(&theirs), change).await.expect(200);
}

async fn subscribers_are_members(backend: Backend) {
    let hub = Hub::start(backend).await;
    let second = hub.member("second@example.com", "member").await;
    let second = id(&hub.call("GET", "/api/me", Some(&second), Value::Null).await.expect(200));
    let stranger = hub.stranger("s@example.com").await;
    let stranger = id(&hub.call("GET", "/api/me", Some(&stranger), Value::Null).await.expect(200));
    let me = me(&hub).await;
    let made = make(&hub).await;
    let (mut browser, _) = hub.browser().await;
    let people = |autopilot: &Value| -> Vec<String> {
        let list = autopilot["subscribers"].as_array().unwrap();
        list.iter().map(|one| one["user_id"].as_str().unwrap().to_owned()).collect()
    };
    let set = async |people: Value| hub.cli("PATCH", &path(&made), json!({ "subscribers": people })).await;

    let one = set(json!([{ "user_type": "member", "user_id": me }, { "user_id": me }])).await.expect(200);
    assert_eq!(people(&one), [me.to_string()], "nobody twice");
    assert_eq!(browser.next().await["payload"]["autopilot"], one);
    assert_eq!(set(json!([{ "user_id": me }])).await.expect(200), one);
    let two = set(json!([{ "user_id": second }, { "user_id": me }])).await.expect(200);
    assert_eq!(people(&two), [me.to_string(), second.to_string()], "oldest first");
    assert_eq!(two["subscribers"][0], one["subscribers"][0], "who is one stays it");
    assert_eq!(browser.next().await["payload"]["autopilot"], two);

    let before = hub.fingerprint().await;
    for bad in [json!(stranger), json!(Uuid::new_v4()), json!("x"), Value::Null] {
        let wish = json!([{ "user_id": me }, { "user_type": "member", "user_id": bad }]);
        set(wish).await.refused(400, "subscribers[1]: invalid user_id");
    }
    set(json!([{ "user_type": "agent", "user_id": me }]))
        .await
        .refused(400, "subscribers[0]: invalid user_type \"agent\"; valid values: member");
    assert_eq!(hub.fingerprint().await, before);

    let only = set(json!([{ "user_id": second }])).await.expect(200);
    assert_eq!(people(&only), [second.to_string()], "replaced");
    browser.next().await;
    // Who leaves the workspace is no longer one.
    let members = hub.get(&format!("/api/workspaces/{}/members", hub.workspace)).await.expect(200);
    let member = members.as_array().unwrap().iter().find(|member| member["user_id"] == json!(second)).unwrap();
    hub.delete(&format!("/api/workspaces/{}/members/{}", hub.workspace, id(member))).await.expect(204);
    let seen = hub.cli("GET", &path(&made), Value::Null).await.expect(200);
    assert_eq!(seen["autopilot"]["subscribers"], json!([]));
    set(json!([])).await.expect(200);
}

async fn whatever_is_wrong_is_refused_and_changes_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = make(&hub).await;
    let assignee = made["assignee_id"].clone();
    let elsewhere = hub.another_workspace("other").await;
    let runtime = hub.register_as(&hub.token, elsewhere, "e", &["claude"]).await[0];
    let there = |path: &str| format!("/api/{path}?workspace_id={elsewhere}");
    let wish = json!({ "name": "theirs", "runtime_id": runtime, "visibility": "workspace" });
    let foreign_agent = id(&hub.post(&there("agents"), wish).await.expect(201));
    let foreign_project = id(&hub.post(&there("projects"), json!({ "title": "p" })).await.expect(201));
    let wish = json!({ "title": "theirs", "assignee_id": foreign_agent, "execution_mode": "run_only" });
    let foreign = id(&hub.post(&there("autopilots"), wish).await.expect(201));
    let before = hub.fingerprint().await;

    let with = |field: &str, value: Value| {
        let mut body = json!({ "title": "t", "assignee_id": assignee, "execution_mode": "run_only" });
        body[field] = value;
        body
    };
    let template = "issue_title_template may contain only the variable {{date}}";
    for (body, text) in [
        (Value::Null, "title is required"),
        (with("title", json!(" ")), "title is required"),
        (with("title", json!(1)), "invalid request body"),
        (with("assignee_id", Value::Null), "assignee_id is required"),
        (with("assignee_id", json!("x")), "invalid assignee_id"),
        (with("assignee_id", json!(Uuid::new_v4())), "invalid assignee_id"),
        (with("assignee_id", json!(foreign_agent)), "invalid assignee_id"),
        (with("assignee_type", json!("squad")), "invalid assignee_id"),
        (with("assignee_type", json!("member")), "invalid assignee_type \"member\"; valid values: agent, squad"),
        (with("execution_mode", json!("")), "execution_mode is required"),
        (with("execution_mode", json!("x")), "invalid execution_mode \"x\"; valid values: create_issue, run_only"),
        (with("issue_title_template", json!("{{title}}")), template),
        (with("project_id", json!("x")), "invalid project_id"),
        (with("project_id", json!(Uuid::new_v4())), "invalid project_id"),
        (with("project_id", json!(foreign_project)), "invalid project_id"),
        (with("subscribers", json!([{ "user_id": "x" }])), "subscribers[0]: invalid user_id"),
    ] {
        hub.cli("POST", "/api/autopilots", body).await.refused(400, text);
    }
    hub.raw("POST", "/api/autopilots", Some(&hub.token), Vec::new(), &[("x-workspace-id", &hub.workspace.to_string())])
        .await
        .refused(400, "invalid request body");
    for (change, text) in [
        (json!({ "title": "" }), "title is required"),
        (json!({ "status": "x" }), "invalid status \"x\"; valid values: active, paused, archived"),
        (json!({ "execution_mode": "" }), "invalid execution_mode \"\"; valid values: create_issue, run_only"),
        (json!({ "issue_title_template": "{{ date }}" }), template),
        (json!({ "assignee_type": "agent" }), "assignee_type goes together with assignee_id"),
        (
            json!({ "assignee_type": "x", "assignee_id": assignee }),
            "invalid assignee_type \"x\"; valid values: agent, squad",
        ),
        (json!({ "assignee_id": "" }), "invalid assignee_id"),
        (json!({ "assignee_id": foreign_agent }), "invalid assignee_id"),
        (json!({ "project_id": foreign_project, "title": "new" }), "invalid project_id"),
        (json!({ "project_id": "x" }), "invalid project_id"),
        (json!({ "subscribers": "x" }), "invalid request body"),
    ] {
        hub.cli("PATCH", &path(&made), change).await.refused(400, text);
    }
    for missing in [foreign, Uuid::new_v4()] {
        let one = format!("/api/autopilots/{missing}");
        for (method, path, body) in [
            ("GET", one.clone(), Value::Null),
            ("PATCH", one.clone(), json!({ "title": "mine" })),
            ("DELETE", one.clone(), Value::Null),
            ("GET", format!("{one}/runs"), Value::Null),
            ("GET", format!("{one}/runs/{missing}"), Value::Null),
            ("POST", format!("{one}/triggers"), json!({ "kind": "schedule", "cron_expression": "* * * * *" })),
            ("PATCH", format!("{one}/triggers/{missing}"), json!({ "enabled": false })),
            ("DELETE", format!("{one}/triggers/{missing}"), Value::Null),
        ] {
            hub.cli(method, &path, body).await.refused(404, "autopilot not found");
        }
    }
    hub.cli("GET", "/api/autopilots/x", Value::Null).await.refused(400, "invalid autopilot_id");
    hub.cli("DELETE", &format!("{}/triggers/x", path(&made)), Value::Null).await.refused(400, "invalid trigger_id");
    hub.get("/api/autopilots").await.refused(400, "workspace_id or workspace_slug is required");
    assert_eq!(hub.fingerprint().await, before);
}

async fn an_autopilot_leaves_with_everything_of_its_own(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = make(&hub).await;
    hub.cli("PATCH", &path(&made), json!({ "subscribers": [{ "user_id": me(&hub).await }] })).await.expect(200);
    let wish = json!({ "kind": "schedule", "cron_expression": "* * * * *" });
    hub.cli("POST", &format!("{}/triggers", path(&made)), wish).await.expect(201);
    hub.sql(
        "INSERT INTO autopilot_run (id, autopilot_id, source, status, triggered_at, created_at)
         SELECT id, id, 'manual', 'running', 1, 1 FROM autopilot",
    )
    .await;
    let (mut browser, _) = hub.browser().await;
    hub.cli("DELETE", &path(&made), Value::Null).await.expect(204);
    let event = browser.next().await;
    assert_eq!(event["type"], "autopilot:deleted");
    assert_eq!(event["payload"], json!({ "autopilot_id": made["id"] }));
    for rows in [
        hub.rows("SELECT 'x' FROM autopilot_subscriber").await,
        hub.rows("SELECT 'x' FROM autopilot_trigger").await,
        hub.rows("SELECT 'x' FROM autopilot_run").await,
    ] {
        assert_eq!(rows.len(), 0);
    }
    hub.cli("DELETE", &path(&made), Value::Null).await.refused(404, "autopilot not found");
    browser.quiet_for(Duration::from_millis(50)).await;
}
