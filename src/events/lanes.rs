//! The lanes of this node, and what keeps them whole: the gap reader and the comparison with the
//! counters. A lost relay message, a commit whose answer was lost and an event written by another
//! process all end here: they delay, and never lose.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    Page, Settings, epoch,
    frame::encode,
    lane::{Lane, Need},
    log,
    relay::{EphemeralFrame, Relay},
};
use crate::{
    db::{Batch, Db, lists, on},
    error::{Error, Result},
    hub::{Fleeting, Frame, Room, wire},
    ids::WorkspaceId,
};

/// How long something ahead is held before the gap is read. Without faults the longest wait seen is
/// 5 ms.
const PATIENCE: Duration = Duration::from_millis(50);
/// Between two comparisons with the counters.
const COMPARE: Duration = Duration::from_secs(2);
/// Events read at once when closing a gap.
const GAP_PAGE: u64 = 500;
/// Sockets that may be paging at once. Each is written to as fast as it reads, so more of them only
/// fill the kernel's buffers.
const PAGERS: usize = 32;
/// How long a turn lasts at most.
const TURN: Duration = Duration::from_secs(1);

/// Every lane of this node.
pub struct Lanes {
    settings: Settings,
    map: Mutex<HashMap<WorkspaceId, Arc<Lane>>>,
    epoch: RwLock<Arc<str>>,
    heal: mpsc::UnboundedSender<Heal>,
    inbox: Mutex<Option<mpsc::UnboundedReceiver<Heal>>>,
    pagers: Arc<Semaphore>,
    comparing: tokio::sync::Mutex<()>,
    relay: OnceLock<Arc<Relay>>,
}

/// One of the turns at paging. Over when it is dropped, and after a while anyway: a peer that reads
/// slowly must not keep others from catching up.
pub struct Turn(tokio::task::AbortHandle);

impl Turn {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        let lapse = tokio::spawn(async move {
            tokio::time::sleep(TURN).await;
            drop(permit);
        });
        Self(lapse.abort_handle())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum Heal {
    /// Something is held; read the gap unless it closes by itself.
    Held(Arc<Lane>),
    /// Compare these with their counters now.
    Doubt(Vec<WorkspaceId>),
}

impl Lanes {
    /// No lanes yet.
    pub fn new(settings: Settings) -> Arc<Self> {
        let (heal, inbox) = mpsc::unbounded_channel();
        Arc::new(Self {
            settings,
            map: Mutex::default(),
            epoch: RwLock::new("".into()),
            heal,
            inbox: Mutex::new(Some(inbox)),
            pagers: Arc::new(Semaphore::new(PAGERS)),
            comparing: tokio::sync::Mutex::default(),
            relay: OnceLock::new(),
        })
    }

    /// The epoch as last read.
    pub fn epoch(&self) -> Arc<str> {
        self.epoch.read().clone()
    }

    /// Takes note of the epoch in force.
    pub fn set_epoch(&self, epoch: &str) {
        *self.epoch.write() = epoch.into();
    }

    pub(super) fn connect(&self, relay: Arc<Relay>) {
        let _ = self.relay.set(relay);
    }

    /// Committed events, straight from their transaction: for the followers here and elsewhere.
    pub(super) fn hand_over(&self, batch: Batch) {
        if let Some(relay) = self.relay.get() {
            relay.events(&batch);
        }
        self.hand_over_here(batch);
    }

    /// Shows a frame that nobody will miss to the followers of a workspace, here and elsewhere.
    pub fn show(&self, workspace: WorkspaceId, frame: &EphemeralFrame) {
        if let Some(relay) = self.relay.get() {
            relay.ephemeral(workspace, frame);
        }
        self.show_here(workspace, frame);
    }

    /// Shows a frame to the followers here only.
    pub fn show_to_own(&self, workspace: WorkspaceId, frame: &EphemeralFrame) {
        self.show_here(workspace, frame);
    }

    pub(super) fn show_here(&self, workspace: WorkspaceId, frame: &EphemeralFrame) {
        let lane = self.map.lock().get(&workspace).cloned();
        if let Some(lane) = lane {
            lane.show(Fleeting { wire: wire::text(&frame.json), fleet: frame.fleet });
        }
    }

    /// Compares every lane with its counter now.
    pub(super) fn compare_all(&self) {
        let all = self.map.lock().keys().copied().collect::<Vec<_>>();
        self.doubt(&all);
    }

    /// Committed events, for the followers here.
    pub(super) fn hand_over_here(&self, batch: Batch) {
        let Some(lane) = self.map.lock().get(&batch.workspace).cloned() else {
            return;
        };
        let frames = batch.events.iter().zip(batch.first..).map(|(event, seq)| encode(event, seq)).collect();
        self.pass(&lane, frames);
    }

    pub(super) fn doubt(&self, workspaces: &[WorkspaceId]) {
        let _ = self.heal.send(Heal::Doubt(workspaces.to_vec()));
    }

