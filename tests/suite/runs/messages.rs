//! What an agent says and does, as it is stored: whole, in order, once, and without secrets.

use serde_json::{Value, json};
use uuid::Uuid;

use super::ground::{SECRET, World, is_secret, kinds, told, value, world};
use crate::{
    support::{Backend, PATIENCE, Socket, hub::id},
    tasks::desk,
};

on_both_stores!(
    messages_are_stored_in_order_with_what_people_read,
    nothing_secret_is_stored_or_told,
    a_batch_that_comes_again_is_stored_once,
    a_run_that_begins_anew_gets_numbers_of_its_own,
    nothing_is_asked_about_an_empty_list,
    a_list_goes_on_where_somebody_was,
    words_that_come_after_the_end_are_kept,
    not_everybody_reads_what_is_said_to_others,
    a_batch_is_stored_as_a_whole_or_not_at_all,
    many_batches_at_once_have_no_gap,
    whatever_a_daemon_does_the_record_is_right,
    numbers_stay_within_what_clients_count_with,
);

fn text(seq: i64, content: &str) -> Value {
    json!({ "seq": seq, "type": "text", "content": content })
}

async fn report(world: &World, task: Uuid, messages: Value) {
    let answer = world.call(task, "messages", json!({ "messages": messages })).await;
    assert_eq!(answer, json!({ "status": "ok" }));
}

/// A task that runs.
async fn run(world: &World) -> Uuid {
    desk::wish(&world.hub, &world.hub.token, world.agent).await;
    world.begin().await.task
}

/// A list as numbers and words.
fn said(list: &[Value]) -> Vec<(i64, i64, &str)> {
    list.iter()
        .map(|m| (m["pos"].as_i64().unwrap(), m["seq"].as_i64().unwrap(), m["content"].as_str().unwrap_or("-")))
        .collect()
}

/// The next messages of a task that a browser hears.
async fn heard(browser: &mut Socket, count: usize) -> Vec<Value> {
    let mut messages = Vec::new();
    // Heartbeats come for ever.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while messages.len() < count {
        let next = tokio::time::timeout_at(deadline, browser.next_of("task:message")).await;
        messages.push(next.unwrap_or_else(|_| panic!("heard only {messages:?}"))["payload"].take());
    }
    messages
}

