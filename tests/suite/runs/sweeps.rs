//! What the sweep ends: tasks that took too long, and those of daemons that are gone.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::ground::{World, kinds, of, told, world};
use crate::{
    support::{Backend, Hub, Socket, fleet::http_beat, hub::id},
    tasks::{
        desk,
        support::{Given, give},
    },
};

on_both_stores!(
    what_is_not_delivered_run_or_ended_in_time_fails,
    nothing_is_overdue_right_after_a_start,
    what_waits_too_long_in_the_queue_expires,
    no_more_than_five_hundred_expire_at_once,
    the_end_is_told_and_the_next_attempt_takes_its_place,
    an_issue_goes_back_only_when_nobody_works_on_it_any_more,
    a_swept_chat_is_told_why_there_is_no_answer,
    a_verdict_alone_ends_nothing,
    a_runtime_that_was_deregistered_or_revoked_ends_its_tasks_as_well,
    who_is_heard_of_keeps_its_tasks,
    no_more_than_a_hundred_orphans_end_together,
);
on_all_stores!(tasks_of_a_runtime_that_is_gone_fail_with_nobody_else_s_help);

/// Beyond the stale window, from the start of the hub on: from then on old evidence counts.
const STALE: Duration = Duration::from_secs(155);

async fn sweep(hub: &Hub) -> usize {
    hub.app.trust_silence();
    hub.app.sweep_tasks().await.unwrap()
}

/// A task in a status, of an issue of its own.
async fn put(world: &World, given: Given) -> (Uuid, Uuid) {
    let issue = world.issue(&Uuid::new_v4().to_string()).await;
    let given = Given { agent: world.agent, runtime: world.runtime, issue: Some(issue), ..given };
    (issue, give(&world.hub, &given).await)
}

async fn nothing_is_overdue_right_after_a_start(backend: Backend) {
    let world = world(backend).await;
    put(&world, Given { status: "dispatched", dispatched: Some(3000), ..Given::default() }).await;
    assert_eq!(world.hub.app.sweep_tasks().await.unwrap(), 0, "nobody could start it while the hub was away");
    world.hub.app.advance_clock(STALE);
    assert_eq!(world.hub.app.sweep_tasks().await.unwrap(), 1);
}

async fn what_is_not_delivered_run_or_ended_in_time_fails(backend: Backend) {
    let world = world(backend).await;
    let young = [
        Given { status: "dispatched", dispatched: Some(290), ..Given::default() },
        Given { status: "running", dispatched: Some(9500), started: Some(8990), ..Given::default() },
        Given { status: "waiting_local_directory", dispatched: Some(9500), waiting: Some(8990), ..Given::default() },
    ];
    let mut spared = Vec::new();
    for given in young {
        spared.push(put(&world, given).await.1);
    }
    assert_eq!(sweep(&world.hub).await, 0);
    world.hub.sql_unnoticed("UPDATE agent SET status = 'working'").await;
    for given in [
        Given { status: "dispatched", dispatched: Some(301), ..Given::default() },
        Given { status: "running", dispatched: Some(9500), started: Some(9001), ..Given::default() },
        Given { status: "waiting_local_directory", dispatched: Some(9500), waiting: Some(9001), ..Given::default() },
    ] {
        let what = given.status;
        let (issue, task) = put(&world, given).await;
        let mut browser = world.browser().await;
        assert_eq!(sweep(&world.hub).await, 1, "{what}");
        let events = told(&world.hub, &mut browser).await;
        assert_eq!(kinds(&events), ["task:queued", "task:failed"], "{what}: the agent has more to do");
        let payload = json!({
            "task_id": task, "agent_id": world.agent, "issue_id": issue, "status": "failed",
            "failure_reason": "timeout",
        });
        assert_eq!((&events[1]["payload"], &events[1]["workspace_id"]), (&payload, &json!(world.hub.workspace)));
        assert_eq!(world.of_task(task, "error").await, "task timed out");
        assert_eq!(world.of_task(task, "failure_reason").await, "timeout");
        assert_eq!(sweep(&world.hub).await, 0, "{what}: once");
    }
    for task in spared {
        assert_ne!(desk::status(&world.hub, task).await, "failed");
    }
}

