//! Who hears what tasks say: everything, or message by message whatever happens.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::ground::{World, world};
use crate::{
    support::{Backend, Hub, PATIENCE, Socket, hub::id, redis, until},
    tasks::desk::{self, uuid},
};

on_both_stores!(
    a_socket_that_follows_some_tasks_hears_those_only,
    a_scope_is_granted_to_whom_it_concerns,
    nobody_follows_more_tasks_than_they_can_look_at,
    a_follower_that_does_not_read_for_a_while_misses_nothing,
    a_socket_that_wants_everything_and_lags_is_told_of_which_task,
);
on_all_stores!(
    every_kind_of_task_is_heard_by_whom_it_concerns,
    a_replay_goes_over_into_what_is_live,
    a_flood_is_heard_to_its_end,
);

/// The hub at which browsers are: another node, where there can be one.
async fn elsewhere(world: &World, backend: Backend) -> Option<Hub> {
    match backend {
        Backend::PostgresRedis => Some(world.hub.another_node(&[]).await),
        _ => None,
    }
}

async fn browser(hub: &Hub, token: &str, query: &str) -> Socket {
    let url = hub.ws(&format!("/ws?workspace_id={}{query}", hub.workspace));
    authenticated(Socket::open(&url, None).await, token).await
}

async fn authenticated(mut socket: Socket, token: &str) -> Socket {
    socket.send(json!({ "type": "auth", "payload": { "token": token } })).await;
    assert_eq!(socket.next().await["type"], "auth_ack");
    socket
}

const SCOPED: &str = "&delivery=scoped";

/// Asks for a scope; the answer's type and payload.
async fn ask(socket: &mut Socket, kind: &str, payload: Value) -> (String, Value) {
    socket.send(json!({ "type": kind, "payload": payload })).await;
    loop {
        let mut frame = socket.next().await;
        let kind = frame["type"].as_str().unwrap().to_owned();
        if kind.starts_with("subscribe_") || kind.starts_with("unsubscribe_") {
            return (kind, frame["payload"].take());
        }
    }
}

async fn follow(socket: &mut Socket, task: Uuid, since: Option<u64>) -> u64 {
    let mut wish = json!({ "scope": "task", "id": task });
    if let Some(since) = since {
        wish["since"] = json!(since);
    }
    let (kind, payload) = ask(socket, "subscribe", wish).await;
    assert_eq!(kind, "subscribe_ack", "{payload}");
    assert_eq!((&payload["scope"], &payload["id"]), (&json!("task"), &json!(task)));
    payload["pos"].as_u64().expect("a position")
}

fn text(seq: i64, content: &str) -> Value {
    json!({ "seq": seq, "type": "text", "content": content })
}

async fn say(world: &World, task: Uuid, messages: Value) {
    world.call(task, "messages", json!({ "messages": messages })).await;
}

/// What is heard of tasks next: types and payloads, without the time.
async fn heard(socket: &mut Socket, count: usize) -> Vec<(String, Value)> {
    let mut frames = Vec::new();
    // Heartbeats come for ever.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while frames.len() < count {
        let next = tokio::time::timeout_at(deadline, socket.next()).await;
        let mut frame = next.unwrap_or_else(|_| panic!("heard only {frames:?}"));
        let kind = frame["type"].as_str().unwrap().to_owned();
        if ["task:message", "task:progress", "task:resync"].contains(&kind.as_str()) {
            assert!(frame.get("seq").is_none(), "no part of the sequence: {frame}");
            let mut payload = frame["payload"].take();
            payload.as_object_mut().unwrap().remove("created_at");
            frames.push((kind, payload));
        }
    }
    frames
}

/// Nothing of tasks is heard for a moment.
async fn silent(socket: &mut Socket) {
    let until = tokio::time::Instant::now() + Duration::from_millis(100);
    while let Ok(frame) = tokio::time::timeout_at(until, socket.next()).await {
        let kind = frame["type"].as_str().unwrap();
        assert!(!["task:message", "task:progress", "task:resync"].contains(&kind), "{frame}");
    }
}

