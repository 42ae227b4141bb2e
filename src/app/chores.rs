//! What one node does for all: removing what is over.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{HOUSEKEEPING, shift};
use crate::{
    api::Parts,
    events,
    flows::{purge::purge, teardown::remove_forgotten},
    identity::sessions,
    workspace::attachments,
};

/// The lease's name.
const JOB: &str = "housekeeping";

pub(super) async fn run(parts: Arc<Parts>, settings: events::Settings, stop: CancellationToken) {
    shift::keep(&parts, JOB, HOUSEKEEPING, &stop, || prune(&parts, &settings)).await;
}

async fn prune(parts: &Parts, settings: &events::Settings) {
    let db = &parts.db;
    match sessions::prune(db).await {
        Ok(0) => {}
        Ok(sessions) => tracing::debug!(sessions, "removed sessions that are over"),
        Err(error) => tracing::warn!(%error, "removing sessions that are over"),
    }
    match attachments::sweep(db).await {
        Ok(0) => {}
        Ok(uploads) => tracing::info!(uploads, "removed uploads that broke off or were forgotten"),
        Err(error) => tracing::warn!(%error, "removing uploads that broke off or were forgotten"),
    }
    match remove_forgotten(db, &parts.tools()).await {
        Ok(0) => {}
        Ok(runtimes) => tracing::info!(runtimes, "removed runtimes that nobody came back to"),
        Err(error) => tracing::warn!(%error, "removing runtimes that nobody came back to"),
    }
    match purge(db).await {
        Ok(0) => {}
        Ok(rows) => tracing::info!(rows, "purged removed workspaces"),
        Err(error) => tracing::warn!(%error, "purging removed workspaces"),
    }
    match events::prune(db, settings).await {
        Ok(0) => {}
        Ok(events) => tracing::info!(events, "pruned the event log"),
        Err(error) => tracing::warn!(%error, "pruning the event log"),
    }
}
