//! The lanes of this node: what is handed to them, who follows them, and when they are given up. What
//! keeps them whole is in `mend.rs`.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{
    Page, Settings,
    frame::encode,
    lane::{Lane, Need},
    relay::{EphemeralFrame, Relay},
    talk::{Streams, Talk},
};
use crate::{
    db::{Batch, Db, on},
    error::{Error, Result},
    hub::{Fleeting, Frame, Room, wire},
    ids::WorkspaceId,
};

/// Sockets that may be paging at once. Each is written to as fast as it reads, so more of them only
/// fill the kernel's buffers.
const PAGERS: usize = 32;
/// How long a turn lasts at most.
const TURN: Duration = Duration::from_secs(1);

/// Every lane of this node.
pub struct Lanes {
    settings: Settings,
    map: Mutex<HashMap<WorkspaceId, Arc<Lane>>>,
    streams: Streams,
    epoch: RwLock<Arc<str>>,
    heal: mpsc::UnboundedSender<Heal>,
    inbox: Mutex<Option<mpsc::UnboundedReceiver<Heal>>>,
    pagers: Arc<Semaphore>,
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

/// Work for whoever keeps the lanes whole.
pub(super) enum Heal {
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
            streams: Streams::new(settings.pace),
            settings,
            map: Mutex::default(),
            epoch: RwLock::new("".into()),
            heal,
            inbox: Mutex::new(Some(inbox)),
            pagers: Arc::new(Semaphore::new(PAGERS)),
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

    pub(super) fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Hands what a task says to the other nodes.
    pub(super) fn pass_on(&self, workspace: WorkspaceId, talk: Talk) {
        if let Some(relay) = self.relay.get() {
            relay.talk(workspace, talk);
        }
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

    /// What is to be mended; for one taker.
    pub(super) fn inbox(&self) -> Option<mpsc::UnboundedReceiver<Heal>> {
        self.inbox.lock().take()
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
        let room = self.start(db, &lane).await?;
        self.pass(&lane, Vec::new());
        Ok((lane, room))
    }

    /// The lane's room; whoever comes first reads the position.
    async fn start(&self, db: &Db, lane: &Lane) -> Result<Arc<Room>> {
        if let Some(room) = lane.room() {
            return Ok(room);
        }
        let _turn = lane.starting.lock().await;
        if let Some(room) = lane.room() {
            return Ok(room);
        }
        if let Some(relay) = self.relay.get() {
            relay.follow(lane.workspace).await;
        }
        // The lane is in the map by now, so what commits after this read is handed to it.
        let position = counter(db, lane.workspace).await?;
        Ok(lane.start(position))
    }

    /// A page of the log for a socket that has everything up to `position`, and its turn to write it.
    pub async fn page(&self, db: &Db, lane: &Lane, position: u64) -> Result<(Turn, Arc<Page>)> {
        let permit = self.permit().await?;
        let page = lane.pages.after(db, lane.workspace, position).await?;
        Ok((Turn::new(permit), page))
    }

    /// A turn at paging something else than the log.
    pub async fn turn(&self) -> Result<Turn> {
        self.permit().await.map(Turn::new)
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        self.pagers.clone().acquire_owned().await.map_err(Error::internal)
    }

    pub(super) fn pass(&self, lane: &Arc<Lane>, frames: Vec<Frame>) {
        if lane.hand_over(frames) == Need::Patience && lane.begin_healing() {
            let _ = self.heal.send(Heal::Held(lane.clone()));
        }
    }

    /// Gives every lane up that has a position. One that has none yet is reading it.
    pub(super) fn lose_all(&self) {
        self.all().iter().for_each(|lane| self.lose(lane));
    }

    /// Gives a lane up: its sockets are told to refetch, and the next follower starts a new one.
    pub(super) fn lose(&self, lane: &Arc<Lane>) {
        if lane.live_position().is_none() {
            return;
        }
        let mut map = self.map.lock();
        if map.get(&lane.workspace).is_some_and(|current| Arc::ptr_eq(current, lane)) {
            map.remove(&lane.workspace);
            self.leave(lane.workspace);
        }
        drop(map);
        lane.lose();
    }

    /// Every lane.
    pub(super) fn all(&self) -> Vec<Arc<Lane>> {
        self.map.lock().values().cloned().collect()
    }

    /// The lanes of these workspaces, as far as there are any.
    pub(super) fn of(&self, workspaces: impl IntoIterator<Item = WorkspaceId>) -> Vec<Arc<Lane>> {
        let map = self.map.lock();
        workspaces.into_iter().filter_map(|workspace| map.get(&workspace).cloned()).collect()
    }

    /// Drops lanes and streams without followers, and pages without readers.
    pub(super) fn tidy(&self) {
        let now = Instant::now();
        self.streams.tidy();
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
