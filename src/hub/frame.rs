//! Events as sockets are given them: encoded once, in one form or two.

use bytes::Bytes;

use crate::{
    ids::UserId,
    protocol::event::{Audience, Reader},
};

/// One event, encoded.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Its number.
    pub seq: u64,
    /// The WebSocket frame.
    pub wire: Bytes,
    /// The one for those outside its audience, if there are any.
    pub reduced: Option<Box<(Audience, Bytes)>>,
    /// What it means for those who follow.
    pub effect: Option<Effect>,
}

impl Frame {
    /// What somebody is given.
    pub fn wire_for(&self, reader: Reader) -> &Bytes {
        match self.reduced.as_deref() {
            Some((audience, reduced)) if !audience.has(reader) => reduced,
            _ => &self.wire,
        }
    }

    /// Bytes, both forms.
    pub fn size(&self) -> usize {
        self.wire.len() + self.reduced.as_deref().map_or(0, |(_, reduced)| reduced.len())
    }
}

/// What an event means for those who follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is the last one for somebody.
    Ends(Ends),
    /// From here on somebody is an owner or admin, or no longer.
    Rules(UserId, bool),
}

/// A frame without a place in the sequence, for whoever is here.
#[derive(Debug, Clone)]
pub struct Fleeting {
    /// The WebSocket frame.
    pub wire: Bytes,
    /// Only for those who follow the fleet's beats.
    pub fleet: bool,
}

/// For whom a sequence ends with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Somebody is no longer a member.
    Member(UserId),
    /// The workspace is gone.
    Everybody,
}
