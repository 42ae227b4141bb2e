//! What tasks say while they run: too much, and too fast, to be part of a workspace's sequence. It
//! reaches those who listen to the task, who find what they missed in the store, and those who want
//! to hear everything as it comes. It is lost where nobody does.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::lane::wake;
use crate::{
    hub::{Spoken, Stream, Wake, wire},
    ids::{EventId, TaskId, WorkspaceId},
    protocol::event::{Audience, Event},
};

/// What one task says at once, between nodes and to sockets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Talk {
    /// Which task.
    pub task: TaskId,
    /// The frames' type.
    pub kind: Cow<'static, str>,
    /// The position of the first message; 0 for what has none and is nowhere stored.
    pub first: u64,
    /// A payload for each frame.
    pub payloads: Vec<Box<RawValue>>,
    /// Who may hear it, and what everybody else is told; none if everybody may.
    pub private: Option<(Audience, Box<RawValue>)>,
}

impl Talk {
    /// Bytes of what is said.
    pub(super) fn size(&self) -> usize {
        self.payloads.iter().map(|payload| payload.get().len()).sum()
    }

    /// The position of the last message, if these are in the store.
    pub(super) fn stored_up_to(&self) -> Option<u64> {
        (self.first > 0).then(|| self.first + self.payloads.len() as u64 - 1)
    }

    /// As sockets are given it.
    fn spoken(&self, workspace: WorkspaceId) -> Spoken {
        Spoken {
            task: self.task,
            first: self.first,
            frames: self.frames(workspace).into_iter().map(|(_, frame)| frame).collect(),
            private: self.private.as_ref().map(|(audience, ids)| (*audience, self.frame(workspace, None, ids))),
        }
    }

    /// The frames with their positions.
    pub fn frames(&self, workspace: WorkspaceId) -> Vec<(u64, Bytes)> {
        let number = |index: usize| if self.first > 0 { self.first + index as u64 } else { 0 };
        let numbered = self.payloads.iter().enumerate().map(|(index, payload)| (number(index), payload));
        numbered.map(|(pos, payload)| (pos, self.frame(workspace, Some(pos), payload))).collect()
    }

    /// A message has the same id whenever and wherever it is told.
    fn frame(&self, workspace: WorkspaceId, position: Option<u64>, payload: &RawValue) -> Bytes {
        let id = match position.filter(|position| *position > 0) {
            Some(position) => EventId(Uuid::from_u128(self.task.0.as_u128() ^ u128::from(position))),
            None => EventId::fresh(),
        };
        let event = Event {
            workspace,
            id,
            kind: self.kind.clone(),
            actor_type: Cow::Borrowed("system"),
            actor_id: None,
            payload: payload.to_owned(),
            reduced: None,
        };
        wire::text(&event.hint())
    }
}

/// The tasks that somebody at this node listens to.
#[derive(Default)]
pub(super) struct Streams {
    open: Mutex<HashMap<TaskId, Open>>,
    pace: Duration,
}

struct Open {
    stream: Weak<Stream>,
    /// The runtime of the sockets.
    listeners: Handle,
}

impl Streams {
    pub(super) fn new(pace: Duration) -> Self {
        Self { open: Mutex::default(), pace }
    }

    /// A task's stream; called in a listener's task.
    pub(super) fn open(&self, task: TaskId) -> Arc<Stream> {
        let mut open = self.open.lock();
        if let Some(stream) = open.get(&task).and_then(|open| open.stream.upgrade()) {
            return stream;
        }
        let stream = Arc::new(Stream::new(self.pace));
        open.insert(task, Open { stream: Arc::downgrade(&stream), listeners: Handle::current() });
        stream
    }

    fn find(&self, task: TaskId) -> Option<(Arc<Stream>, Handle)> {
        let open = self.open.lock();
        let open = open.get(&task)?;
        Some((open.stream.upgrade()?, open.listeners.clone()))
    }

    /// The tasks that are listened to.
    pub(super) fn tasks(&self) -> Vec<TaskId> {
        self.open.lock().keys().copied().collect()
    }

    /// Forgets those that nobody listens to any more.
    pub(super) fn tidy(&self) {
        self.open.lock().retain(|_, open| open.stream.strong_count() > 0);
    }

    /// What a task says, for its listeners; the ready frames.
    pub(super) fn say(&self, spoken: &Spoken) {
        let Some((stream, listeners)) = self.find(spoken.task) else { return };
        let now = Instant::now();
        stream.is_for(spoken.private.as_ref().map(|(audience, _)| *audience));
        if spoken.first > 0 {
            rouse(&stream, &listeners, stream.append(spoken.first, &spoken.frames, now));
        } else {
            spoken.frames.iter().for_each(|frame| rouse(&stream, &listeners, stream.show(frame.clone(), now)));
        }
    }

    /// The store has messages of a task up to here.
    pub(super) fn reaches(&self, task: TaskId, position: u64) {
        if let Some((stream, listeners)) = self.find(task) {
            rouse(&stream, &listeners, stream.reaches(position, Instant::now()));
        }
    }

    /// Whether a task is listened to.
    pub(super) fn has(&self, task: TaskId) -> bool {
        self.find(task).is_some()
    }
}

fn rouse(stream: &Arc<Stream>, listeners: &Handle, todo: Wake) {
    if let Wake::After(rest) = todo {
        listeners.spawn(wake(stream.clone(), rest));
    }
}

impl super::Lanes {
    /// A task's stream at this node; called in a listener's task.
    pub fn listen(&self, task: TaskId) -> Arc<Stream> {
        self.streams().open(task)
    }

    /// The tasks that somebody at this node listens to.
    pub fn listened_to(&self) -> Vec<TaskId> {
        self.streams().tasks()
    }

    /// The store has messages of a task up to here: whoever listens here and lacks some reads them.
    pub fn reaches(&self, task: TaskId, position: u64) {
        self.streams().reaches(task, position);
    }

    /// A task said at another node what is only in the store: too much to be sent along.
    pub(super) fn said_elsewhere(&self, workspace: WorkspaceId, task: TaskId, last: u64) {
        self.reaches(task, last);
        if let Some(lane) = self.of([workspace]).pop().filter(|lane| lane.firehose.is_followed()) {
            lane.say_missed(task, last);
        }
    }

    /// What a task says, for those who listen here and elsewhere.
    pub fn say(&self, workspace: WorkspaceId, talk: Talk) {
        self.say_here(workspace, &talk);
        self.pass_on(workspace, talk);
    }

    /// The same for those who listen here.
    pub(super) fn say_here(&self, workspace: WorkspaceId, talk: &Talk) {
        let lane = self.of([workspace]).pop().filter(|lane| lane.firehose.is_followed());
        if lane.is_none() && !self.streams().has(talk.task) {
            return;
        }
        let spoken = talk.spoken(workspace);
        self.streams().say(&spoken);
        if let Some(lane) = lane {
            lane.say(&spoken);
        }
    }
}

/// Says of which task a connection that hears everything missed something.
pub(super) fn missed(task: TaskId) -> Bytes {
    wire::text(&serde_json::json!({ "type": "task:resync", "payload": { "task_id": task } }).to_string())
}
