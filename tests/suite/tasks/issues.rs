//! Work that issues ask for and end.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Backend, Hub, Socket,
    fleet::acked,
    hub::{Answer, id},
    postgres,
    race::rounds,
};

on_both_stores!(
    an_issue_that_is_given_to_somebody_sets_them_to_work,
    a_squad_s_leader_begins_only_where_it_can,
    whoever_is_given_an_issue_takes_over,
    an_issue_that_leaves_the_backlog_is_begun,
    work_ends_with_a_cancelled_or_removed_issue_and_not_with_one_that_is_done,
    a_part_that_is_done_is_told_to_the_whole,
    the_daemon_is_woken_when_there_is_something_to_claim,
    what_runs_outlives_its_squad_and_its_project,
    an_issue_that_is_refused_sets_nobody_to_work,
);

/// A hub with a daemon, agents and a browser that sees everything.
pub(super) struct World {
    pub hub: Hub,
    pub runtime: Uuid,
    pub me: Uuid,
    browser: Socket,
    names: BTreeMap<String, String>,
}

impl World {
    pub async fn start(backend: Backend) -> Self {
        let hub = Hub::start(backend).await;
        let me = id(&hub.get("/api/me").await.expect(200));
        let runtime = hub.register("d", &["claude"]).await[0];
        let (browser, _) = hub.browser().await;
        Self { hub, runtime, me, browser, names: BTreeMap::new() }
    }

    /// An agent that everybody may use.
    pub async fn agent(&mut self, name: &str) -> Uuid {
        self.agent_with(json!({ "name": name, "visibility": "workspace" })).await
    }

    pub async fn agent_with(&mut self, mut wish: Value) -> Uuid {
        wish["runtime_id"] = json!(self.runtime);
        let agent = id(&self.hub.cli("POST", "/api/agents", wish.clone()).await.expect(201));
        self.names.insert(agent.to_string(), wish["name"].as_str().unwrap().to_owned());
        agent
    }

    pub async fn squad(&self, name: &str, leader: Uuid) -> Uuid {
        id(&self.hub.cli("POST", "/api/squads", json!({ "name": name, "leader_id": leader })).await.expect(201))
    }

    pub async fn issue(&self, wish: Value) -> Uuid {
        let mut wish = wish;
        wish["title"] = json!(Uuid::new_v4());
        id(&self.hub.cli("POST", "/api/issues", wish).await.expect(201))
    }

    /// One that is an agent's or a squad's.
    pub async fn issue_of(&self, kind: &str, who: Uuid) -> Uuid {
        self.issue(json!({ "assignee_type": kind, "assignee_id": who })).await
    }

    pub async fn put(&self, issue: Uuid, change: Value) -> Value {
        self.hub.cli("PUT", &format!("/api/issues/{issue}"), change).await.expect(200)
    }

    pub async fn try_say(&self, token: &str, issue: Uuid, content: &str, parent: Option<Uuid>) -> Answer {
        let wish = json!({ "content": content, "parent_id": parent });
        self.hub.cli_as(token, "POST", &format!("/api/issues/{issue}/comments"), wish).await
    }

    pub async fn say_as(&self, token: &str, issue: Uuid, content: &str, parent: Option<Uuid>) -> Uuid {
        id(&self.try_say(token, issue, content, parent).await.expect(201))
    }

    pub async fn say(&self, issue: Uuid, content: &str, parent: Option<Uuid>) -> Uuid {
        self.say_as(&self.hub.token, issue, content, parent).await
    }

    /// What the daemon gets when it asks for work.
    pub async fn claim(&self) -> Value {
        let path = format!("/api/daemon/runtimes/{}/tasks/claim", self.runtime);
        self.hub.post(&path, Value::Null).await.expect(200)["task"].clone()
    }

    /// A task that runs, and the token that its agent acts by.
    pub async fn run(&self) -> (Uuid, String) {
        let task = self.claim().await;
        let token = task["auth_token"].as_str().expect("something to claim").to_owned();
        let path = format!("/api/daemon/tasks/{}/start", id(&task));
        self.hub.post(&path, Value::Null).await.expect(200);
        (id(&task), token)
    }

