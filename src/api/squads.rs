//! `/api/squads`.

use axum::{extract::State, response::Response};

use super::{
    Api,
    answer::{at_position, created, nothing, ok},
    extract::{self, Body, Door, Segment},
};
use crate::{
    error::Result,
    events, flows,
    ids::SquadId,
    protocol::squad::{CreateSquad, PutSquad, WishedMember},
    workspace::squads::{self, members},
};

/// The workspace's squads.
pub async fn list(State(api): State<Api>, door: Door) -> Result<Response> {
    let (position, squads) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            Ok((position, squads::list(db, who.workspace).await?))
        })
        .await?;
    Ok(at_position(&position, ok(squads)))
}

/// A new one.
pub async fn create(State(api): State<Api>, door: Door, Body(wish): Body<CreateSquad>) -> Result<Response> {
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        squads::create(tx, &who, &wish).await
    });
    write.await.map(created)
}

/// One.
pub async fn get(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let squad = id(&segment)?;
    let read = api.db.read(async move |db| {
        let who = door.enter(db).await?;
        squads::get(db, who.workspace, squad).await
    });
    read.await.map(ok)
}

/// Changes one.
pub async fn put(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Body(change): Body<PutSquad>,
) -> Result<Response> {
    let squad = id(&segment)?;
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        squads::put(tx, &who, squad, &change).await
    });
    write.await.map(ok)
}

/// Puts one aside.
pub async fn delete(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let squad = id(&segment)?;
    let piece = || {
        let door = door.clone();
        api.db.write(door.workspace(), async move |tx| {
            let who = door.enter(tx).await?;
            flows::squads::hand_over(tx, &who, squad).await
        })
    };
    while piece().await? {}
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::squads::delete(tx, &who, squad).await
    });
    write.await.map(|()| nothing())
}

/// Who is in one.
pub async fn list_members(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let squad = id(&segment)?;
    let (position, members) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            squads::find(db, who.workspace, squad).await?;
            Ok((position, members::list(db, squad).await?))
        })
        .await?;
    Ok(at_position(&position, ok(members)))
}

/// Adds somebody to one.
pub async fn add_member(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Body(wish): Body<WishedMember>,
) -> Result<Response> {
    let squad = id(&segment)?;
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        members::add(tx, &who, squad, &wish).await
    });
    write.await.map(created)
}

/// Takes somebody out of one.
pub async fn remove_member(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Body(wish): Body<WishedMember>,
) -> Result<Response> {
    let squad = id(&segment)?;
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        members::remove(tx, &who, squad, &wish).await
    });
    write.await.map(|()| nothing())
}

fn id(segment: &str) -> Result<SquadId> {
    extract::id(segment, "squad_id")
}
