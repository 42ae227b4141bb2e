//! Every open socket of this process: whose it is, what it rests on, and which daemon sockets drive
//! which runtime.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use uuid::Uuid;

use super::{Close, Peer};
use crate::ids::{RuntimeId, UserId, WorkspaceId};

/// The sockets of this process.
#[derive(Default)]
pub struct Registry {
    next: AtomicU64,
    sockets: Mutex<HashMap<u64, Arc<Socket>>>,
    runtimes: Mutex<HashMap<RuntimeId, Vec<Arc<Socket>>>>,
    people: Mutex<HashMap<UserId, usize>>,
    revocations: AtomicU64,
}

/// Whose socket it is, and what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Whose.
    pub user: UserId,
    /// The token's row.
    pub token: Uuid,
    /// The session's row; nil if there is none.
    pub session: Uuid,
}

struct Socket {
    id: u64,
    peer: Peer,
    /// Unknown until it has authenticated.
    holder: Mutex<Option<Holder>>,
    /// Which workspace a browser follows.
    follows: Option<WorkspaceId>,
    /// What a daemon drives.
    drives: Mutex<HashSet<RuntimeId>>,
}

/// A socket's entry; ends with it.
pub struct Entry {
    registry: Arc<Registry>,
    socket: Arc<Socket>,
    counted: Option<UserId>,
}

impl Registry {
    /// Adds a browser's socket, before it has authenticated.
    pub fn enter(self: &Arc<Self>, follows: WorkspaceId) -> Entry {
        self.add(None, Some(follows), HashSet::new())
    }

    /// Adds a daemon's socket.
    pub fn enter_daemon(self: &Arc<Self>, holder: Holder, runtimes: &[RuntimeId]) -> Entry {
        let mut entry = self.add(Some(holder), None, runtimes.iter().copied().collect());
        *self.people.lock().entry(holder.user).or_default() += 1;
        entry.counted = Some(holder.user);
        let mut index = self.runtimes.lock();
        for runtime in runtimes {
            index.entry(*runtime).or_default().push(entry.socket.clone());
        }
        drop(index);
        entry
    }

    fn add(
        self: &Arc<Self>,
        holder: Option<Holder>,
        follows: Option<WorkspaceId>,
        drives: HashSet<RuntimeId>,
    ) -> Entry {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let socket = Arc::new(Socket {
            id,
            peer: Peer::default(),
            holder: Mutex::new(holder),
            follows,
            drives: Mutex::new(drives),
        });
        self.sockets.lock().insert(id, socket.clone());
        Entry { registry: self.clone(), socket, counted: None }
    }

    /// The open sockets.
    pub fn all(&self) -> Vec<Mailbox> {
        self.sockets.lock().values().cloned().map(Mailbox).collect()
    }

    /// How many sockets are open.
    pub fn len(&self) -> usize {
        self.sockets.lock().len()
    }

    /// Sends a ready frame to every daemon socket that drives the runtime.
    pub fn send_to_runtime(&self, runtime: RuntimeId, frame: &Bytes) {
        let sockets: Vec<_> = self.runtimes.lock().get(&runtime).into_iter().flatten().cloned().collect();
        for socket in sockets {
            socket.peer.send(frame.clone());
        }
    }

    /// Sends a ready frame to every browser of a person that follows another workspace.
    pub fn send_to_user(&self, user: UserId, frame: &Bytes, but_not_in: WorkspaceId) {
        self.each(|socket| {
            let theirs = socket.holder.lock().is_some_and(|holder| holder.user == user);
            if theirs && socket.follows.is_some_and(|workspace| workspace != but_not_in) {
                socket.peer.send(frame.clone());
            }
        });
    }

    /// Sends a ready frame to every browser that has authenticated.
    pub fn send_to_browsers(&self, frame: &Bytes) {
        self.each(|socket| {
            if socket.follows.is_some() && socket.holder.lock().is_some() {
                socket.peer.send(frame.clone());
            }
        });
    }

    /// Whether a person has so many sockets here already.
    pub fn has_as_many(&self, user: UserId, most: usize) -> bool {
        self.people.lock().get(&user).is_some_and(|count| *count >= most)
    }

