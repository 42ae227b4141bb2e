//! A task that came to a bad end: it is tried once more where that helps, and said where it does not.

use serde_json::{Value, json};
use uuid::Uuid;

use super::ground::{SECRET, World, is_secret, kinds, of, told, world};
use crate::{
    support::{Backend, hub::id},
    tasks::{
        desk,
        support::{Given, give},
    },
};

on_both_stores!(
    why_it_failed_is_read_from_the_words_if_it_is_not_said,
    another_attempt_is_told_before_the_end_of_this_one_and_nothing_is_said,
    the_last_attempt_says_why_it_failed,
    an_agent_that_sat_still_starts_afresh,
    a_leader_s_task_is_a_leader_s_again,
    a_chat_s_answer_is_tried_again_for_whoever_asked,
    what_is_waiting_in_a_chat_answers_for_a_failed_one,
    a_chat_is_told_of_the_end_only_where_there_is_no_other_attempt,
    an_agent_that_never_ran_gets_another_chance,
    a_run_fails_with_its_task,
    nobody_tries_again_who_is_not_there_any_more,
    an_error_is_kept_without_secrets_and_no_longer_than_it_is_read,
);

async fn attempt(world: &World) -> (Uuid, Uuid) {
    let issue = world.assigned("t").await;
    (issue, world.begin().await.task)
}

async fn why_it_failed_is_read_from_the_words_if_it_is_not_said(backend: Backend) {
    let world = world(backend).await;
    let mut browser = world.browser().await;
    for (error, reason, expected) in [
        ("maximum context length is 8 tokens", "", "agent_error.context_overflow"),
        ("HTTP 429: quota exceeded", "", "agent_error.provider_quota_limit"),
        ("429 too many", "  ", "agent_error.provider_capacity_or_rate_limit"),
        ("exit status 1", "", "agent_error.process_failure"),
        ("what?", "", "agent_error.unknown"),
        ("", "", "agent_error.unknown"),
        ("exit status 1", "idle_watchdog", "idle_watchdog"),
        ("exit status 1", " agent_error ", "agent_error"),
        ("stuck", "iteration_limit", "iteration_limit"),
    ] {
        let (issue, task) = attempt(&world).await;
        told(&world.hub, &mut browser).await;
        let report = json!({ "error": error, "failure_reason": reason });
        let failed = world.call(task, "fail", report.clone()).await;
        assert_eq!((&failed["status"], &failed["failure_reason"]), (&json!("failed"), &json!(expected)), "{report}");
        let events = told(&world.hub, &mut browser).await;
        let said: &[&str] = match error.is_empty() {
            true => &["agent:status", "task:failed"],
            false => &["comment:created", "agent:status", "task:failed"],
        };
        assert_eq!(kinds(&events), said, "{report}");
        let payload = json!({
            "task_id": task, "agent_id": world.agent, "issue_id": issue, "status": "failed", "failure_reason": expected,
        });
        let event = of(&events, "task:failed");
        assert_eq!((&event["payload"], &event["actor_type"]), (&payload, &json!("system")));
        world.hub.cli("DELETE", &format!("/api/issues/{issue}"), Value::Null).await.expect(204);
    }
}

async fn another_attempt_is_told_before_the_end_of_this_one_and_nothing_is_said(backend: Backend) {
    let world = world(backend).await;
    let issue = world.issue("t").await;
    let asked = world.asked(issue).await;
    let first = world.begin().await;
    let mut daemon = world.hub.daemon(&[world.runtime]).await;
    let mut browser = world.browser().await;
    let report =
        json!({ "error": "too slow", "failure_reason": "timeout", "session_id": "s", "work_dir": "/home/ann/w" });
    world.call(first.task, "fail", report).await;
    let events = told(&world.hub, &mut browser).await;
    assert_eq!(kinds(&events), ["task:queued", "agent:status", "task:failed"]);
    let next = desk::uuid(&events[0]["payload"]["task_id"]);
    assert_eq!(events[0]["payload"]["issue_id"], json!(issue));
    assert_eq!(events[2]["payload"]["failure_reason"], "timeout");
    assert_eq!(world.worth(&first.token).await, 401);
    assert_eq!(desk::woken(&mut daemon).await, (world.runtime, next));
    assert_eq!(world.comments(issue).await.len(), 1, "nothing is said yet");

    let second = world.claim().await;
    let claimed = &second.claimed;
    assert_eq!((second.task, &claimed["attempt"], &claimed["max_attempts"]), (next, &json!(2), &json!(2)));
    assert_eq!((&claimed["parent_task_id"], &claimed["trigger_comment_id"]), (&json!(first.task), &json!(asked)));
    assert_eq!(claimed["trigger_summary"], first.claimed["trigger_summary"]);
    assert_eq!((&claimed["prior_session_id"], &claimed["prior_work_dir"]), (&json!("s"), &json!("/home/ann/w")));
    assert_eq!(world.of_task(next, "session_id").await, "s");
    assert_eq!(world.of_task(next, "work_dir").await, "/home/ann/w");
    assert_ne!(world.of_task(next, "force_fresh_session").await.replace("false", "0"), "1");
}