    pub async fn complete(&self, task: Uuid) {
        self.hub.post(&format!("/api/daemon/tasks/{task}/complete"), json!({})).await.expect(200);
    }

    /// What the browser was told since it was last asked, in brief and in order.
    pub async fn told(&mut self) -> Vec<String> {
        self.frames().await.iter().map(|frame| self.brief(frame)).collect()
    }

    /// The same in full.
    pub async fn frames(&mut self) -> Vec<Value> {
        self.hub.app.emit(&[(self.hub.workspace, 1)], "mark", 0).await.unwrap();
        let mut frames = Vec::new();
        loop {
            let frame = self.browser.next().await;
            match frame["type"].as_str().unwrap() {
                "test:event" => return frames,
                "heartbeat" => {}
                _ => frames.push(frame),
            }
        }
    }

    fn brief(&self, frame: &Value) -> String {
        let kind = frame["type"].as_str().unwrap();
        let name = |id: &Value| self.names[id.as_str().unwrap()].clone();
        match kind {
            "agent:status" => {
                let agent = &frame["payload"]["agent"];
                format!("agent:status {} {}", name(&agent["id"]), agent["status"].as_str().unwrap())
            }
            _ if kind.starts_with("task:") => format!("{kind} {}", name(&frame["payload"]["agent_id"])),
            _ => kind.to_owned(),
        }
    }

    /// All tasks, oldest first.
    pub async fn tasks(&self) -> Vec<String> {
        const ALL: &str = "SELECT a.name || ' ' || t.status || CASE WHEN t.is_leader_task THEN ' leads' ELSE '' END
                || CASE WHEN t.force_fresh_session THEN ' fresh' ELSE '' END || ' p' || t.priority
                || COALESCE(' by ' || t.trigger_summary, '')
            FROM task t JOIN agent a ON a.id = t.agent_id ORDER BY t.created_at, t.id";
        self.hub.rows(ALL).await
    }

    /// Forgets all tasks and what was told.
    pub async fn clear(&mut self) {
        self.hub.sql("DELETE FROM task").await;
        self.hub.sql("UPDATE agent SET status = 'idle'").await;
        self.told().await;
    }
}

async fn an_issue_that_is_given_to_somebody_sets_them_to_work(backend: Backend) {
    let mut world = World::start(backend).await;
    let ann = world.agent("ann").await;
    let lea = world.agent("lea").await;
    let core = world.squad("core", lea).await;
    world.told().await;

    let issue = world.issue(json!({ "assignee_type": "agent", "assignee_id": ann, "priority": "high" })).await;
    let frames = world.frames().await;
    let kinds: Vec<&Value> = frames.iter().map(|frame| &frame["type"]).collect();
    assert_eq!(kinds, ["issue:created", "task:queued"]);
    let queued = &frames[1];
    assert_eq!(
        queued["payload"],
        json!({ "task_id": queued["payload"]["task_id"], "agent_id": ann, "issue_id": issue, "status": "queued" })
    );
    assert_eq!((&queued["actor_type"], &queued["actor_id"]), (&json!("system"), &json!("")));
    assert_eq!(world.tasks().await, ["ann queued p3"]);
    let claimed = world.claim().await;
    assert_eq!((&claimed["id"], &claimed["kind"]), (&queued["payload"]["task_id"], &json!("direct")));
    assert!(claimed.get("trigger_comment_id").is_none(), "{claimed}");
    world.clear().await;

    for (priority, rank) in [("urgent", 4), ("high", 3), ("medium", 2), ("low", 1), ("none", 0)] {
        world.issue(json!({ "assignee_type": "agent", "assignee_id": ann, "priority": priority })).await;
        assert_eq!(world.tasks().await, [format!("ann queued p{rank}")]);
        world.clear().await;
    }

    world.issue_of("squad", core).await;
    assert_eq!(world.told().await, ["issue:created", "task:queued lea"]);
    assert_eq!(world.tasks().await, ["lea queued leads p0"]);
    world.clear().await;

    world.issue(json!({ "assignee_type": "agent", "assignee_id": ann, "status": "backlog" })).await;
    world.issue(json!({ "assignee_type": "squad", "assignee_id": core, "status": "backlog" })).await;
    world.issue(json!({ "assignee_type": "member", "assignee_id": world.me })).await;
    world.issue(json!({})).await;
    assert_eq!(world.told().await, ["issue:created"; 4]);
    assert!(world.tasks().await.is_empty());

    // An agent sets another one to work.
    let token = world.hub.app.mint_agent_token(world.hub.workspace, world.me, lea).await.unwrap();
    let wish = json!({ "title": "by an agent", "assignee_type": "agent", "assignee_id": ann });
    world.hub.cli_as(&token, "POST", "/api/issues", wish).await.expect(201);
    assert_eq!(world.told().await, ["issue:created", "task:queued ann"]);
}

