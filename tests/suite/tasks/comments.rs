//! Work that comments ask for and end.

use serde_json::{Value, json};
use uuid::Uuid;

use super::issues::World;
use crate::support::{Backend, hub::id};

on_both_stores!(
    people_s_words_go_to_the_agent_that_the_issue_is_given_to,
    answers_go_to_those_who_take_part,
    a_squad_s_leader_hears_what_is_for_nobody_else,
    whoever_is_mentioned_is_woken,
    nobody_is_woken_who_must_not_be,
    other_words_ask_anew,
    what_is_taken_back_is_not_asked_for,
    an_agent_answers_where_it_was_asked,
    a_leader_that_sees_nothing_to_do_says_nothing,
    only_the_leader_evaluates,
);

/// Who is woken by what is said; their tasks are forgotten afterwards.
async fn woken(world: &mut World, token: &str, issue: Uuid, content: &str, parent: Option<Uuid>) -> String {
    world.say_as(token, issue, content, parent).await;
    let told = world.told().await;
    assert_eq!(told[0], "comment:created", "{told:?}");
    let queued: Vec<String> =
        told[1..].iter().map(|told| told.strip_prefix("task:queued ").expect(told).to_owned()).collect();
    world.clear().await;
    queued.join(" ")
}

fn agent(who: Uuid) -> String {
    format!("[@x](mention://agent/{who})")
}

fn squad(which: Uuid) -> String {
    format!("[x y](mention://squad/{which})")
}

/// Agents that act by a token of their own, in no task that the store knows.
async fn token_of(world: &World, agent: Uuid) -> String {
    world.hub.app.mint_agent_token(world.hub.workspace, world.me, agent).await.unwrap()
}

async fn people_s_words_go_to_the_agent_that_the_issue_is_given_to(backend: Backend) {
    let mut world = World::start(backend).await;
    let (ann, bob, lea) = (world.agent("ann").await, world.agent("bob").await, world.agent("lea").await);
    let core = world.squad("core", lea).await;
    let issue = world.issue_of("agent", ann).await;
    world.clear().await;
    let me = world.hub.token.clone();
    let member = format!("[@me](mention://member/{})", world.me);
    let link = format!("[HOM-1](mention://issue/{issue})");
    let all = "[@all](mention://all/all)";
    let nobody = Uuid::new_v4();
    let cases = [
        ("hello".to_owned(), "ann"),
        (format!("/note for {}", agent(ann)), ""),
        ("  /NOTE\nx".into(), ""),
        ("/notes".into(), "ann"),
        (agent(bob), "bob"),
        (format!("{} {}", agent(bob), agent(ann)), "ann bob"),
        (format!("{} {} {}", agent(bob), agent(bob), squad(core)), "bob lea"),
        (member.clone(), ""),
        (format!("{member} {}", agent(ann)), "ann"),
        (all.to_owned(), ""),
        (format!("{all} {}", agent(ann)), "ann"),
        (link.clone(), "ann"),
        (format!("{link} {}", agent(bob)), "bob"),
        ("[@bob](mention://agent/abc) @ann".into(), "ann"),
        (agent(nobody), ""),
        (squad(nobody), ""),
    ];
    for (content, expected) in &cases {
        assert_eq!(woken(&mut world, &me, issue, content, None).await, *expected, "{content}");
    }
    // In any status.
    for status in ["backlog", "done", "cancelled"] {
        world.put(issue, json!({ "status": status })).await;
        world.told().await;
        assert_eq!(woken(&mut world, &me, issue, "hello", None).await, "ann", "{status}");
    }
    // Agents' words go to whom they name.
    let by_bob = token_of(&world, bob).await;
    assert_eq!(woken(&mut world, &by_bob, issue, "hello", None).await, "");
    assert_eq!(woken(&mut world, &by_bob, issue, &agent(ann), None).await, "ann");
    assert_eq!(woken(&mut world, &by_bob, issue, &agent(bob), None).await, "bob", "oneself too");
    // An issue that is nobody's, or a person's.
    let nobodys = world.issue(json!({})).await;
    let mine = world.issue(json!({ "assignee_type": "member", "assignee_id": world.me })).await;
    world.told().await;
    for issue in [nobodys, mine] {
        assert_eq!(woken(&mut world, &me, issue, "hello", None).await, "");
        assert_eq!(woken(&mut world, &me, issue, &agent(bob), None).await, "bob");
    }
    // The task has the issue's priority and the comment that asks for it, in short.
    world.put(mine, json!({ "priority": "medium" })).await;
    let long = format!("{}\n\t{}", agent(bob), "ä".repeat(300));
    let comment = world.say(mine, &long, None).await;
    let task = world.claim().await;
    assert_eq!(
        (&task["kind"], &task["trigger_comment_id"], &task["priority"]),
        (&json!("comment"), &json!(comment), &json!(2))
    );
    let summary = task["trigger_summary"].as_str().unwrap();
    assert_eq!((summary.chars().count(), summary.contains(['\n', '\t'])), (201, false), "{summary}");
}

