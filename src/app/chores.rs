//! What one node does for all: removing what is over. Asked for often and done seldom, so that
//! another node takes over within a minute and the work is no more than one node's.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::HOUSEKEEPING;
use crate::{
    api::Parts,
    db::{Db, lease},
    events,
    identity::sessions,
    workspace::attachments,
};

/// The lease's name.
const JOB: &str = "housekeeping";
/// With the lease's own length this is how long a dead node is waited for: a minute.
const ROUND: Duration = Duration::from_secs(15);

pub(super) async fn run(parts: Arc<Parts>, settings: events::Settings, stop: CancellationToken) {
    let (db, node) = (&parts.db, &*parts.sockets.node);
    let mut tick = interval(ROUND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut due = Instant::now();
    loop {
        // Never while the lease is asked for: the question would be answered after it was released.
        let at = tokio::select! {
            () = stop.cancelled() => return,
            at = tick.tick() => at,
        };
        if !hold(db, node).await || at < due {
            continue;
        }
        due = at + HOUSEKEEPING;
        let mut work = Box::pin(prune(db, &settings));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = &mut work => break,
                _ = tick.tick() => if !hold(db, node).await {
                    tracing::warn!("the lease on the housekeeping went to another node in the midst of it");
                    break;
                },
            }
        }
    }
}

async fn hold(db: &Db, node: &str) -> bool {
    let held = lease::hold(db, JOB, node, lease::TTL).await;
    held.unwrap_or_else(|error| {
        tracing::warn!(%error, "asking for the lease on the housekeeping");
        false
    })
}

async fn prune(db: &Db, settings: &events::Settings) {
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
    match events::prune(db, settings).await {
        Ok(0) => {}
        Ok(events) => tracing::info!(events, "pruned the event log"),
        Err(error) => tracing::warn!(%error, "pruning the event log"),
    }
}
