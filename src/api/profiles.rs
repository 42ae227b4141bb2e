//! `/api/workspaces/{id}/runtime-profiles`.

use axum::{extract::State, response::Response};

use super::{
    Api,
    answer::{at_position, created, nothing, ok},
    extract::{self, Body, Caller, Door, Path, Segment},
    workspaces::id,
};
use crate::{
    error::Result,
    events,
    fleet::profiles,
    flows,
    ids::RuntimeProfileId,
    protocol::profile::{ChangeProfile, CreateProfile, RuntimeProfiles},
};

/// The two ids of an address.
type Segments = Path<(String, String)>;

/// A workspace's profiles.
pub async fn list(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let door = door(caller, &segment)?;
    let (position, runtime_profiles) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            Ok((position, profiles::list(db, who.workspace).await?))
        })
        .await?;
    Ok(at_position(&position, ok(RuntimeProfiles { runtime_profiles })))
}

/// A new one.
pub async fn create(
    State(api): State<Api>,
    caller: Caller,
    segment: Segment,
    Body(wish): Body<CreateProfile>,
) -> Result<Response> {
    let (door, nodes) = (door(caller, &segment)?, api.nodes.clone());
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        profiles::create(tx, &nodes, &who, &wish).await
    });
    write.await.map(created)
}

/// One.
pub async fn get(State(api): State<Api>, caller: Caller, Path((workspace, profile)): Segments) -> Result<Response> {
    let (door, profile) = (door(caller, &workspace)?, profile_id(&profile)?);
    let read = api.db.read(async move |db| {
        let who = door.enter(db).await?;
        profiles::get(db, who.workspace, profile).await
    });
    read.await.map(ok)
}

/// Changes one.
pub async fn patch(
    State(api): State<Api>,
    caller: Caller,
    Path((workspace, profile)): Segments,
    Body(change): Body<ChangeProfile>,
) -> Result<Response> {
    let (door, profile) = (door(caller, &workspace)?, profile_id(&profile)?);
    let nodes = api.nodes.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        profiles::change(tx, &nodes, &who, profile, &change).await
    });
    write.await.map(ok)
}

/// Removes one, with its runtimes.
pub async fn delete(State(api): State<Api>, caller: Caller, Path((workspace, profile)): Segments) -> Result<Response> {
    let (door, profile) = (door(caller, &workspace)?, profile_id(&profile)?);
    let (tools, nodes) = (api.tools(), api.nodes.clone());
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::profiles::delete(tx, &tools, &nodes, &who, profile).await
    });
    write.await.map(|()| nothing())
}

fn door(caller: Caller, workspace: &str) -> Result<Door> {
    let workspace = caller.confine(id(workspace)?)?;
    Ok(Door::new(caller, workspace))
}

fn profile_id(segment: &str) -> Result<RuntimeProfileId> {
    extract::id(segment, "runtime_profile_id")
}
