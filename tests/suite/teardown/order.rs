//! The order in which a removal is told, to whoever listens wherever and from whenever.

use serde_json::{Value, json};
use uuid::Uuid;

use super::scene::Scene;
use crate::{
    support::{Backend, Hub, Socket, hub::id},
    tasks::desk,
};

on_all_stores!(a_cascade_is_told_in_order_on_every_node_and_after_a_resume_in_its_midst);
on_both_stores!(whoever_may_not_see_a_private_agent_is_told_its_id,);

/// What a frame is about, in short.
fn brief(frame: &Value) -> (String, String) {
    let payload = &frame["payload"];
    let about = ["autopilot", "agent"].iter().map(|name| &payload[*name]["id"]).find(|id| id.is_string());
    let about = about.or_else(|| {
        let names = ["chat_session_id", "squad_id", "task_id", "runtime_id", "agent_id", "autopilot_id"];
        // A chat's task is named as a task.
        let names = if payload["task_id"].is_string() { &names[2..] } else { &names };
        names.iter().map(|name| &payload[*name]).find(|id| id.is_string())
    });
    (frame["type"].as_str().unwrap().to_owned(), about.unwrap_or(&Value::Null).as_str().unwrap_or("").to_owned())
}

async fn told(browser: &mut Socket, after: u64) -> Vec<Value> {
    let mut frames: Vec<Value> = Vec::new();
    while frames.last().is_none_or(|frame| frame["payload"]["action"] != "delete") {
        let frame = browser.next().await;
        assert_eq!(frame["seq"], json!(after + frames.len() as u64 + 1), "{frame}");
        frames.push(frame);
    }
    frames
}

async fn a_cascade_is_told_in_order_on_every_node_and_after_a_resume_in_its_midst(backend: Backend) {
    let hub = Hub::start(backend).await;
    let other = match backend {
        Backend::PostgresRedis => Some(hub.another_node(&[]).await),
        _ => None,
    };
    let scene = Scene::set(&hub).await;
    let (mut here, ack) = hub.browser().await;
    let after = ack["seq"].as_u64().unwrap();
    let mut elsewhere = match &other {
        Some(node) => Some(node.browser().await.0),
        None => None,
    };
    scene.cascade(&hub).await.expect(200);
    let frames = told(&mut here, after).await;
    let wanted: Vec<(&str, Uuid)> = [
        ("autopilot:updated", scene.pilots[0]),
        ("chat:session_deleted", scene.chat),
        ("squad:deleted", scene.old_squad),
        ("squad:updated", scene.squad),
        // Who has moved and lost work; not who goes.
        ("agent:status", scene.max),
    ]
    .into_iter()
    .chain(scene.running.iter().chain(&scene.waiting).map(|task| ("task:cancelled", *task)))
    .chain([("agent:archived", scene.ann), ("agent:archived", scene.bob), ("daemon:register", scene.here)])
    .collect();
    let briefs: Vec<(String, String)> = frames.iter().map(brief).collect();
    let wanted: Vec<(String, String)> =
        wanted.into_iter().map(|(kind, id)| (kind.to_owned(), id.to_string())).collect();
    assert_eq!(briefs, wanted);

    // What they say.
    let me = hub.get("/api/me").await.expect(200)["id"].clone();
    for frame in &frames {
        let by_me = !frame["type"].as_str().unwrap().starts_with("task:") && frame["type"] != "agent:status";
        let actor = if by_me { (&json!("member"), &me) } else { (&json!("system"), &json!("")) };
        assert_eq!((&frame["actor_type"], &frame["actor_id"]), actor, "{frame}");
    }
    let all = json!(frames).to_string();
    assert!(
        !all.contains("\"SECRET\"") || all.matches("SECRET").count() == 1,
        "but for the autopilot's own words: {all}"
    );
    let pilot = &frames[0]["payload"]["autopilot"];
    assert_eq!((&pilot["status"], &pilot["description"]), (&json!("paused"), &json!("SECRET")));
    assert_eq!(frames[2]["payload"], json!({ "squad_id": scene.old_squad, "leader_id": scene.zoe }));
    for (frame, name, skills) in [(&frames[10], "ann", 0), (&frames[11], "bob", 1)] {
        let agent = &frame["payload"]["agent"];
        assert_eq!((&agent["name"], &agent["status"]), (&json!(name), &json!("idle")));
        assert_eq!((&agent["mcp_config"], &agent["mcp_config_redacted"]), (&Value::Null, &json!(true)));
        assert!(agent.get("custom_env").is_none());
        assert_eq!((&agent["archived_by"], agent["archived_at"].is_string()), (&me, true));
        assert_eq!(agent["skills"].as_array().unwrap().len(), skills);
    }
    assert_eq!(frames[12]["payload"], json!({ "action": "delete", "runtime_id": scene.here }));

    if let Some(elsewhere) = &mut elsewhere {
        assert_eq!(told(elsewhere, after).await, frames, "on the other node");
    }
    for node in [Some(&hub), other.as_ref()].into_iter().flatten() {
        for part in [0, 5, 12] {
            let since = after + part;
            let position = json!({ "since": since, "epoch": ack["epoch"] });
            let (mut again, resumed) = node.browser_of(hub.workspace, position).await;
            assert_eq!(resumed["recovered"], true);
            assert_eq!(told(&mut again, since).await, frames[part as usize..]);
        }
    }
}

async fn whoever_may_not_see_a_private_agent_is_told_its_id(backend: Backend) {
    let hub = Hub::start(backend).await;
    let plain = hub.member("m@example.com", "member").await;
    let scene = Scene::set(&hub).await;
    // The private agent's autopilot is active now, too.
    let pilot = format!("/api/autopilots/{}", scene.pilots[1]);
    hub.cli("PATCH", &pilot, json!({ "status": "active" })).await.expect(200);
    let mut theirs = desk::browser(&hub, &plain).await;
    scene.cascade(&hub).await.expect(200);
    let mut frames = Vec::new();
    loop {
        let frame = theirs.next().await;
        if frame["payload"]["action"] == "delete" {
            break;
        }
        frames.push(frame);
    }
    let about = |kind: &str, id: Uuid| {
        let found = frames.iter().find(|frame| frame["type"] == kind && brief(frame).1 == id.to_string());
        found.unwrap_or_else(|| panic!("{kind} {id}: {frames:?}"))["payload"].clone()
    };
    assert_eq!(about("agent:archived", scene.bob), json!({ "agent_id": scene.bob }));
    assert_eq!(about("autopilot:updated", scene.pilots[1]), json!({ "autopilot_id": scene.pilots[1] }));
    assert_eq!(id(&about("agent:archived", scene.ann)["agent"]), scene.ann);
}
