//! `/api/skills`.

use axum::{extract::State, response::Response};

use super::{
    Api,
    answer::{at_position, created, nothing, ok},
    extract::{self, Body, Door, Path, Segment},
};
use crate::{
    error::Result,
    events, flows,
    ids::{SkillFileId, SkillId},
    protocol::skill::{CreateSkill, PutSkill, WishedFile},
    workspace::skills::{self, files},
};

/// The workspace's skills, without their content.
pub async fn list(State(api): State<Api>, door: Door) -> Result<Response> {
    let (position, skills) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            Ok((position, skills::list(db, who.workspace).await?))
        })
        .await?;
    Ok(at_position(&position, ok(skills)))
}

/// A new one.
pub async fn create(State(api): State<Api>, door: Door, Body(wish): Body<CreateSkill>) -> Result<Response> {
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        skills::create(tx, &who, &wish).await
    });
    write.await.map(created)
}

/// One, with content and files.
pub async fn get(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let skill = id(&segment)?;
    let read = api.db.read(async move |db| {
        let who = door.enter(db).await?;
        skills::get(db, who.workspace, skill).await
    });
    read.await.map(ok)
}

/// Changes one.
pub async fn put(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Body(change): Body<PutSkill>,
) -> Result<Response> {
    let skill = id(&segment)?;
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::skills::put(tx, &who, skill, &change).await
    });
    write.await.map(ok)
}

/// Removes one.
pub async fn delete(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let skill = id(&segment)?;
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::skills::delete(tx, &who, skill).await
    });
    write.await.map(|()| nothing())
}

/// The files of one.
pub async fn list_files(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let skill = id(&segment)?;
    let (position, skill) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            Ok((position, skills::get(db, who.workspace, skill).await?))
        })
        .await?;
    Ok(at_position(&position, ok(skill.files)))
}

/// Stores one file.
pub async fn put_file(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Body(wish): Body<WishedFile>,
) -> Result<Response> {
    let skill = id(&segment)?;
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        files::put(tx, &who, skill, &wish).await
    });
    write.await.map(ok)
}

/// Removes one file.
pub async fn delete_file(
    State(api): State<Api>,
    door: Door,
    Path((skill, file)): Path<(String, String)>,
) -> Result<Response> {
    let (skill, file): (SkillId, SkillFileId) = (id(&skill)?, extract::id(&file, "file_id")?);
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        files::delete(tx, &who, skill, file).await
    });
    write.await.map(|()| nothing())
}

fn id(segment: &str) -> Result<SkillId> {
    extract::id(segment, "skill_id")
}