async fn the_last_attempt_says_why_it_failed(backend: Backend) {
    let world = world(backend).await;
    let issue = world.issue("t").await;
    let asked = world.asked(issue).await;
    let mut browser = world.browser().await;
    let late = json!({ "error": "too slow", "failure_reason": "timeout" });
    world.call(world.begin().await.task, "fail", late.clone()).await;
    world.hub.cli("POST", &format!("/api/comments/{asked}/resolve"), Value::Null).await.expect(200);
    let second = world.begin().await;
    told(&world.hub, &mut browser).await;
    world.call(second.task, "fail", late).await;
    let events = told(&world.hub, &mut browser).await;
    assert_eq!(kinds(&events), ["comment:created", "comment:unresolved", "agent:status", "task:failed"]);
    let comment = &events[0]["payload"]["comment"];
    let expected = [
        ("content", json!("too slow")),
        ("type", json!("system")),
        ("author_type", json!("agent")),
        ("author_id", json!(world.agent)),
        ("source_task_id", json!(second.task)),
        ("parent_id", json!(asked)),
    ];
    for (name, value) in expected {
        assert_eq!(comment[name], value, "{name}");
    }
    assert_eq!(world.comments(issue).await.len(), 2);
    assert_eq!(desk::claim(&world.hub, world.runtime).await, Value::Null, "there is no third");
}

async fn an_agent_that_sat_still_starts_afresh(backend: Backend) {
    let world = world(backend).await;
    attempt(&world).await;
    let first = world.hub.rows("SELECT CAST(attempt AS text) FROM task").await;
    assert_eq!(first, ["1"]);
    let task: Uuid =
        desk::uuid(&world.hub.cli("GET", "/api/agent-task-snapshot", Value::Null).await.expect(200)[0]["id"]);
    let report = json!({
        "error": "nothing came", "failure_reason": "codex_semantic_inactivity", "session_id": "s", "work_dir": "/w",
    });
    world.call(task, "fail", report).await;
    let next = world.claim().await;
    assert_eq!(next.claimed["attempt"], 2);
    for absent in ["prior_session_id", "prior_work_dir"] {
        assert_eq!(next.claimed.get(absent), None, "{absent}");
    }
    for column in ["session_id", "work_dir"] {
        assert_eq!(world.of_task(next.task, column).await, "", "{column}");
    }
    let fresh = world.of_task(next.task, "force_fresh_session").await;
    assert!(["1", "true"].contains(&fresh.as_str()), "{fresh}");
}

async fn a_leader_s_task_is_a_leader_s_again(backend: Backend) {
    let world = world(backend).await;
    let squad = json!({ "name": "core", "leader_id": world.agent });
    let squad = id(&world.hub.cli("POST", "/api/squads", squad).await.expect(201));
    let wish = json!({ "title": "v", "assignee_type": "squad", "assignee_id": squad });
    world.hub.cli("POST", "/api/issues", wish).await.expect(201);
    let first = world.begin().await;
    world.call(first.task, "fail", json!({ "error": "x", "failure_reason": "runtime_recovery" })).await;
    let flags = world.hub.rows("SELECT CAST(is_leader_task AS text) FROM task ORDER BY attempt").await;
    assert!(flags == ["1", "1"] || flags == ["true", "true"], "{flags:?}");
}