async fn every_kind_of_task_is_heard_by_whom_it_concerns(backend: Backend) {
    let world = world(backend).await;
    let there = elsewhere(&world, backend).await;
    let there = there.as_ref().unwrap_or(&world.hub);
    let hub = &world.hub;
    let (member, admin) = (hub.member("m@example.com", "member").await, hub.member("a@example.com", "admin").await);
    let hidden = desk::agent(hub, world.runtime, "hidden", "private").await;
    let chat = desk::chat(hub, &member, world.agent).await;
    let wish = json!({ "title": "Nightly", "assignee_id": world.agent, "execution_mode": "run_only" });
    let autopilot = id(&hub.cli("POST", "/api/autopilots", wish).await.expect(201));
    let issue = world.assigned("t").await;
    let of_issue = world.begin().await.task;
    let run = hub.cli("POST", &format!("/api/autopilots/{autopilot}/trigger"), Value::Null).await.expect(200);
    assert_eq!(json!(world.begin().await.task), run["task_id"]);
    let wished = desk::wish(hub, &hub.token, world.agent).await;
    assert_eq!(world.begin().await.task, wished);
    let talk = desk::say(hub, &member, chat).await;
    assert_eq!(world.begin().await.task, talk);
    let private = desk::wish(hub, &hub.token, hidden).await;
    assert_eq!(world.begin().await.task, private);
    // The creator of the chat; the owner of the private agent; one who may see it, too.
    let mut sockets =
        [browser(there, &member, "").await, browser(there, &hub.token, "").await, browser(there, &admin, "").await];
    // A relay between nodes that has just begun to listen.
    until("the other node hears", async || {
        world.call(of_issue, "progress", json!({ "summary": "ready?" })).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        sockets_hear(&mut sockets).await
    })
    .await;

    for (what, task, extra, closed_to) in [
        ("an issue's", of_issue, json!({ "issue_id": issue }), &[][..]),
        ("a run's", uuid(&run["task_id"]), json!({}), &[]),
        ("a wish's", wished, json!({}), &[]),
        ("a chat's", talk, json!({}), &[1, 2]),
        ("a private agent's", private, json!({}), &[0]),
    ] {
        world.call(task, "progress", json!({ "summary": "Launching claude", "step": 1, "total": 2 })).await;
        say(&world, task, json!([text(1, "hello"), { "seq": 2, "type": "tool_use", "tool": "Bash", "input": {} }]))
            .await;
        world.call(task, "progress", json!({ "summary": "Thinking" })).await;
        let message = |mut rest: Value| {
            rest["task_id"] = json!(task);
            rest.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            ("task:message".to_owned(), rest)
        };
        let progress = |rest: Value| ("task:progress".to_owned(), rest);
        let full = [
            progress(json!({ "task_id": task, "summary": "Launching claude", "step": 1, "total": 2 })),
            message(json!({ "seq": 1, "pos": 1, "type": "text", "content": "hello" })),
            message(json!({ "seq": 2, "pos": 2, "type": "tool_use", "tool": "Bash", "input": {} })),
            progress(json!({ "task_id": task, "summary": "Thinking" })),
        ];
        let mut ids = json!({ "task_id": task });
        if what == "a chat's" {
            ids["chat_session_id"] = json!(chat);
        }
        // Once for what is said at once.
        let reduced = [progress(ids.clone()), ("task:message".to_owned(), ids.clone()), progress(ids)];
        for (index, socket) in sockets.iter_mut().enumerate() {
            if closed_to.contains(&index) {
                assert_eq!(heard(socket, 3).await, reduced, "{what}, {index}");
            } else {
                assert_eq!(heard(socket, 4).await, full, "{what}, {index}");
            }
        }
    }
    for socket in &mut sockets {
        silent(socket).await;
    }
}

/// Whether all of them have heard something; whatever it was is read.
async fn sockets_hear(sockets: &mut [Socket]) -> bool {
    let mut all = true;
    for socket in sockets {
        let mut heard = false;
        while let Ok(frame) = tokio::time::timeout(Duration::from_millis(100), socket.next()).await {
            heard |= frame["type"] == "task:progress";
        }
        all &= heard;
    }
    all
}

