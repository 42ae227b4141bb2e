//! What a daemon is told about a task that it claimed.

use serde_json::{Value, json};
use uuid::Uuid;

use super::support::{Given, agent, ask, claim, give, given, given_and_ended, issue, run, statuses, task_path};
use crate::support::{
    Backend, Hub,
    hub::{id, keys},
};

on_both_stores!(
    a_claim_has_everything_that_a_daemon_needs,
    what_there_is_nothing_to_say_of_is_absent,
    a_project_s_repositories_override_the_workspace_s,
    a_comment_that_asks_comes_with_its_author_and_with_what_is_new,
    nothing_of_another_workspace_is_given,
    a_claim_costs_few_statements,
);

/// A hub with one runtime and one agent of the first owner.
pub async fn world(backend: Backend) -> (Hub, Uuid, Uuid) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = agent(&hub, "ann", runtime).await;
    (hub, runtime, agent)
}

pub async fn user(hub: &Hub, token: &str) -> Value {
    hub.call("GET", "/api/me", Some(token), Value::Null).await.expect(200)
}

async fn say(hub: &Hub, token: &str, issue: Uuid, content: &str, parent: Option<&Value>) -> Value {
    let wish = json!({ "content": content, "parent_id": parent.map(|parent| &parent["id"]) });
    hub.cli_as(token, "POST", &format!("/api/issues/{issue}/comments"), wish).await.expect(201)
}

pub async fn set_workspace(hub: &Hub, change: Value) {
    hub.patch(&format!("/api/workspaces/{}", hub.workspace), change).await.expect(200);
}

