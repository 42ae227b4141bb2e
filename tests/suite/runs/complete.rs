//! A task that came to an end: where it was asked for its outcome is said, once.

use serde_json::{Value, json};
use uuid::Uuid;

use super::ground::{SECRET, World, is_secret, kinds, of, told, value, world};
use crate::{
    support::{Backend, hub::id},
    tasks::{
        desk,
        support::{Given, give, run},
    },
};

on_both_stores!(
    an_agent_that_said_nothing_says_what_it_put_out,
    a_settled_thread_is_opened_by_an_answer,
    nothing_is_said_that_is_known_already,
    an_output_is_kept_and_said_without_secrets_and_with_its_line_breaks,
    an_issue_was_executed_when_a_task_for_it_was_first_completed,
    where_the_session_is_now_is_what_the_last_report_says,
    an_answer_in_a_chat_comes_before_the_end_of_its_task,
    what_is_said_while_an_answer_is_on_its_way_is_answered_next,
    an_issue_that_was_made_of_a_wish_is_the_wish_s,
    a_run_ends_after_its_task_with_what_came_of_it,
    what_is_over_is_over,
);

async fn an_agent_that_said_nothing_says_what_it_put_out(backend: Backend) {
    let world = world(backend).await;
    let issue = world.issue("t").await;
    let root = id(&world
        .hub
        .cli("POST", &format!("/api/issues/{issue}/comments"), json!({ "content": "so" }))
        .await
        .expect(201));
    let asked = world.asked_below(issue, Some(root)).await;
    let job = world.begin().await;
    let mut browser = world.browser().await;
    // Nothing in it means anything to anybody but its readers: nobody is woken by it.
    let output = format!("See HOM-1, [@ann](mention://agent/{}) and\n\n[HOM-1](mention://issue/{issue}).", world.agent);
    let answer = world.call(job.task, "complete", json!({ "output": output })).await;
    assert_eq!((&answer["status"], &answer["result"]["output"]), (&json!("completed"), &json!(output)));

    let events = told(&world.hub, &mut browser).await;
    assert_eq!(kinds(&events), ["comment:created", "agent:status", "task:completed"]);
    assert_eq!((&events[0]["actor_type"], &events[0]["actor_id"]), (&json!("agent"), &json!(world.agent)));
    let comment = &events[0]["payload"]["comment"];
    let expected = [
        ("content", json!(output)),
        ("type", json!("comment")),
        ("parent_id", json!(asked)),
        ("author_type", json!("agent")),
        ("author_id", json!(world.agent)),
        ("source_task_id", json!(job.task)),
        ("issue_id", json!(issue)),
    ];
    for (name, value) in expected {
        assert_eq!(comment[name], value, "{name}");
    }
    assert_eq!(events[0]["payload"]["issue_title"], "t");
    assert_eq!(events[1]["payload"]["agent"]["status"], "idle");
    let payload = json!({ "task_id": job.task, "agent_id": world.agent, "issue_id": issue, "status": "completed" });
    assert_eq!((&events[2]["payload"], &events[2]["actor_type"]), (&payload, &json!("system")));
    let said = world.comments(issue).await;
    assert_eq!(said.iter().map(id).collect::<Vec<_>>(), [root, asked, id(comment)], "exactly one");
}

async fn a_settled_thread_is_opened_by_an_answer(backend: Backend) {
    let world = world(backend).await;
    let issue = world.issue("t").await;
    let asked = world.asked(issue).await;
    let job = world.begin().await;
    world.hub.cli("POST", &format!("/api/comments/{asked}/resolve"), Value::Null).await.expect(200);
    let mut browser = world.browser().await;
    world.call(job.task, "complete", json!({ "output": "it is not" })).await;
    let events = told(&world.hub, &mut browser).await;
    assert_eq!(kinds(&events), ["comment:created", "comment:unresolved", "agent:status", "task:completed"]);
    assert_eq!(id(&events[1]["payload"]["comment"]), asked);
    assert_eq!(events[1]["payload"]["comment"]["resolved_at"], Value::Null);

    // A comment that is gone by then cannot be answered; the outcome is said all the same.
    let again = world.asked(issue).await;
    let job = world.begin().await;
    let gone = world.literal(again);
    world.hub.sql_unnoticed(format!("DELETE FROM comment WHERE id = {gone}").leak()).await;
    world.call(job.task, "complete", json!({ "output": "done that" })).await;
    let said = world.comments(issue).await;
    let last = said.last().unwrap();
    assert_eq!((&last["content"], &last["parent_id"]), (&json!("done that"), &Value::Null));
}