async fn a_socket_that_follows_some_tasks_hears_those_only(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let first = desk::wish(hub, &hub.token, world.agent).await;
    world.begin().await;
    world.assigned("t").await;
    let second = world.begin().await.task;
    say(&world, first, json!([text(1, "before"), text(2, "before")])).await;
    let mut socket = browser(hub, &hub.token, SCOPED).await;
    assert_eq!(follow(&mut socket, first, None).await, 2, "what was said so far is not missing");
    say(&world, second, json!([text(1, "for others")])).await;
    say(&world, first, json!([text(3, "here")])).await;
    world.call(first, "progress", json!({ "summary": "Thinking" })).await;
    world.call(second, "progress", json!({ "summary": "for others" })).await;
    let frames = heard(&mut socket, 2).await;
    assert_eq!((&frames[0].1["content"], &frames[0].1["pos"]), (&json!("here"), &json!(3)));
    assert_eq!(frames[1], ("task:progress".into(), json!({ "task_id": first, "summary": "Thinking" })));
    silent(&mut socket).await;

    // The other as well; then from another place, as if it had begun there; then neither.
    assert_eq!(follow(&mut socket, second, Some(0)).await, 0);
    assert_eq!(heard(&mut socket, 1).await[0].1["content"], "for others");
    assert_eq!(follow(&mut socket, first, Some(1)).await, 1);
    let again: Vec<Value> = heard(&mut socket, 2).await.iter().map(|(_, message)| message["pos"].clone()).collect();
    assert_eq!(again, [2, 3]);
    assert_eq!(follow(&mut socket, first, Some(99)).await, 3, "nobody is ahead of what was said");
    say(&world, first, json!([text(4, "more")])).await;
    assert_eq!(heard(&mut socket, 1).await[0].1["pos"], 4);
    for task in [first, second] {
        let (kind, payload) = ask(&mut socket, "unsubscribe", json!({ "scope": "task", "id": task })).await;
        assert_eq!((kind.as_str(), &payload["id"]), ("unsubscribe_ack", &json!(task)));
        say(&world, task, json!([text(9, "unheard")])).await;
        world.call(task, "progress", json!({ "summary": "unheard" })).await;
    }
    silent(&mut socket).await;
    // What is part of the sequence still comes.
    world.call(first, "complete", json!({})).await;
    assert_eq!(socket.next_of("task:completed").await["payload"]["task_id"], json!(first));

    // A socket that wants everything hears what it also follows once.
    let mut socket = browser(hub, &hub.token, "").await;
    assert_eq!(follow(&mut socket, second, Some(1)).await, 1);
    say(&world, second, json!([text(10, "once")])).await;
    let places: Vec<Value> = heard(&mut socket, 2).await.iter().map(|(_, message)| message["pos"].clone()).collect();
    assert_eq!(places, [2, 3]);
    silent(&mut socket).await;
}

async fn a_replay_goes_over_into_what_is_live(backend: Backend) {
    const BATCHES: i64 = 120;
    let world = world(backend).await;
    let there = elsewhere(&world, backend).await;
    let there = there.as_ref().unwrap_or(&world.hub);
    let task = desk::wish(&world.hub, &world.hub.token, world.agent).await;
    world.begin().await;
    let daemon = async {
        for batch in 0..BATCHES {
            let first = batch * 3;
            say(&world, task, json!([text(first + 1, "x"), text(first + 2, "y"), text(first + 3, "z")])).await;
        }
    };
    let listener = async |number: u64| {
        let mut places = Vec::new();
        let mut socket = browser(there, &world.hub.token, SCOPED).await;
        tokio::time::sleep(Duration::from_millis(number * 60)).await;
        // One of them wants to go on from where it is, and one begins anew in the midst.
        let since = if number == 0 { None } else { Some((number - 1) * 2) };
        let position = follow(&mut socket, task, since).await;
        let (mut begin, mut last, mut again) = (position, position, number == 3);
        while last < BATCHES as u64 * 3 {
            last = heard(&mut socket, 1).await[0].1["pos"].as_u64().unwrap();
            places.push(last);
            if again && last > 100 {
                again = false;
                // What was still on its way came before the answer.
                begin = follow(&mut socket, task, Some(0)).await;
                last = begin;
                places.clear();
            }
        }
        assert_eq!(places, (begin + 1..=BATCHES as u64 * 3).collect::<Vec<_>>(), "listener {number}");
        silent(&mut socket).await;
    };
    tokio::join!(daemon, listener(0), listener(1), listener(2), listener(3), listener(4));
}

