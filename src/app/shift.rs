//! A job that one node does for all. The lease is asked for often and the work done seldom, so that
//! another node takes over within a minute and the work is no more than one node's.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    api::Parts,
    db::{Db, lease},
};

/// With the lease's own length this is how long a dead node is waited for: a minute.
const ROUND: Duration = Duration::from_secs(15);

/// Does `work` every so often, while this node holds the job's lease.
pub(super) async fn keep<W: Future>(
    parts: &Parts,
    job: &'static str,
    every: Duration,
    stop: &CancellationToken,
    work: impl Fn() -> W,
) {
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
        if !hold(db, job, node).await || at < due {
            continue;
        }
        due = at + every;
        let mut work = Box::pin(work());
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = &mut work => break,
                _ = tick.tick() => if !hold(db, job, node).await {
                    tracing::warn!(job, "the lease went to another node in the midst of the work");
                    break;
                },
            }
        }
    }
}

async fn hold(db: &Db, job: &'static str, node: &str) -> bool {
    let held = lease::hold(db, job, node, lease::TTL).await;
    held.unwrap_or_else(|error| {
        tracing::warn!(job, %error, "asking for the lease");
        false
    })
}