async fn what_waits_too_long_in_the_queue_expires(backend: Backend) {
    let world = world(backend).await;
    let mut daemon = world.hub.daemon(&[world.runtime]).await;
    world.hub.sql("UPDATE agent SET status = 'idle'").await;
    // `queued`, said so that the other one stays.
    let (old_issue, old) = put(&world, Given { status: "queued", created: Some(7201), ..Given::default() }).await;
    let (_, fresh) = put(&world, Given { status: "queued", created: Some(7100), ..Given::default() }).await;
    let path = format!("/api/issues/{old_issue}");
    world.hub.cli("PUT", &path, json!({ "status": "in_progress" })).await.expect(200);
    let mut browser = world.browser().await;
    assert_eq!(sweep(&world.hub).await, 1);
    let events = told(&world.hub, &mut browser).await;
    assert_eq!(kinds(&events), ["comment:created", "task:failed"], "no other attempt, and it was never at work");
    assert_eq!(events[0]["payload"]["comment"]["content"], "task expired in queue");
    assert_eq!(events[1]["payload"]["failure_reason"], "queued_expired");
    assert!(world.of_task(old, "error").await.contains("expired"));
    let issue = world.hub.cli("GET", &path, Value::Null).await.expect(200);
    assert_eq!(issue["status"], "in_progress", "whoever put it there knows better");
    assert_eq!(desk::status(&world.hub, fresh).await, "queued");
    // Nobody had it who would have to hear of it.
    while let Ok(frame) = tokio::time::timeout(Duration::from_millis(50), daemon.next()).await {
        assert_eq!(frame["type"], "daemon:task_available", "{frame}");
    }
}

async fn no_more_than_five_hundred_expire_at_once(backend: Backend) {
    const MORE: &str = "SELECT 'x' FROM task WHERE status = 'queued'";
    let world = world(backend).await;
    let given =
        Given { status: "queued", created: Some(8000), agent: world.agent, runtime: world.runtime, ..Given::default() };
    give(&world.hub, &given).await;
    world.hub.sql(match backend {
        Backend::Sqlite => "
            INSERT INTO task (id, workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status,
                              priority, serial_key, created_at)
            WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 504)
            SELECT randomblob(16), workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status,
                   priority, serial_key, created_at + n FROM task, n",
        _ => "
            INSERT INTO task (id, workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status,
                              priority, serial_key, created_at)
            SELECT gen_random_uuid(), workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status,
                   priority, serial_key, created_at + n FROM task, generate_series(1, 504) n",
    })
    .await;
    assert_eq!(world.hub.rows(MORE).await.len(), 505);
    assert_eq!(sweep(&world.hub).await, 500);
    assert_eq!(world.hub.rows(MORE).await.len(), 5);
    let newest = "SELECT 'x' FROM task WHERE status = 'failed'
                  AND created_at > (SELECT MIN(created_at) FROM task WHERE status = 'queued')";
    assert!(world.hub.rows(newest).await.is_empty(), "the oldest first");
    assert_eq!(sweep(&world.hub).await, 5);
}

