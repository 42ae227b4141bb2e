//! What private agents leave behind when they go stays private.

use serde_json::{Value, json};

use super::scene::Scene;
use crate::support::{Backend, Hub, hub::id};

on_both_stores!(an_autopilot_of_a_private_agent_that_is_gone_stays_private);

async fn an_autopilot_of_a_private_agent_that_is_gone_stays_private(backend: Backend) {
    let hub = Hub::start(backend).await;
    let plain = hub.member("m@example.com", "member").await;
    let scene = Scene::set(&hub).await;
    let (open, private) = (scene.pilots[0], scene.pilots[1]);
    let seen = async || -> Vec<_> {
        let list = hub.cli_as(&plain, "GET", "/api/autopilots", Value::Null).await.expect(200);
        list["autopilots"].as_array().unwrap_or_else(|| list.as_array().unwrap()).iter().map(id).collect()
    };
    assert_eq!(seen().await, [open]);
    scene.cascade(&hub).await.expect(200);
    assert_eq!(seen().await, [open]);
    let path = format!("/api/autopilots/{private}");
    let refused = hub.cli_as(&plain, "GET", &path, Value::Null).await;
    refused.refused(403, "you do not have access to this agent");
    hub.cli("GET", &path, Value::Null).await.expect(200);
    // Given to an agent that everybody may see, it is everybody's.
    let change = json!({ "assignee_type": "agent", "assignee_id": scene.max });
    hub.cli("PATCH", &path, change).await.expect(200);
    hub.cli_as(&plain, "GET", &path, Value::Null).await.expect(200);
}
