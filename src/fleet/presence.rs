//! How runtimes are reachable, for browsers: changes, at most once a second per workspace, and a
//! full picture after somebody began to follow. Not part of the sequence: who misses one is given
//! the next, or the picture.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Fleet,
    lease::{Lease, State},
    runtimes::{self, ONLINE},
};
use crate::{
    error::Result,
    events::EphemeralFrame,
    ids::{RuntimeId, WorkspaceId},
    protocol::runtime::Presence,
    time::Timestamp,
};

/// Between two frames of a workspace.
const PACE: Duration = Duration::from_secs(1);

/// From the row's status and the lease.
pub(super) fn presence_of(status: &str, lease: Option<Lease>) -> Presence {
    match lease {
        _ if status != ONLINE => Presence::Offline,
        Some(Lease { state: State::Alive, connection: 1.., .. }) => Presence::Socket,
        Some(Lease { state: State::Ended, .. }) => Presence::Reconnecting,
        _ => Presence::Http,
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Seen {
    id: RuntimeId,
    presence: Presence,
    last_seen_at: Option<Timestamp>,
}

/// What is to be shown with the next turn.
#[derive(Default)]
pub(super) struct Board {
    changes: Mutex<HashMap<WorkspaceId, BTreeMap<RuntimeId, Seen>>>,
    beats: Mutex<HashMap<WorkspaceId, BTreeSet<RuntimeId>>>,
    pictures: Mutex<HashSet<WorkspaceId>>,
}

impl Board {
    pub(super) fn changed(&self, workspace: WorkspaceId, id: RuntimeId, presence: Presence, at: Option<Timestamp>) {
        let seen = Seen { id, presence, last_seen_at: at };
        self.changes.lock().entry(workspace).or_default().insert(id, seen);
    }

    pub(super) fn beat(&self, workspace: WorkspaceId, id: RuntimeId) {
        self.beats.lock().entry(workspace).or_default().insert(id);
    }
}

impl Fleet {
    /// Somebody began to follow a workspace here: they are shown a full picture with the next turn.
    pub fn show_picture(&self, workspace: WorkspaceId) {
        self.board.pictures.lock().insert(workspace);
    }

    /// Shows what there is, turn after turn, until cancelled.
    pub async fn keep_showing(self: Arc<Self>, stop: CancellationToken) {
        let mut turn = tokio::time::interval(PACE);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Pictures are read from the stores, which may take their time; changes do not wait for it.
        let mut painting = JoinSet::new();
        while stop.run_until_cancelled(turn.tick()).await.is_some() {
            let changes = std::mem::take(&mut *self.board.changes.lock());
            for (workspace, runtimes) in changes {
                let runtimes: Vec<Seen> = runtimes.into_values().collect();
                self.lanes.show(workspace, &self.presence_frame(&runtimes));
            }
            let beats = std::mem::take(&mut *self.board.beats.lock());
            let now = self.db.clock().now();
            for (workspace, ids) in beats {
                let runtimes: Vec<_> = ids.into_iter().map(|id| json!({ "id": id, "last_seen_at": now })).collect();
                let frame = json!({ "type": "runtime:beats", "payload": { "runtimes": runtimes } });
                self.lanes.show(workspace, &EphemeralFrame { json: frame.to_string(), fleet: true });
            }
            while painting.try_join_next().is_some() {}
            if painting.is_empty() && !self.board.pictures.lock().is_empty() {
                painting.spawn(self.clone().paint());
            }
        }
    }

    /// Shows the pictures that are wanted. One that cannot be painted now is wanted still.
    async fn paint(self: Arc<Self>) {
        let pictures = std::mem::take(&mut *self.board.pictures.lock());
        for workspace in pictures {
            match self.picture(workspace).await {
                Ok(frame) => self.lanes.show_to_own(workspace, &frame),
                Err(error) => {
                    tracing::debug!(%workspace, %error, "a picture of the fleet");
                    self.show_picture(workspace);
                }
            }
        }
    }

    async fn picture(&self, workspace: WorkspaceId) -> Result<EphemeralFrame> {
        let rows = self.db.read(async move |db| runtimes::of_workspace(db, workspace, None).await).await?;
        let ids: Vec<RuntimeId> = rows.iter().map(|row| row.id).collect();
        let leases = self.leases(&ids).await;
        let seen: Vec<Seen> = rows
            .iter()
            .zip(leases)
            .map(|(row, lease)| Seen {
                id: row.id,
                presence: presence_of(&row.status, lease),
                last_seen_at: row.last_seen_at,
            })
            .collect();
        Ok(self.presence_frame(&seen))
    }

    /// Leases for a picture; without the store everybody is what the row says.
    pub(super) async fn leases(&self, ids: &[RuntimeId]) -> Vec<Option<Lease>> {
        match self.liveness.read(ids).await {
            Some(picture) => picture.0,
            None => vec![None; ids.len()],
        }
    }

    fn presence_frame(&self, runtimes: &[Seen]) -> EphemeralFrame {
        let payload = json!({ "node": &*self.node_name, "runtimes": runtimes });
        let frame = json!({ "type": "runtime:presence", "payload": payload });
        EphemeralFrame { json: frame.to_string(), fleet: false }
    }
}