async fn a_claim_has_everything_that_a_daemon_needs(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    hub.patch("/api/me", json!({ "name": "Ann", "profile_description": "likes tests" })).await.expect(200);
    let repos = json!([{ "url": " https://h/ws ", "description": "all" }, { "url": "https://h/b" }]);
    set_workspace(&hub, json!({ "context": "Be kind", "repos": repos })).await;
    let mcp = json!({ "servers": { "a": { "token": "mcp-secret" } } });
    let gateway = json!({ "gateway": { "host": "h", "token": "gateway-secret" } });
    let wish = json!({
        "name": "bot", "runtime_id": runtime, "instructions": "do\u{0}it", "custom_env": { "KEY": "env-secret" },
        "custom_args": ["--x", ""], "mcp_config": mcp, "model": "opus", "thinking_level": "high",
        "runtime_config": gateway,
    });
    let agent = id(&hub.cli("POST", "/api/agents", wish).await.expect(201));
    let files = json!([
        { "path": "b/c.md", "content": "x" }, { "path": "a.md", "content": "" }, { "path": "evil", "content": "x" },
        { "path": "main", "content": "x" },
    ]);
    let wish = json!({ "name": "writing", "description": "d", "content": "c", "files": files });
    let writing = hub.cli("POST", "/api/skills", wish).await.expect(201);
    let bare = hub.cli("POST", "/api/skills", json!({ "name": "bare" })).await.expect(201);
    let skills = json!({ "skill_ids": [writing["id"], bare["id"]] });
    hub.cli("PUT", &format!("/api/agents/{agent}/skills"), skills).await.expect(200);
    // What should not be there is kept from the daemon: paths that lead out, another workspace's skill.
    let elsewhere = hub.another_workspace("elsewhere").await;
    hub.post(&format!("/api/skills?workspace_id={elsewhere}"), json!({ "name": "theirs" })).await.expect(201);
    hub.sql(
        "UPDATE skill_file SET path = '../evil' WHERE path = 'evil';
         UPDATE skill_file SET path = 'SKILL.md' WHERE path = 'main';
         INSERT INTO agent_skill (agent_id, skill_id, created_at)
         SELECT a.id, s.id, 1 FROM agent a, skill s WHERE a.name = 'bot' AND s.name = 'theirs'",
    )
    .await;

    let issue = issue(&hub, "Fix it").await;
    let task = given(&hub, Given { agent, runtime, issue: Some(issue), ..Given::default() }).await;
    let token = task["auth_token"].as_str().unwrap();
    assert!(token.starts_with("mat_") && token.len() == 44, "{token}");
    for time in ["created_at", "dispatched_at"] {
        assert!(task[time].as_str().unwrap().ends_with('Z'), "{time}: {task}");
    }
    assert_eq!(
        task,
        json!({
            "id": task["id"], "agent_id": agent, "runtime_id": runtime, "issue_id": issue,
            "workspace_id": hub.workspace, "status": "dispatched", "priority": 0,
            "dispatched_at": task["dispatched_at"], "started_at": null, "completed_at": null, "result": null,
            "error": null, "attempt": 1, "max_attempts": 2, "created_at": task["created_at"], "kind": "direct",
            "auth_token": token,
            "agent": {
                "id": agent, "name": "bot", "instructions": "do\u{FFFD}it",
                "skills": [
                    { "id": bare["id"], "name": "bare", "description": "", "content": "" },
                    {
                        "id": writing["id"], "name": "writing", "description": "d", "content": "c",
                        "files": [{ "path": "a.md", "content": "" }, { "path": "b/c.md", "content": "x" }],
                    },
                ],
                "custom_env": { "KEY": "env-secret" }, "custom_args": ["--x", ""], "mcp_config": mcp,
                "model": "opus", "thinking_level": "high", "runtime_config": gateway,
            },
            "workspace_context": "Be kind",
            "repos": [{ "url": "https://h/ws", "description": "all" }, { "url": "https://h/b" }],
            "thread_name": "Fix it",
            "requesting_user_name": "Ann", "requesting_user_profile_description": "likes tests",
        })
    );

    // Nobody else is told what is secret in it.
    let pending = hub.get(&format!("/api/daemon/runtimes/{runtime}/tasks/pending")).await.expect(200);
    assert_eq!((id(&pending[0]), pending.as_array().unwrap().len()), (id(&task), 1));
    let started = hub.post(&task_path(&task, "start"), json!({})).await.expect(200);
    let mut told = hub.rows("SELECT payload FROM event_log").await;
    assert!(told.iter().any(|payload| payload.contains(task["id"].as_str().unwrap())), "it was told of");
    told.extend([pending.to_string(), started.to_string()]);
    for text in told {
        for secret in ["env-secret", "mcp-secret", "gateway-secret", "mat_"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

async fn what_there_is_nothing_to_say_of_is_absent(backend: Backend) {
    let (hub, runtime, agent) = world(backend).await;
    let issue = issue(&hub, "Plain").await;
    hub.sql("UPDATE agent SET mcp_config = 'null', runtime_config = 'null'").await;
    let task = given(&hub, Given { agent, runtime, issue: Some(issue), ..Given::default() }).await;
    assert_eq!(task["agent"], json!({ "id": agent, "name": "ann", "instructions": "" }));
    assert_eq!((&task["workspace_context"], &task["repos"]), (&json!(""), &json!([])));
    assert_eq!(
        keys(&task),
        [
            "agent",
            "agent_id",
            "attempt",
            "auth_token",
            "completed_at",
            "created_at",
            "dispatched_at",
            "error",
            "id",
            "issue_id",
            "kind",
            "max_attempts",
            "priority",
            "repos",
            "requesting_user_name",
            "result",
            "runtime_id",
            "started_at",
            "status",
            "thread_name",
            "workspace_context",
            "workspace_id",
        ]
    );
    assert_eq!(ask(&hub, &hub.token, runtime).await.expect(200), json!({ "task": null }), "nothing more to do");
}

async fn a_project_s_repositories_override_the_workspace_s(backend: Backend) {
    let (hub, runtime, agent) = world(backend).await;
    set_workspace(&hub, json!({ "repos": [{ "url": "https://h/ws" }] })).await;
    let folder = json!({ "local_path": "/src", "daemon_id": "d" });
    let wish = json!({ "title": "Site", "resources": [
        { "resource_type": "local_directory", "resource_ref": folder },
    ] });
    let project = hub.cli("POST", "/api/projects", wish).await.expect(201);
    let wish = json!({ "title": "t", "project_id": project["id"] });
    let issue = id(&hub.cli("POST", "/api/issues", wish).await.expect(201));
    let wish = Given { agent, runtime, issue: Some(issue), ..Given::default() };
    let task = given_and_ended(&hub, wish.clone()).await;
    assert_eq!(task["repos"], json!([{ "url": "https://h/ws" }]));
    assert_eq!((&task["project_id"], &task["project_title"]), (&project["id"], &json!("Site")));
    let folder = json!({
        "id": project["resources"][0]["id"], "resource_type": "local_directory", "resource_ref": folder,
    });
    assert_eq!(task["project_resources"], json!([folder]));

    let repo = json!({ "url": "https://h/own", "default_branch_hint": "main" });
    let wanted = json!({ "resource_type": "github_repo", "resource_ref": repo, "label": "code" });
    let resources = format!("/api/projects/{}/resources", id(&project));
    let made = hub.cli("POST", &resources, wanted).await.expect(201);
    let task = given(&hub, wish).await;
    assert_eq!(task["repos"], json!([{ "url": "https://h/own" }]), "the project's only");
    let repo = json!({ "id": made["id"], "resource_type": "github_repo", "resource_ref": repo, "label": "code" });
    assert_eq!(task["project_resources"], json!([folder, repo]));
}

async fn a_comment_that_asks_comes_with_its_author_and_with_what_is_new(backend: Backend) {
    let (hub, runtime, agent) = world(backend).await;
    let member = hub.member("m@example.com", "member").await;
    let (me, them) = (user(&hub, &hub.token).await, user(&hub, &member).await);
    let issue = issue(&hub, "Talk").await;
    let root = say(&hub, &member, issue, "root", None).await;
    let answer = say(&hub, &hub.token, issue, "answer", Some(&root)).await;
    let deep = say(&hub, &member, issue, "deep", Some(&answer)).await;
    let asked = |trigger: &Value| Given {
        agent,
        runtime,
        issue: Some(issue),
        trigger: Some(id(trigger)),
        initiator: Some(id(&me)),
        ..Given::default()
    };

    // Never there before: nothing is new. The author asks, whoever the task remembers.
    let task = given_and_ended(&hub, asked(&root)).await;
    assert_eq!((&task["trigger_comment_id"], &task["trigger_thread_id"]), (&root["id"], &root["id"]));
    assert_eq!((&task["kind"], &task["trigger_comment_content"]), (&json!("comment"), &json!("root")));
    assert_eq!((&task["trigger_author_type"], &task["trigger_author_name"]), (&json!("member"), &them["name"]));
    assert_eq!((&task["initiator_type"], &task["initiator_id"]), (&json!("member"), &them["id"]));
    assert_eq!((&task["initiator_name"], &task["initiator_email"]), (&them["name"], &json!("m@example.com")));
    assert_eq!(task["thread_name"], "Talk");
    let is_silent = |task: &Value| task.get("new_comment_count").is_none() && task.get("new_comments_since").is_none();
    assert!(is_silent(&task), "{task}");

    // Since the last run: what others said in any thread, not what asks, not the agent's own, not what
    // was said before.
    hub.sql("UPDATE comment SET created_at = 1").await;
    let before =
        Given { status: "failed", dispatched: Some(61), started: Some(60), completed: Some(1), ..asked(&root) };
    give(&hub, &before).await;
    let own = hub.app.mint_agent_token(hub.workspace, id(&me), agent).await.unwrap();
    say(&hub, &own, issue, "own", Some(&root)).await;
    let trigger = say(&hub, &member, issue, "again", Some(&deep)).await;
    let task = given_and_ended(&hub, asked(&trigger)).await;
    assert_eq!(task["trigger_thread_id"], root["id"], "a thread is its first comment, however deep the answer");
    assert!(is_silent(&task), "only what asks is new: {task}");
    say(&hub, &member, issue, "one", Some(&root)).await;
    say(&hub, &hub.token, issue, "two", None).await;
    let task = given_and_ended(&hub, asked(&trigger)).await;
    assert_eq!(task["new_comment_count"], 2);
    let since = task["new_comments_since"].as_str().unwrap();
    assert!(since.ends_with('Z') && since < task["dispatched_at"].as_str().unwrap(), "{task}");

    // An agent that asks has no address.
    let other = super::support::agent(&hub, "bob", runtime).await;
    let theirs = hub.app.mint_agent_token(hub.workspace, id(&me), other).await.unwrap();
    let trigger = say(&hub, &theirs, issue, "from an agent", None).await;
    let task = given_and_ended(&hub, asked(&trigger)).await;
    assert_eq!((&task["trigger_author_type"], &task["trigger_author_name"]), (&json!("agent"), &json!("bob")));
    assert_eq!((&task["initiator_type"], &task["initiator_id"]), (&json!("agent"), &json!(other)));
    assert_eq!((&task["initiator_name"], task.get("initiator_email")), (&json!("bob"), None));

    // The hub itself asks for nobody: then it is who the task remembers, if it does.
    hub.sql("UPDATE comment SET author_type = 'system' WHERE content = 'from an agent'").await;
    let task = given_and_ended(&hub, asked(&trigger)).await;
    assert_eq!((&task["trigger_author_type"], task.get("trigger_author_name")), (&json!("system"), None));
    assert_eq!((&task["initiator_id"], &task["initiator_email"]), (&me["id"], &me["email"]));
    let task = given_and_ended(&hub, Given { initiator: None, ..asked(&trigger) }).await;
    assert_eq!(task.get("initiator_type"), None, "{task}");

    // Nothing is told of another issue's comment.
    let another = super::support::issue(&hub, "another").await;
    let task = given(&hub, Given { issue: Some(another), initiator: None, ..asked(&root) }).await;
    let told: Vec<&str> = keys(&task).into_iter().filter(|key| key.starts_with("trigger_")).collect();
    assert_eq!(told, ["trigger_comment_id"]);
}

async fn nothing_of_another_workspace_is_given(backend: Backend) {
    let (hub, runtime, agent) = world(backend).await;
    let elsewhere = hub.another_workspace("elsewhere").await;
    let at = |path: &str| format!("{path}?workspace_id={elsewhere}");
    let away = hub.register_as(&hub.token, elsewhere, "e", &["claude"]).await[0];
    let wish = json!({ "name": "theirs", "runtime_id": away });
    let their_agent = id(&hub.post(&at("/api/agents"), wish).await.expect(201));
    let their_issue = id(&hub.post(&at("/api/issues"), json!({ "title": "Theirs" })).await.expect(201));
    let wish = json!({ "agent_id": their_agent, "title": "Theirs" });
    let their_chat = id(&hub.post(&at("/api/chat/sessions"), wish).await.expect(201));
    let wish = json!({
        "title": "Theirs", "assignee_type": "agent", "assignee_id": their_agent, "execution_mode": "run_only",
    });
    let their_autopilot = id(&hub.post(&at("/api/autopilots"), wish).await.expect(201));
    let their_run = run(&hub, their_autopilot, None).await;
    let mine = issue(&hub, "Mine").await;
    let of = Given { agent, runtime, ..Given::default() };
    let wish = |workspace: Value| json!({ "type": "quick_create", "prompt": "Theirs", "workspace_id": workspace });
    let unfit = [
        Given { issue: Some(their_issue), ..of.clone() },
        Given { chat: Some(their_chat), ..of.clone() },
        Given { run: Some(their_run), ..of.clone() },
        Given { context: Some(wish(json!(elsewhere))), ..of.clone() },
        // The whole task is theirs.
        Given { issue: Some(their_issue), workspace: Some(elsewhere), ..of.clone() },
        Given { issue: Some(mine), workspace: Some(elsewhere), ..of.clone() },
        // About nothing, or about what is gone.
        Given { issue: Some(Uuid::now_v7()), ..of.clone() },
        Given { chat: Some(Uuid::now_v7()), ..of.clone() },
        Given { run: Some(Uuid::now_v7()), ..of.clone() },
        Given { context: Some(wish(Value::Null)), ..of.clone() },
        Given { context: Some(json!({ "workspace_id": hub.workspace, "prompt": "p" })), ..of.clone() },
        Given { context: Some(json!("text")), ..of.clone() },
        of.clone(),
    ];
    for (n, task) in unfit.iter().enumerate() {
        give(&hub, task).await;
        let answer = ask(&hub, &hub.token, runtime).await;
        assert_eq!(answer.status, 500, "{n}: {}", answer.text);
        assert!(!answer.text.contains("Theirs"), "{n}: {}", answer.text);
        assert_eq!(statuses(&hub).await, vec!["cancelled"; n + 1], "{n}: the agent is free again");
        assert_eq!(hub.rows("SELECT 'token' FROM task_token").await.len(), 0, "{n}");
        assert_eq!(ask(&hub, &hub.token, runtime).await.expect(200), json!({ "task": null }), "{n}");
    }
    let told = hub.rows("SELECT kind FROM event_log WHERE kind LIKE 'task:%'").await;
    assert_eq!(told, vec!["task:cancelled"; unfit.len()], "each is announced, none as given");
    assert_eq!(hub.rows("SELECT status FROM agent WHERE name = 'ann' AND status = 'working'").await.len(), 0);
    given(&hub, Given { issue: Some(mine), ..of }).await;
}

async fn a_claim_costs_few_statements(backend: Backend) {
    let (hub, runtime, agent) = world(backend).await;
    let bare = issue(&hub, "bare").await;
    let project = hub.cli("POST", "/api/projects", json!({ "title": "p" })).await.expect(201);
    let squad = hub.cli("POST", "/api/squads", json!({ "name": "s", "leader_id": agent })).await.expect(201);
    let wish = json!({
        "title": "full", "project_id": project["id"], "assignee_type": "squad", "assignee_id": squad["id"],
    });
    let full = id(&hub.cli("POST", "/api/issues", wish).await.expect(201));
    let comment = id(&say(&hub, &hub.token, full, "c", None).await);
    let wish = json!({ "agent_id": agent, "title": "t" });
    let chat = id(&hub.cli("POST", "/api/chat/sessions", wish).await.expect(201));
    hub.cli("POST", &format!("/api/chat/sessions/{chat}/messages"), json!({ "content": "c" })).await.expect(201);
    let wish = json!({ "title": "a", "assignee_type": "agent", "assignee_id": agent, "execution_mode": "run_only" });
    let autopilot = id(&hub.cli("POST", "/api/autopilots", wish).await.expect(201));
    let run = run(&hub, autopilot, None).await;
    let context = json!({ "type": "quick_create", "prompt": "p", "workspace_id": hub.workspace });
    let of = Given { agent, runtime, ..Given::default() };
    let kinds = [
        ("an issue", Given { issue: Some(bare), ..of.clone() }, ISSUE),
        ("a squad's comment", Given { issue: Some(full), trigger: Some(comment), ..of.clone() }, ISSUE + 5),
        ("a chat", Given { chat: Some(chat), ..of.clone() }, ISSUE + 2),
        ("a run", Given { run: Some(run), ..of.clone() }, ISSUE - 1),
        ("a wish", Given { context: Some(context), ..of.clone() }, ISSUE - 2),
    ];
    hub.sql("UPDATE task SET status = 'cancelled', completed_at = 1").await;
    // The runtime and its owner are believed from here on.
    assert_eq!(ask(&hub, &hub.token, runtime).await.expect(200), json!({ "task": null }));
    for (kind, task, expected) in kinds {
        let mut least = u64::MAX;
        for _ in 0..4 {
            give(&hub, &task).await;
            let before = hub.app.statements();
            claim(&hub, runtime).await;
            least = least.min(hub.app.statements() - before);
            hub.sql_unnoticed(
                "UPDATE task SET status = 'cancelled', completed_at = 1; UPDATE agent SET status = 'idle'",
            )
            .await;
        }
        // SQLite logs its two events one by one.
        assert_eq!(least, expected + u64::from(backend == Backend::Sqlite), "{kind}");
    }
}

/// One to look, four of the transaction and its events, then: runtime, agent, a task that was lost, the
/// next task; issue, token, workspace, skills, earlier session; the agent's status. A comment costs two
/// more, a project one, a squad one and its leader's briefing another; a chat's messages one and what is
/// attached another.
const ISSUE: u64 = 15;
