//! Work that is begun once more.

use serde_json::{Value, json};
use uuid::Uuid;

use super::issues::World;
use crate::support::{
    Backend,
    hub::{Answer, id, keys},
};

on_both_stores!(
    whoever_has_the_issue_begins_afresh,
    a_named_task_is_done_once_more_by_whoever_did_it,
    whoever_may_not_ask_is_refused_and_nothing_changes,
    an_agent_reruns_its_own_task,
    another_attempt_goes_on_with_what_is_its_own,
);

async fn rerun(world: &World, token: &str, issue: Uuid, wish: Value) -> Answer {
    world.hub.cli_as(token, "POST", &format!("/api/issues/{issue}/rerun"), wish).await
}

async fn whoever_has_the_issue_begins_afresh(backend: Backend) {
    let mut world = World::start(backend).await;
    let (ann, bob, lea) = (world.agent("ann").await, world.agent("bob").await, world.agent("lea").await);
    let core = world.squad("core", lea).await;
    let issue = world.issue(json!({ "assignee_type": "agent", "assignee_id": ann, "priority": "urgent" })).await;
    world.run().await;
    world.say(issue, &format!("[@bob](mention://agent/{bob})"), None).await;
    world.told().await;
    let me = world.hub.token.clone();
    // As the CLI asks: with an empty object, or nothing.
    for body in [json!({}), Value::Null, json!({ "task_id": null }), json!({ "task_id": "" })] {
        let task = rerun(&world, &me, issue, body).await.expect(202);
        assert_eq!(
            keys(&task),
            [
                "agent_id",
                "attempt",
                "completed_at",
                "created_at",
                "dispatched_at",
                "error",
                "id",
                "issue_id",
                "kind",
                "max_attempts",
                "priority",
                "result",
                "runtime_id",
                "started_at",
                "status",
                "workspace_id",
            ]
        );
        assert_eq!((&task["agent_id"], &task["kind"]), (&json!(ann), &json!("direct")));
        assert_eq!((&task["priority"], &task["status"], &task["attempt"]), (&json!(4), &json!("queued"), &json!(1)));
        let told = world.told().await;
        let tail = &told[told.len() - 2..];
        assert_eq!(tail, ["task:cancelled ann", "task:queued ann"], "of that agent's only: {told:?}");
    }
    let path = format!("/api/issues/{issue}/rerun?workspace_id={}", world.hub.workspace);
    world.hub.post(&path, Value::Null).await.expect(202);
    assert_eq!(world.told().await, ["task:cancelled ann", "task:queued ann"], "without a body");
    let tasks = world.tasks().await;
    assert_eq!(tasks.last().unwrap(), "ann queued fresh p4");
    assert!(tasks[1].starts_with("bob queued p4"), "{tasks:?}");
    world.clear().await;

    let squads = world.issue(json!({ "assignee_type": "squad", "assignee_id": core, "status": "backlog" })).await;
    world.told().await;
    rerun(&world, &me, squads, json!({})).await.expect(202);
    assert_eq!(world.told().await, ["task:queued lea"]);
    assert_eq!(world.tasks().await, ["lea queued leads fresh p0"]);
    // One that begins in the ordinary way takes up where it was.
    world.clear().await;
    world.put(issue, json!({ "assignee_type": "agent", "assignee_id": bob })).await;
    assert_eq!(world.tasks().await, ["bob queued p4"]);
}

async fn a_named_task_is_done_once_more_by_whoever_did_it(backend: Backend) {
    let mut world = World::start(backend).await;
    let (ann, bob, lea) = (world.agent("ann").await, world.agent("bob").await, world.agent("lea").await);
    let core = world.squad("core", lea).await;
    let me = world.hub.token.clone();
    let issue = world.issue_of("agent", ann).await;
    world.clear().await;
    let comment = world.say(issue, &format!("[@bob](mention://agent/{bob}) look"), None).await;
    let (source, _) = world.run().await;
    world.complete(source).await;
    world.say(issue, &format!("[x](mention://squad/{core})"), None).await;
    let (led, _) = world.run().await;
    world.complete(led).await;
    // Somebody else's work goes on.
    world.say(issue, "and you", None).await;
    world.told().await;

    let task = rerun(&world, &me, issue, json!({ "task_id": source })).await.expect(202);
    assert_eq!((&task["agent_id"], &task["trigger_comment_id"]), (&json!(bob), &json!(comment)));
    assert_eq!(task["kind"], "comment");
    assert_eq!(world.told().await, ["task:queued bob"]);
    let all = world.tasks().await;
    assert!(all.last().unwrap().starts_with("bob queued fresh p0 by [@bob]"), "{all:?}");
    rerun(&world, &me, issue, json!({ "task_id": led })).await.expect(202);
    let all = world.tasks().await;
    assert!(all.last().unwrap().starts_with("lea queued leads fresh p0 by"), "{all:?}");
    world.told().await;
    // One that has not ended is ended by it; what was asked for is what the comment says today.
    let path = format!("/api/comments/{comment}");
    world.hub.cli("PUT", &path, json!({ "content": "/note other words" })).await.expect(200);
    world.told().await;
    let task = rerun(&world, &me, issue, json!({ "task_id": task["id"] })).await.expect(202);
    assert_eq!(task["trigger_summary"], "/note other words");
    assert_eq!(world.told().await, ["task:queued bob"]);
    rerun(&world, &me, issue, json!({ "task_id": task["id"] })).await.expect(202);
    assert_eq!(world.told().await, ["task:cancelled bob", "task:queued bob"]);
    // A comment that is gone asks for nothing.
    world.hub.cli("DELETE", &path, Value::Null).await.expect(204);
    let task = rerun(&world, &me, issue, json!({ "task_id": source })).await.expect(202);
    assert!(task.get("trigger_comment_id").is_none(), "{task}");
}