async fn answers_go_to_those_who_take_part(backend: Backend) {
    let mut world = World::start(backend).await;
    let (ann, bob) = (world.agent("ann").await, world.agent("bob").await);
    let issue = world.issue_of("agent", ann).await;
    let me = world.hub.token.clone();
    let (by_ann, by_bob) = (token_of(&world, ann).await, token_of(&world, bob).await);
    let plain = world.say(issue, "between us", None).await;
    let named = world.say(issue, &format!("{} what about it", agent(ann)), None).await;
    let other = world.say(issue, &format!("{} what about it", agent(bob)), None).await;
    let by_agent = world.say_as(&by_bob, issue, &format!("I am done, {}", agent(bob)), None).await;
    world.clear().await;

    assert_eq!(woken(&mut world, &me, issue, "yes", Some(plain)).await, "", "people among themselves");
    assert_eq!(woken(&mut world, &me, issue, &agent(ann), Some(plain)).await, "ann");
    assert_eq!(woken(&mut world, &me, issue, "yes", Some(named)).await, "ann");
    assert_eq!(woken(&mut world, &me, issue, "yes", Some(by_agent)).await, "ann", "no person's comment");
    // Whoever goes on without a name speaks to the same ones.
    assert_eq!(woken(&mut world, &me, issue, "and that?", Some(other)).await, "bob");
    let link = format!("see [HOM-1](mention://issue/{issue})");
    assert_eq!(woken(&mut world, &me, issue, &link, Some(other)).await, "", "a mention of its own");
    assert_eq!(woken(&mut world, &me, issue, "/note and that?", Some(other)).await, "");
    assert_eq!(woken(&mut world, &by_ann, issue, "mine", Some(other)).await, "", "people's answers only");
    // An agent that answered takes part, where it did.
    let answer = world.say_as(&by_ann, issue, "I saw it", Some(plain)).await;
    world.clear().await;
    assert_eq!(woken(&mut world, &me, issue, "yes", Some(plain)).await, "ann");
    assert_eq!(woken(&mut world, &me, issue, "yes", Some(answer)).await, "ann");
    let deep = world.say(issue, "what", Some(answer)).await;
    world.clear().await;
    assert_eq!(woken(&mut world, &me, issue, "yes", Some(deep)).await, "", "not there");
}

