//! `/api/agents`.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use serde_json::json;

use super::{
    Api,
    answer::{at_position, created, ok},
    extract::{self, Asked, Body, Door, Segment},
};
use crate::{
    error::Result,
    events, flows,
    ids::AgentId,
    protocol::agent::{CreateAgent, PutAgent, PutEnv, SkillIds},
    tasks,
    workspace::agents::{self, env, skills},
};

/// The query of the list.
#[derive(Deserialize)]
pub struct Filter {
    #[serde(default)]
    include_archived: Option<String>,
}

/// The agents that the caller may see.
pub async fn list(State(api): State<Api>, door: Door, Asked(filter): Asked<Filter>) -> Result<Response> {
    let archived_too = filter.include_archived.as_deref() == Some("true");
    let (position, agents) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            Ok((position, agents::list(db, &who, archived_too).await?))
        })
        .await?;
    Ok(at_position(&position, ok(agents)))
}

/// A new one, owned by the caller.
pub async fn create(State(api): State<Api>, door: Door, Body(wish): Body<CreateAgent>) -> Result<Response> {
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::agents::create(tx, &who, &wish).await
    });
    write.await.map(created)
}

/// One.
pub async fn get(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let agent = id(&segment)?;
    let read = api.db.read(async move |db| {
        let who = door.enter(db).await?;
        agents::get(db, &who, agent).await
    });
    read.await.map(ok)
}

/// Changes one.
pub async fn put(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Body(change): Body<PutAgent>,
) -> Result<Response> {
    let agent = id(&segment)?;
    let queue = api.queue.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::agents::put(tx, &queue, &who, agent, change.clone()).await
    });
    write.await.map(ok)
}

/// Puts one aside.
pub async fn archive(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let agent = id(&segment)?;
    let queue = api.queue.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::agents::archive(tx, &queue, &who, agent).await
    });
    write.await.map(ok)
}

/// Takes one up again.
pub async fn restore(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let agent = id(&segment)?;
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::agents::restore(tx, &who, agent).await
    });
    write.await.map(ok)
}

/// Ends all of one's work.
pub async fn cancel_tasks(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let agent = id(&segment)?;
    let queue = api.queue.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::agents::cancel_tasks(tx, &queue, &who, agent).await
    });
    write.await.map(|cancelled| ok(json!({ "cancelled": cancelled })))
}

/// What one has done and has to do.
pub async fn list_tasks(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let agent = id(&segment)?;
    let (position, tasks) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            agents::open(db, &who, agent).await?;
            let rows = tasks::of_agent(db, agent).await?;
            Ok((position, rows.into_iter().map(|row| row.seen_by(&who)).collect::<Vec<_>>()))
        })
        .await?;
    Ok(at_position(&position, ok(tasks)))
}

/// The skills of one.
pub async fn list_skills(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let agent = id(&segment)?;
    let (position, skills) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            agents::open(db, &who, agent).await?;
            Ok((position, skills::list(db, agent).await?))
        })
        .await?;
    Ok(at_position(&position, ok(skills)))
}

/// Gives one these skills and no others.
pub async fn put_skills(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Body(wish): Body<SkillIds>,
) -> Result<Response> {
    set_skills(api, door, id(&segment)?, wish, true).await
}

/// Gives one these skills as well.
pub async fn add_skills(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Body(wish): Body<SkillIds>,
) -> Result<Response> {
    set_skills(api, door, id(&segment)?, wish, false).await
}

async fn set_skills(api: Api, door: Door, agent: AgentId, wish: SkillIds, replace: bool) -> Result<Response> {
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        skills::set(tx, &who, agent, &wish.skill_ids, replace).await
    });
    write.await.map(ok)
}

/// The environment of one.
pub async fn get_env(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let agent = id(&segment)?;
    let read = api.db.read(async move |db| {
        let who = door.enter(db).await?;
        env::get(db, &who, agent).await
    });
    read.await.map(ok)
}

/// Replaces the environment of one.
pub async fn put_env(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Body(wish): Body<PutEnv>,
) -> Result<Response> {
    let agent = id(&segment)?;
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        env::put(tx, &who, agent, &wish.custom_env).await
    });
    write.await.map(ok)
}

fn id(segment: &str) -> Result<AgentId> {
    extract::id(segment, "agent_id")
}
