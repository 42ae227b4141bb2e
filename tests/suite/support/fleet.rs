//! What daemons do, and what is seen of them.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Hub, Socket, until};

pub fn beat(runtime: Uuid) -> Value {
    json!({ "type": "daemon:heartbeat", "payload": { "runtime_id": runtime } })
}

pub async fn http_beat(hub: &Hub, runtime: Uuid) -> Value {
    hub.post("/api/daemon/heartbeat", json!({ "runtime_id": runtime })).await.expect(200)
}

pub async fn acked(socket: &mut Socket, runtime: Uuid) {
    socket.send(beat(runtime)).await;
    assert_eq!(socket.next_of("daemon:heartbeat_ack").await["payload"]["runtime_id"], json!(runtime));
}

pub async fn status(hub: &Hub, runtime: Uuid) -> String {
    hub.runtime(runtime).await.expect("the row")["status"].as_str().unwrap().to_owned()
}

/// Waits until the hub has noticed that sockets ended.
pub async fn suspected(hub: &Hub, count: usize) {
    until("the ends were seen", async || hub.app.suspected() == count).await;
}

pub async fn beat_status(hub: &Hub, runtime: Uuid) -> u16 {
    hub.post("/api/daemon/heartbeat", json!({ "runtime_id": runtime })).await.status
}