async fn a_squad_s_leader_hears_what_is_for_nobody_else(backend: Backend) {
    let mut world = World::start(backend).await;
    let (bob, lea) = (world.agent("bob").await, world.agent("lea").await);
    let core = world.squad("core", lea).await;
    let issue = world.issue_of("squad", core).await;
    world.clear().await;
    let me = world.hub.token.clone();
    let (by_bob, by_lea) = (token_of(&world, bob).await, token_of(&world, lea).await);
    let member = format!("[@me](mention://member/{})", world.me);
    let link = format!("[HOM-1](mention://issue/{issue})");
    for (token, content, expected) in [
        (&me, "hello".to_owned(), "lea"),
        (&me, link, "lea"),
        (&me, agent(bob), "bob"),
        (&me, member.clone(), ""),
        (&me, "[@all](mention://all/all)".into(), ""),
        (&me, agent(lea), "lea"),
        (&me, squad(core), "lea"),
        (&by_bob, "done".into(), "lea"),
        (&by_bob, format!("done {member}"), "lea"),
        (&by_bob, "/note".into(), ""),
        (&by_lea, "as anybody".into(), "lea"),
    ] {
        assert_eq!(woken(&mut world, token, issue, &content, None).await, expected, "{content}");
    }
    // As a leader; by its own name it is asked for itself.
    let mut leads = async |content: &str| {
        world.say(issue, content, None).await;
        let tasks = world.tasks().await;
        world.clear().await;
        tasks[0].starts_with("lea queued leads")
    };
    assert!(leads("hello").await);
    assert!(leads(&squad(core)).await);
    assert!(!leads(&agent(lea)).await);

    // What it says as a leader, in its task or after it, does not wake itself.
    world.say(issue, "hello", None).await;
    let trigger = world.hub.rows("SELECT CAST(COUNT(*) AS TEXT) FROM task WHERE is_leader_task").await;
    assert_eq!(trigger, ["1"]);
    let claimed = world.claim().await;
    let asked: Uuid = claimed["trigger_comment_id"].as_str().unwrap().parse().unwrap();
    let in_task = claimed["auth_token"].as_str().unwrap().to_owned();
    world.hub.post(&format!("/api/daemon/tasks/{}/start", id(&claimed)), Value::Null).await.expect(200);
    world.told().await;
    world.say_as(&in_task, issue, "on it", Some(asked)).await;
    assert_eq!(world.told().await, ["comment:created"]);
    world.complete(id(&claimed)).await;
    world.told().await;
    world.say_as(&by_lea, issue, "it was I", None).await;
    assert_eq!(world.told().await, ["comment:created"]);
    world.say_as(&by_bob, issue, "done", None).await;
    assert_eq!(world.told().await, ["comment:created", "task:queued lea"]);
}

async fn whoever_is_mentioned_is_woken(backend: Backend) {
    let mut world = World::start(backend).await;
    let (bob, cat, lea) = (world.agent("bob").await, world.agent("cat").await, world.agent("lea").await);
    let core = world.squad("core", lea).await;
    let issue = world.issue(json!({})).await;
    world.told().await;
    let text = format!("{} {} {} {}", agent(cat), squad(core), agent(bob), agent(lea));
    world.say(issue, &text, None).await;
    let told = world.told().await;
    assert_eq!(told, ["comment:created", "task:queued cat", "task:queued lea", "task:queued bob"], "each once");
    let tasks = world.tasks().await;
    assert!(tasks.iter().any(|task| task.starts_with("lea queued leads p0 by [@x](mention://agent/")), "{tasks:?}");
    // A thread that was settled is opened before.
    world.clear().await;
    let root = world.say(issue, "root", None).await;
    world.hub.cli("POST", &format!("/api/comments/{root}/resolve"), Value::Null).await.expect(200);
    world.told().await;
    world.say(issue, &agent(bob), Some(root)).await;
    assert_eq!(world.told().await, ["comment:created", "comment:unresolved", "task:queued bob"]);
    // Many squads of one leader, many agents.
    world.clear().await;
    let again = world.squad("again", lea).await;
    world.told().await;
    world.say(issue, &format!("{} {}", squad(again), squad(core)), None).await;
    assert_eq!(world.told().await, ["comment:created", "task:queued lea"]);
}

