//! Whether the process lives, and whether it can serve.

use std::sync::atomic::Ordering;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    Api,
    answer::{Json, ok},
};
use crate::db::on;

/// `GET /health`: the process.
pub async fn process() -> Response {
    ok(json!({ "status": "ok" }))
}

/// `GET /readyz`: the process and what it depends on.
pub async fn ready(State(api): State<Api>) -> Response {
    let db = api
        .db
        .read(async |db| {
            on!(db, |c| sqlx::query_scalar::<_, String>("SELECT value FROM hub_meta WHERE key = 'epoch'").fetch_one(c))
        })
        .await;
    let wanted = api.ready.load(Ordering::Relaxed);
    let (db, migrations) = match &db {
        Ok(_) => ("ok", "ok"),
        Err(error) => {
            tracing::warn!(%error, "readiness");
            ("error", "unknown")
        }
    };
    // A sick relay or lease store does not keep the node from serving: events come from the log, and
    // beats go to the database. Nor does the brake. People who watch want to know all the same.
    let word = |well: bool| if well { "ok" } else { "away" };
    let leases = word(api.fleet.lease_store().well);
    let relay = api.relay.as_ref().map_or("none", |relay| word(relay.is_well()));
    let verdicts = if api.fleet.is_braked() { "held" } else { "ok" };
    let well = wanted && db == "ok";
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let summary = if well { "ok" } else { "not_ready" };
    Json(
        status,
        json!({ "status": summary, "checks": {
        "db": db, "migrations": migrations, "leases": leases, "relay": relay, "verdicts": verdicts,
    } }),
    )
    .into_response()
}