async fn a_scope_is_granted_to_whom_it_concerns(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let (member, admin) = (hub.member("m@example.com", "member").await, hub.member("a@example.com", "admin").await);
    let hidden = desk::agent(hub, world.runtime, "hidden", "private").await;
    let chat = desk::chat(hub, &member, world.agent).await;
    let talk = desk::say(hub, &member, chat).await;
    let open = desk::wish(hub, &hub.token, world.agent).await;
    let private = desk::wish(hub, &hub.token, hidden).await;
    let elsewhere = hub.another_workspace("elsewhere").await;
    let there = hub.register_as(&hub.token, elsewhere, "e", &["claude"]).await[0];
    let at = |path: &str| format!("{path}?workspace_id={elsewhere}");
    let theirs = hub.post(&at("/api/agents"), json!({ "name": "t", "runtime_id": there })).await.expect(201);
    let wish = json!({ "prompt": "x", "agent_id": theirs["id"] });
    let foreign = uuid(&hub.post(&at("/api/issues/quick-create"), wish).await.expect(202)["task_id"]);
    let chat_there = json!({ "agent_id": theirs["id"] });
    let foreign_chat = id(&hub.post(&at("/api/chat/sessions"), chat_there).await.expect(201));

    for (who, token, may_talk, may_private) in
        [("the owner", &hub.token, false, true), ("an admin", &admin, false, true), ("a member", &member, true, false)]
    {
        let mut socket = browser(hub, token, SCOPED).await;
        for (scope, what, granted) in [
            ("task", open, true),
            ("task", talk, may_talk),
            ("task", private, may_private),
            ("task", foreign, false),
            ("task", Uuid::new_v4(), false),
            ("chat", chat, may_talk),
            ("chat", foreign_chat, false),
            ("chat", Uuid::new_v4(), false),
        ] {
            let (kind, payload) = ask(&mut socket, "subscribe", json!({ "scope": scope, "id": what })).await;
            assert_eq!((&payload["scope"], &payload["id"]), (&json!(scope), &json!(what)));
            if granted {
                assert_eq!(kind, "subscribe_ack", "{who}: {payload}");
                assert_eq!(payload.get("pos").is_some(), scope == "task", "{payload}");
            } else {
                assert_eq!((kind.as_str(), &payload["error"]), ("subscribe_error", &json!("forbidden")), "{who}");
            }
        }
        let (kind, _) = ask(&mut socket, "unsubscribe", json!({ "scope": "chat", "id": chat })).await;
        assert_eq!(kind, "unsubscribe_ack");
        for (payload, error) in [
            (json!({ "scope": "task", "id": "x" }), "forbidden"),
            (json!({ "scope": "task", "id": open, "since": "x" }), "invalid payload"),
            (json!({ "scope": "planet", "id": open }), "unknown_scope"),
            (json!({}), "invalid payload"),
        ] {
            let (kind, answer) = ask(&mut socket, "subscribe", payload).await;
            assert_eq!((kind.as_str(), &answer["error"]), ("subscribe_error", &json!(error)));
        }
    }

    // Who was refused hears nothing of it.
    let mut socket = browser(hub, &member, SCOPED).await;
    ask(&mut socket, "subscribe", json!({ "scope": "task", "id": private })).await;
    let mut claimed = Vec::new();
    for _ in 0..3 {
        claimed.push(world.begin().await.task);
    }
    assert!(claimed.contains(&private));
    say(&world, private, json!([text(1, "secret")])).await;
    silent(&mut socket).await;
}