async fn a_squad_s_leader_begins_only_where_it_can(backend: Backend) {
    let mut world = World::start(backend).await;
    let ann = world.agent("ann").await;
    let lea = world.agent("lea").await;
    let core = world.squad("core", lea).await;
    world.hub.post("/api/daemon/deregister", json!({ "runtime_ids": [world.runtime] })).await.expect(200);
    world.told().await;

    world.issue_of("squad", core).await;
    assert_eq!(world.told().await, ["issue:created"], "its runtime is away");
    world.issue_of("agent", ann).await;
    assert_eq!(world.told().await, ["issue:created", "task:queued ann"], "an agent's work waits for its runtime");
    let waiting = world.issue(json!({ "assignee_type": "squad", "assignee_id": core, "status": "backlog" })).await;
    world.put(waiting, json!({ "status": "todo" })).await;
    assert_eq!(world.told().await, ["issue:created", "issue:updated"]);
    // What is said reaches it all the same.
    world.say(waiting, "go on", None).await;
    assert_eq!(world.told().await, ["comment:created", "task:queued lea"]);
    assert_eq!(world.tasks().await, ["ann queued p0", "lea queued leads p0 by go on"]);
}

async fn whoever_is_given_an_issue_takes_over(backend: Backend) {
    let mut world = World::start(backend).await;
    let (ann, bob, cat) = (world.agent("ann").await, world.agent("bob").await, world.agent("cat").await);
    let core = world.squad("core", cat).await;
    let issue = world.issue_of("agent", ann).await;
    let (_, token) = world.run().await;
    world.say(issue, &format!("[@bob](mention://agent/{bob})"), None).await;
    world.told().await;

    // Everybody's work on it ends, told after the change and before the new work.
    world.put(issue, json!({ "assignee_type": "agent", "assignee_id": cat, "priority": "low" })).await;
    let told = world.told().await;
    let expected =
        ["issue:updated", "agent:status ann idle", "task:cancelled ann", "task:cancelled bob", "task:queued cat"];
    assert_eq!(told, expected);
    assert_eq!(world.tasks().await[2], "cat queued p1");
    world.hub.cli_as(&token, "GET", "/api/issues", Value::Null).await.refused(401, "invalid token");

    // The same again changes nothing.
    world.put(issue, json!({ "assignee_type": "agent", "assignee_id": cat })).await;
    assert!(world.told().await.is_empty());
    // Who is not to go on is not stopped by that alone.
    world.put(issue, json!({ "assignee_id": null, "assignee_type": null })).await;
    assert_eq!(world.told().await, ["issue:updated"]);
    // A person takes over.
    world.put(issue, json!({ "assignee_type": "member", "assignee_id": world.me })).await;
    assert_eq!(world.told().await, ["issue:updated", "task:cancelled cat"]);
    world.put(issue, json!({ "assignee_type": "squad", "assignee_id": core })).await;
    assert_eq!(world.told().await, ["issue:updated", "task:queued cat"]);
    assert!(world.tasks().await[3].starts_with("cat queued leads"));
    // The same agent, not as a leader.
    world.put(issue, json!({ "assignee_type": "agent", "assignee_id": cat })).await;
    assert_eq!(world.told().await, ["issue:updated", "task:cancelled cat", "task:queued cat"]);
    // Given to somebody and put off at once.
    world.put(issue, json!({ "assignee_type": "agent", "assignee_id": ann, "status": "backlog" })).await;
    assert_eq!(world.told().await, ["issue:updated", "task:cancelled cat"]);
    // Given to somebody and taken out of the backlog at once: begun once.
    world.put(issue, json!({ "assignee_type": "agent", "assignee_id": bob, "status": "todo" })).await;
    assert_eq!(world.told().await, ["issue:updated", "task:queued bob"]);
    // Given to somebody and called off at once.
    world.put(issue, json!({ "assignee_type": "agent", "assignee_id": ann, "status": "cancelled" })).await;
    assert_eq!(world.told().await, ["issue:updated", "task:cancelled bob"]);
    // By its id alone, or its kind alone where nothing else changes.
    world.put(issue, json!({ "assignee_id": cat, "status": "todo" })).await;
    assert_eq!(world.told().await, ["issue:updated", "task:queued cat"]);
    world.put(issue, json!({ "title": "other", "assignee_type": "agent" })).await;
    assert_eq!(world.told().await, ["issue:updated"]);
}