async fn nothing_is_said_that_is_known_already(backend: Backend) {
    let world = world(backend).await;
    let mut browser = world.browser().await;
    // How it was asked, what the agent says meanwhile, what it puts out, and whether that is said.
    for (by_comment, says, output, is_said) in [
        (true, true, "I have answered", false),
        (true, false, " Done. ", false),
        (true, false, "Готово!", false),
        (true, false, "done, see PR", true),
        (true, false, " \n ", false),
        (true, false, "", false),
        (false, false, "Done.", true),
        (false, true, "more", false),
        (false, false, "", false),
    ] {
        let what = format!("by a comment: {by_comment}, says something: {says}, {output:?}");
        let issue = match by_comment {
            true => {
                let issue = world.issue("t").await;
                world.asked(issue).await;
                issue
            }
            false => world.assigned("t").await,
        };
        let job = world.begin().await;
        if says {
            let parent = job.claimed["trigger_comment_id"].clone();
            let wish = json!({ "content": "here it is", "parent_id": parent });
            world.hub.cli_as(&job.token, "POST", &format!("/api/issues/{issue}/comments"), wish).await.expect(201);
        }
        let before = world.comments(issue).await.len();
        told(&world.hub, &mut browser).await;
        world.call(job.task, "complete", json!({ "output": output })).await;
        let events = told(&world.hub, &mut browser).await;
        let expected: &[&str] = match is_said {
            true => &["comment:created", "agent:status", "task:completed"],
            false => &["agent:status", "task:completed"],
        };
        assert_eq!(kinds(&events), expected, "{what}");
        assert_eq!(world.comments(issue).await.len(), before + usize::from(is_said), "{what}");
        // One at a time keeps the names apart.
        world.hub.cli("DELETE", &format!("/api/issues/{issue}"), Value::Null).await.expect(204);
    }

    // What it said in an earlier run, and what others say meanwhile, is not its answer.
    let issue = world.assigned("u").await;
    let first = world.begin().await;
    let comments = format!("/api/issues/{issue}/comments");
    world.hub.cli_as(&first.token, "POST", &comments, json!({ "content": "first" })).await.expect(201);
    world.call(first.task, "complete", json!({})).await;
    world.hub.cli("POST", &format!("/api/issues/{issue}/rerun"), json!({})).await.expect(202);
    let second = world.begin().await;
    world.hub.cli("POST", &comments, json!({ "content": "/note hurry" })).await.expect(201);
    world.call(second.task, "complete", json!({ "output": "second" })).await;
    assert_eq!(world.comments(issue).await.last().unwrap()["content"], "second");

    // A leader that saw nothing to do says nothing.
    let squad = json!({ "name": "core", "leader_id": world.agent });
    let squad = id(&world.hub.cli("POST", "/api/squads", squad).await.expect(201));
    let wish = json!({ "title": "v", "assignee_type": "squad", "assignee_id": squad });
    let issue = id(&world.hub.cli("POST", "/api/issues", wish).await.expect(201));
    let job = world.begin().await;
    let path = format!("/api/issues/{issue}/squad-evaluated");
    world.hub.cli_as(&job.token, "POST", &path, json!({ "outcome": "no_action" })).await.expect(201);
    told(&world.hub, &mut browser).await;
    world.call(job.task, "complete", json!({ "output": "nothing to do here" })).await;
    assert_eq!(kinds(&told(&world.hub, &mut browser).await), ["agent:status", "task:completed"]);
    assert!(world.comments(issue).await.is_empty());
}

async fn an_output_is_kept_and_said_without_secrets_and_with_its_line_breaks(backend: Backend) {
    let world = world(backend).await;
    let mut browser = world.browser().await;
    let issue = world.assigned("t").await;
    let job = world.begin().await;
    let output = format!(r"one\ntwo {SECRET} and nul {}", '\0');
    let pr = format!("https://ann:{SECRET}@example.com/pull/1");
    let answer = world.call(job.task, "complete", json!({ "output": output, "pr_url": pr })).await;
    assert!(!is_secret(&answer.to_string()), "{answer}");
    let events = told(&world.hub, &mut browser).await;
    assert!(events.iter().all(|event| !is_secret(&event.to_string())), "{events:?}");
    let comment = of(&events, "comment:created")["payload"]["comment"]["content"].as_str().unwrap();
    assert_eq!(comment, "one\ntwo [REDACTED GITHUB TOKEN] and nul \u{fffd}");
    let runs = world.hub.cli("GET", &format!("/api/issues/{issue}/task-runs"), Value::Null).await.expect(200);
    assert_eq!(runs[0]["result"]["output"], "one\\ntwo [REDACTED GITHUB TOKEN] and nul \u{fffd}", "as it came");
    assert!(!is_secret(&runs.to_string()), "{runs}");

    // Whoever breaks lines means what it writes.
    let issue = world.assigned("u").await;
    let job = world.begin().await;
    world.call(job.task, "complete", json!({ "output": "C:\\new\nline" })).await;
    assert_eq!(world.comments(issue).await[0]["content"], "C:\\new\nline");
}

