//! `/api/daemon`: what daemons call.

use axum::{extract::State, response::Response};
use serde_json::json;

use super::{
    Api,
    answer::ok,
    extract::{self, Began, Body, Caller, Segment},
};
use crate::{
    error::{Error, Result},
    fleet::{Beat, Contact},
    ids::RuntimeId,
    protocol::{
        daemon::{Deregister, Heartbeat, Register},
        task::Claim,
    },
    tasks::{self, claim::Asker},
};

/// Registers a daemon's runtimes.
pub async fn register(State(api): State<Api>, caller: Caller, Body(request): Body<Register>) -> Result<Response> {
    let (daemon, entries) = (request.daemon_id.clone(), request.runtimes.len());
    let registered = api.fleet.register(&caller.driver(), request).await?;
    tracing::info!(daemon, entries, "daemon registered");
    Ok(ok(registered))
}

/// Takes runtimes offline.
pub async fn deregister(State(api): State<Api>, caller: Caller, Body(request): Body<Deregister>) -> Result<Response> {
    if request.runtime_ids.is_empty() {
        return Err(Error::invalid("runtime_ids_required", "runtime_ids is required"));
    }
    let ids: Vec<RuntimeId> =
        request.runtime_ids.iter().map(|text| extract::id(text.trim(), "runtime_ids")).collect::<Result<_>>()?;
    api.fleet.deregister(&caller.driver(), ids).await?;
    Ok(ok(json!({ "status": "ok" })))
}

/// A beat over HTTP.
pub async fn heartbeat(
    State(api): State<Api>,
    caller: Caller,
    Began(began): Began,
    Body(beat): Body<Heartbeat>,
) -> Result<Response> {
    if beat.runtime_id.is_empty() {
        return Err(Error::invalid("runtime_id_required", "runtime_id is required"));
    }
    let runtime = extract::id(&beat.runtime_id, "runtime_id")?;
    match api.fleet.beat(&caller.driver(), runtime, Contact { since: began, connection: 0 }).await? {
        Beat::Recorded | Beat::TakenOffline => Ok(ok(json!({ "status": "ok" }))),
        Beat::Gone => Err(Error::not_found("runtime_not_found", "runtime not found")),
    }
}

/// A workspace's repositories and settings.
pub async fn repos(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let workspace = extract::id(&segment, "workspace_id")?;
    api.fleet.repos(workspace, &caller.driver()).await.map(ok)
}

/// A workspace's enabled runtime profiles.
pub async fn runtime_profiles(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let workspace = extract::id(&segment, "workspace_id")?;
    api.fleet.enabled_profiles(workspace, &caller.driver()).await.map(ok)
}

/// Ends tasks that a restarted daemon left behind.
pub async fn recover_orphans(
    State(api): State<Api>,
    caller: Caller,
    Began(began): Began,
    segment: Segment,
) -> Result<Response> {
    let (driver, runtime) = (caller.driver(), extract::id(&segment, "runtime_id")?);
    let workspace = api.fleet.hear_of_restart(&driver, runtime, began).await?;
    api.queue.recover_orphans(&driver, workspace, runtime, began).await.map(ok)
}

/// Asks for work.
pub async fn claim(State(api): State<Api>, caller: Caller, Began(began): Began, segment: Segment) -> Result<Response> {
    let (driver, runtime) = (caller.driver(), extract::id(&segment, "runtime_id")?);
    // As long as this is here, somebody waits for the answer.
    let (asker, _waiting) = Asker::new();
    api.fleet.admit_claim(&driver, runtime).await?;
    // Its lease is touched with the next tick; work does not wait for that.
    let (fleet, caller) = (api.fleet.clone(), driver.clone());
    let heard = tokio::spawn(async move { fleet.hear_of_claim(&caller, runtime, began).await });
    let task = api.queue.claim(&driver, runtime, asker).await?;
    if task.is_none() {
        // Who gets nothing may hear why: the touch may have found that the runtime is gone.
        heard.await.map_err(Error::internal)??;
    }
    Ok(ok(Claim { task }))
}

/// What waits on a runtime.
pub async fn pending(
    State(api): State<Api>,
    caller: Caller,
    Began(began): Began,
    segment: Segment,
) -> Result<Response> {
    let runtime = extract::id(&segment, "runtime_id")?;
    api.fleet.hear_of(&caller.driver(), runtime, began).await?;
    let rows = api.db.read(async move |db| tasks::pending_of_runtime(db, runtime).await).await?;
    Ok(ok(rows.into_iter().map(tasks::Row::wire).collect::<Vec<_>>()))
}