async fn an_issue_that_leaves_the_backlog_is_begun(backend: Backend) {
    let mut world = World::start(backend).await;
    let (ann, lea) = (world.agent("ann").await, world.agent("lea").await);
    let core = world.squad("core", lea).await;
    let put_off =
        |kind: &'static str, who: Uuid| json!({ "assignee_type": kind, "assignee_id": who, "status": "backlog" });
    for (kind, who, name) in [("agent", ann, "ann"), ("squad", core, "lea")] {
        for status in ["todo", "in_progress", "in_review", "blocked"] {
            let issue = world.issue(put_off(kind, who)).await;
            world.told().await;
            world.put(issue, json!({ "status": status })).await;
            assert_eq!(world.told().await, ["issue:updated".to_owned(), format!("task:queued {name}")], "{status}");
        }
        for status in ["done", "cancelled"] {
            let issue = world.issue(put_off(kind, who)).await;
            world.told().await;
            world.put(issue, json!({ "status": status })).await;
            assert_eq!(world.told().await, ["issue:updated"], "{status}");
        }
    }
    world.clear().await;
    // Between other statuses nobody is woken.
    let issue = world.issue(put_off("agent", ann)).await;
    world.put(issue, json!({ "status": "todo", "assignee_id": null })).await;
    world.put(issue, json!({ "status": "done" })).await;
    world.put(issue, json!({ "status": "todo", "priority": "low" })).await;
    world.put(issue, json!({ "status": "backlog" })).await;
    assert!(world.tasks().await.is_empty());
    // A leader that has something to do for it is not asked twice.
    let issue = world.issue(put_off("squad", core)).await;
    world.say(issue, "think about it", None).await;
    world.told().await;
    world.put(issue, json!({ "status": "todo" })).await;
    assert_eq!(world.told().await, ["issue:updated"]);
    world.clear().await;

    // An agent that takes up its own issue in its task is at it already.
    let own = world.issue(put_off("agent", ann)).await;
    let other = world.issue(put_off("agent", ann)).await;
    world.say(own, "now", None).await;
    let (_, token) = world.run().await;
    world.told().await;
    let change = json!({ "status": "in_progress" });
    world.hub.cli_as(&token, "PUT", &format!("/api/issues/{own}"), change.clone()).await.expect(200);
    assert_eq!(world.told().await, ["issue:updated"]);
    world.hub.cli_as(&token, "PUT", &format!("/api/issues/{other}"), change).await.expect(200);
    assert_eq!(world.told().await, ["issue:updated", "task:queued ann"]);
}

