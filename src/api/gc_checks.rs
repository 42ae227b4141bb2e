//! `…/gc-check`: whether a daemon may remove the folders of what it once worked on. It removes them on a
//! 404, so that is said only of what is gone or another workspace's; trouble of ours is never one.

use axum::{extract::State, response::Response};
use serde_json::json;

use super::{
    Api,
    answer::ok,
    extract::{self, Caller, Segment},
};
use crate::{
    error::{Error, Result},
    ids::{ChatSessionId, IssueId, RunId, TaskId, WorkspaceId},
    tasks,
    workspace::{autopilots::runs, chats, issues},
};

async fn require_member(api: &Api, caller: &Caller, workspace: WorkspaceId) -> Result<()> {
    api.fleet.require_member(workspace, &caller.driver()).await
}

/// Of an issue.
pub async fn issue(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let id: IssueId = extract::id(&segment, "issue_id")?;
    let found = api.db.read(async move |db| issues::standing(db, id).await).await?;
    let (workspace, status, updated_at) = found.ok_or_else(issues::not_found)?;
    require_member(&api, &caller, workspace).await?;
    Ok(ok(json!({ "status": status, "updated_at": updated_at })))
}

/// Of a chat.
pub async fn chat(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let id: ChatSessionId = extract::id(&segment, "chat_session_id")?;
    let found = api.db.read(async move |db| chats::standing(db, id).await).await?;
    let (workspace, status, updated_at) = found.ok_or_else(chats::not_found)?;
    require_member(&api, &caller, workspace).await?;
    Ok(ok(json!({ "status": status, "updated_at": updated_at })))
}

/// Of a run of an autopilot.
pub async fn run(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let id: RunId = extract::id(&segment, "run_id")?;
    let found = api.db.read(async move |db| runs::standing(db, id).await).await?;
    let gone = || Error::not_found("run_not_found", "autopilot run not found");
    let (workspace, status, completed_at) = found.ok_or_else(gone)?;
    require_member(&api, &caller, workspace).await?;
    Ok(ok(json!({ "status": status, "completed_at": completed_at })))
}

/// Of a task.
pub async fn task(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let id: TaskId = extract::id(&segment, "task_id")?;
    let row = api.db.read(async move |db| tasks::find(db, id).await).await?.ok_or_else(tasks::not_found)?;
    require_member(&api, &caller, row.workspace_id).await?;
    Ok(ok(json!({ "status": row.status.word(), "completed_at": row.completed_at })))
}