async fn the_end_is_told_and_the_next_attempt_takes_its_place(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let issue = world.assigned("t").await;
    let job = world.claim().await;
    let which = world.literal(job.task);
    let late = format!("UPDATE task SET dispatched_at = dispatched_at - 301000000 WHERE id = {which}");
    hub.sql_unnoticed(late.leak()).await;
    let mut browser = world.browser().await;
    let mut daemon = hub.daemon(&[world.runtime]).await;
    assert_eq!(sweep(hub).await, 1);
    let events = told(hub, &mut browser).await;
    assert_eq!(kinds(&events), ["task:queued", "agent:status", "task:failed"]);
    assert_eq!(events[1]["payload"]["agent"]["status"], "idle");
    assert_eq!(events[1]["workspace_id"], json!(hub.workspace));
    let ended = daemon.next_of("daemon:task_cancelled").await;
    assert_eq!(ended["payload"], json!({ "runtime_id": world.runtime, "task_id": job.task, "reason": "timeout" }));
    assert_eq!(world.worth(&job.token).await, 401);
    // Its daemon may claim the next at once: nothing remembers that there was nothing.
    let next = world.claim().await;
    assert_eq!((&next.claimed["issue_id"], &next.claimed["attempt"]), (&json!(issue), &json!(2)));
    // What the first one's daemon still says changes nothing.
    assert_eq!(world.call(job.task, "complete", json!({ "output": "late" })).await["status"], "failed");
    assert!(world.comments(issue).await.is_empty());
}

/// The task is at its last attempt and took too long.
async fn let_time_out(world: &World, task: Uuid) {
    let which = world.literal(task);
    let last = format!("UPDATE task SET attempt = 2, started_at = started_at - 9001000000 WHERE id = {which}");
    world.hub.sql_unnoticed(last.leak()).await;
}

async fn an_issue_goes_back_only_when_nobody_works_on_it_any_more(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let bob = desk::agent(hub, world.runtime, "bob", "workspace").await;
    let mut browser = world.browser().await;
    let status = async |issue: Uuid| {
        let issue = hub.cli("GET", &format!("/api/issues/{issue}"), Value::Null).await.expect(200);
        issue["status"].as_str().unwrap().to_owned()
    };
    for (standing, others_work, back) in [
        ("in_progress", false, true),
        ("in_review", false, false),
        ("done", false, false),
        ("in_progress", true, false),
    ] {
        let what = format!("{standing}, others work: {others_work}");
        let issue = world.assigned("t").await;
        let job = world.begin().await;
        hub.cli("PUT", &format!("/api/issues/{issue}"), json!({ "status": standing })).await.expect(200);
        if others_work {
            let content = format!("[@bob](mention://agent/{bob}) too");
            hub.cli("POST", &format!("/api/issues/{issue}/comments"), json!({ "content": content })).await.expect(201);
        }
        let_time_out(&world, job.task).await;
        told(hub, &mut browser).await;
        assert_eq!(sweep(hub).await, 1, "{what}");
        let events = told(hub, &mut browser).await;
        if back {
            assert_eq!(kinds(&events), ["comment:created", "agent:status", "issue:updated", "task:failed"], "{what}");
            let change = &events[2];
            assert_eq!(change["actor_type"], "system");
            assert_eq!(
                (&change["payload"]["prev_status"], &change["payload"]["issue"]["status"]),
                (&json!(standing), &json!("todo"))
            );
            assert_eq!(change["payload"]["status_changed"], true);
        } else {
            assert_eq!(kinds(&events), ["comment:created", "agent:status", "task:failed"], "{what}");
        }
        assert_eq!(status(issue).await, if back { "todo" } else { standing }, "{what}");
        hub.cli("DELETE", &format!("/api/issues/{issue}"), Value::Null).await.expect(204);
    }

    // One that is tried again is still worked on; and what a daemon itself reports moves no issue, but for
    // the reasons that are the hub's own.
    for (reason, attempt, after) in [
        ("timeout", 1, "in_progress"),
        ("timeout", 2, "todo"),
        ("agent_error", 2, "in_progress"),
        ("codex_semantic_inactivity", 2, "in_progress"),
        ("start_failed", 2, "in_progress"),
        ("runtime_recovery", 2, "todo"),
        ("runtime_offline", 2, "todo"),
    ] {
        let issue = world.assigned("t").await;
        let job = world.begin().await;
        hub.cli("PUT", &format!("/api/issues/{issue}"), json!({ "status": "in_progress" })).await.expect(200);
        hub.sql_unnoticed(match attempt {
            1 => "UPDATE task SET attempt = 1",
            _ => "UPDATE task SET attempt = 2",
        })
        .await;
        world.call(job.task, "fail", json!({ "error": "x", "failure_reason": reason })).await;
        assert_eq!(status(issue).await, after, "{reason} {attempt}");
        hub.cli("DELETE", &format!("/api/issues/{issue}"), Value::Null).await.expect(204);
    }
}

