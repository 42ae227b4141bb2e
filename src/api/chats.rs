//! `/api/chat/sessions`.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use serde_json::json;

use super::{
    Api,
    answer::{at_position, created, nothing, ok},
    extract::{self, Asked, Body, Door, Segment},
};
use crate::{
    error::Result,
    events, flows,
    ids::ChatSessionId,
    protocol::chat::{ChatSession, CreateChat, RenameChat, SendMessage},
    tasks,
    workspace::chats::{self, messages},
};

/// The query of the list.
#[derive(Deserialize)]
pub struct Filter {
    #[serde(default)]
    status: Option<String>,
}

/// The caller's own chats.
pub async fn list(State(api): State<Api>, door: Door, Asked(filter): Asked<Filter>) -> Result<Response> {
    let archived_too = filter.status.as_deref() == Some("all");
    let (position, sessions) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            Ok((position, chats::list(db, &who, archived_too).await?))
        })
        .await?;
    Ok(at_position(&position, ok(sessions)))
}

/// A new one.
pub async fn create(State(api): State<Api>, door: Door, Body(wish): Body<CreateChat>) -> Result<Response> {
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        chats::create(tx, &who, &wish).await
    });
    write.await.map(created)
}

/// One.
pub async fn get(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let session = id(&segment)?;
    let read = api.db.read(async move |db| {
        let who = door.enter(db).await?;
        chats::get(db, &who, session).await.map(ChatSession::from)
    });
    read.await.map(ok)
}

/// Gives one another title.
pub async fn rename(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Body(wish): Body<RenameChat>,
) -> Result<Response> {
    let session = id(&segment)?;
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        chats::rename(tx, &who, session, &wish.title).await
    });
    write.await.map(ok)
}

/// Removes one.
pub async fn delete(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let session = id(&segment)?;
    let queue = api.queue.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::chats::delete(tx, &queue, &who, session).await
    });
    write.await.map(|()| nothing())
}

/// What was said in one.
pub async fn messages(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let session = id(&segment)?;
    let (position, messages) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            chats::get(db, &who, session).await?;
            Ok((position, messages::list(db, session).await?))
        })
        .await?;
    Ok(at_position(&position, ok(messages)))
}

/// Says something in one.
pub async fn send(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Body(wish): Body<SendMessage>,
) -> Result<Response> {
    let session = id(&segment)?;
    let queue = api.queue.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::chats::send(tx, &queue, &who, session, &wish).await
    });
    write.await.map(created)
}

/// The task that an answer is waited for from, if there is one.
pub async fn pending_task(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let session = id(&segment)?;
    let read = api.db.read(async move |db| {
        let who = door.enter(db).await?;
        chats::get(db, &who, session).await?;
        tasks::newest_of_chat(db, session).await
    });
    read.await.map(|task| match task {
        Some(task) => ok(json!({ "task_id": task.id, "status": task.status.word(), "created_at": task.created_at })),
        None => ok(json!({})),
    })
}

/// Notes that the caller has seen what is in one.
pub async fn read(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let session = id(&segment)?;
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        chats::read(tx, &who, session).await
    });
    write.await.map(|()| nothing())
}

fn id(segment: &str) -> Result<ChatSessionId> {
    extract::id(segment, "chat_session_id")
}