async fn a_chat_s_answer_is_tried_again_for_whoever_asked(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let creator = hub.member("m@example.com", "member").await;
    let chat = desk::chat(hub, &creator, world.agent).await;
    let first = desk::say(hub, &creator, chat).await;
    world.begin().await;
    let mut browser = desk::browser(hub, &creator).await;
    let report = json!({ "error": "x", "failure_reason": "runtime_offline", "session_id": "s-1" });
    world.call(first, "fail", report).await;
    let events = told(hub, &mut browser).await;
    assert_eq!(kinds(&events), ["task:queued", "agent:status", "task:failed"]);
    assert_eq!(events[0]["payload"]["chat_session_id"], json!(chat));
    let payload = json!({
        "task_id": first, "agent_id": world.agent, "issue_id": "", "status": "failed", "chat_session_id": chat,
        "failure_reason": "runtime_offline",
    });
    assert_eq!(events[2]["payload"], payload);
    assert_eq!(world.talk(&creator, chat).await.len(), 1, "nothing is said yet");

    let second = world.claim().await;
    let me = hub.call("GET", "/api/me", Some(&creator), Value::Null).await.expect(200);
    assert_eq!((&second.claimed["initiator_id"], &second.claimed["attempt"]), (&me["id"], &json!(2)));
    assert_eq!(
        (&second.claimed["chat_message"], &second.claimed["prior_session_id"]),
        (&json!("secret"), &json!("s-1"))
    );
}

async fn what_is_waiting_in_a_chat_answers_for_a_failed_one(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let chat = desk::chat(hub, &hub.token, world.agent).await;
    let path = format!("/api/chat/sessions/{chat}/messages");
    let say = async |words: &str| {
        desk::uuid(&hub.cli("POST", &path, json!({ "content": words })).await.expect(201)["task_id"])
    };
    let first = say("one").await;
    world.begin().await;
    let second = say("two").await;
    let mut browser = world.browser().await;
    world.call(first, "fail", json!({ "error": "x", "failure_reason": "runtime_recovery" })).await;
    assert_eq!(kinds(&told(hub, &mut browser).await), ["agent:status", "task:failed"]);
    let job = world.begin().await;
    assert_eq!((job.task, &job.claimed["chat_message"]), (second, &json!("one\n\ntwo")));
    world.call(second, "complete", json!({ "output": "to both" })).await;
    assert_eq!(desk::claim(hub, world.runtime).await, Value::Null, "nobody is asked for nothing");
    let said: Vec<Value> =
        world.talk(&hub.token, chat).await.iter().map(|message| message["content"].clone()).collect();
    assert_eq!(said, ["one", "two", "to both"]);

    // Where the attempt would have started afresh, the one that waits does.
    let third = say("three").await;
    world.begin().await;
    hub.post(&format!("/api/daemon/tasks/{third}/session"), json!({ "session_id": "stuck" })).await.expect(204);
    hub.sql_unnoticed("UPDATE chat_session SET session_id = 'stuck', runtime_id = (SELECT id FROM agent_runtime)")
        .await;
    say("four").await;
    let still = json!({ "error": "x", "failure_reason": "codex_semantic_inactivity" });
    world.call(third, "fail", still).await;
    let job = world.begin().await;
    assert_eq!((&job.claimed["chat_message"], job.claimed.get("prior_session_id")), (&json!("three\n\nfour"), None));
}