async fn messages_are_stored_in_order_with_what_people_read(backend: Backend) {
    let world = world(backend).await;
    let issue = world.assigned("t").await;
    let task = world.begin().await.task;
    let mut browser = world.browser().await;
    let batch = json!([
        { "seq": 1, "type": "text", "content": "hello", "tool": "", "input": null, "output": null },
        { "seq": 2, "type": "tool_use", "tool": "Bash", "input": { "command": "ls", "deep": [1, { "x": null }] } },
        { "seq": 3, "type": "tool_result", "tool": "Bash", "output": "a\nb" },
        { "seq": 4, "type": "thinking", "content": "hm" },
        { "seq": 5, "content": "plain" },
    ]);
    report(&world, task, batch).await;
    let list = world.transcript(task).await;
    let common = |index: usize| json!({ "task_id": task, "issue_id": issue, "created_at": list[index]["created_at"] });
    for (index, rest) in [
        json!({ "seq": 1, "pos": 1, "type": "text", "content": "hello" }),
        json!({ "seq": 2, "pos": 2, "type": "tool_use", "tool": "Bash",
                "input": { "command": "ls", "deep": [1, { "x": null }] } }),
        json!({ "seq": 3, "pos": 3, "type": "tool_result", "tool": "Bash", "output": "a\nb" }),
        json!({ "seq": 4, "pos": 4, "type": "thinking", "content": "hm" }),
        json!({ "seq": 5, "pos": 5, "type": "text", "content": "plain" }),
    ]
    .into_iter()
    .enumerate()
    {
        let mut expected = common(index);
        expected.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        assert_eq!(list[index], expected);
    }
    assert_eq!(list.len(), 5);
    assert!(list[0]["created_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(heard(&mut browser, 5).await, list, "the same is told");
    let path = format!("/api/daemon/tasks/{task}/messages");
    assert_eq!(world.hub.get(&path).await.expect(200), json!(list), "and the daemon reads it, too");
}

async fn nothing_secret_is_stored_or_told(backend: Backend) {
    let world = world(backend).await;
    let task = run(&world).await;
    let mut browser = world.browser().await;
    let tokens = ["mul", "mdt", "mat"].map(|kind| format!("{kind}_{}", "0123456789".repeat(4)));
    let batch = json!([
        text(1, &format!("I use {SECRET} and {}\u{0}.", tokens[0])),
        { "seq": 2, "type": "tool_use", "tool": "Bash\u{0}", "input": {
            "command": format!("curl -H 'Authorization: Bearer {}'", "a".repeat(40)),
            "env": { "DB_PASSWORD": "correct horse", "n": 7, "yes": true, "none": null,
                     "list": [tokens[1], [tokens[2]], 1.5] },
            "nul\u{0}": "a\u{0}b",
        } },
        { "seq": 3, "type": "tool_result", "output": format!("postgres://ann:hunter2@db/x {SECRET}") },
    ]);
    report(&world, task, batch).await;
    let list = world.transcript(task).await;
    let told = heard(&mut browser, 3).await;
    assert_eq!(told, list);
    let stored = world
        .hub
        .rows("SELECT COALESCE(content, '') || COALESCE(input, '') || COALESCE(output, '') FROM task_message")
        .await;
    for text in [json!(list).to_string(), stored.join("\n")] {
        assert!(!is_secret(&text) && !text.contains('\u{0}') && !text.contains("\\u0000"), "{text}");
        for secret in tokens.iter().map(String::as_str).chain(["correct horse", "hunter2", "aaaaaaaaaaaaaaaaaaaa"]) {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    let input = &list[1]["input"];
    assert_eq!(
        (&input["env"]["n"], &input["env"]["yes"], &input["env"]["none"]),
        (&json!(7), &json!(true), &Value::Null)
    );
    assert_eq!(input["env"]["list"][2], 1.5);
    assert_eq!(input["nul\u{fffd}"], "a\u{fffd}b");
    assert!(list[0]["content"].as_str().unwrap().ends_with("\u{fffd}."));
}

async fn a_batch_that_comes_again_is_stored_once(backend: Backend) {
    let world = world(backend).await;
    let task = run(&world).await;
    let mut browser = world.browser().await;
    let first = json!([text(1, "a"), text(2, "b")]);
    report(&world, task, first.clone()).await;
    report(&world, task, first.clone()).await;
    report(&world, task, json!([text(3, "c")])).await;
    report(&world, task, first).await;
    // A batch that holds some that are known, and one twice in itself.
    report(&world, task, json!([text(2, "b"), text(3, "c"), text(4, "d"), text(4, "d")])).await;
    // Late, and in the wrong order.
    report(&world, task, json!([text(8, "h")])).await;
    report(&world, task, json!([text(6, "f"), text(5, "e")])).await;
    let list = world.transcript(task).await;
    let expected = [(1, 1, "a"), (2, 2, "b"), (3, 3, "c"), (4, 4, "d"), (5, 8, "h"), (6, 6, "f"), (7, 5, "e")];
    assert_eq!(said(&list), expected);
    assert_eq!(said(&heard(&mut browser, 7).await), expected);
    report(&world, task, json!([text(9, "i")])).await;
    assert_eq!(said(&heard(&mut browser, 1).await), [(8, 9, "i")], "nothing was told twice");
}

async fn a_run_that_begins_anew_gets_numbers_of_its_own(backend: Backend) {
    let world = world(backend).await;
    let task = run(&world).await;
    let mut browser = world.browser().await;
    report(&world, task, json!([text(1, "a"), text(2, "b")])).await;
    report(&world, task, json!([text(3, "c")])).await;
    // Run once more within the task: from 1 again, with other words.
    report(&world, task, json!([text(1, "A"), text(2, "B")])).await;
    report(&world, task, json!([text(1, "A"), text(2, "B")])).await;
    report(&world, task, json!([text(3, "C"), text(4, "D")])).await;
    let list = world.transcript(task).await;
    let expected = [(1, 1, "a"), (2, 2, "b"), (3, 3, "c"), (4, 4, "A"), (5, 5, "B"), (6, 6, "C"), (7, 7, "D")];
    assert_eq!(said(&list), expected);
    assert_eq!(said(&heard(&mut browser, 7).await), expected);
    // What was on its way twice since the first run is no third one.
    report(&world, task, json!([text(1, "a"), text(2, "b")])).await;
    report(&world, task, json!([text(3, "c")])).await;
    assert_eq!(world.transcript(task).await.len(), 7);
    // And a third time.
    report(&world, task, json!([text(1, "x")])).await;
    assert_eq!(said(&world.transcript(task).await).last(), Some(&(8, 8, "x")));
}

async fn nothing_is_asked_about_an_empty_list(backend: Backend) {
    let world = world(backend).await;
    for body in [json!({}), json!({ "messages": [] }), json!({ "messages": null })] {
        let path = format!("/api/daemon/tasks/{}/messages", Uuid::new_v4());
        assert_eq!(world.hub.post(&path, body).await.expect(200), json!({ "status": "ok" }));
    }
    let gone = format!("/api/daemon/tasks/{}/messages", Uuid::new_v4());
    let one = json!({ "messages": [text(1, "a")] });
    world.hub.post(&gone, one.clone()).await.refused(404, "task not found");
    world.hub.post("/api/daemon/tasks/x/messages", one).await.refused(400, "invalid task_id");
    let task = run(&world).await;
    let path = format!("/api/daemon/tasks/{task}/messages");
    for bad in [json!({ "messages": {} }), json!({ "messages": [1] }), json!({ "messages": [{ "seq": "1" }] })] {
        world.hub.post(&path, bad).await.refused(400, "invalid request body");
    }
    assert!(world.transcript(task).await.is_empty());
}

async fn a_list_goes_on_where_somebody_was(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let task = run(&world).await;
    report(&world, task, json!([text(1, "a"), text(2, "b"), text(3, "c")])).await;
    report(&world, task, json!([text(1, "A"), text(2, "B")])).await;
    let people = format!("/api/tasks/{task}/messages");
    let daemons = format!("/api/daemon/tasks/{task}/messages");
    for path in [&people, &daemons] {
        let after = async |query: &str| {
            let list = hub.cli("GET", &format!("{path}?{query}"), Value::Null).await.expect(200);
            list.as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap().to_owned()).collect::<String>()
        };
        assert_eq!(after("since=0").await, "abcAB");
        assert_eq!(after("since=3").await, "AB");
        assert_eq!(after("since=99").await, "");
        assert_eq!(after("since=-1").await, "abcAB");
        assert_eq!(after("since=").await, "abcAB");
        assert_eq!(after("since_pos=4").await, "B");
        assert_eq!(after("since=1&since_pos=2").await, "cAB");
        for bad in ["since=x", "since=1.5", "since_pos=x", "since=99999999999999999999"] {
            hub.cli("GET", &format!("{path}?{bad}"), Value::Null).await.refused(400, "invalid since parameter");
        }
    }
    // More than one answer holds.
    for hundred in 0..51 {
        let batch: Vec<Value> = (0..100).map(|n| text(hundred * 100 + n + 100, "x")).collect();
        report(&world, task, json!(batch)).await;
    }
    let mut all = Vec::new();
    let mut query = String::new();
    loop {
        let answer = hub.cli("GET", &format!("{people}?{query}"), Value::Null).await;
        let next = answer.headers.get("x-next-pos").map(|next| next.to_str().unwrap().to_owned());
        all.extend(answer.expect(200).as_array().unwrap().iter().map(|m| m["pos"].as_i64().unwrap()));
        let Some(next) = next else { break };
        query = format!("since_pos={next}");
    }
    assert_eq!(all, (1..=5105).collect::<Vec<_>>());
}

async fn words_that_come_after_the_end_are_kept(backend: Backend) {
    let world = world(backend).await;
    let task = run(&world).await;
    world.call(task, "complete", json!({ "output": "x" })).await;
    let mut browser = world.browser().await;
    report(&world, task, json!([text(1, "the last words")])).await;
    assert_eq!(said(&world.transcript(task).await), [(1, 1, "the last words")]);
    assert_eq!(heard(&mut browser, 1).await[0]["content"], "the last words");

    // And when the task was called off and its runtime is gone.
    let task = run(&world).await;
    world.hub.cli("POST", &format!("/api/tasks/{task}/cancel"), Value::Null).await.expect(200);
    let other = world.hub.register("other", &["claude"]).await[0];
    let agent = format!("/api/agents/{}", world.agent);
    world.hub.cli("PUT", &agent, json!({ "runtime_id": other })).await.expect(200);
    world.hub.delete(&format!("/api/runtimes/{}", world.runtime)).await.expect(200);
    report(&world, task, json!([text(1, "too late, but true")])).await;
    assert_eq!(desk::status(&world.hub, task).await, "cancelled");
    let path = format!("/api/daemon/tasks/{task}/messages");
    assert_eq!(world.hub.get(&path).await.expect(200)[0]["content"], "too late, but true");
    let usage = json!({ "usage": [{ "provider": "claude", "model": "m", "input_tokens": 1 }] });
    assert_eq!(world.call(task, "usage", usage).await, json!({ "status": "ok" }));
}

async fn not_everybody_reads_what_is_said_to_others(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let (member, admin) = (hub.member("m@example.com", "member").await, hub.member("a@example.com", "admin").await);
    let hidden = desk::agent(hub, world.runtime, "hidden", "private").await;
    let chat = desk::chat(hub, &member, world.agent).await;
    let talk = desk::say(hub, &member, chat).await;
    let talk_job = world.begin().await;
    let open = desk::wish(hub, &hub.token, world.agent).await;
    let open_job = world.begin().await;
    let private = desk::wish(hub, &hub.token, hidden).await;
    let private_job = world.begin().await;
    assert_eq!((talk_job.task, open_job.task, private_job.task), (talk, open, private));
    for task in [talk, open, private] {
        report(&world, task, json!([text(1, "for some")])).await;
    }
    let read = async |token: &str, task: Uuid| {
        hub.cli_as(token, "GET", &format!("/api/tasks/{task}/messages"), Value::Null).await
    };
    let no_access = "you do not have access to this agent";
    for (who, token, of_chat, of_private) in [
        ("the owner", &hub.token, Some("not your task"), None),
        ("an admin", &admin, Some("not your task"), None),
        ("a member", &member, None, Some(no_access)),
        ("the chat's own agent", &talk_job.token, None, None),
        ("another task's agent", &open_job.token, Some("not your task"), None),
    ] {
        assert_eq!(read(token, open).await.expect(200)[0]["content"], "for some", "{who}");
        for (task, refusal) in [(talk, of_chat), (private, of_private)] {
            match refusal {
                Some(text) => read(token, task).await.refused(403, text),
                None => assert_eq!(read(token, task).await.expect(200)[0]["content"], "for some", "{who}"),
            }
        }
    }
    let elsewhere = hub.another_workspace("elsewhere").await;
    let path = format!("/api/tasks/{open}/messages?workspace_id={elsewhere}");
    hub.get(&path).await.refused(404, "task not found");
    read(&hub.token, Uuid::new_v4()).await.refused(404, "task not found");
    hub.cli("GET", "/api/tasks/x/messages", Value::Null).await.refused(400, "invalid task_id");
    // Nor does anybody else's daemon.
    let stranger = hub.stranger("s@example.com").await;
    for token in [&member, &admin, &stranger] {
        for method in ["GET", "POST"] {
            let path = format!("/api/daemon/tasks/{open}/messages");
            let body = if method == "GET" { Value::Null } else { json!({ "messages": [text(1, "x")] }) };
            hub.call(method, &path, Some(token), body).await.refused(404, "not found");
        }
    }
}

async fn a_batch_is_stored_as_a_whole_or_not_at_all(backend: Backend) {
    let world = world(backend).await;
    let task = run(&world).await;
    report(&world, task, json!([text(1, "a")])).await;
    // The store takes no third word.
    world
        .hub
        .sql(match backend {
            Backend::Sqlite => {
                "
            CREATE TRIGGER stop BEFORE INSERT ON task_message WHEN NEW.content = 'c'
            BEGIN SELECT RAISE(ABORT, 'stop'); END"
            }
            _ => {
                "
            CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF NEW.content = 'c' THEN RAISE 'stop'; END IF; RETURN NEW; END $$;
            CREATE TRIGGER stop BEFORE INSERT ON task_message FOR EACH ROW EXECUTE FUNCTION stop()"
            }
        })
        .await;
    let mut browser = world.browser().await;
    let batch = json!({ "messages": [text(2, "b"), text(3, "c"), text(4, "d")] });
    let path = format!("/api/daemon/tasks/{task}/messages");
    assert_eq!(world.hub.post(&path, batch.clone()).await.status, 500);
    assert_eq!(said(&world.transcript(task).await), [(1, 1, "a")]);
    world
        .hub
        .sql(match backend {
            Backend::Sqlite => "DROP TRIGGER stop",
            _ => "DROP TRIGGER stop ON task_message",
        })
        .await;
    world.hub.post(&path, batch).await.expect(200);
    let expected = [(2, 2, "b"), (3, 3, "c"), (4, 4, "d")];
    assert_eq!(said(&heard(&mut browser, 3).await), expected, "nothing was told of what failed");
    assert_eq!(said(&world.transcript(task).await)[1..], expected);
}

async fn many_batches_at_once_have_no_gap(backend: Backend) {
    let world = world(backend).await;
    let task = run(&world).await;
    let mut browser = world.browser().await;
    let one = async |daemon: i64| {
        for batch in 0..10 {
            let first = daemon * 1000 + batch * 3;
            report(&world, task, json!([text(first + 1, "x"), text(first + 2, "y"), text(first + 3, "z")])).await;
        }
    };
    tokio::join!(one(0), one(1), one(2), one(3));
    let list = world.transcript(task).await;
    assert_eq!(list.len(), 120);
    let places: Vec<i64> = list.iter().map(|m| m["pos"].as_i64().unwrap()).collect();
    assert_eq!(places, (1..=120).collect::<Vec<_>>());
    let mut told: Vec<Value> = heard(&mut browser, 120).await;
    told.sort_by_key(|m| m["pos"].as_i64());
    assert_eq!(told, list);
    for batch in list.chunks(3) {
        let words: String = batch.iter().map(|m| m["content"].as_str().unwrap()).collect();
        assert_eq!(words, "xyz", "no batch lies within another");
    }
}

async fn whatever_a_daemon_does_the_record_is_right(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let issue = world.assigned("t").await;
    let first = world.begin().await;
    let mut browser = world.browser().await;
    // It says some, dies, and is back without its memory.
    report(&world, first.task, json!([text(1, "a"), text(2, "b")])).await;
    let path = format!("/api/daemon/runtimes/{}/recover-orphans", world.runtime);
    assert_eq!(hub.post(&path, json!({})).await.expect(200), json!({ "orphaned": 1, "retried": 1 }));
    let second = world.begin().await;
    assert_eq!(second.claimed["parent_task_id"], json!(first.task));
    // The dead one was not quite dead.
    report(&world, first.task, json!([text(3, "c")])).await;
    for _ in 0..2 {
        assert_eq!(world.call(first.task, "complete", json!({ "output": "late" })).await["status"], "failed");
        assert_eq!(world.call(first.task, "fail", json!({ "error": "late" })).await["status"], "failed");
    }
    // The second attempt: out of order, twice, with much to say and NUL bytes in it.
    let ten = "x".repeat(10 << 20);
    report(&world, second.task, json!([text(2, "b\u{0}"), { "seq": 3, "type": "tool_result", "output": ten }])).await;
    report(&world, second.task, json!([text(1, "a")])).await;
    report(&world, second.task, json!([text(1, "a")])).await;
    let output = format!("{}\u{0}{ten}", "an answer ");
    for _ in 0..3 {
        let done = world.call(second.task, "complete", json!({ "output": output })).await;
        assert_eq!(done["status"], "completed");
        assert_eq!(done["result"]["output"].as_str().unwrap().len(), 1 << 20);
    }
    assert_eq!(world.call(second.task, "fail", json!({ "error": "no" })).await["status"], "completed");
    report(&world, second.task, json!([text(4, "after the end")])).await;
    report(&world, second.task, json!([text(2, "b\u{0}"), { "seq": 3, "type": "tool_result", "output": ten }])).await;

    assert_eq!(said(&world.transcript(first.task).await), [(1, 1, "a"), (2, 2, "b"), (3, 3, "c")]);
    let list = world.transcript(second.task).await;
    assert_eq!(said(&list), [(1, 2, "b\u{fffd}"), (2, 3, "-"), (3, 1, "a"), (4, 4, "after the end")]);
    assert_eq!(list[1]["output"].as_str().unwrap().len(), 1 << 20);
    let events = told(hub, &mut browser).await;
    let ends: Vec<&str> =
        kinds(&events).into_iter().filter(|kind| kind.starts_with("task:") || kind.starts_with("comment:")).collect();
    assert_eq!(
        ends,
        ["task:queued", "task:failed", "task:dispatch", "task:running", "comment:created", "task:completed"]
    );
    assert_eq!(world.comments(issue).await.len(), 1);
    assert_eq!(value(hub, "SELECT CAST(COUNT(*) AS text) FROM task".into()).await, "2");
    assert_eq!(value(hub, "SELECT CAST(COUNT(*) AS text) FROM task_token".into()).await, "0");
    let status = hub.cli("GET", &format!("/api/issues/{issue}/task-runs"), Value::Null).await.expect(200);
    let ids: Vec<Uuid> = status.as_array().unwrap().iter().map(id).collect();
    assert_eq!(ids, [second.task, first.task]);
}

async fn numbers_stay_within_what_clients_count_with(backend: Backend) {
    const GREATEST: i64 = (1 << 53) - 1;
    let world = world(backend).await;
    let task = run(&world).await;
    report(&world, task, json!([text(0, "a"), text(GREATEST, "b")])).await;
    let path = format!("/api/daemon/tasks/{task}/messages");
    for round in 0..4 {
        let words = |seq| text(seq, &format!("{seq} {round}"));
        let batch = json!({ "messages": [words(0), words(GREATEST), words(0), words(GREATEST)] });
        let refused = world.hub.post(&path, batch).await;
        refused.refused(400, "seq is beyond what a task's messages can be numbered with");
    }
    // What has a number of its own is still heard.
    report(&world, task, json!([text(5, "c")])).await;
    assert_eq!(said(&world.transcript(task).await), [(1, 0, "a"), (2, GREATEST, "b"), (3, 5, "c")]);
}
