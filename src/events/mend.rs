//! What keeps the lanes whole: the gap reader, and the comparison with the counters. A lost relay
//! message, a commit whose answer was lost and an event written by another process all end here:
//! they delay, and never lose.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{Lanes, epoch, lane::Lane, lanes::Heal, log};
use crate::{
    db::{Arm, Db, Session, lists},
    error::Result,
    ids::WorkspaceId,
};

/// How long something ahead is held before the gap is read. Without faults the longest wait seen is
/// 5 ms.
const PATIENCE: Duration = Duration::from_millis(50);
/// Between two comparisons with the counters.
const COMPARE: Duration = Duration::from_secs(2);
/// Events read at once when closing a gap.
const GAP_PAGE: u64 = 500;

/// Which lanes are to be compared with their counters, as soon as the comparison under way is over.
#[derive(Default)]
struct Doubts {
    all: bool,
    some: HashSet<WorkspaceId>,
}

impl Doubts {
    fn take(&mut self, lanes: &Lanes) -> Option<Vec<Arc<Lane>>> {
        let some = std::mem::take(&mut self.some);
        match std::mem::take(&mut self.all) {
            true => Some(lanes.all()),
            false if some.is_empty() => None,
            false => Some(lanes.of(some)),
        }
    }
}

impl Lanes {
    /// Reads gaps and compares positions until cancelled.
    pub async fn keep_whole(self: Arc<Self>, db: Db, stop: CancellationToken) {
        let Some(mut inbox) = self.inbox() else { return };
        let mut tick = tokio::time::interval(COMPARE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut doubts = Doubts::default();
        // A task of its own: a database that does not answer holds up no gap. Never more than one;
        // whatever is doubted meanwhile is compared after it, at once.
        let mut comparing = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {
                    self.tidy();
                    doubts.all = true;
                }
                Some(heal) = inbox.recv() => match heal {
                    Heal::Held(lane) => self.close_gap_later(&db, lane),
                    Heal::Doubt(workspaces) => doubts.some.extend(workspaces),
                },
                Some(_) = comparing.join_next() => {}
            }
            if comparing.is_empty()
                && let Some(lanes) = doubts.take(&self)
            {
                let (whole, db) = (self.clone(), db.clone());
                comparing.spawn(async move { whole.compare(&db, lanes).await });
            }
        }
    }

    fn close_gap_later(self: &Arc<Self>, db: &Db, lane: Arc<Lane>) {
        let (lanes, db) = (self.clone(), db.clone());
        tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            if lane.holds() {
                let after = lane.position();
                tracing::info!(workspace = %lane.workspace, after, "reading a gap from the log");
                let read = lanes.read_up(&db, &lane, u64::MAX).await;
                // What is held was committed after what is missing, so the log has it or never will.
                if read && lane.holds() && lane.position() == after {
                    tracing::error!(workspace = %lane.workspace, after, "the log has a hole; clients refetch");
                    lanes.lose(&lane);
                }
            }
            lane.end_healing();
            // Something may have been held since the last look.
            lanes.pass(&lane, Vec::new());
        });
    }

    /// Reads the log from the lane's position until it is at `upto`, or at the end. False if it
    /// could not be read.
    async fn read_up(&self, db: &Db, lane: &Arc<Lane>, upto: u64) -> bool {
        loop {
            let Some(after) = lane.live_position().filter(|position| *position < upto) else { return true };
            let workspace = lane.workspace;
            let read =
                db.read(async move |db| log::frames(db, workspace, after, after.saturating_add(GAP_PAGE)).await).await;
            match read {
                Ok(frames) if frames.is_empty() => {
                    // The log is pruned far behind a living lane's position, so this is not reached
                    // unless rows were removed by hand.
                    if upto != u64::MAX {
                        tracing::error!(%workspace, after, upto, "the log has a hole; clients refetch");
                        self.lose(lane);
                    }
                    return true;
                }
                Ok(frames) => {
                    let whole = frames[0].seq == after + 1;
                    lane.hand_over(frames);
                    if !whole && lane.position() == after {
                        tracing::error!(%workspace, after, "the log has a hole; clients refetch");
                        self.lose(lane);
                        return true;
                    }
                }
                Err(error) => {
                    // The next comparison tries again.
                    tracing::warn!(%workspace, %error, "reading a gap");
                    return false;
                }
            }
        }
    }

    /// Compares positions with the counters, in one statement.
    async fn compare(self: &Arc<Self>, db: &Db, lanes: Vec<Arc<Lane>>) {
        let noted: HashMap<WorkspaceId, (u64, Arc<Lane>)> =
            lanes.into_iter().filter_map(|lane| Some((lane.workspace, (lane.live_position()?, lane)))).collect();
        let ids: Vec<WorkspaceId> = noted.keys().copied().collect();
        let (epoch, counters) = match db.read(async move |db| counters(db, &ids).await).await {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%error, "comparing lanes with the counters");
                return;
            }
        };
        if *epoch != *self.epoch() {
            tracing::warn!(%epoch, "the event epoch has changed; clients refetch");
            self.set_epoch(&epoch);
            self.lose_all();
            return;
        }
        for (workspace, (position, lane)) in &noted {
            let counter = counters.get(workspace).copied().unwrap_or(0);
            if counter < *position {
                tracing::error!(%workspace, counter, position, "a counter has gone back: the database was restored");
                match epoch::replace(db, &epoch).await {
                    Ok(fresh) => {
                        self.set_epoch(&fresh);
                        self.lose_all();
                    }
                    // The lanes keep the position that proves it; the next comparison tries again.
                    Err(error) => tracing::error!(%error, "making a new epoch"),
                }
                return;
            }
            if counter > lane.position() && lane.begin_healing() {
                let (lanes, db, lane) = (self.clone(), db.clone(), lane.clone());
                tokio::spawn(async move {
                    // What was just committed is usually on its way.
                    tokio::time::sleep(PATIENCE).await;
                    lanes.read_up(&db, &lane, counter).await;
                    lane.end_healing();
                    lanes.pass(&lane, Vec::new());
                });
            }
        }
    }
}

async fn counters(db: &mut Session, workspaces: &[WorkspaceId]) -> Result<(Arc<str>, HashMap<WorkspaceId, u64>)> {
    let rows: Vec<(String, Option<WorkspaceId>, Option<i64>)> = match db.arm() {
        Arm::Postgres(c) => {
            let rows = sqlx::query_as(
                "SELECT m.value, c.workspace_id, c.seq
                 FROM hub_meta m LEFT JOIN event_counter c ON c.workspace_id = ANY($1)
                 WHERE m.key = 'epoch'",
            )
            .bind(workspaces)
            .fetch_all(c)
            .await;
            db.note(rows)?
        }
        Arm::Sqlite(c) => {
            let rows = sqlx::query_as(
                "SELECT m.value, c.workspace_id, c.seq
                 FROM hub_meta m LEFT JOIN event_counter c
                     ON c.workspace_id IN (SELECT unhex(value) FROM json_each($1))
                 WHERE m.key = 'epoch'",
            )
            .bind(lists::ids(workspaces.iter().copied()))
            .fetch_all(c)
            .await;
            db.note(rows)?
        }
    };
    let epoch = rows.first().map(|(epoch, ..)| epoch.as_str()).unwrap_or_default().into();
    let counters = rows.into_iter().filter_map(|(_, workspace, seq)| Some((workspace?, seq? as u64))).collect();
    Ok((epoch, counters))
}
