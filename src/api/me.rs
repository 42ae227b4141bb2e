//! `/api/me`.

use axum::{extract::State, response::Response};

use super::{
    Api,
    answer::ok,
    extract::{Body, Caller},
};
use crate::{error::Result, flows, identity::users, protocol::people::PatchMe};

/// The caller.
pub async fn get(State(api): State<Api>, caller: Caller) -> Result<Response> {
    let user = caller.user();
    api.db.read(async move |db| users::get(db, user).await).await.map(ok)
}

/// Changes the caller.
pub async fn patch(State(api): State<Api>, caller: Caller, Body(change): Body<PatchMe>) -> Result<Response> {
    let user = caller.user();
    api.db.write_global(async move |tx| flows::people::patch_me(tx, user, &change).await).await.map(ok)
}