async fn a_swept_chat_is_told_why_there_is_no_answer(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let creator = hub.member("m@example.com", "member").await;
    let chat = desk::chat(hub, &creator, world.agent).await;
    let task = desk::say(hub, &creator, chat).await;
    world.begin().await;
    let_time_out(&world, task).await;
    let mut browser = desk::browser(hub, &creator).await;
    assert_eq!(sweep(hub).await, 1);
    let events = told(hub, &mut browser).await;
    assert_eq!(kinds(&events), ["agent:status", "task:failed"]);
    let payload = json!({
        "task_id": task, "agent_id": world.agent, "issue_id": "", "status": "failed", "chat_session_id": chat,
        "failure_reason": "timeout",
    });
    assert_eq!(events[1]["payload"], payload, "who waits in the chat is told, too");
    let said = world.talk(&creator, chat).await;
    assert_eq!((&said[1]["content"], &said[1]["failure_reason"]), (&json!("task timed out"), &json!("timeout")));
}

async fn deregister(world: &World) {
    let body = json!({ "runtime_ids": [world.runtime] });
    world.hub.post("/api/daemon/deregister", body).await.expect(200);
}

async fn a_verdict_alone_ends_nothing(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    hub.app.advance_clock(STALE);
    world.assigned("t").await;
    http_beat(hub, world.runtime).await;
    let job = world.begin().await;
    deregister(&world).await;
    assert_eq!(sweep(hub).await, 0, "its daemon may be back in time");
    hub.app.advance_clock(Duration::from_secs(140));
    assert_eq!(sweep(hub).await, 0);
    assert_eq!(desk::status(hub, job.task).await, "running");
    // It is back, and reports as if nothing had been.
    world.call(job.task, "complete", json!({ "output": "there" })).await;
    assert_eq!(desk::status(hub, job.task).await, "completed");
}

async fn a_runtime_that_was_deregistered_or_revoked_ends_its_tasks_as_well(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let mut tasks = Vec::new();
    for status in ["dispatched", "running", "waiting_local_directory", "queued"] {
        let given = Given {
            status,
            dispatched: (status != "queued").then_some(20),
            started: (status == "running").then_some(10),
            waiting: (status == "waiting_local_directory").then_some(10),
            ..Given::default()
        };
        tasks.push(put(&world, given).await.1);
    }
    for (cause, registered) in [("deregistered", false), ("revoked", true)] {
        if registered {
            hub.sql(
                "UPDATE task SET status = 'running', started_at = dispatched_at WHERE dispatched_at IS NOT NULL
                     AND attempt = 1",
            )
            .await;
        }
        deregister(&world).await;
        if cause == "revoked" {
            hub.sql("UPDATE agent_runtime SET offline_cause = 'revoked'").await;
        }
        hub.app.advance_clock(STALE);
        assert_eq!(sweep(hub).await, 3, "{cause}: with no other runtime's help");
        assert_eq!(sweep(hub).await, 0);
        for task in &tasks[..3] {
            assert_eq!(world.of_task(*task, "status").await, "failed", "{cause}");
            assert_eq!(world.of_task(*task, "error").await, "runtime went offline");
            assert_eq!(world.of_task(*task, "failure_reason").await, "runtime_offline");
        }
        assert_eq!(world.of_task(tasks[3], "status").await, "queued", "nobody has it");
        hub.register("d", &["claude"]).await;
        hub.sql_unnoticed("DELETE FROM task WHERE attempt = 2").await;
    }
}