async fn a_chat_is_told_of_the_end_only_where_there_is_no_other_attempt(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let creator = hub.member("m@example.com", "member").await;
    let chat = desk::chat(hub, &creator, world.agent).await;
    let (mut own, mut others) = (desk::browser(hub, &creator).await, world.browser().await);
    let pointer = async || {
        hub.rows("SELECT COALESCE(session_id, '') || ' ' || COALESCE(work_dir, '') FROM chat_session").await.remove(0)
    };
    let mut said = 0;
    for (reason, session, kept) in [
        ("agent_error", "s-1", "s-1 /w/s-1"),
        ("iteration_limit", "s-2", "s-1 /w/s-1"),
        ("agent_fallback_message", "s-3", "s-1 /w/s-1"),
        ("api_invalid_request", "s-4", "s-1 /w/s-1"),
        ("agent_blocked", "s-5", "s-5 /w/s-5"),
    ] {
        let task = desk::say(hub, &creator, chat).await;
        world.begin().await;
        told(hub, &mut own).await;
        told(hub, &mut others).await;
        let report = json!({
            "error": format!("no {SECRET}"), "failure_reason": reason, "session_id": session,
            "work_dir": format!("/w/{session}"),
        });
        world.call(task, "fail", report).await;
        assert_eq!(pointer().await, kept, "{reason}");
        for browser in [&mut own, &mut others] {
            let events = told(hub, browser).await;
            assert_eq!(kinds(&events), ["agent:status", "task:failed"], "{reason}: it was no answer");
            assert_eq!(events[1]["payload"]["chat_session_id"], json!(chat));
            assert_eq!(events[1]["payload"]["failure_reason"], reason);
            assert!(events.iter().all(|event| !event.to_string().contains("REDACTED")), "not for everybody");
        }
        said += 2;
        let talk = world.talk(&creator, chat).await;
        assert_eq!(talk.len(), said, "{reason}");
        let last = &talk[said - 1];
        let expected = [
            ("role", json!("assistant")),
            ("content", json!("no [REDACTED GITHUB TOKEN]")),
            ("failure_reason", json!(reason)),
            ("task_id", json!(task)),
        ];
        for (name, value) in expected {
            assert_eq!(last[name], value, "{reason}: {name}");
        }
        assert!(last["elapsed_ms"].is_u64());
    }
    let list = hub.cli_as(&creator, "GET", "/api/chat/sessions", Value::Null).await.expect(200);
    assert_eq!(list[0]["has_unread"], true);
}

async fn an_agent_that_never_ran_gets_another_chance(backend: Backend) {
    let world = world(backend).await;
    let error = json!({ "error": "start task failed: context deadline exceeded", "failure_reason": "agent_error" });
    // Its status when its daemon gives up, whether anything was heard before that start and after it, and
    // what is believed.
    for (status, before, after, reason) in [
        ("dispatched", false, false, "start_failed"),
        ("waiting_local_directory", false, false, "start_failed"),
        ("running", false, false, "start_failed"),
        ("running", true, false, "start_failed"),
        ("running", false, true, "agent_error"),
    ] {
        let what = format!("{status}, heard of before: {before}, after: {after}");
        let issue = world.assigned("t").await;
        let job = world.claim().await;
        let words = json!({ "messages": [{ "seq": 1, "type": "text", "content": "I am here" }] });
        if before {
            world.call(job.task, "messages", words.clone()).await;
        }
        match status {
            "running" => drop(world.call(job.task, "start", json!({})).await),
            "waiting_local_directory" => drop(world.call(job.task, "wait-local-directory", json!({})).await),
            _ => {}
        }
        if after {
            world.call(job.task, "messages", words).await;
        }
        let failed = world.call(job.task, "fail", error.clone()).await;
        assert_eq!(failed["failure_reason"], reason, "{what}");
        let again = desk::claim(&world.hub, world.runtime).await;
        if reason == "start_failed" {
            assert_eq!((&again["attempt"], &again["parent_task_id"]), (&json!(2), &json!(job.task)), "{what}");
        } else {
            assert_eq!(again, Value::Null, "{what}");
        }
        world.hub.cli("DELETE", &format!("/api/issues/{issue}"), Value::Null).await.expect(204);
    }
    // Such words in the midst are another matter.
    let (_, task) = attempt(&world).await;
    let failed = world.call(task, "fail", json!({ "error": "sub: start task failed: x" })).await;
    assert_eq!(failed["failure_reason"], "agent_error.unknown");
}