    /// Counts the calls that close sockets for what they rest on. Who decides about a socket before
    /// it can be found here compares: if the count has changed meanwhile, the decision may be stale.
    pub fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::SeqCst)
    }

    /// Closes every socket that rests on a token.
    pub fn close_token(&self, token: Uuid, close: &Close) {
        self.close_where(|holder| holder.token == token, close);
    }

    /// What every open socket that has authenticated rests on, and what it follows.
    pub fn holders(&self) -> Vec<(Holder, Option<WorkspaceId>)> {
        let sockets = self.sockets.lock();
        sockets.values().filter_map(|socket| Some(((*socket.holder.lock())?, socket.follows))).collect()
    }

    /// Which runtimes the open daemon sockets drive, and for whom.
    pub fn driven(&self) -> Vec<(UserId, Vec<RuntimeId>)> {
        let sockets = self.sockets.lock();
        let daemons = sockets.values().filter_map(|socket| {
            let runtimes: Vec<RuntimeId> = socket.drives.lock().iter().copied().collect();
            Some(((*socket.holder.lock())?.user, runtimes)).filter(|(_, runtimes)| !runtimes.is_empty())
        });
        daemons.collect()
    }

    /// The open daemon sockets, and which runtimes each drives.
    pub fn daemons(&self) -> Vec<(Mailbox, Vec<RuntimeId>)> {
        let all = self.all().into_iter();
        all.filter_map(|mailbox| {
            let driven: Vec<RuntimeId> = mailbox.0.drives.lock().iter().copied().collect();
            Some((mailbox, driven)).filter(|(_, driven)| !driven.is_empty())
        })
        .collect()
    }

    /// Closes a person's browsers that follow a workspace.
    pub fn close_follower(&self, workspace: WorkspaceId, user: UserId, close: &Close) {
        self.each(|socket| {
            let theirs = socket.holder.lock().is_some_and(|holder| holder.user == user);
            if theirs && socket.follows == Some(workspace) {
                socket.peer.close(close.clone());
            }
        });
    }

    /// Closes every socket that rests on a session.
    pub fn close_session(&self, session: Uuid, close: &Close) {
        self.close_where(|holder| holder.session == session, close);
    }

    fn close_where(&self, rests: impl Fn(&Holder) -> bool, close: &Close) {
        self.revocations.fetch_add(1, Ordering::SeqCst);
        self.each(|socket| {
            if socket.holder.lock().as_ref().is_some_and(&rests) {
                socket.peer.close(close.clone());
            }
        });
    }

    /// Takes runtimes away from the sockets that drive them; one that is left without any is closed.
    pub fn take_runtimes(&self, runtimes: &[RuntimeId], close: &Close) {
        self.revocations.fetch_add(1, Ordering::SeqCst);
        let mut index = self.runtimes.lock();
        let sockets: Vec<_> = runtimes.iter().flat_map(|id| index.remove(id).unwrap_or_default()).collect();
        drop(index);
        for socket in sockets {
            let mut drives = socket.drives.lock();
            drives.retain(|id| !runtimes.contains(id));
            if drives.is_empty() {
                socket.peer.close(close.clone());
            }
        }
    }

    /// Takes one runtime away from one socket.
    pub fn release(&self, mailbox: &Mailbox, runtime: RuntimeId) {
        mailbox.0.drives.lock().remove(&runtime);
        self.forget(mailbox.0.id, [runtime]);
    }

    fn forget(&self, socket: u64, runtimes: impl IntoIterator<Item = RuntimeId>) {
        let mut index = self.runtimes.lock();
        for runtime in runtimes {
            if let Some(sockets) = index.get_mut(&runtime) {
                sockets.retain(|other| other.id != socket);
                if sockets.is_empty() {
                    index.remove(&runtime);
                }
            }
        }
    }

    fn each(&self, visit: impl Fn(&Socket)) {
        let sockets: Vec<_> = self.sockets.lock().values().cloned().collect();
        sockets.iter().for_each(|socket| visit(socket));
    }
}

impl Entry {
    /// The socket's number, never 0.
    pub fn id(&self) -> u64 {
        self.socket.id
    }

    /// The runtimes that it drives now.
    pub fn runtimes(&self) -> Vec<RuntimeId> {
        self.socket.drives.lock().iter().copied().collect()
    }

    /// The socket's mailbox.
    pub fn peer(&self) -> &Peer {
        &self.socket.peer
    }

    /// A way to answer this socket from elsewhere.
    pub fn mailbox(&self) -> Mailbox {
        Mailbox(self.socket.clone())
    }

    /// Notes whose browser this is. False, and nothing is noted, if they have `most` already.
    pub fn hold(&mut self, holder: Holder, most: usize) -> bool {
        if self.counted.is_none() {
            let mut people = self.registry.people.lock();
            let count = people.entry(holder.user).or_default();
            if *count >= most {
                return false;
            }
            *count += 1;
            self.counted = Some(holder.user);
        }
        *self.socket.holder.lock() = Some(holder);
        true
    }

    /// Whether the socket drives a runtime.
    pub fn drives(&self, runtime: RuntimeId) -> bool {
        self.socket.drives.lock().contains(&runtime)
    }
}

/// A way to answer a socket; it may be gone by then.
#[derive(Clone)]
pub struct Mailbox(Arc<Socket>);

impl Mailbox {
    /// The mailbox itself.
    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// See [`Peer::send`].
    pub fn send(&self, frame: Bytes) -> bool {
        self.0.peer.send(frame)
    }

    /// See [`Peer::close`].
    pub fn close(&self, close: Close) {
        self.0.peer.close(close);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.sockets.lock().remove(&self.socket.id);
        if let Some(user) = self.counted {
            let mut people = self.registry.people.lock();
            if let Some(count) = people.get_mut(&user) {
                *count -= 1;
                if *count == 0 {
                    people.remove(&user);
                }
            }
        }
        let drives = std::mem::take(&mut *self.socket.drives.lock());
        self.registry.forget(self.socket.id, drives);
    }
}
