//! `/api/autopilots`.

use axum::{extract::State, response::Response};
use serde::Deserialize;

use super::{
    Api,
    answer::{at_position, created, nothing, ok},
    extract::{self, Asked, Body, Door, Path, Segment},
};
use crate::{
    error::Result,
    events, flows,
    ids::{AutopilotId, RunId, TriggerId},
    protocol::autopilot::{
        Autopilots, CreateAutopilot, CreateTrigger, PatchAutopilot, PatchTrigger, Runs, WithTriggers,
    },
    workspace::autopilots::{
        self,
        runs::{self, Page},
        triggers,
    },
};

/// The query of the list.
#[derive(Deserialize)]
pub struct Filter {
    #[serde(default)]
    status: Option<String>,
}

/// The query of the list of runs.
#[derive(Deserialize)]
pub struct Part {
    #[serde(default)]
    limit: Option<String>,
    #[serde(default)]
    offset: Option<String>,
}

/// The workspace's autopilots: all of them, whatever part is asked for.
pub async fn list(State(api): State<Api>, door: Door, Asked(filter): Asked<Filter>) -> Result<Response> {
    let status = filter.status.filter(|status| !status.is_empty());
    let (position, autopilots) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            Ok((position, autopilots::list(db, &who, status.as_deref()).await?))
        })
        .await?;
    Ok(at_position(&position, ok(Autopilots { total: autopilots.len(), autopilots })))
}

/// A new one.
pub async fn create(State(api): State<Api>, door: Door, Body(wish): Body<CreateAutopilot>) -> Result<Response> {
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::autopilots::create(tx, &who, &wish).await
    });
    write.await.map(created)
}

/// One, with its triggers.
pub async fn get(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let autopilot = id(&segment)?;
    let read = api.db.read(async move |db| {
        let who = door.enter(db).await?;
        let found = autopilots::open(db, &who, autopilot).await?;
        Ok(WithTriggers { autopilot: found, triggers: triggers::list(db, autopilot).await? })
    });
    read.await.map(ok)
}

/// Changes one.
pub async fn patch(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Body(change): Body<PatchAutopilot>,
) -> Result<Response> {
    let autopilot = id(&segment)?;
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::autopilots::patch(tx, &who, autopilot, change.clone()).await
    });
    write.await.map(ok)
}

/// Removes one.
pub async fn delete(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let autopilot = id(&segment)?;
    let queue = api.queue.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::autopilots::delete(tx, &queue, &who, autopilot).await
    });
    write.await.map(|()| nothing())
}

/// Sets one off by hand; also when nothing comes of it, the run says so.
pub async fn trigger(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let autopilot = id(&segment)?;
    let queue = api.queue.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::autopilot_runs::trigger(tx, &queue, &who, autopilot).await
    });
    write.await.map(ok)
}

/// A page of the times that one was set off.
pub async fn list_runs(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Asked(part): Asked<Part>,
) -> Result<Response> {
    let autopilot = id(&segment)?;
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
    let page = Page::of(number(part.limit), number(part.offset));
    let (position, runs) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            autopilots::open(db, &who, autopilot).await?;
            Ok((position, runs::list(db, autopilot, page).await?))
        })
        .await?;
    Ok(at_position(&position, ok(Runs { total: runs.len(), runs })))
}

/// One time that one was set off.
pub async fn get_run(
    State(api): State<Api>,
    door: Door,
    Path((autopilot, run)): Path<(String, String)>,
) -> Result<Response> {
    let (autopilot, run): (_, RunId) = (id(&autopilot)?, extract::id(&run, "run_id")?);
    let read = api.db.read(async move |db| {
        let who = door.enter(db).await?;
        autopilots::open(db, &who, autopilot).await?;
        runs::get(db, autopilot, run).await
    });
    read.await.map(ok)
}

/// Adds to what sets one off.
pub async fn create_trigger(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Body(wish): Body<CreateTrigger>,
) -> Result<Response> {
    let autopilot = id(&segment)?;
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        triggers::create(tx, &who, autopilot, &wish).await
    });
    write.await.map(created)
}

/// Changes what sets one off.
pub async fn patch_trigger(
    State(api): State<Api>,
    door: Door,
    Path((autopilot, trigger)): Path<(String, String)>,
    Body(change): Body<PatchTrigger>,
) -> Result<Response> {
    let (autopilot, trigger) = (id(&autopilot)?, trigger_id(&trigger)?);
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        triggers::patch(tx, &who, autopilot, trigger, change.clone()).await
    });
    write.await.map(ok)
}

/// Takes away from what sets one off.
pub async fn delete_trigger(
    State(api): State<Api>,
    door: Door,
    Path((autopilot, trigger)): Path<(String, String)>,
) -> Result<Response> {
    let (autopilot, trigger) = (id(&autopilot)?, trigger_id(&trigger)?);
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        triggers::delete(tx, &who, autopilot, trigger).await
    });
    write.await.map(|()| nothing())
}

fn id(segment: &str) -> Result<AutopilotId> {
    extract::id(segment, "autopilot_id")
}

fn trigger_id(segment: &str) -> Result<TriggerId> {
    extract::id(segment, "trigger_id")
}
