//! Every open socket of this process, and which daemon sockets drive which runtime.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::Peer;
use crate::ids::RuntimeId;

/// The sockets of this process.
#[derive(Default)]
pub struct Registry {
    next: AtomicU64,
    peers: Mutex<HashMap<u64, Arc<Peer>>>,
    runtimes: Mutex<HashMap<RuntimeId, Drivers>>,
}

/// The sockets that drive one runtime, by their entries.
type Drivers = Vec<(u64, Arc<Peer>)>;

/// A socket's entry; ends with it.
pub struct Entry {
    registry: Arc<Registry>,
    id: u64,
    peer: Arc<Peer>,
    runtimes: Vec<RuntimeId>,
}

impl Registry {
    /// Adds a socket that drives `runtimes` (none for a browser's).
    pub fn enter(self: &Arc<Self>, runtimes: Vec<RuntimeId>) -> Entry {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let peer = Arc::new(Peer::default());
        self.peers.lock().insert(id, peer.clone());
        let mut index = self.runtimes.lock();
        for runtime in &runtimes {
            index.entry(*runtime).or_default().push((id, peer.clone()));
        }
        drop(index);
        Entry { registry: self.clone(), id, peer, runtimes }
    }

    /// Every open socket.
    pub fn all(&self) -> Vec<Arc<Peer>> {
        self.peers.lock().values().cloned().collect()
    }

    /// How many sockets are open.
    pub fn len(&self) -> usize {
        self.peers.lock().len()
    }

    /// Whether a daemon socket of this process drives the runtime.
    pub fn drives(&self, runtime: RuntimeId) -> bool {
        self.runtimes.lock().contains_key(&runtime)
    }

    /// Sends a ready frame to every daemon socket that drives the runtime.
    pub fn send_to_runtime(&self, runtime: RuntimeId, frame: &Bytes) {
        let peers: Vec<_> = self.runtimes.lock().get(&runtime).into_iter().flatten().cloned().collect();
        for (_, peer) in peers {
            peer.send(frame.clone());
        }
    }
}

impl Entry {
    /// The socket's mailbox.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.peers.lock().remove(&self.id);
        let mut index = self.registry.runtimes.lock();
        for runtime in &self.runtimes {
            if let Some(sockets) = index.get_mut(runtime) {
                sockets.retain(|(id, _)| *id != self.id);
                if sockets.is_empty() {
                    index.remove(runtime);
                }
            }
        }
    }
}
