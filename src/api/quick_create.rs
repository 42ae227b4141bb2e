//! `/api/issues/quick-create`.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    Api,
    answer::Json,
    extract::{Body, Door},
};
use crate::{error::Result, flows, protocol::issue::QuickCreate};

/// An agent is to make an issue of somebody's words.
pub async fn ask(State(api): State<Api>, door: Door, Body(wish): Body<QuickCreate>) -> Result<Response> {
    let queue = api.queue.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::quick_create::ask(tx, &queue, &who, &wish).await
    });
    write.await.map(|task| Json(StatusCode::ACCEPTED, json!({ "task_id": task })).into_response())
}
