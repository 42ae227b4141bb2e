//! What a person asked in a chat is answered, whatever becomes of the task that was to answer it.

use serde_json::{Value, json};
use uuid::Uuid;

use super::ground::{World, world};
use crate::{support::Backend, tasks::desk};

on_both_stores!(
    another_attempt_is_asked_what_the_first_one_was,
    what_waits_is_asked_what_the_failed_one_was,
    a_question_goes_along_when_the_agent_has_moved,
);

async fn say(world: &World, chat: Uuid, words: &str) -> Uuid {
    let path = format!("/api/chat/sessions/{chat}/messages");
    desk::uuid(&world.hub.cli("POST", &path, json!({ "content": words })).await.expect(201)["task_id"])
}

/// A chat with a question that waited while another one was answered, and the task for it, which has begun.
async fn asked_meanwhile(world: &World) -> (Uuid, Uuid) {
    let chat = desk::chat(&world.hub, &world.hub.token, world.agent).await;
    let first = say(world, chat, "one").await;
    world.begin().await;
    let second = say(world, chat, "two").await;
    world.call(first, "complete", json!({ "output": "to one" })).await;
    let job = world.begin().await;
    assert_eq!((job.task, &job.claimed["chat_message"]), (second, &json!("two")));
    (chat, second)
}

async fn fail(world: &World, task: Uuid) {
    world.call(task, "fail", json!({ "error": "x", "failure_reason": "timeout" })).await;
}

async fn another_attempt_is_asked_what_the_first_one_was(backend: Backend) {
    let world = world(backend).await;
    let (chat, second) = asked_meanwhile(&world).await;
    fail(&world, second).await;
    let again = world.begin().await;
    assert_eq!((&again.claimed["attempt"], &again.claimed["chat_message"]), (&json!(2), &json!("two")));
    let said = world.talk(&world.hub.token, chat).await;
    assert_eq!(said[1]["task_id"], json!(again.task), "whose question it is can be read");
    assert_eq!(said[0]["task_id"], said[2]["task_id"], "what was answered stays with its answer");
}

async fn what_waits_is_asked_what_the_failed_one_was(backend: Backend) {
    let world = world(backend).await;
    let (chat, second) = asked_meanwhile(&world).await;
    let third = say(&world, chat, "three").await;
    fail(&world, second).await;
    let next = world.begin().await;
    assert_eq!((next.task, &next.claimed["chat_message"]), (third, &json!("two\n\nthree")));
    world.call(third, "complete", json!({ "output": "to both" })).await;
    assert_eq!(desk::claim(&world.hub, world.runtime).await, Value::Null);
}

async fn a_question_goes_along_when_the_agent_has_moved(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let chat = desk::chat(hub, &hub.token, world.agent).await;
    let first = say(&world, chat, "one").await;
    world.begin().await;
    let second = say(&world, chat, "two").await;
    let elsewhere = hub.register("e", &["claude"]).await[0];
    hub.cli("PUT", &format!("/api/agents/{}", world.agent), json!({ "runtime_id": elsewhere })).await.expect(200);
    world.call(first, "complete", json!({ "output": "to one" })).await;
    let third = say(&world, chat, "three").await;
    assert_eq!(desk::status(hub, second).await, "cancelled");
    let claimed = desk::claim(hub, elsewhere).await;
    assert_eq!((&claimed["id"], &claimed["chat_message"]), (&json!(third), &json!("two\n\nthree")));
}