async fn an_issue_was_executed_when_a_task_for_it_was_first_completed(backend: Backend) {
    const EXECUTED: &str = "SELECT COALESCE(CAST(first_executed_at AS text), 'never') FROM issue";
    let world = world(backend).await;
    let issue = world.assigned("t").await;
    let executed = async || world.hub.rows(EXECUTED).await.remove(0);
    // Ends that are none, and reports that change nothing.
    let job = world.claim().await;
    world.call(job.task, "complete", json!({ "output": "too early" })).await;
    assert_eq!((executed().await.as_str(), world.worth(&job.token).await), ("never", 200), "nothing was revoked");
    world.call(job.task, "start", json!({})).await;
    world.call(job.task, "fail", json!({ "error": "oh" })).await;
    world.call(job.task, "complete", json!({ "output": "too late" })).await;
    assert_eq!(executed().await, "never");
    let rerun = format!("/api/issues/{issue}/rerun");
    world.hub.cli("POST", &rerun, json!({})).await.expect(202);
    let job = world.begin().await;
    world.hub.cli("POST", &format!("/api/tasks/{}/cancel", job.task), Value::Null).await.expect(200);
    world.call(job.task, "complete", json!({ "output": "too late" })).await;
    assert_eq!(executed().await, "never");

    world.hub.cli("POST", &rerun, json!({})).await.expect(202);
    let job = world.begin().await;
    world.call(job.task, "complete", json!({ "output": "at last" })).await;
    let first = executed().await;
    assert_ne!(first, "never");
    world.call(job.task, "complete", json!({ "output": "again" })).await;
    world.hub.cli("POST", &rerun, json!({})).await.expect(202);
    let job = world.begin().await;
    world.call(job.task, "complete", json!({ "output": "and again" })).await;
    assert_eq!(executed().await, first, "once");
    let said: Vec<Value> = world.comments(issue).await.iter().map(|comment| comment["content"].clone()).collect();
    assert_eq!(said, ["oh", "at last", "and again"]);
}

async fn where_the_session_is_now_is_what_the_last_report_says(backend: Backend) {
    let world = world(backend).await;
    for (report, session, work_dir) in [
        (json!({ "output": "x", "session_id": "new", "work_dir": " /home/ann/w " }), "new", "/home/ann/w"),
        (json!({ "output": "x", "session_id": "new" }), "new", ""),
        (json!({ "output": "x", "session_id": null, "work_dir": "" }), "", ""),
    ] {
        let issue = world.assigned("t").await;
        let job = world.begin().await;
        let path = format!("/api/daemon/tasks/{}/session", job.task);
        world.hub.post(&path, json!({ "session_id": "pinned", "work_dir": "/pinned" })).await.expect(204);
        let answer = world.call(job.task, "complete", report.clone()).await;
        assert_eq!(world.of_task(job.task, "session_id").await, session, "{report}");
        assert_eq!(world.of_task(job.task, "work_dir").await, work_dir, "{report}");
        assert_eq!(answer["work_dir"].as_str().unwrap_or_default(), work_dir);
        world.hub.cli("DELETE", &format!("/api/issues/{issue}"), Value::Null).await.expect(204);
    }
}