async fn who_is_heard_of_keeps_its_tasks(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    world.assigned("t").await;
    let job = world.begin().await;
    deregister(&world).await;
    hub.app.advance_clock(STALE);
    // A call for the task, though its runtime is offline: somebody works on it.
    assert_eq!(desk::status(hub, job.task).await, "running");
    assert_eq!(sweep(hub).await, 0);
    hub.app.advance_clock(Duration::from_secs(140));
    assert_eq!(sweep(hub).await, 0, "for as long as anybody else");
    hub.app.advance_clock(Duration::from_secs(20));
    // The runtime itself beats again; a verdict that is written before the beat is a matter of moments.
    http_beat(hub, world.runtime).await;
    hub.sql("UPDATE agent_runtime SET status = 'offline', last_seen_at = 1").await;
    assert_eq!(sweep(hub).await, 0, "its lease says that it lives");
    hub.app.forget_lease(world.runtime).await;
    assert_eq!(sweep(hub).await, 1, "and now nothing does");
}

async fn tasks_of_a_runtime_that_is_gone_fail_with_nobody_else_s_help(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let issue = world.assigned("t").await;
    let job = world.begin().await;
    hub.cli("PUT", &format!("/api/issues/{issue}"), json!({ "status": "in_progress" })).await.expect(200);
    let mut daemon: Socket = hub.daemon(&[world.runtime]).await;
    let mut browser = world.browser().await;
    hub.app.advance_clock(STALE);
    hub.app.forget_task_mark(job.task).await;
    hub.app.forget_lease(world.runtime).await;
    hub.sql("UPDATE agent_runtime SET status = 'offline', offline_cause = 'stale'").await;
    told(hub, &mut browser).await;
    assert_eq!(sweep(hub).await, 1);
    let events = told(hub, &mut browser).await;
    assert_eq!(kinds(&events), ["task:queued", "agent:status", "task:failed"]);
    assert_eq!(of(&events, "task:failed")["payload"]["failure_reason"], "runtime_offline");
    let ended = daemon.next_of("daemon:task_cancelled").await;
    assert_eq!(
        (&ended["payload"]["task_id"], &ended["payload"]["reason"]),
        (&json!(job.task), &json!("runtime_offline"))
    );
    assert_eq!(world.worth(&job.token).await, 401);
    let issue = hub.cli("GET", &format!("/api/issues/{issue}"), Value::Null).await.expect(200);
    assert_eq!(issue["status"], "in_progress", "it is tried again");
    let again = desk::uuid(&events[0]["payload"]["task_id"]);
    assert_eq!(id(&hub.cli("GET", "/api/agent-task-snapshot", Value::Null).await.expect(200)[0]), again);
}

async fn no_more_than_a_hundred_orphans_end_together(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let (agent, runtime) = (world.agent, world.runtime);
    give(
        hub,
        &Given { agent, runtime, status: "running", dispatched: Some(90), started: Some(80), ..Given::default() },
    )
    .await;
    hub.sql("UPDATE task SET serial_key = NULL, attempt = 2, orphan_check_at = started_at").await;
    hub.sql(match backend {
        Backend::Sqlite => "
            INSERT INTO task (id, workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status,
                              priority, attempt, dispatched_at, started_at, orphan_check_at, created_at)
            WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 149)
            SELECT randomblob(16), workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status,
                   priority, attempt, dispatched_at, started_at, orphan_check_at, created_at FROM task, n",
        _ => "
            INSERT INTO task (id, workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status,
                              priority, attempt, dispatched_at, started_at, orphan_check_at, created_at)
            SELECT gen_random_uuid(), workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status,
                   priority, attempt, dispatched_at, started_at, orphan_check_at, created_at
            FROM task, generate_series(1, 149)",
    })
    .await;
    hub.app.advance_clock(Duration::from_secs(20));
    assert_eq!(sweep(hub).await, 150);
    // A transaction has one time.
    let together = "SELECT CAST(COUNT(*) AS text) FROM task WHERE status = 'failed' GROUP BY completed_at ORDER BY 1";
    assert_eq!(hub.rows(together).await, ["100", "50"]);
}
