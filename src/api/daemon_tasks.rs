//! `/api/daemon/tasks`: what daemons call about a task that they have.

use axum::{extract::State, response::Response};
use serde_json::json;

use super::{
    Api,
    answer::{nothing, ok},
    extract::{self, Body, Caller, Large, Segment},
};
use crate::{
    error::{Error, Result},
    ids::{TaskId, WorkspaceId},
    protocol::task::{CompleteTask, FailTask, PinSession, WaitTask},
    tasks::{self, Failure, Row},
};

/// The task, and its workspace, for a daemon that may work on it. It was heard of.
async fn home(api: &Api, caller: &Caller, segment: &Segment) -> Result<(TaskId, WorkspaceId)> {
    let task = extract::id(segment, "task_id")?;
    let workspace = api.queue.home(&caller.driver(), task).await?;
    api.fleet.hear_of_task(task);
    Ok((task, workspace))
}

/// Its agent begins.
pub async fn start(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let (task, workspace) = home(&api, &caller, &segment).await?;
    let queue = api.queue.clone();
    let started = api.db.write(workspace, async move |tx| queue.start(tx, task).await);
    started.await.map(Row::wire).map(ok)
}

/// It waits until a folder is free.
pub async fn wait(
    State(api): State<Api>,
    caller: Caller,
    segment: Segment,
    Body(wish): Body<WaitTask>,
) -> Result<Response> {
    let (task, workspace) = home(&api, &caller, &segment).await?;
    let queue = api.queue.clone();
    let waiting = api.db.write(workspace, async move |tx| queue.wait(tx, task, &wish.reason).await);
    waiting.await.map(Row::wire).map(ok)
}

/// Where the agent's session can be taken up again.
pub async fn session(
    State(api): State<Api>,
    caller: Caller,
    segment: Segment,
    Body(session): Body<PinSession>,
) -> Result<Response> {
    let (task, workspace) = home(&api, &caller, &segment).await?;
    if session.session_id.trim().is_empty() && session.work_dir.trim().is_empty() {
        return Err(Error::invalid("session_required", "session_id or work_dir is required"));
    }
    let queue = api.queue.clone();
    let pinned = api.db.write(workspace, async move |tx| queue.pin(tx, task, &session).await);
    pinned.await.map(|()| nothing())
}

/// How it is; a daemon that reads of an end stops the agent.
pub async fn status(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let (task, _) = home(&api, &caller, &segment).await?;
    let row = api.db.read(async move |db| tasks::find(db, task).await).await?.ok_or_else(tasks::not_found)?;
    Ok(ok(json!({ "status": row.status.word() })))
}

/// It came to an end.
pub async fn complete(
    State(api): State<Api>,
    caller: Caller,
    segment: Segment,
    Large(report): Large<CompleteTask>,
) -> Result<Response> {
    let (task, workspace) = home(&api, &caller, &segment).await?;
    let queue = api.queue.clone();
    let ended = api.db.write(workspace, async move |tx| queue.complete(tx, task, &report).await);
    ended.await.map(Row::wire).map(ok)
}

/// It came to a bad end.
pub async fn fail(
    State(api): State<Api>,
    caller: Caller,
    segment: Segment,
    Large(report): Large<FailTask>,
) -> Result<Response> {
    let (task, workspace) = home(&api, &caller, &segment).await?;
    let (queue, failure) = (api.queue.clone(), Failure::reported(&report));
    let ended = api.db.write(workspace, async move |tx| queue.fail(tx, task, &failure).await);
    ended.await.map(Row::wire).map(ok)
}