async fn nobody_is_woken_who_must_not_be(backend: Backend) {
    let mut world = World::start(backend).await;
    let (ann, bob, lea) = (world.agent("ann").await, world.agent("bob").await, world.agent("lea").await);
    let secret = world.agent_with(json!({ "name": "secret", "visibility": "private" })).await;
    let (core, hidden) = (world.squad("core", lea).await, world.squad("hidden", secret).await);
    let member = world.hub.member("m@example.com", "member").await;
    let me = world.hub.token.clone();
    let issue = world.issue_of("agent", ann).await;
    let private = world.issue_of("agent", secret).await;
    world.clear().await;

    // One that waits sees to it; one that runs is asked again.
    world.say(issue, "a", None).await;
    world.say(issue, "b", None).await;
    assert_eq!(world.told().await, ["comment:created", "task:queued ann", "comment:created"]);
    world.claim().await;
    world.told().await;
    world.say(issue, "c", None).await;
    assert_eq!(world.told().await, ["comment:created"], "it has not begun");
    world.clear().await;
    world.say(issue, "d", None).await;
    world.run().await;
    world.told().await;
    world.say(issue, "e", None).await;
    assert_eq!(world.told().await, ["comment:created", "task:queued ann"]);
    world.clear().await;

    // The private ones are for those who may use them.
    let both = format!("{} {}", agent(secret), squad(hidden));
    assert_eq!(woken(&mut world, &member, private, "hello", None).await, "");
    assert_eq!(woken(&mut world, &member, issue, &both, None).await, "");
    assert_eq!(woken(&mut world, &me, private, "hello", None).await, "secret");
    assert_eq!(woken(&mut world, &me, issue, &both, None).await, "secret");
    let by_bob = token_of(&world, bob).await;
    assert_eq!(woken(&mut world, &by_bob, issue, &both, None).await, "secret", "agents may always");

    // Whom the author leaves out.
    let wish = json!({ "content": format!("{} {}", agent(ann), agent(bob)), "suppress_agent_ids": [ann, "x", null] });
    world.hub.cli("POST", &format!("/api/issues/{issue}/comments"), wish).await.expect(201);
    assert_eq!(world.told().await, ["comment:created", "task:queued bob"]);
    world.clear().await;
    let wish = json!({ "content": "x", "suppress_agent_ids": null });
    world.hub.cli("POST", &format!("/api/issues/{issue}/comments"), wish).await.expect(201);
    assert_eq!(world.told().await, ["comment:created", "task:queued ann"]);
    world.clear().await;

    // Those who were put aside, and another workspace's.
    world.hub.cli("POST", &format!("/api/agents/{bob}/archive"), Value::Null).await.expect(200);
    world.hub.cli("DELETE", &format!("/api/squads/{core}"), Value::Null).await.expect(204);
    world.told().await;
    assert_eq!(woken(&mut world, &me, issue, &format!("{} {}", agent(bob), squad(core)), None).await, "");
    let elsewhere = world.hub.another_workspace("elsewhere").await;
    let runtime = world.hub.register_as(&world.hub.token, elsewhere, "d", &["claude"]).await[0];
    let foreign = world
        .hub
        .post(&format!("/api/agents?workspace_id={elsewhere}"), json!({ "name": "foreign", "runtime_id": runtime }))
        .await
        .expect(201);
    assert_eq!(woken(&mut world, &me, issue, &agent(id(&foreign)), None).await, "");
    world.hub.cli("POST", &format!("/api/agents/{ann}/archive"), Value::Null).await.expect(200);
    world.told().await;
    assert_eq!(woken(&mut world, &me, issue, "hello", None).await, "");

    // What is refused wakes nobody.
    for wish in [
        json!({ "content": " " }),
        json!({ "content": agent(lea), "type": "x" }),
        json!({ "content": agent(lea), "parent_id": Uuid::new_v4() }),
        json!({ "content": agent(lea), "parent_id": "x" }),
        json!({ "content": agent(lea), "suppress_agent_ids": "x" }),
    ] {
        world.hub.cli("POST", &format!("/api/issues/{issue}/comments"), wish).await.expect(400);
    }
    assert!(world.told().await.is_empty());
    assert!(world.tasks().await.is_empty());
}