async fn nobody_follows_more_tasks_than_they_can_look_at(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let first = desk::wish(hub, &hub.token, world.agent).await;
    let mut tasks = vec![first];
    for _ in 0..100 {
        tasks.push(desk::wish(hub, &hub.token, world.agent).await);
    }
    let last = tasks.pop().unwrap();
    let mut socket = browser(hub, &hub.token, SCOPED).await;
    for task in &tasks {
        follow(&mut socket, *task, None).await;
    }
    let (kind, payload) = ask(&mut socket, "subscribe", json!({ "scope": "task", "id": last })).await;
    assert_eq!((kind.as_str(), &payload["error"]), ("subscribe_error", &json!("too many subscriptions")));
    // One that it follows already is no other one; and who leaves one has room for another.
    follow(&mut socket, first, Some(0)).await;
    ask(&mut socket, "unsubscribe", json!({ "scope": "task", "id": tasks[1] })).await;
    follow(&mut socket, last, None).await;
    assert_eq!(world.begin().await.task, first);
    say(&world, first, json!([text(1, "here")])).await;
    assert_eq!(heard(&mut socket, 1).await[0].1["content"], "here");
}

async fn a_flood_is_heard_to_its_end(backend: Backend) {
    const WORDS: usize = 200 << 10;
    let world = world(backend).await;
    let there = elsewhere(&world, backend).await;
    let there = there.as_ref().unwrap_or(&world.hub);
    let task = desk::wish(&world.hub, &world.hub.token, world.agent).await;
    world.begin().await;
    let mut follower = browser(there, &world.hub.token, SCOPED).await;
    follow(&mut follower, task, None).await;
    let words = "x ".repeat(WORDS / 2);
    let daemon = async {
        // More than any ring holds, with each batch far beyond what events take along between nodes.
        for batch in 0..5 {
            let messages: Vec<Value> = (1..=8).map(|n| text(batch * 8 + n, &words)).collect();
            say(&world, task, json!(messages)).await;
        }
        say(&world, task, json!([text(41, "the end")])).await;
    };
    let listener = async {
        for pos in 1..=40 {
            let message = heard(&mut follower, 1).await.remove(0).1;
            assert_eq!(message["pos"], pos);
            assert_eq!(message["content"].as_str().map(str::len), Some(WORDS), "{pos}");
        }
        assert_eq!(heard(&mut follower, 1).await[0].1["content"], "the end");
    };
    tokio::join!(daemon, listener);
    until("the nodes still hear each other", async || there.app.is_connected()).await;
}

/// So many messages that no ring and no buffer of the system holds them.
async fn say_much(world: &World, task: Uuid) -> u64 {
    let words = "x".repeat(1200);
    for hundred in 0..40 {
        let batch: Vec<Value> = (1..=100).map(|n| text(hundred * 100 + n, &words)).collect();
        say(world, task, json!(batch)).await;
    }
    4000
}

async fn narrow(hub: &Hub, query: &str) -> Socket {
    let url = hub.ws(&format!("/ws?workspace_id={}{query}", hub.workspace));
    authenticated(Socket::open_narrow(&url).await, &hub.token).await
}

async fn a_follower_that_does_not_read_for_a_while_misses_nothing(backend: Backend) {
    let world = patient(backend).await;
    let task = desk::wish(&world.hub, &world.hub.token, world.agent).await;
    world.begin().await;
    let mut socket = narrow(&world.hub, SCOPED).await;
    assert_eq!(follow(&mut socket, task, None).await, 0);
    let said = say_much(&world, task).await;
    for pos in 1..=said {
        assert_eq!(heard(&mut socket, 1).await[0].1["pos"], pos);
    }
    say(&world, task, json!([text(9999, "at last")])).await;
    assert_eq!(heard(&mut socket, 1).await[0].1["pos"], said + 1, "live again");
}

