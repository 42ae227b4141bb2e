//! The HTTP calls of a simulated daemon other than beats, each in the way and with the headers of a
//! June daemon. What fails is counted here.

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{CLI_VERSION, Shared, client::Trouble, names};
use crate::protocol::daemon::{Deregister, Register, RegisterRuntime};

/// The calls before a daemon is ready, and its runtimes' ids. Listing workspaces and registering
/// have to succeed, the others may fail.
pub async fn start_up(shared: &Shared, registration: Register) -> Option<Vec<String>> {
    let (hub, report) = (&shared.hub, &shared.report);
    if let Err(trouble) = hub.tell("/api/tokens/current/renew", &json!({})).await {
        report.error(format!("token renewal: {trouble}"));
    }
    if let Err(trouble) = hub.get::<Vec<Value>>("/api/workspaces").await {
        report.error(format!("workspaces: {trouble}"));
        return None;
    }
    let profiles = format!("/api/daemon/workspaces/{}/runtime-profiles", shared.workspace);
    if let Err(trouble) = hub.get::<Value>(&profiles).await {
        report.error(format!("runtime profiles: {trouble}"));
    }
    let sent = Instant::now();
    match register(shared, &registration).await {
        Ok(ids) => {
            report.registrations.note(sent.elapsed());
            for id in &ids {
                recover_orphans(shared, id).await;
            }
            Some(ids)
        }
        Err(trouble) => {
            report.error(format!("register: {trouble}"));
            None
        }
    }
}

/// What a daemon says when it registers. `device_name` may carry a mark; the runtimes' names never
/// do, or every mark would be a new name.
pub fn registration(shared: &Shared, daemon_id: String, device: &str, device_name: String) -> Register {
    let runtimes = (0..shared.runtimes).map(|index| {
        let (provider, version) = names::provider(index);
        RegisterRuntime {
            name: format!("{} ({device})", names::capitalised(&provider)),
            r#type: provider,
            version: version.to_owned(),
            status: "online".to_owned(),
            profile_id: String::new(),
        }
    });
    Register {
        workspace_id: shared.workspace.clone(),
        daemon_id,
        legacy_daemon_ids: Some(Vec::new()),
        device_name,
        cli_version: CLI_VERSION.to_owned(),
        launched_by: String::new(),
        runtimes: runtimes.collect(),
    }
}

/// Registers and gives the runtimes' ids; an answer without any is a failure.
pub async fn register(shared: &Shared, registration: &Register) -> Result<Vec<String>, Trouble> {
    #[derive(Deserialize)]
    struct Registered {
        runtimes: Vec<Id>,
    }
    #[derive(Deserialize)]
    struct Id {
        id: String,
    }
    let Registered { runtimes } = shared.hub.post("/api/daemon/register", registration).await?;
    if runtimes.is_empty() {
        return Err(Trouble::NoAnswer("no runtimes in the answer"));
    }
    Ok(runtimes.into_iter().map(|runtime| runtime.id).collect())
}

/// Ends the tasks of a daemon's earlier life.
pub async fn recover_orphans(shared: &Shared, runtime: &str) {
    if let Err(trouble) = shared.hub.tell(&format!("/api/daemon/runtimes/{runtime}/recover-orphans"), &json!({})).await
    {
        shared.report.error(format!("recover orphans: {trouble}"));
    }
}

/// Takes a daemon's runtimes offline on purpose.
pub async fn deregister(shared: &Shared, runtime_ids: Vec<String>) {
    if runtime_ids.is_empty() {
        return;
    }
    if let Err(trouble) = shared.hub.tell("/api/daemon/deregister", &Deregister { runtime_ids }).await {
        shared.report.error(format!("deregister: {trouble}"));
    }
}