async fn an_answer_in_a_chat_comes_before_the_end_of_its_task(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let creator = hub.member("m@example.com", "member").await;
    let chat = desk::chat(hub, &creator, world.agent).await;
    let task = desk::say(hub, &creator, chat).await;
    world.begin().await;
    let (mut own, mut others) = (desk::browser(hub, &creator).await, world.browser().await);
    let output = format!("the answer {SECRET}");
    world.call(task, "complete", json!({ "output": output, "session_id": "s-1", "work_dir": "/home/ann/c" })).await;

    let full = told(hub, &mut own).await;
    assert_eq!(kinds(&full), ["chat:done", "agent:status", "task:completed"]);
    let done = &full[0]["payload"];
    assert_eq!((&done["chat_session_id"], &done["task_id"]), (&json!(chat), &json!(task)));
    assert_eq!(done["content"], "the answer [REDACTED GITHUB TOKEN]");
    assert!(done["elapsed_ms"].is_u64() && done["created_at"].is_string() && done["message_id"].is_string(), "{done}");
    let payload = desk::told(task, world.agent, "completed", Some(chat)).1;
    assert_eq!(full[2]["payload"], payload);
    let reduced = told(hub, &mut others).await;
    assert_eq!(kinds(&reduced), ["chat:done", "agent:status", "task:completed"]);
    let ids = json!({ "chat_session_id": chat, "task_id": task, "message_id": done["message_id"] });
    assert_eq!(reduced[0]["payload"], ids);
    assert_eq!(reduced[0]["seq"], full[0]["seq"]);

    let said = world.talk(&creator, chat).await;
    assert_eq!(said.len(), 2);
    let answer = &said[1];
    let expected = [
        ("id", done["message_id"].clone()),
        ("role", json!("assistant")),
        ("content", done["content"].clone()),
        ("task_id", json!(task)),
        ("elapsed_ms", done["elapsed_ms"].clone()),
        ("failure_reason", Value::Null),
    ];
    for (name, value) in expected {
        assert_eq!(answer[name], value, "{name}");
    }
    let unread = async || {
        let list = hub.cli_as(&creator, "GET", "/api/chat/sessions", Value::Null).await.expect(200);
        list[0]["has_unread"].as_bool().unwrap()
    };
    assert!(unread().await);
    hub.cli_as(&creator, "POST", &format!("/api/chat/sessions/{chat}/read"), Value::Null).await.expect(204);
    assert!(!unread().await);

    // The next one takes up the session; what a report does not say stays known.
    let task = desk::say(hub, &creator, chat).await;
    let job = world.begin().await;
    assert_eq!(
        (&job.claimed["prior_session_id"], &job.claimed["prior_work_dir"]),
        (&json!("s-1"), &json!("/home/ann/c"))
    );
    told(hub, &mut own).await;
    world.call(task, "complete", json!({ "output": "  ", "work_dir": "/home/ann/d" })).await;
    let events = told(hub, &mut own).await;
    assert_eq!(kinds(&events), ["chat:done", "agent:status", "task:completed"]);
    assert_eq!(events[0]["payload"], json!({ "chat_session_id": chat, "task_id": task }), "it had nothing to say");
    assert_eq!(world.talk(&creator, chat).await.len(), 3);
    assert!(!unread().await);
    let pointer = "SELECT session_id || ' ' || work_dir || ' ' || (runtime_id = (SELECT id FROM agent_runtime))
                   FROM chat_session";
    let pointer = hub.rows(pointer).await.remove(0);
    assert!(["s-1 /home/ann/d true", "s-1 /home/ann/d 1"].contains(&pointer.as_str()), "{pointer}");
}

async fn what_is_said_while_an_answer_is_on_its_way_is_answered_next(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let chat = desk::chat(hub, &hub.token, world.agent).await;
    let path = format!("/api/chat/sessions/{chat}/messages");
    let say = async |words: &str| {
        desk::uuid(&hub.cli("POST", &path, json!({ "content": words })).await.expect(201)["task_id"])
    };
    let first = say("one").await;
    let job = world.begin().await;
    assert_eq!((job.task, &job.claimed["chat_message"]), (first, &json!("one")));
    let second = say("two").await;
    assert_ne!(second, first);
    assert_eq!(say("three").await, second);
    world.call(first, "complete", json!({ "output": "to one" })).await;
    assert_eq!(say("four").await, second);
    let job = world.begin().await;
    assert_eq!(job.task, second);
    assert_eq!(job.claimed["chat_message"], "two\n\nthree\n\nfour", "not one of them is lost");
    world.call(second, "complete", json!({ "output": "to all" })).await;
    say("five").await;
    assert_eq!(world.begin().await.claimed["chat_message"], "five");
}

async fn an_issue_that_was_made_of_a_wish_is_the_wish_s(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let mut browser = world.browser().await;
    let task = desk::wish(hub, &hub.token, world.agent).await;
    let job = world.begin().await;
    assert_eq!(job.task, task);
    let made = json!({ "title": "made", "origin_type": "quick_create", "origin_id": task });
    let issue = id(&hub.cli_as(&job.token, "POST", "/api/issues", made).await.expect(201));
    told(hub, &mut browser).await;
    let answer = world.call(task, "complete", json!({ "output": "made it" })).await;
    assert_eq!((&answer["issue_id"], &answer["kind"]), (&json!(issue), &json!("direct")));
    let events = told(hub, &mut browser).await;
    assert_eq!(kinds(&events), ["agent:status", "task:completed"], "the issue says it all");
    assert_eq!(events[1]["payload"]["issue_id"], json!(issue));
    let runs = hub.cli("GET", &format!("/api/issues/{issue}/task-runs"), Value::Null).await.expect(200);
    assert_eq!(id(&runs[0]), task);

    // Nothing came of this one.
    let task = desk::wish(hub, &hub.token, world.agent).await;
    world.begin().await;
    let answer = world.call(task, "complete", json!({ "output": "sorry" })).await;
    assert_eq!((&answer["issue_id"], &answer["kind"]), (&json!(""), &json!("quick_create")));
}