async fn other_words_ask_anew(backend: Backend) {
    let mut world = World::start(backend).await;
    let (ann, bob) = (world.agent("ann").await, world.agent("bob").await);
    let issue = world.issue_of("agent", ann).await;
    world.clear().await;
    let comment = world.say(issue, &format!("{} {}", agent(ann), agent(bob)), None).await;
    let (_, token) = world.run().await;
    world.told().await;
    let path = format!("/api/comments/{comment}");
    let say = async |world: &World, content: &str| {
        world.hub.cli("PUT", &path, json!({ "content": content })).await.expect(200);
    };
    let same = format!("{} {}", agent(ann), agent(bob));
    say(&world, &same).await;
    assert!(world.told().await.is_empty(), "nothing changed");

    say(&world, &format!("only {}", agent(bob))).await;
    let told = world.told().await;
    let ended = &told[1..told.len() - 1];
    assert_eq!((told[0].as_str(), told[told.len() - 1].as_str()), ("comment:updated", "task:queued bob"));
    assert_eq!(ended.iter().filter(|told| told.starts_with("task:cancelled")).count(), 2, "{told:?}");
    world.hub.cli_as(&token, "GET", "/api/issues", Value::Null).await.refused(401, "invalid token");
    let now = world.tasks().await;
    assert!(now[2].starts_with("bob queued p0 by only [@x]"), "{now:?}");

    say(&world, "/note never mind").await;
    assert_eq!(world.told().await, ["comment:updated", "task:cancelled bob"]);
    say(&world, "do it").await;
    assert_eq!(world.told().await, ["comment:updated", "task:queued ann"]);
    // What other words asked for is none of its business.
    let other = world.say(issue, &agent(bob), None).await;
    world.told().await;
    say(&world, &format!("do it now {} {}", agent(ann), agent(bob))).await;
    let told = world.told().await;
    assert_eq!(told, ["comment:updated", "task:cancelled ann", "task:queued ann"], "bob waits for the other one");
    // Files alone change no words.
    world
        .hub
        .cli("PUT", &format!("/api/comments/{other}"), json!({ "content": agent(bob), "attachment_ids": [] }))
        .await
        .expect(200);
    assert!(world.told().await.is_empty());
    // Whoever may not change it changes nothing.
    let member = world.hub.member("m@example.com", "member").await;
    world.told().await;
    world.hub.cli_as(&member, "PUT", &path, json!({ "content": "x" })).await.expect(403);
    world.hub.cli("PUT", &path, json!({ "content": "" })).await.expect(400);
    assert!(world.told().await.is_empty());
    // The words stay their author's, whoever changes them: an agent's wake by name only.
    let by_bob = token_of(&world, bob).await;
    world.clear().await;
    let agents = world.say_as(&by_bob, issue, "mine", None).await;
    world.hub.cli("PUT", &format!("/api/comments/{agents}"), json!({ "content": "ours" })).await.expect(200);
    assert_eq!(world.told().await, ["comment:created", "comment:updated"]);
}

async fn what_is_taken_back_is_not_asked_for(backend: Backend) {
    let mut world = World::start(backend).await;
    let (ann, bob, cat) = (world.agent("ann").await, world.agent("bob").await, world.agent("cat").await);
    let issue = world.issue_of("agent", ann).await;
    world.clear().await;
    let root = world.say(issue, &agent(ann), None).await;
    let answer = world.say(issue, &agent(bob), Some(root)).await;
    world.say(issue, &agent(cat), None).await;
    world.told().await;
    let member = world.hub.member("m@example.com", "member").await;
    world.told().await;
    world.hub.cli_as(&member, "DELETE", &format!("/api/comments/{root}"), Value::Null).await.expect(403);
    assert!(world.told().await.is_empty());
    world.hub.cli("DELETE", &format!("/api/comments/{root}"), Value::Null).await.expect(204);
    let told = world.told().await;
    assert_eq!(told, ["task:cancelled ann", "task:cancelled bob", "comment:deleted", "comment:deleted"]);
    assert_eq!(world.tasks().await.iter().filter(|task| task.starts_with("cat queued")).count(), 1);
    world.hub.cli("DELETE", &format!("/api/comments/{answer}"), Value::Null).await.refused(404, "comment not found");
}

async fn an_agent_answers_where_it_was_asked(backend: Backend) {
    let mut world = World::start(backend).await;
    let (ann, bob) = (world.agent("ann").await, world.agent("bob").await);
    let issue = world.issue_of("agent", ann).await;
    let other = world.issue(json!({})).await;
    // Who was not asked by a comment answers anywhere.
    let (task, token) = world.run().await;
    let elsewhere = world.say_as(&token, issue, "begun", None).await;
    world.complete(task).await;
    world.clear().await;

    let asked = world.say(issue, "please", None).await;
    let (_, token) = world.run().await;
    world.told().await;
    let before = world.hub.fingerprint().await;
    let text = format!("parent_id must equal this task's trigger comment id ({asked})");
    for parent in [None, Some(elsewhere)] {
        world.try_say(&token, issue, &agent(bob), parent).await.refused(409, &text);
    }
    assert_eq!(world.hub.fingerprint().await, before);
    assert!(world.told().await.is_empty());
    let answer = world.say_as(&token, issue, &format!("see {}", agent(bob)), Some(asked)).await;
    assert_eq!(world.told().await, ["comment:created", "task:queued bob"]);
    world.try_say(&token, issue, "more", Some(answer)).await.refused(409, &text);
    // About other issues it says what it likes.
    world.say_as(&token, other, "by the way", None).await;
}