async fn work_ends_with_a_cancelled_or_removed_issue_and_not_with_one_that_is_done(backend: Backend) {
    let mut world = World::start(backend).await;
    let (ann, bob) = (world.agent("ann").await, world.agent("bob").await);
    for end in ["cancelled", "deleted"] {
        let issue = world.issue_of("agent", ann).await;
        let (task, token) = world.run().await;
        world.say(issue, &format!("[@bob](mention://agent/{bob})"), None).await;
        world.told().await;
        let ended = ["agent:status ann idle", "task:cancelled ann", "task:cancelled bob"];
        if end == "deleted" {
            world.hub.cli("DELETE", &format!("/api/issues/{issue}"), Value::Null).await.expect(204);
            assert_eq!(world.told().await, [&ended[..], &["issue:deleted"]].concat());
        } else {
            world.put(issue, json!({ "status": "cancelled" })).await;
            assert_eq!(world.told().await, [&["issue:updated"], &ended[..]].concat());
            world.put(issue, json!({ "priority": "low" })).await;
            assert_eq!(world.told().await, ["issue:updated"]);
        }
        world.hub.cli_as(&token, "GET", "/api/issues", Value::Null).await.refused(401, "invalid token");
        let status = world.hub.get(&format!("/api/daemon/tasks/{task}/status")).await.expect(200);
        assert_eq!(status, json!({ "status": "cancelled" }));
    }
    let issue = world.issue_of("agent", ann).await;
    world.run().await;
    world.told().await;
    world.put(issue, json!({ "status": "done" })).await;
    assert_eq!(world.told().await, ["issue:updated"], "its agent brings it to an end");
}

async fn a_part_that_is_done_is_told_to_the_whole(backend: Backend) {
    let mut world = World::start(backend).await;
    let (ann, bob, lea) = (world.agent("ann").await, world.agent("bob").await, world.agent("lea").await);
    let (core, crew) = (world.squad("core", lea).await, world.squad("crew", lea).await);
    let done = json!({ "status": "done" });
    let below = |parent: Uuid, kind: &str, who: Uuid| json!({ "parent_issue_id": parent, "assignee_type": kind, "assignee_id": who, "status": "backlog" });

    // An agent's: it is woken by the comment.
    let whole = world
        .issue(json!({ "assignee_type": "agent", "assignee_id": ann, "status": "backlog", "priority": "urgent" }))
        .await;
    let part = world.issue(below(whole, "agent", bob)).await;
    world.told().await;
    let part_now = world.put(part, done.clone()).await;
    let frames = world.frames().await;
    let kinds: Vec<&Value> = frames.iter().map(|frame| &frame["type"]).collect();
    assert_eq!(kinds, ["issue:updated", "comment:created", "task:queued"]);
    let comment = &frames[1]["payload"]["comment"];
    assert_eq!((&comment["author_type"], &comment["issue_id"]), (&json!("system"), &json!(whole)));
    assert_eq!(frames[2]["payload"]["issue_id"], json!(whole));
    let short = comment["content"].as_str().unwrap();
    assert_eq!(world.tasks().await, [format!("ann queued p4 by {short}")]);
    assert!(short.contains(part_now["title"].as_str().unwrap()));
    // One that waits sees to it.
    let part = world.issue(below(whole, "agent", ann)).await;
    world.told().await;
    world.put(part, done.clone()).await;
    assert_eq!(world.told().await, ["issue:updated", "comment:created"]);
    // Another time of being done is told again, an edit of one that is done is not.
    world.put(part, json!({ "status": "done", "priority": "low" })).await;
    assert_eq!(world.told().await, ["issue:updated"]);
    world.clear().await;
    // The agent that did the part is told as well, about the whole.
    let part = world.issue(below(whole, "agent", ann)).await;
    world.told().await;
    world.put(part, done.clone()).await;
    assert_eq!(world.told().await, ["issue:updated", "comment:created", "task:queued ann"]);
    world.clear().await;

    // A squad's: its leader, unless it knows.
    let whole = world.issue(json!({ "assignee_type": "squad", "assignee_id": core, "status": "backlog" })).await;
    for (kind, who, woken) in [
        ("squad", core, false),
        ("squad", crew, false),
        ("agent", lea, false),
        ("agent", bob, true),
        ("member", world.me, true),
    ] {
        let part = world.issue(below(whole, kind, who)).await;
        world.told().await;
        world.put(part, done.clone()).await;
        let mut expected = vec!["issue:updated", "comment:created"];
        if woken {
            expected.push("task:queued lea");
            assert!(world.tasks().await[0].starts_with("lea queued leads"));
        }
        assert_eq!(world.told().await, expected, "{kind}");
        world.clear().await;
    }

    // Nobody reads it for work.
    for (whole, comments) in [
        (json!({ "assignee_type": "member", "assignee_id": world.me }), false),
        (json!({ "assignee_type": "agent", "assignee_id": ann, "status": "done" }), false),
        (json!({ "assignee_type": "agent", "assignee_id": ann, "status": "cancelled" }), false),
        (json!({}), true),
    ] {
        let whole = world.issue(whole).await;
        let part = world.issue(json!({ "parent_issue_id": whole })).await;
        world.clear().await;
        world.put(part, done.clone()).await;
        let expected: &[&str] = if comments { &["issue:updated", "comment:created"] } else { &["issue:updated"] };
        assert_eq!(world.told().await, expected);
    }
    // Put below it and done at once; and one whose agent was put aside.
    let whole = world.issue(json!({ "assignee_type": "agent", "assignee_id": bob, "status": "backlog" })).await;
    let part = world.issue(json!({})).await;
    world.told().await;
    world.put(part, json!({ "parent_issue_id": whole, "status": "done" })).await;
    assert_eq!(world.told().await, ["issue:updated", "comment:created", "task:queued bob"]);
    world.clear().await;
    world.hub.cli("POST", &format!("/api/agents/{bob}/archive"), Value::Null).await.expect(200);
    let part = world.issue(json!({ "parent_issue_id": whole })).await;
    world.told().await;
    world.put(part, done).await;
    assert_eq!(world.told().await, ["issue:updated", "comment:created"]);
}