async fn whoever_may_not_ask_is_refused_and_nothing_changes(backend: Backend) {
    let mut world = World::start(backend).await;
    let ann = world.agent("ann").await;
    let secret = world.agent_with(json!({ "name": "secret", "visibility": "private" })).await;
    let member = world.hub.member("m@example.com", "member").await;
    let issue = world.issue_of("agent", ann).await;
    let other = world.issue_of("agent", secret).await;
    let nobodys = world.issue(json!({})).await;
    let mine = world.issue(json!({ "assignee_type": "member", "assignee_id": world.me })).await;
    let anns = world.claim().await;
    let me = world.hub.token.clone();
    world.told().await;
    let before = (world.hub.fingerprint().await, world.tasks().await);
    for task in [json!(Uuid::new_v4()), json!("x"), anns["id"].clone()] {
        rerun(&world, &me, other, json!({ "task_id": task })).await.refused(400, "invalid task_id");
    }
    rerun(&world, &me, issue, json!({ "task_id": 1 })).await.refused(400, "invalid request body");
    for issue in [nobodys, mine] {
        let refused = rerun(&world, &me, issue, json!({})).await;
        refused.refused(400, "issue is not assigned to an agent or squad");
    }
    rerun(&world, &me, Uuid::new_v4(), json!({})).await.refused(404, "issue not found");
    rerun(&world, &member, other, json!({})).await.refused(403, "you do not have access to this agent");
    assert_eq!((world.hub.fingerprint().await, world.tasks().await), before);
    assert!(world.told().await.is_empty());
    // Another workspace's task.
    let elsewhere = world.hub.another_workspace("elsewhere").await;
    let foreign = world.hub.post(&format!("/api/issues?workspace_id={elsewhere}"), json!({ "title": "f" })).await;
    let path = format!("/api/issues/{}/rerun?workspace_id={elsewhere}", id(&foreign.expect(201)));
    world.hub.post(&path, json!({ "task_id": anns["id"] })).await.refused(400, "invalid task_id");
    // An agent that was put aside.
    world.hub.cli("POST", &format!("/api/agents/{ann}/archive"), Value::Null).await.expect(200);
    rerun(&world, &me, issue, json!({})).await.refused(400, "agent is archived");
}

async fn an_agent_reruns_its_own_task(backend: Backend) {
    let mut world = World::start(backend).await;
    let (ann, bob) = (world.agent("ann").await, world.agent("bob").await);
    let issue = world.issue_of("agent", ann).await;
    let (task, token) = world.run().await;
    let other = world.issue_of("agent", bob).await;
    let bobs = world.claim().await;
    world.told().await;
    let own = "an agent may rerun its own task only";
    rerun(&world, &token, other, json!({})).await.refused(403, own);
    rerun(&world, &token, other, json!({ "task_id": task })).await.refused(403, own);
    rerun(&world, &token, other, json!({ "task_id": bobs["id"] })).await.refused(403, own);
    rerun(&world, &token, issue, json!({ "task_id": bobs["id"] })).await.refused(403, own);
    assert!(world.told().await.is_empty());
    // Whoever the issue is given to by now, its own work is what it begins anew.
    world.put(issue, json!({ "assignee_id": null })).await;
    world.told().await;
    rerun(&world, &token, issue, json!({})).await.expect(202);
    assert_eq!(world.told().await, ["agent:status ann idle", "task:cancelled ann", "task:queued ann"]);
    rerun(&world, &token, issue, json!({})).await.refused(401, "invalid token");
}

async fn another_attempt_goes_on_with_what_is_its_own(backend: Backend) {
    let mut world = World::start(backend).await;
    let ann = world.agent("ann").await;
    let issue = world.issue_of("agent", ann).await;
    let me = world.hub.token.clone();
    let (task, _) = world.run().await;
    let path = format!("/api/daemon/tasks/{task}/complete");
    world.hub.post(&path, json!({ "session_id": "old", "work_dir": "/old" })).await.expect(200);
    for (kept, session, folder) in [
        (json!({}), Value::Null, Value::Null),
        (json!({ "session_id": "own", "work_dir": "/own" }), json!("own"), json!("/own")),
    ] {
        rerun(&world, &me, issue, json!({})).await.expect(202);
        let claimed = world.claim().await;
        assert_eq!(claimed.get("prior_session_id"), None, "a clean slate");
        let path = format!("/api/daemon/tasks/{}", id(&claimed));
        world.hub.post(&format!("{path}/start"), json!({})).await.expect(200);
        let mut report = kept;
        (report["error"], report["failure_reason"]) = (json!("x"), json!("timeout"));
        world.hub.post(&format!("{path}/fail"), report).await.expect(200);
        let again = world.claim().await;
        assert_eq!(again["attempt"], 2);
        assert_eq!((&again["prior_session_id"], &again["prior_work_dir"]), (&session, &folder));
    }
}