async fn a_leader_that_sees_nothing_to_do_says_nothing(backend: Backend) {
    let mut world = World::start(backend).await;
    let lea = world.agent("lea").await;
    let core = world.squad("core", lea).await;
    let issue = world.issue_of("squad", core).await;
    let path = format!("/api/issues/{issue}/squad-evaluated");
    let (task, token) = world.run().await;
    world.told().await;
    for outcome in ["action", "failed"] {
        let wish = json!({ "outcome": outcome, "reason": "r", "more": 1 });
        let noted = world.hub.cli_as(&token, "POST", &path, wish).await.expect(201);
        assert_eq!(crate::support::hub::keys(&noted), ["action", "created_at", "id"]);
        assert_eq!(noted["action"], "squad_leader_evaluated");
        world.say_as(&token, issue, "still talking", None).await;
    }
    world.hub.cli_as(&token, "POST", &path, json!({ "outcome": "no_action" })).await.expect(201);
    world.told().await;
    let text = "squad leader recorded no_action; comments are not allowed for this task";
    world.try_say(&token, issue, "nothing to do", None).await.refused(409, text);
    assert!(world.told().await.is_empty());
    let kept = world.hub.rows("SELECT outcome || ' ' || reason FROM squad_evaluation ORDER BY created_at").await;
    assert_eq!(kept, ["action r", "failed r", "no_action "]);
    // The next task is another one.
    world.complete(task).await;
    let asked = world.say(issue, "look again", None).await;
    let (_, token) = world.run().await;
    world.say_as(&token, issue, "oh", Some(asked)).await;
}

async fn only_the_leader_evaluates(backend: Backend) {
    let mut world = World::start(backend).await;
    let (ann, lea) = (world.agent("ann").await, world.agent("lea").await);
    let core = world.squad("core", lea).await;
    let issue = world.issue_of("squad", core).await;
    let anns = world.issue_of("agent", ann).await;
    let (by_ann, by_lea) = (token_of(&world, ann).await, token_of(&world, lea).await);
    let path = |issue: Uuid| format!("/api/issues/{issue}/squad-evaluated");
    let wish = json!({ "outcome": "action" });
    let before = world.hub.fingerprint().await;
    let only = "only the leader of the issue's squad can do this";
    world.hub.cli("POST", &path(issue), wish.clone()).await.refused(403, only);
    world.hub.cli_as(&by_ann, "POST", &path(issue), wish.clone()).await.refused(403, only);
    let refused = world.hub.cli_as(&by_lea, "POST", &path(anns), wish.clone()).await;
    refused.refused(400, "issue is not assigned to a squad");
    let refused = world.hub.cli_as(&by_lea, "POST", &path(Uuid::new_v4()), wish.clone()).await;
    refused.refused(404, "issue not found");
    for outcome in [json!({ "outcome": "x" }), Value::Null, json!({ "outcome": 1 })] {
        world.hub.cli_as(&by_lea, "POST", &path(issue), outcome).await.expect(400);
    }
    let long = json!({ "outcome": "action", "reason": "x".repeat(65 << 10) });
    world.hub.cli_as(&by_lea, "POST", &path(issue), long).await.refused(400, "reason must be 64 KiB or less");
    assert_eq!(world.hub.fingerprint().await, before);
    assert_eq!(world.hub.rows("SELECT outcome FROM squad_evaluation").await, Vec::<String>::new());
    world.hub.cli_as(&by_lea, "POST", &path(issue), wish).await.expect(201);
}