async fn the_daemon_is_woken_when_there_is_something_to_claim(backend: Backend) {
    let mut world = World::start(backend).await;
    let ann = world.agent("ann").await;
    let mut daemon = world.hub.daemon(&[world.runtime]).await;
    acked(&mut daemon, world.runtime).await;
    assert_eq!(world.claim().await, Value::Null);
    let wish = json!({ "title": "t", "assignee_type": "agent", "assignee_id": ann });
    let (frame, made) = tokio::join!(
        async {
            let frame = daemon.next_of("daemon:task_available").await;
            // It is committed by then.
            (frame, world.claim().await)
        },
        world.hub.cli("POST", "/api/issues", wish)
    );
    let (frame, task) = frame;
    let issue = made.expect(201);
    assert_eq!(task["issue_id"], issue["id"]);
    let payload = json!({ "runtime_id": world.runtime, "task_id": task["id"] });
    assert_eq!(frame, json!({ "type": "daemon:task_available", "payload": payload }));
    // One more of the same is none.
    world.say(id(&issue), "again", None).await;
    world.hub.post(&format!("/api/daemon/tasks/{}/start", id(&task)), Value::Null).await.expect(200);
    // By a comment, too.
    let comment = world.say(id(&issue), "and again", None).await;
    let frame = daemon.next_of("daemon:task_available").await;
    world.complete(id(&task)).await;
    let task = world.claim().await;
    assert_eq!((&frame["payload"]["task_id"], &task["trigger_comment_id"]), (&task["id"], &json!(comment)));
}

async fn what_runs_outlives_its_squad_and_its_project(backend: Backend) {
    let mut world = World::start(backend).await;
    let (lea, bob) = (world.agent("lea").await, world.agent("bob").await);
    let core = world.squad("core", lea).await;
    let project = id(&world.hub.cli("POST", "/api/projects", json!({ "title": "p" })).await.expect(201));
    let issue = world.issue(json!({ "assignee_type": "squad", "assignee_id": core, "project_id": project })).await;
    world.run().await;
    world.say(issue, &format!("[@bob](mention://agent/{bob})"), None).await;
    world.told().await;
    world.hub.cli("DELETE", &format!("/api/projects/{project}"), Value::Null).await.expect(204);
    assert_eq!(world.told().await, ["issue:updated", "project:deleted"]);
    world.hub.cli("DELETE", &format!("/api/squads/{core}"), Value::Null).await.expect(204);
    assert_eq!(world.told().await, ["issue:updated", "squad:deleted"]);
    let tasks = world.tasks().await;
    assert!(tasks[0].starts_with("lea running leads") && tasks[1].starts_with("bob queued"), "{tasks:?}");
    // From here on the leader is asked as any agent.
    world.hub.sql("UPDATE task SET status = 'completed'").await;
    world.say(issue, "go on", None).await;
    assert_eq!(world.tasks().await[2], "lea queued p0 by go on");
}

