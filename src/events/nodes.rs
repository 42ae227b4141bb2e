//! What the nodes of one hub tell each other beside events: which cached facts no longer hold, which
//! sockets lose what they rest on, which frame is for a socket that may be anywhere.
//!
//! Everything told here is only a message: it may be lost with the relay. Whatever depends on one
//! is corrected elsewhere (the flush, the touch's answer, the periodic check), later.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::ids::{RuntimeId, RuntimeProfileId, TaskId, UserId, WorkspaceId};

/// A message to every node, this one included.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case")]
pub enum Control {
    /// What is cached about these runtimes no longer holds.
    RuntimesChanged {
        /// Which.
        ids: Vec<RuntimeId>,
    },
    /// The rows of these runtimes are gone; their daemons are told.
    RuntimesGone {
        /// Which.
        ids: Vec<RuntimeId>,
    },
    /// Nobody drives these runtimes any more until they are registered anew.
    RuntimesTaken {
        /// Which.
        ids: Vec<RuntimeId>,
    },
    /// A workspace's runtime profiles changed; its daemons fetch them anew.
    ProfilesChanged {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        profile: RuntimeProfileId,
        /// Its runtimes that went with it; whoever drove them is told as well.
        #[serde(default)]
        gone: Vec<RuntimeId>,
    },
    /// There is a task to claim; whoever drives the runtime is woken.
    TaskAvailable {
        /// Whose daemon.
        runtime: RuntimeId,
        /// Which.
        task: TaskId,
    },
    /// A task that a daemon has is over; whoever drives the runtime is told.
    TaskEnded {
        /// Whose daemon.
        runtime: RuntimeId,
        /// Which.
        task: TaskId,
        /// Why, in one word.
        reason: String,
    },
    /// A token of any kind is worth nothing any more.
    TokenEnded {
        /// Its row.
        token: Uuid,
    },
    /// Tokens on which no socket rests ended, or tokens changed: what is believed of them no longer holds.
    TokensChanged {
        /// Their rows.
        tokens: Vec<Uuid>,
    },
    /// A session is over.
    SessionEnded {
        /// Its row.
        session: Uuid,
    },
    /// Somebody's membership began, changed or ended.
    Membership {
        /// Where.
        workspace: WorkspaceId,
        /// Whose.
        user: UserId,
    },
    /// A workspace is gone, and every membership in it.
    WorkspaceGone {
        /// Which.
        workspace: WorkspaceId,
    },
    /// A frame for one person's browsers, but not for those that follow this workspace.
    Hint {
        /// Whose browsers.
        user: UserId,
        /// They have it as an event.
        but_not_in: WorkspaceId,
        /// The frame's JSON.
        frame: String,
    },
    /// Hints may not have reached this node's browsers: they ask for what hints are about.
    HintsLost,
}

type Ear = Box<dyn Fn(&Control) + Send + Sync>;

/// The way to all nodes.
#[derive(Default)]
pub struct Nodes {
    ear: OnceLock<Ear>,
    relay: OnceLock<mpsc::Sender<Control>>,
    /// For tests of what happens when messages are lost.
    deaf: std::sync::atomic::AtomicBool,
}

impl Nodes {
    /// Nobody listens yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Who acts on messages at this node. The first one stays.
    pub fn listen(&self, ear: impl Fn(&Control) + Send + Sync + 'static) {
        let _ = self.ear.set(Box::new(ear));
    }

    pub(super) fn connect(&self, relay: mpsc::Sender<Control>) {
        let _ = self.relay.set(relay);
    }

    /// Tells every node; this one at once. Does not block.
    pub fn tell(&self, message: Control) {
        self.hear(&message);
        if let Some(relay) = self.relay.get()
            && relay.try_send(message).is_err()
        {
            tracing::warn!("the relay is behind; a control message reaches this node only");
        }
    }

    /// Nothing is heard from others any more.
    #[cfg(feature = "test-hooks")]
    pub fn deafen(&self) {
        self.deaf.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// Acts on another node's message, or on what the relay has to say itself.
    pub(super) fn hear_other(&self, message: &Control) {
        if !self.deaf.load(std::sync::atomic::Ordering::SeqCst) {
            self.hear(message);
        }
    }

    fn hear(&self, message: &Control) {
        if let Some(ear) = self.ear.get() {
            ear(message);
        }
    }
}