async fn a_run_fails_with_its_task(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let wish = json!({ "title": "Nightly", "assignee_id": world.agent, "execution_mode": "run_only" });
    let autopilot = id(&hub.cli("POST", "/api/autopilots", wish).await.expect(201));
    let mut browser = world.browser().await;
    for cancelled in [false, true] {
        let run = hub.cli("POST", &format!("/api/autopilots/{autopilot}/trigger"), Value::Null).await.expect(200);
        let job = world.begin().await;
        told(hub, &mut browser).await;
        if cancelled {
            hub.cli("POST", &format!("/api/tasks/{}/cancel", job.task), Value::Null).await.expect(200);
        } else {
            world.call(job.task, "fail", json!({ "error": "gone", "failure_reason": "runtime_offline" })).await;
        }
        let end = if cancelled { "task:cancelled" } else { "task:failed" };
        let events = told(hub, &mut browser).await;
        assert_eq!(kinds(&events), ["agent:status", end, "autopilot:run_done"], "it comes round again by itself");
        let payload = json!({ "run_id": run["id"], "autopilot_id": autopilot, "status": "failed" });
        assert_eq!(events[2]["payload"], payload);
        let path = format!("/api/autopilots/{autopilot}/runs/{}", id(&run));
        let ended = hub.cli("GET", &path, Value::Null).await.expect(200);
        let reason = if cancelled { "task was cancelled" } else { "gone" };
        assert_eq!((&ended["failure_reason"], &ended["result"]), (&json!(reason), &Value::Null));
    }
}

async fn nobody_tries_again_who_is_not_there_any_more(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let mut browser = world.browser().await;
    let late = json!({ "error": "too slow", "failure_reason": "timeout" });
    // An agent that was put aside beside the rules: those cancel its work.
    let (issue, task) = attempt(&world).await;
    hub.sql("UPDATE agent SET archived_at = 1").await;
    told(hub, &mut browser).await;
    world.call(task, "fail", late.clone()).await;
    let events = told(hub, &mut browser).await;
    assert_eq!(kinds(&events), ["comment:created", "agent:status", "task:failed"]);
    assert_eq!(world.comments(issue).await[0]["content"], "too slow");
    hub.sql("UPDATE agent SET archived_at = NULL").await;
    hub.cli("DELETE", &format!("/api/issues/{issue}"), Value::Null).await.expect(204);

    // One that has another task for the issue sees to it by that.
    let (issue, task) = attempt(&world).await;
    world.asked(issue).await;
    told(hub, &mut browser).await;
    world.call(task, "fail", late.clone()).await;
    let events = told(hub, &mut browser).await;
    assert!(!kinds(&events).contains(&"task:queued"), "{:?}", kinds(&events));
    let active = hub.cli("GET", &format!("/api/issues/{issue}/active-task"), Value::Null).await.expect(200);
    assert_eq!(active["tasks"].as_array().unwrap().len(), 1);
    hub.cli("DELETE", &format!("/api/issues/{issue}"), Value::Null).await.expect(204);

    // An issue that went beside the rules.
    let (issue, task) = attempt(&world).await;
    let gone = world.literal(issue);
    hub.sql_unnoticed(format!("DELETE FROM issue WHERE id = {gone}").leak()).await;
    told(hub, &mut browser).await;
    world.call(task, "fail", late).await;
    assert_eq!(kinds(&told(hub, &mut browser).await), ["agent:status", "task:failed"]);
}

async fn an_error_is_kept_without_secrets_and_no_longer_than_it_is_read(backend: Backend) {
    let world = world(backend).await;
    let (issue, task) = attempt(&world).await;
    let failed = world.call(task, "fail", json!({ "error": format!("no {SECRET}{}", '\0') })).await;
    assert_eq!(failed["error"], "no [REDACTED GITHUB TOKEN]\u{fffd}");
    let said = world.comments(issue).await;
    assert_eq!(said[0]["content"], "no [REDACTED GITHUB TOKEN]\u{fffd}");
    assert!(!is_secret(&json!(said).to_string()));

    let given = Given {
        agent: world.agent,
        runtime: world.runtime,
        status: "running",
        dispatched: Some(2),
        started: Some(1),
        ..Given::default()
    };
    let task = give(&world.hub, &given).await;
    // The last letter has two bytes, and half of it is beyond the end.
    let error = format!("x{}", "ä".repeat(1 << 20));
    let failed = world.call(task, "fail", json!({ "error": error })).await;
    assert_eq!(failed["error"].as_str().unwrap().len(), (1 << 20) - 1);
}
