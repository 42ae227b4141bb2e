//! Comments that had no effect because a task was waiting already: they have it when that task is called off.

use serde_json::{Value, json};
use uuid::Uuid;

use super::issues::World;
use crate::support::Backend;

on_both_stores!(the_newest_other_comment_asks_instead, what_was_read_or_never_had_a_right_asks_nothing,);

fn call(who: Uuid, words: &str) -> String {
    format!("[@x](mention://agent/{who}) {words}")
}

async fn edit(world: &World, comment: Uuid, content: &str) {
    world.hub.cli("PUT", &format!("/api/comments/{comment}"), json!({ "content": content })).await.expect(200);
}

async fn delete(world: &World, comment: Uuid) {
    world.hub.cli("DELETE", &format!("/api/comments/{comment}"), Value::Null).await.expect(204);
}

/// What waits, by the words that asked for it.
async fn waiting(world: &World) -> Vec<String> {
    let words = |task: String| task.rsplit(' ').next().unwrap().to_owned();
    world.tasks().await.into_iter().filter(|task| task.contains(" queued ")).map(words).collect()
}

async fn the_newest_other_comment_asks_instead(backend: Backend) {
    let mut world = World::start(backend).await;
    let (ann, bob) = (world.agent("ann").await, world.agent("bob").await);
    let issue = world.issue(json!({})).await;
    let first = world.say(issue, &call(ann, "one"), None).await;
    world.say(issue, &call(ann, "two"), None).await;
    let third = world.say(issue, &call(ann, "three"), None).await;
    world.say(issue, "of no matter", None).await;
    assert_eq!(waiting(&world).await, ["one"]);
    world.told().await;
    delete(&world, first).await;
    assert_eq!(world.told().await, ["task:cancelled ann", "comment:deleted", "task:queued ann"]);
    assert_eq!(waiting(&world).await, ["three"]);
    // Other words that still call the agent ask by themselves; others do not.
    edit(&world, third, &call(ann, "four")).await;
    assert_eq!(waiting(&world).await, ["four"]);
    world.say(issue, &call(ann, "five"), None).await;
    edit(&world, third, &call(bob, "four")).await;
    assert_eq!(waiting(&world).await, ["four", "five"], "of bob and of ann");
}

async fn what_was_read_or_never_had_a_right_asks_nothing(backend: Backend) {
    let mut world = World::start(backend).await;
    let ann = world.agent("ann").await;
    let secret = world.agent_with(json!({ "name": "secret", "visibility": "private" })).await;
    let member = world.hub.member("m@example.com", "member").await;
    let issue = world.issue(json!({})).await;
    let first = world.say(issue, &call(ann, "one"), None).await;
    world.say(issue, &call(ann, "two"), None).await;
    let (task, _) = world.run().await;
    world.complete(task).await;
    edit(&world, first, &call(ann, "again")).await;
    assert_eq!(waiting(&world).await, ["again"]);
    delete(&world, first).await;
    assert!(waiting(&world).await.is_empty(), "the agent has read it");

    let first = world.say(issue, &call(secret, "one"), None).await;
    world.say_as(&member, issue, &call(secret, "two"), None).await;
    assert_eq!(waiting(&world).await, ["one"]);
    delete(&world, first).await;
    assert!(waiting(&world).await.is_empty(), "it is out of the member's reach");
    // What a person called off stays so.
    let first = world.say(issue, &call(ann, "one"), None).await;
    let (running, _) = world.run().await;
    world.say(issue, &call(ann, "two"), None).await;
    world.hub.cli("POST", &format!("/api/agents/{ann}/cancel-tasks"), Value::Null).await.expect(200);
    assert_ne!(running, first);
    delete(&world, first).await;
    assert!(waiting(&world).await.is_empty());
}
