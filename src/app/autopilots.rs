//! Sets autopilots off whose schedules have come due. Each is a transaction of its own, which looks
//! once more whether it is due: two nodes that both believe it is their turn do nothing twice, and one
//! that fails keeps no other from its work.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::shift;
use crate::{
    api::Parts,
    error::{Error, Result},
    flows::autopilot_runs::{fire, give_up},
    workspace::autopilots::due::{self, Due},
};

/// The lease's name.
const JOB: &str = "autopilots";
/// Between two looks at what is due.
const EVERY: Duration = Duration::from_secs(30);
/// Schedules that are read together.
const TOGETHER: i64 = 100;

pub(super) async fn run(parts: Arc<Parts>, stop: CancellationToken) {
    let work = async || match run_due(&parts).await {
        Ok(0) => {}
        Ok(runs) => tracing::debug!(runs, "autopilots were set off by the clock"),
        Err(error) => tracing::warn!(%error, "looking for autopilots that are due"),
    };
    shift::keep(&parts, JOB, EVERY, &stop, work).await;
}

/// Sets off what is due by now; how many there were.
pub(super) async fn run_due(parts: &Parts) -> Result<usize> {
    let now = parts.db.clock().now();
    let (mut last, mut runs) = (None, 0);
    loop {
        let found: Vec<Due> = parts.db.read(async move |db| due::list(db, now, last, TOGETHER).await).await?;
        for due in &found {
            runs += usize::from(set_off(parts, *due).await);
        }
        // Whatever failed is not looked at again before the next time.
        last = found.last().copied();
        if (found.len() as i64) < TOGETHER {
            return Ok(runs);
        }
    }
}

/// Whether there is a run.
async fn set_off(parts: &Parts, due: Due) -> bool {
    let Due { id: trigger, autopilot_id: autopilot, .. } = due;
    let error = match attempt(parts, due).await {
        // Others were in the way more often than a transaction puts up with.
        Err(error) if error.wants_another_run() => match attempt(parts, due).await {
            Ok(ran) => return ran,
            Err(error) => error,
        },
        Ok(ran) => return ran,
        Err(error) => error,
    };
    tracing::warn!(%autopilot, %trigger, %error, "setting an autopilot off");
    let away = error.is_transient() && !error.wants_another_run();
    if away || matches!(error, Error::OutcomeUnknown(_)) {
        // It is still due, if it is, and will be tried again.
        return false;
    }
    if let Err(error) = parts.db.write(due.workspace_id, async move |tx| give_up(tx, &due).await).await {
        tracing::warn!(%autopilot, %trigger, %error, "noting that an autopilot could not be set off");
    }
    false
}

async fn attempt(parts: &Parts, due: Due) -> Result<bool> {
    let queue = parts.queue.clone();
    parts.db.write(due.workspace_id, async move |tx| fire(tx, &queue, &due).await).await
}
