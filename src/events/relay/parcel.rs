//! What goes over a channel between nodes.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    events::{Control, Talk},
    ids::{EventId, TaskId, WorkspaceId},
    protocol::event::{Event, Reduced},
};

/// A frame for whoever follows a workspace at the moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EphemeralFrame {
    /// The frame's JSON.
    pub json: String,
    /// Only for followers of the fleet's beats.
    pub fleet: bool,
}

/// A publication.
#[derive(Serialize, Deserialize)]
pub(super) struct Parcel<'p> {
    /// The node that published it; it has it already.
    pub node: Cow<'p, str>,
    pub content: Content,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Content {
    Events {
        first: u64,
        events: Vec<Sent>,
    },
    /// Events up to here are in the log.
    Named(u64),
    Control(Control),
    Ephemeral(EphemeralFrame),
    Talk(Talk),
    /// What a task said up to here is in the store.
    TalkNamed {
        task: TaskId,
        last: u64,
    },
    Probe(u64),
}

/// An event between nodes.
#[derive(Serialize, Deserialize)]
pub(super) struct Sent {
    id: EventId,
    kind: String,
    actor_type: String,
    actor_id: Option<Uuid>,
    payload: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reduced: Option<Reduced>,
}

impl From<Event> for Sent {
    fn from(event: Event) -> Self {
        Self {
            id: event.id,
            kind: event.kind.into_owned(),
            actor_type: event.actor_type.into_owned(),
            actor_id: event.actor_id,
            payload: event.payload,
            reduced: event.reduced,
        }
    }
}

impl Sent {
    pub(super) fn event(self, workspace: WorkspaceId) -> Event {
        Event {
            workspace,
            id: self.id,
            kind: Cow::Owned(self.kind),
            actor_type: Cow::Owned(self.actor_type),
            actor_id: self.actor_id,
            payload: self.payload,
            reduced: self.reduced,
        }
    }
}