async fn a_run_ends_after_its_task_with_what_came_of_it(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let wish = json!({ "title": "Nightly", "assignee_id": world.agent, "execution_mode": "run_only" });
    let autopilot = id(&hub.cli("POST", "/api/autopilots", wish).await.expect(201));
    let set_off = format!("/api/autopilots/{autopilot}/trigger");
    let run = hub.cli("POST", &set_off, Value::Null).await.expect(200);
    let job = world.begin().await;
    assert_eq!(json!(job.task), run["task_id"]);
    let mut browser = world.browser().await;
    world.call(job.task, "complete", json!({ "output": "all is well", "pr_url": "https://h/1" })).await;
    let events = told(hub, &mut browser).await;
    assert_eq!(kinds(&events), ["agent:status", "task:completed", "autopilot:run_done"]);
    let payload = json!({ "run_id": run["id"], "autopilot_id": autopilot, "status": "completed" });
    assert_eq!(events[2]["payload"], payload);
    let path = format!("/api/autopilots/{autopilot}/runs/{}", id(&run));
    let ended = hub.cli("GET", &path, Value::Null).await.expect(200);
    assert_eq!((&ended["status"], &ended["failure_reason"]), (&json!("completed"), &Value::Null));
    assert_eq!(
        (&ended["result"]["output"], &ended["result"]["pr_url"]),
        (&json!("all is well"), &json!("https://h/1"))
    );
    assert!(ended["completed_at"].is_string());
    // A late report does not end it again.
    world.call(job.task, "fail", json!({ "error": "oh" })).await;
    assert!(told(hub, &mut browser).await.is_empty());
    assert_eq!(hub.cli("GET", &path, Value::Null).await.expect(200), ended);

    // One that is gone by then keeps nothing from ending.
    let lost = run_of_nothing(&world).await;
    world.call(lost, "complete", json!({ "output": "x" })).await;
    assert_eq!(desk::status(hub, lost).await, "completed");
}

/// A task of a run that is not there.
async fn run_of_nothing(world: &World) -> Uuid {
    let wish = json!({ "title": "Gone", "assignee_id": world.agent, "execution_mode": "run_only" });
    let autopilot = id(&world.hub.cli("POST", "/api/autopilots", wish).await.expect(201));
    let gone = run(&world.hub, autopilot, None).await;
    let given = Given {
        agent: world.agent,
        runtime: world.runtime,
        run: Some(gone),
        status: "running",
        dispatched: Some(2),
        started: Some(1),
        ..Given::default()
    };
    let task = give(&world.hub, &given).await;
    let which = world.literal(gone);
    world.hub.sql_unnoticed(format!("DELETE FROM autopilot_run WHERE id = {which}").leak()).await;
    task
}

async fn what_is_over_is_over(backend: Backend) {
    let world = world(backend).await;
    let mut browser = world.browser().await;
    for (what, report) in [
        ("complete", json!({ "output": "x", "session_id": "s" })),
        ("fail", json!({ "error": "x" })),
        ("cancel", Value::Null),
    ] {
        let issue = world.assigned(what).await;
        let job = world.begin().await;
        match what {
            "cancel" => {
                let path = format!("/api/issues/{issue}/tasks/{}/cancel", job.task);
                world.hub.cli("POST", &path, Value::Null).await.expect(200);
            }
            _ => {
                world.call(job.task, what, report).await;
            }
        }
        told(&world.hub, &mut browser).await;
        let which = world.literal(job.task);
        let row = format!(
            "SELECT status || completed_at || COALESCE(error, '') || COALESCE(session_id, '')
                           || COALESCE(CAST(result AS text), '') FROM task WHERE id = {which}"
        );
        let (before, said) = (value(&world.hub, row.clone()).await, world.comments(issue).await);
        let first = world.call(job.task, "complete", json!({ "output": "y", "session_id": "t" })).await;
        let second = world.call(job.task, "fail", json!({ "error": "y", "failure_reason": "timeout" })).await;
        assert_eq!(first, second, "the task as it is");
        assert_eq!((value(&world.hub, row).await, world.comments(issue).await), (before, said), "{what}");
        assert!(told(&world.hub, &mut browser).await.is_empty(), "{what}");
    }
}