async fn an_issue_that_is_refused_sets_nobody_to_work(backend: Backend) {
    let mut world = World::start(backend).await;
    let ann = world.agent("ann").await;
    let secret = world.agent_with(json!({ "name": "secret", "visibility": "private" })).await;
    let member = world.hub.member("m@example.com", "member").await;
    world.hub.cli("POST", "/api/issues", json!({ "title": "twin" })).await.expect(201);
    let kept = world.issue_of("agent", ann).await;
    world.told().await;
    let before = world.tasks().await;
    let with = |who: Uuid, more: Value| {
        let mut wish = json!({ "title": "x", "assignee_type": "agent", "assignee_id": who });
        wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        wish
    };
    let post = "/api/issues";
    let hub = &world.hub;
    hub.cli("POST", post, with(ann, json!({ "title": "twin" }))).await.expect(409);
    hub.cli("POST", post, with(ann, json!({ "status": "x" }))).await.expect(400);
    hub.cli("POST", post, with(Uuid::new_v4(), json!({}))).await.refused(400, "invalid assignee_id");
    let refused = hub.cli_as(&member, "POST", post, with(secret, json!({}))).await;
    refused.refused(403, "cannot assign to private agent");
    let path = format!("/api/issues/{kept}");
    hub.cli_as(&member, "PUT", &path, with(secret, json!({}))).await.refused(403, "cannot assign to private agent");
    hub.cli("PUT", &path, with(Uuid::new_v4(), json!({}))).await.refused(400, "invalid assignee_id");
    hub.cli("PUT", &path, json!({ "status": "cancelled", "title": "" })).await.expect(400);
    assert!(world.told().await.is_empty());
    assert_eq!(world.tasks().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reassignment_comment_claim_and_archiving_at_once_leave_nobody_aside_with_work() {
    const WRONG: &str = "SELECT a.name || ' ' || t.status FROM task t JOIN agent a ON a.id = t.agent_id
        WHERE a.archived_at IS NOT NULL AND t.status IN ('queued', 'dispatched', 'running', 'waiting_local_directory')";
    let mut world = World::start(Backend::Postgres).await;
    let (ann, bob, lea) = (world.agent("ann").await, world.agent("bob").await, world.agent("lea").await);
    let core = world.squad("core", lea).await;
    let mark = postgres::shared().log().len();
    for round in 0..rounds(30) {
        let issue = world.issue_of("agent", ann).await;
        let part = world.issue(json!({ "parent_issue_id": issue })).await;
        let give = async |kind: &str, who: Uuid| {
            let change = json!({ "assignee_type": kind, "assignee_id": who });
            world.hub.cli("PUT", &format!("/api/issues/{issue}"), change).await.status
        };
        let say = async |who: Vec<Uuid>| {
            let text: String = who.iter().map(|who| format!("[@x](mention://agent/{who})")).collect();
            world.try_say(&world.hub.token, issue, &format!("round {round} {text}"), None).await.status
        };
        let archive = async |who: Uuid| {
            let path = format!("/api/agents/{who}/archive");
            world.hub.cli("POST", &path, Value::Null).await.status
        };
        let end =
            async || world.hub.cli("PUT", &format!("/api/issues/{part}"), json!({ "status": "done" })).await.status;
        let statuses = tokio::join!(
            give("agent", bob),
            give("squad", core),
            say(vec![]),
            say(vec![bob, ann]),
            say(vec![lea, bob]),
            world.claim(),
            world.claim(),
            archive(bob),
            archive(lea),
            end(),
        );
        let (a, b, c, d, e, _, _, f, g, h) = statuses;
        for status in [a, b, c, d, e, f, g, h] {
            assert!(status < 500, "round {round}: {statuses:?}");
        }
        assert_eq!(world.hub.rows(WRONG).await, Vec::<String>::new(), "round {round}");
        for agent in [bob, lea] {
            world.hub.cli("POST", &format!("/api/agents/{agent}/restore"), Value::Null).await.expect(200);
        }
        world.hub.cli("DELETE", &format!("/api/issues/{issue}"), Value::Null).await.expect(204);
    }
    let log = postgres::shared().log();
    assert!(!log[mark.min(log.len())..].contains("deadlock detected"), "a deadlock");
}
