//! Tasks, as people see and end them: `/api/tasks`, those of an issue, and the whole workspace's.

use axum::{extract::State, http::HeaderValue, response::Response};
use serde_json::json;

use super::{
    Api,
    answer::{at_position, ok},
    daemon_tasks::MessagesQuery,
    extract::{self, Asked, Door, Path, Segment},
};
use crate::{
    error::Result,
    events, flows,
    identity::Insider,
    ids::TaskId,
    protocol::{
        task::{CancelledTask, Task},
        transcript::TaskMessage,
    },
    tasks::{self, Row},
    workspace::issues,
};

/// Where the next part of a long list of messages begins: `since_pos`.
const NEXT_POSITION: &str = "x-next-pos";

fn seen(rows: Vec<Row>, who: &Insider) -> Vec<Task> {
    rows.into_iter().map(|row| row.seen_by(who)).collect()
}

/// What is to be done for an issue.
pub async fn active_of_issue(State(api): State<Api>, door: Door, Path(reference): Segment) -> Result<Response> {
    let (position, tasks) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            let issue = issues::resolve(db, who.workspace, &reference).await?;
            Ok((position, seen(tasks::active_of_issue(db, issue).await?, &who)))
        })
        .await?;
    Ok(at_position(&position, ok(json!({ "tasks": tasks }))))
}

/// All that was done and is to be done for an issue.
pub async fn of_issue(State(api): State<Api>, door: Door, Path(reference): Segment) -> Result<Response> {
    let (position, tasks) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            let issue = issues::resolve(db, who.workspace, &reference).await?;
            Ok((position, seen(tasks::of_issue(db, issue).await?, &who)))
        })
        .await?;
    Ok(at_position(&position, ok(tasks)))
}

/// What all agents have to do, and how the last thing went that each came to an end with.
pub async fn snapshot(State(api): State<Api>, door: Door) -> Result<Response> {
    let (position, tasks) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            Ok((position, seen(tasks::snapshot(db, &who).await?, &who)))
        })
        .await?;
    Ok(at_position(&position, ok(tasks)))
}

/// Some messages, and the position to go on from, if there are more.
pub(super) type Listed = (Vec<TaskMessage>, Option<i64>);

/// Messages in order, and where the next ones begin.
pub(super) fn transcript((messages, next): Listed) -> Response {
    let mut answer = ok(messages);
    if let Some(next) = next {
        answer.headers_mut().insert(NEXT_POSITION, HeaderValue::from(next));
    }
    answer
}

/// What a task's agent said and did, for those who may hear it.
pub async fn messages(
    State(api): State<Api>,
    door: Door,
    segment: Segment,
    Asked(query): Asked<MessagesQuery>,
) -> Result<Response> {
    let (task, since) = (id(&segment)?, query.since()?);
    let listed = api.db.read(async move |db| {
        let who = door.enter(db).await?;
        let voice = tasks::voice_in(db, &who, task).await?;
        voice.require_open_to(&who)?;
        tasks::messages::list(db, task, voice.issue_id, since).await
    });
    listed.await.map(transcript)
}

/// Ends one. In a chat, what it was to answer may be taken back.
pub async fn cancel(State(api): State<Api>, door: Door, segment: Segment) -> Result<Response> {
    let task = id(&segment)?;
    let queue = api.queue.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        let (row, withdrawn) = flows::tasks::cancel(tx, &queue, &who, None, task).await?;
        Ok(CancelledTask { task: row.seen_by(&who), cancelled_chat_message: withdrawn })
    });
    write.await.map(ok)
}

/// Ends one of an issue.
pub async fn cancel_of_issue(
    State(api): State<Api>,
    door: Door,
    Path((reference, task)): Path<(String, String)>,
) -> Result<Response> {
    let task = id(&task)?;
    let queue = api.queue.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        let issue = issues::resolve(tx, who.workspace, &reference).await?;
        flows::tasks::cancel(tx, &queue, &who, Some(issue), task).await.map(|(row, _)| row.seen_by(&who))
    });
    write.await.map(ok)
}

fn id(segment: &str) -> Result<TaskId> {
    extract::id(segment, "task_id")
}
