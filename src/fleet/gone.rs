//! What follows once the rows of runtimes are gone.

use std::sync::Arc;

use super::{Fleet, runtimes::Row};
use crate::{
    db::Tx,
    events::Control,
    ids::{RuntimeId, UserId},
};

/// A runtime whose row is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// Which.
    pub id: RuntimeId,
    /// Whose daemon is told.
    pub owner: Option<UserId>,
}

impl From<&Row> for Gone {
    fn from(row: &Row) -> Self {
        Self { id: row.id, owner: row.owner_id }
    }
}

impl Fleet {
    /// Once the transaction is committed, their daemons are told, and that they were is remembered; and
    /// their leases mean nothing any more.
    pub fn bid_farewell(self: &Arc<Self>, tx: &mut Tx, gone: Vec<Gone>) {
        if gone.is_empty() {
            return;
        }
        let fleet = self.clone();
        tx.after_commit(move || {
            let ids: Vec<RuntimeId> = gone.iter().map(|gone| gone.id).collect();
            fleet.nodes.tell(Control::RuntimesGone { ids: ids.clone() });
            gone.iter().filter_map(|gone| gone.owner).for_each(|owner| fleet.note_told_gone(owner));
            tokio::spawn(async move { fleet.liveness.forget(&ids).await });
        });
    }
}