async fn a_socket_that_wants_everything_and_lags_is_told_of_which_task(backend: Backend) {
    let world = patient(backend).await;
    let hub = &world.hub;
    let loud = desk::wish(hub, &hub.token, world.agent).await;
    world.begin().await;
    world.assigned("t").await;
    let quiet = world.begin().await.task;
    let mut socket = narrow(hub, "").await;
    say(&world, quiet, json!([text(1, "in time")])).await;
    assert_eq!(heard(&mut socket, 1).await[0].1["content"], "in time");
    let said = say_much(&world, loud).await;
    say(&world, quiet, json!([text(2, "late")])).await;
    let (mut last, mut missed) = (0, 0);
    loop {
        let (kind, payload) = heard(&mut socket, 1).await.remove(0);
        if kind == "task:resync" {
            if payload == json!({ "task_id": loud }) {
                missed += 1;
            }
            continue;
        }
        if payload["task_id"] == json!(quiet) {
            assert_eq!(payload["content"], "late");
            break;
        }
        let pos = payload["pos"].as_u64().unwrap();
        assert!(pos == last + 1 || missed > 0, "{pos} comes after {last}, and nobody says so");
        last = pos;
    }
    assert_eq!(last, said, "the newest are there");
    assert!(missed > 0, "it cannot have got all of them");
    // Whoever was told reads what is missing.
    let list = world.hub.cli("GET", &format!("/api/tasks/{loud}/messages"), Value::Null).await.expect(200);
    assert_eq!(list.as_array().unwrap().len() as u64, said);
}

/// A hub that gives whoever does not read some time.
async fn patient(backend: Backend) -> World {
    super::ground::world_with(backend, &[("HEARTWIRE_STUCK_AFTER", "120s")]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_relay_loses_reaches_a_follower_all_the_same() {
    let server = tokio::task::spawn_blocking(redis::Server::start).await.unwrap();
    let world = super::ground::world_with(Backend::Postgres, &[("REDIS_URL", &server.url)]).await;
    world.hub.connected().await;
    let there = world.hub.another_node(&[("REDIS_URL", &server.url)]).await;
    let task = desk::wish(&world.hub, &world.hub.token, world.agent).await;
    world.begin().await;
    let mut follower = browser(&there, &world.hub.token, SCOPED).await;
    assert_eq!(follow(&mut follower, task, None).await, 0);
    let mut everything = browser(&there, &world.hub.token, "").await;
    say(&world, task, json!([text(1, "a")])).await;
    assert_eq!(heard(&mut follower, 1).await[0].1["pos"], 1);
    heard(&mut everything, 1).await;

    // Nothing gets through, and nobody says so; nor do control messages help.
    there.app.deafen();
    server.freeze();
    say(&world, task, json!([text(2, "b"), text(3, "c")])).await;
    let places: Vec<Value> = heard(&mut follower, 2).await.iter().map(|(_, message)| message["pos"].clone()).collect();
    assert_eq!(places, [2, 3], "the store says that there is more");
    until("the relay is known to be away", async || !world.hub.app.is_connected()).await;
    say(&world, task, json!([text(4, "d")])).await;
    assert_eq!(heard(&mut follower, 1).await[0].1["pos"], 4);
    server.thaw();
    world.hub.connected().await;
    there.connected().await;
    say(&world, task, json!([text(5, "e")])).await;
    assert_eq!(heard(&mut follower, 1).await[0].1["pos"], 5);
    silent(&mut follower).await;

    // Who hears everything gets what it missed, or is told of which task it missed something.
    let (mut last, mut told) = (1, false);
    while last < 5 {
        let (kind, payload) = heard(&mut everything, 1).await.remove(0);
        if kind == "task:resync" {
            assert_eq!(payload, json!({ "task_id": task }));
            told = true;
            continue;
        }
        let pos = payload["pos"].as_u64().unwrap();
        assert!(pos == last + 1 || told, "{pos} comes after {last}, and nobody says so");
        last = pos;
    }
}