    /// The workspace's lane, started if it is not.
    pub async fn follow(&self, db: &Db, workspace: WorkspaceId) -> Result<(Arc<Lane>, Arc<Room>)> {
        let lane = self
            .map
            .lock()
            .entry(workspace)
            .or_insert_with(|| Arc::new(Lane::new(workspace, self.settings.pace)))
            .clone();
        let room = lane
            .room
            .get_or_try_init(async || {
                if let Some(relay) = self.relay.get() {
                    relay.follow(workspace).await;
                }
                // The lane is in the map by now, so what commits after this read is handed to it.
                let position = counter(db, workspace).await?;
                Ok::<_, Error>(lane.start(position))
            })
            .await?
            .clone();
        self.pass(&lane, Vec::new());
        Ok((lane, room))
    }

    /// A page of the log for a socket that has everything up to `position`, and its turn to write it.
    pub async fn page(&self, db: &Db, lane: &Lane, position: u64) -> Result<(Turn, Arc<Page>)> {
        let permit = self.pagers.clone().acquire_owned().await.map_err(Error::internal)?;
        let page = lane.pages.after(db, lane.workspace, position).await?;
        Ok((Turn::new(permit), page))
    }

    /// Reads gaps and compares positions until cancelled.
    pub async fn keep_whole(self: Arc<Self>, db: Db, stop: CancellationToken) {
        let Some(mut inbox) = self.inbox.lock().take() else { return };
        let mut tick = tokio::time::interval(COMPARE);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {
                    self.tidy();
                    self.compare_soon(&db, None);
                }
                Some(heal) = inbox.recv() => match heal {
                    Heal::Held(lane) => self.close_gap_later(&db, lane),
                    Heal::Doubt(workspaces) => self.compare_soon(&db, Some(workspaces)),
                },
            }
        }
    }

    fn pass(&self, lane: &Arc<Lane>, frames: Vec<Frame>) {
        if lane.hand_over(frames) == Need::Patience && lane.begin_healing() {
            let _ = self.heal.send(Heal::Held(lane.clone()));
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
            let after = lane.position();
            if after >= upto {
                return true;
            }
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

    /// Compares in a task of its own: a database that does not answer holds up no gap. One at a
    /// time; the regular one is left out while another is under way.
    fn compare_soon(self: &Arc<Self>, db: &Db, only: Option<Vec<WorkspaceId>>) {
        let (lanes, db) = (self.clone(), db.clone());
        tokio::spawn(async move {
            let _turn = match (lanes.comparing.try_lock(), &only) {
                (Ok(turn), _) => turn,
                (Err(_), None) => return,
                (Err(_), Some(_)) => lanes.comparing.lock().await,
            };
            lanes.compare(&db, only.as_deref()).await;
        });
    }

    /// Compares positions with the counters, in one statement.
    async fn compare(self: &Arc<Self>, db: &Db, only: Option<&[WorkspaceId]>) {
        let lanes: Vec<Arc<Lane>> = {
            let map = self.map.lock();
            match only {
                Some(workspaces) => workspaces.iter().filter_map(|id| map.get(id).cloned()).collect(),
                None => map.values().cloned().collect(),
            }
        };
        let noted: HashMap<WorkspaceId, (u64, Arc<Lane>)> = lanes
            .into_iter()
            .filter(|lane| lane.room.get().is_some())
            .map(|lane| (lane.workspace, (lane.position(), lane)))
            .collect();
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

    /// Gives every lane up that has a position. One that has none yet is reading it.
    fn lose_all(&self) {
        let lanes: Vec<_> = self.map.lock().values().filter(|lane| lane.room.get().is_some()).cloned().collect();
        lanes.iter().for_each(|lane| self.lose(lane));
    }

    /// Gives a lane up: its sockets are told to refetch, and the next follower starts a new one.
    fn lose(&self, lane: &Arc<Lane>) {
        let mut map = self.map.lock();
        if map.get(&lane.workspace).is_some_and(|current| Arc::ptr_eq(current, lane)) {
            map.remove(&lane.workspace);
            self.leave(lane.workspace);
        }
        drop(map);
        if let Some(room) = lane.room.get() {
            room.lose();
        }
    }

    /// Drops lanes without followers and pages without readers.
    fn tidy(&self) {
        let now = Instant::now();
        self.map.lock().retain(|workspace, lane| {
            lane.pages.tidy(now);
            // Followers take their clone under this lock, so nobody holds one unseen.
            let followed = Arc::strong_count(lane) > 1;
            if !followed {
                self.leave(*workspace);
            }
            followed
        });
    }

    /// The relay need not listen for the workspace any more. Called under the map's lock, so that
    /// whoever comes next asks it to listen again afterwards.
    fn leave(&self, workspace: WorkspaceId) {
        if let Some(relay) = self.relay.get() {
            relay.leave(workspace);
        }
    }
}

async fn counter(db: &Db, workspace: WorkspaceId) -> Result<u64> {
    let seq: Option<i64> = db
        .read(async move |db| {
            on!(db, |c| sqlx::query_scalar("SELECT seq FROM event_counter WHERE workspace_id = $1")
                .bind(workspace)
                .fetch_optional(c))
        })
        .await?;
    Ok(seq.unwrap_or(0) as u64)
}

async fn counters(
    db: &mut crate::db::Session,
    workspaces: &[WorkspaceId],
) -> Result<(Arc<str>, HashMap<WorkspaceId, u64>)> {
    let rows: Vec<(String, Option<WorkspaceId>, Option<i64>)> = match db.arm() {
        crate::db::Arm::Postgres(c) => {
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
        crate::db::Arm::Sqlite(c) => {
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
