//! Every operation on a task in every status, as the program's own table has it.

use heartwire::test_hooks::{Transition, transitions};
use serde_json::{Value, json};
use uuid::Uuid;

use super::ground::{World, kinds, told, world};
use crate::{
    support::{Backend, hub::Answer},
    tasks::{
        desk,
        support::{Given, ask, give, issue},
    },
};

on_both_stores!(every_operation_does_to_every_status_what_the_table_says,);

/// A task that got into a status as tasks do. One that is given again was lost on its way.
fn given(world: &World, issue: Uuid, status: &'static str, ago: i64) -> Given {
    let base = Given { agent: world.agent, runtime: world.runtime, issue: Some(issue), status, ..Given::default() };
    let dispatched = Given { dispatched: Some(ago), ..base.clone() };
    match status {
        "queued" => base,
        "dispatched" => dispatched,
        "running" => Given { started: Some(ago - 5), ..dispatched },
        "waiting_local_directory" => Given { waiting: Some(ago - 5), ..dispatched },
        _ => Given { started: Some(ago - 5), completed: Some(ago - 6), ..dispatched },
    }
}

/// Does it, as whoever does such things.
async fn operate(world: &World, operation: &str, task: Uuid) -> Answer {
    let hub = &world.hub;
    let daemon = async |what: &str, body: Value| hub.post(&format!("/api/daemon/tasks/{task}/{what}"), body).await;
    match operation {
        "claim" | "redeliver" => ask(hub, &hub.token, world.runtime).await,
        "start" => daemon("start", json!({})).await,
        "wait" => daemon("wait-local-directory", json!({ "reason": "local_directory /srv" })).await,
        "pin" => daemon("session", json!({ "session_id": "pinned" })).await,
        "complete" => daemon("complete", json!({ "output": "an answer" })).await,
        "fail" => daemon("fail", json!({ "error": "oh" })).await,
        "cancel" => hub.cli("POST", &format!("/api/tasks/{task}/cancel"), Value::Null).await,
        other => panic!("nobody knows how to {other}"),
    }
}

async fn every_operation_does_to_every_status_what_the_table_says(backend: Backend) {
    let world = world(backend).await;
    let hub = &world.hub;
    let issue = issue(hub, "t").await;
    let me: Uuid = desk::uuid(&hub.get("/api/me").await.expect(200)["id"]);
    let mut browser = world.browser().await;
    let table = transitions();
    assert_eq!(table.len(), 8 * 7);
    for Transition { operation, before, applies, after, event, otherwise } in table {
        if (operation.as_str(), before) == ("redeliver", "queued") {
            // The same call claims it.
            continue;
        }
        let what = format!("{operation} of one that is {before}");
        hub.sql("DELETE FROM task; DELETE FROM task_token; UPDATE agent SET status = 'idle'").await;
        let ago = if operation == "redeliver" { 120 } else { 20 };
        let task = give(hub, &given(&world, issue, before, ago)).await;
        // Whoever has a task has a token for it, and keeps it until the end; some ends may have been lost.
        let token = match before {
            "queued" => None,
            _ => Some(hub.app.mint_agent_token(hub.workspace, me, world.agent).await.unwrap()),
        };
        hub.sql_unnoticed("UPDATE task_token SET task_id = (SELECT id FROM task)").await;
        told(hub, &mut browser).await;

        let answer = operate(&world, &operation, task).await;
        let status = answer.status;
        let expected = match (applies, operation.as_str(), otherwise.as_str()) {
            (_, "pin", _) => 204,
            (false, _, "refused") => 400,
            _ => 200,
        };
        assert_eq!(status, expected, "{what}: {}", answer.text);
        match (status, otherwise.as_str()) {
            (204, _) => assert_eq!(answer.text, "", "{what}"),
            (400, _) => assert_eq!(answer.json()["code"], "illegal_transition", "{what}"),
            (_, "nothing") if applies => assert_eq!(answer.json()["task"]["status"], after, "{what}"),
            (_, "nothing") => assert_eq!(answer.json(), json!({ "task": null }), "{what}"),
            _ => assert_eq!(answer.json()["status"], after, "{what}"),
        }
        assert_eq!(desk::status(hub, task).await, after, "{what}");
        assert_eq!(world.of_task(task, "status").await, after, "{what}");
        if operation == "pin" {
            assert_eq!(world.of_task(task, "session_id").await, if applies { "pinned" } else { "" }, "{what}");
        }

        let mut events = told(hub, &mut browser).await;
        events.retain(|event| event["type"].as_str().unwrap().starts_with("task:"));
        assert_eq!(kinds(&events), event.into_iter().collect::<Vec<_>>(), "{what}");
        for event in events.iter().filter(|event| event["type"] != "task:dispatch") {
            assert_eq!(event["payload"]["status"], after, "{what}");
        }

        let ends = applies && ["completed", "failed", "cancelled"].contains(&after);
        if let Some(token) = token {
            let fresh = applies && operation == "redeliver";
            assert_eq!(world.worth(&token).await, if ends || fresh { 401 } else { 200 }, "{what}");
        }
        let tokens = hub.rows("SELECT 'token' FROM task_token").await.len();
        let has_one = !ends && (before != "queued" || after == "dispatched");
        assert_eq!(tokens, usize::from(has_one), "{what}");
    }
}
