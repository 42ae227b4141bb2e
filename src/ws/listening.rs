//! What a browser hears of tasks beside its workspace's sequence: those that it listens to, message by
//! message whatever happens, and, if it wants, everything that any of them says as it comes. Whoever may no longer
//! hear a task, since they or its agent are not what they were, is told so and hears nothing more of it.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{Supply, scopes};
use crate::{
    events::Turn,
    hub::{Copied, Listener, Sprayed, wire},
    ids::{IssueId, TaskId},
    protocol::{
        browser::{Outbound, Scope},
        event::Reader,
    },
};

/// Tasks that one socket may listen to.
pub(super) const MOST: usize = 100;
/// Frames and bytes of one task that go into one write at most.
const FRAMES: usize = 64;
const BYTES: usize = 128 << 10;
/// Bytes of all tasks together beyond which the others wait for the next write.
const TOGETHER: usize = 256 << 10;

/// What one socket hears.
pub(super) struct Listening {
    firehose: Option<Sprayed>,
    tasks: Vec<Heard>,
    /// Whose turn it is to be first.
    turn: usize,
}

/// A task that is listened to.
struct Heard {
    task: TaskId,
    issue: Option<IssueId>,
    listener: Listener,
    /// Messages out of the store, while the socket is behind.
    page: Option<(Turn, VecDeque<(u64, Bytes)>)>,
}

/// What has to be read from the store before a socket can go on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lack {
    pub task: TaskId,
    pub issue: Option<IssueId>,
    /// The last position that it has.
    pub after: u64,
}

impl Listening {
    /// Everything, if `firehose` is there, and no task in particular.
    pub(super) fn new(firehose: Option<Sprayed>) -> Self {
        Self { firehose, tasks: Vec::new(), turn: 0 }
    }

    /// Whether one more task may be listened to.
    pub(super) fn has_room_for(&self, task: TaskId) -> bool {
        self.tasks.len() < MOST || self.tasks.iter().any(|heard| heard.task == task)
    }

    /// Listens to a task, from the listener's position on.
    pub(super) fn add(&mut self, task: TaskId, issue: Option<IssueId>, listener: Listener) {
        self.remove(task);
        self.tasks.push(Heard { task, issue, listener, page: None });
    }

    /// Listens to a task no longer.
    pub(super) fn remove(&mut self, task: TaskId) {
        self.tasks.retain(|heard| heard.task != task);
    }

    /// Listens to a task no longer, since it is not for whoever this is; what they are told.
    pub(super) fn lose(&mut self, task: TaskId) -> Outbound {
        self.remove(task);
        let scope = Scope { scope: "task".to_owned(), id: task.to_string(), pos: None };
        scopes::refused(scope, scopes::FORBIDDEN)
    }

    /// The first task of which the store has to be read.
    pub(super) fn lack(&self) -> Option<Lack> {
        let heard = self.tasks.iter().find(|heard| heard.page.is_none() && heard.listener.is_behind())?;
        Some(Lack { task: heard.task, issue: heard.issue, after: heard.listener.position() })
    }

    /// Takes what was read for a [`Lack`].
    pub(super) fn supply(&mut self, lack: Lack, turn: Turn, frames: Vec<(u64, Bytes)>) {
        let Some(heard) = self.tasks.iter_mut().find(|heard| heard.task == lack.task) else { return };
        if frames.is_empty() {
            tracing::error!(task = %lack.task, after = lack.after, "the store lacks messages that were told of");
            heard.listener.give_up();
            return;
        }
        heard.page = Some((turn, frames.into()));
    }

    /// As [`super::Source::poll_frames`]; `reader` is as whom the socket reads.
    pub(super) fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        reader: impl Fn() -> Reader,
        out: &mut Vec<u8>,
    ) -> Poll<Supply> {
        let start = out.len();
        let count = self.tasks.len();
        self.turn = if count == 0 { 0 } else { (self.turn + 1) % count };
        loop {
            let mut behind = false;
            let mut lost = Vec::new();
            for index in 0..count {
                let heard = &mut self.tasks[(self.turn + index) % count];
                if heard.is_barred(&reader) {
                    lost.push(heard.task);
                } else if out.len() - start < TOGETHER {
                    behind |= heard.copy(out) == Copied::Behind;
                }
            }
            for task in lost {
                out.extend_from_slice(&wire::text(&self.lose(task).json()));
            }
            let mut passed = false;
            if let Some(firehose) = &mut self.firehose {
                let tasks = &self.tasks;
                let listens_to = |task: TaskId| tasks.iter().any(|heard| heard.task == task);
                // Asked only when there is something: as whom it reads is known under a lock.
                if firehose.is_behind() {
                    passed = firehose.copy(reader(), &listens_to, FRAMES, BYTES, out);
                }
            }
            if out.len() > start {
                return Poll::Ready(Supply::Frames);
            }
            if behind {
                return Poll::Ready(Supply::Behind);
            }
            if !passed && self.poll_beyond(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn poll_beyond(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ready = self.firehose.as_ref().is_some_and(|firehose| firehose.poll_beyond(cx).is_ready());
        for heard in &self.tasks {
            ready |= heard.listener.poll_beyond(cx).is_ready();
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Heard {
    /// Whether there is something that the reader may not hear.
    fn is_barred(&self, reader: &impl Fn() -> Reader) -> bool {
        let audience = self.listener.audience().filter(|_| self.page.is_some() || self.listener.has_more());
        audience.is_some_and(|audience| !audience.has(reader()))
    }

    fn copy(&mut self, out: &mut Vec<u8>) -> Copied {
        let Some((_, page)) = &mut self.page else { return self.listener.copy(FRAMES, BYTES, out) };
        let start = out.len();
        let mut position = self.listener.position();
        for _ in 0..FRAMES {
            let Some((next, frame)) = page.front() else { break };
            if *next > position {
                if out.len() > start && out.len() - start + frame.len() > BYTES {
                    break;
                }
                out.extend_from_slice(frame);
                position = *next;
            }
            page.pop_front();
        }
        if page.is_empty() {
            self.page = None;
        }
        self.listener.advance(position);
        Copied::UpTo(position)
    }
}
