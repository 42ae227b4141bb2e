//! A connection's place in a room.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use super::{Inner, Room};
use crate::{hub::Ends, protocol::event::Reader};

/// What a connection got.
#[derive(Debug, PartialEq, Eq)]
pub enum Copied {
    /// Frames up to this number.
    UpTo(u64),
    /// Nothing lies beyond the position.
    Nothing,
    /// The ring no longer has the next event; the log does.
    Behind,
    /// The sequence cannot be continued: [`Room::lose`] was called.
    Lost,
    /// The sequence is over for this connection: nothing beyond its position is for it.
    Over(Ends),
}

/// A connection's place in a room.
pub struct Follower {
    room: Arc<Room>,
    slot: usize,
    position: u64,
    shown: u64,
    reader: Reader,
    admitted: u64,
    fleet: bool,
}

impl Room {
    /// Adds a connection that has everything up to `position`. Whether it may follow was decided on
    /// what held at `admitted`: a removal after that ends it.
    pub fn follow(self: &Arc<Self>, position: u64, reader: Reader, admitted: u64) -> Follower {
        let mut inner = self.inner.lock();
        let slot = inner.sleepers.enter();
        let shown = inner.shown;
        drop(inner);
        Follower { room: self.clone(), slot, position, shown, reader, admitted, fleet: false }
    }
}

impl Follower {
    /// The number of the last event this connection was given.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Moves on, after frames that came from the log.
    pub fn advance(&mut self, position: u64) {
        self.position = position;
    }

    /// Whether it is shown the fleet's beats.
    pub fn follow_fleet(&mut self, fleet: bool) {
        if self.fleet != fleet {
            self.fleet = fleet;
            let mut inner = self.room.inner.lock();
            if fleet {
                inner.fleet_followers += 1;
            } else {
                inner.fleet_followers -= 1;
            }
        }
    }

    /// How far it may be given events now (to the newest one, or to the last that is for it), and
    /// as whom it reads them.
    pub fn limit(&self) -> (u64, Reader) {
        let inner = self.room.inner.lock();
        let limit = inner.end(self.reader.user, self.admitted).map_or(inner.head, |(seq, _)| seq.min(inner.head));
        (limit, inner.reader(self.reader, self.admitted))
    }

    /// Appends the frames beyond the position to `out`, at most `max_frames` and, after the first,
    /// at most `max_bytes`, and moves on.
    pub fn copy(&mut self, max_frames: usize, max_bytes: usize, out: &mut Vec<u8>) -> Copied {
        let room = self.room.clone();
        let inner = room.inner.lock();
        if inner.lost {
            return Copied::Lost;
        }
        let end = inner.end(self.reader.user, self.admitted);
        if let Some((seq, ends)) = end
            && self.position >= seq
        {
            return Copied::Over(ends);
        }
        if self.position >= inner.head {
            return self.copy_fleeting(&inner, out);
        }
        let Some(index) = self.position.checked_sub(inner.floor()) else {
            return Copied::Behind;
        };
        let start = out.len();
        let reader = inner.reader(self.reader, self.admitted);
        for frame in inner.frames.range(index as usize..).take(max_frames) {
            let wire = frame.wire_for(reader);
            let full = out.len() > start && out.len() - start + wire.len() > max_bytes;
            if full || end.is_some_and(|(seq, _)| frame.seq > seq) {
                break;
            }
            out.extend_from_slice(wire);
            self.position = frame.seq;
        }
        Copied::UpTo(self.position)
    }

    /// What was shown since the last look, as far as it is still kept. Only for who has caught up.
    fn copy_fleeting(&mut self, inner: &Inner, out: &mut Vec<u8>) -> Copied {
        let new = (inner.shown - self.shown).min(inner.fleeting.len() as u64) as usize;
        self.shown = inner.shown;
        let before = out.len();
        for frame in inner.fleeting.range(inner.fleeting.len() - new..) {
            if self.fleet || !frame.fleet {
                out.extend_from_slice(&frame.wire);
            }
        }
        if out.len() > before { Copied::UpTo(self.position) } else { Copied::Nothing }
    }

    /// Ready when something lies beyond the position; else wakes the task when it does.
    pub fn poll_beyond(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_for(cx, |inner| inner.head > self.position || inner.shown > self.shown)
    }

    /// As [`Follower::poll_beyond`], for events only.
    pub fn poll_event(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_for(cx, |inner| inner.head > self.position)
    }

    fn poll_for(&self, cx: &mut Context<'_>, there: impl FnOnce(&Inner) -> bool) -> Poll<()> {
        let mut inner = self.room.inner.lock();
        if inner.lost || there(&inner) {
            return Poll::Ready(());
        }
        inner.sleepers.sleep(self.slot, cx);
        Poll::Pending
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut inner = self.room.inner.lock();
        inner.sleepers.leave(self.slot);
        inner.fleet_followers -= usize::from(self.fleet);
    }
}
