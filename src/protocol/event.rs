//! Events as they are logged and as a browser reads them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use crate::ids::{AgentId, EventId, UserId, WorkspaceId};

/// Bytes of a payload at most.
const PAYLOAD: usize = 256 << 10;
/// Bytes of what is left in one that was larger, for each member.
const SMALL: usize = 2 << 10;

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A person.
    Member(UserId),
    /// An agent, by its task's token.
    Agent(AgentId),
    /// The hub itself, or a daemon.
    System,
}

impl Actor {
    /// The wire's `actor_type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Member(_) => "member",
            Self::Agent(_) => "agent",
            Self::System => "system",
        }
    }

    /// The wire's `actor_id`; empty for the system.
    pub fn id(&self) -> Option<Uuid> {
        match self {
            Self::Member(user) => Some(user.0),
            Self::Agent(agent) => Some(agent.0),
            Self::System => None,
        }
    }
}

/// Somebody who reads a workspace's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    /// Who.
    pub user: UserId,
    /// Whether they are an owner or admin of the workspace.
    pub rules: bool,
}

/// Who is given an event's payload in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// One person.
    Only(UserId),
    /// One person, and the workspace's owners and admins.
    OwnerAndAdmins(UserId),
}

impl Audience {
    /// Whether somebody belongs to it.
    pub fn has(self, reader: Reader) -> bool {
        match self {
            Self::Only(user) => user == reader.user,
            Self::OwnerAndAdmins(user) => user == reader.user || reader.rules,
        }
    }
}

/// An event's payload for those outside its audience: the same event with ids only, so that their
/// sequence stays whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reduced {
    /// Who is given all of it.
    pub audience: Audience,
    /// What the others are given.
    pub payload: Box<RawValue>,
}

/// A state change, complete but for its place in the sequence.
#[derive(Debug, Clone)]
pub struct Event {
    /// Whose browsers are told.
    pub workspace: WorkspaceId,
    /// Unique for ever.
    pub id: EventId,
    /// `resource:change`.
    pub kind: Cow<'static, str>,
    /// `member`, `agent` or `system`.
    pub actor_type: Cow<'static, str>,
    /// The actor's id, if it has one.
    pub actor_id: Option<Uuid>,
    /// What the kind's row in the event table says.
    pub payload: Box<RawValue>,
    /// What those outside its audience get; `None` if there is nobody outside.
    pub reduced: Option<Reduced>,
}

impl Event {
    /// A new event of `kind`. The payload's types are ours and always serialise.
    pub fn new(workspace: WorkspaceId, kind: &'static str, actor: Actor, payload: &impl Serialize) -> Self {
        Self {
            workspace,
            id: EventId::fresh(),
            kind: Cow::Borrowed(kind),
            actor_type: Cow::Borrowed(actor.kind()),
            actor_id: actor.id(),
            payload: limited(kind, raw(kind, payload)),
            reduced: None,
        }
    }

    /// A payload by itself, for frames that are no events; no larger than those of events.
    pub fn payload_of(kind: &str, payload: &impl Serialize) -> Box<RawValue> {
        limited(kind, raw(kind, payload))
    }

    /// The same event, in full for an audience only.
    pub fn in_full_for(mut self, audience: Audience, reduced: &impl Serialize) -> Self {
        self.reduced = Some(Reduced { audience, payload: raw(&self.kind, reduced) });
        self
    }

    /// Bytes of payload, both forms.
    pub fn size(&self) -> usize {
        self.payload.get().len() + self.reduced.as_ref().map_or(0, |reduced| reduced.payload.get().len())
    }

    /// The frame's JSON with its place in the sequence.
    pub fn frame(&self, seq: u64) -> String {
        self.json(Some(seq), &self.payload)
    }

    /// As [`Event::frame`], for those outside the audience.
    pub fn reduced_frame(&self, seq: u64) -> Option<(Audience, String)> {
        self.reduced.as_ref().map(|reduced| (reduced.audience, self.json(Some(seq), &reduced.payload)))
    }

    /// The one of the two that is for somebody.
    pub fn frame_for(&self, seq: u64, reader: Reader) -> String {
        match &self.reduced {
            Some(reduced) if !reduced.audience.has(reader) => self.json(Some(seq), &reduced.payload),
            _ => self.frame(seq),
        }
    }

    /// The frame's JSON for one person's sockets: no part of any sequence.
    pub fn hint(&self) -> String {
        self.json(None, &self.payload)
    }

    fn json(&self, seq: Option<u64>, payload: &RawValue) -> String {
        #[derive(Serialize)]
        struct Frame<'a> {
            r#type: &'a str,
            payload: &'a RawValue,
            actor_id: ActorId,
            actor_type: &'a str,
            event_id: EventId,
            #[serde(skip_serializing_if = "Option::is_none")]
            seq: Option<u64>,
            workspace_id: WorkspaceId,
        }
        serde_json::to_string(&Frame {
            r#type: &self.kind,
            payload,
            actor_id: ActorId(self.actor_id),
            actor_type: &self.actor_type,
            event_id: self.id,
            seq,
            workspace_id: self.workspace,
        })
        .unwrap_or_default()
    }
}

/// Payloads' types are ours and always serialise.
fn raw(kind: &str, payload: &impl Serialize) -> Box<RawValue> {
    to_raw_value(payload).unwrap_or_else(|error| {
        tracing::error!(kind, %error, "a payload does not serialise");
        RawValue::NULL.to_owned()
    })
}

/// A payload that every socket can be given. Of a larger one only the small members are left, and
/// the mark that says so: clients fetch what they miss.
fn limited(kind: &str, payload: Box<RawValue>) -> Box<RawValue> {
    let size = payload.get().len();
    if size <= PAYLOAD {
        return payload;
    }
    tracing::info!(kind, size, "an event's payload is cut");
    let members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(payload.get()).unwrap_or_default();
    let small = members.into_iter().filter_map(|(name, value)| Some((name, shrink(value, SMALL)?)));
    let mut left: serde_json::Map<String, serde_json::Value> = small.take(64).collect();
    left.insert("truncated".into(), true.into());
    to_raw_value(&left).unwrap_or(payload)
}

/// What of a value fits: all of it, an object without its large members, or nothing.
fn shrink(value: serde_json::Value, most: usize) -> Option<serde_json::Value> {
    if value.to_string().len() <= most {
        return Some(value);
    }
    match value {
        serde_json::Value::Object(members) => {
            let small = members.into_iter().filter(|(_, value)| value.to_string().len() <= most);
            Some(serde_json::Value::Object(small.take(64).collect()))
        }
        _ => None,
    }
}

/// Empty text stands for nobody.
struct ActorId(Option<Uuid>);

impl Serialize for ActorId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(id) => serializer.collect_str(&id),
            None => serializer.serialize_str(""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_too_large_for_sockets_keeps_what_is_small_and_says_so() {
        let large = serde_json::json!({
            "workspace": { "id": "w", "context": "x".repeat(300_000), "name": "n" },
            "actor": "a",
            "list": vec!["y".repeat(100); 1000],
        });
        let event = Event::new(WorkspaceId::fresh(), "workspace:updated", Actor::System, &large);
        let payload: serde_json::Value = serde_json::from_str(event.payload.get()).expect("JSON");
        let left = serde_json::json!({ "workspace": { "id": "w", "name": "n" }, "actor": "a", "truncated": true });
        assert_eq!(payload, left);
    }

    #[test]
    fn a_frame_has_the_members_of_the_protocol_and_no_more() {
        let event = Event::new(
            WorkspaceId::fresh(),
            "daemon:register",
            Actor::System,
            &serde_json::json!({"action": "update"}),
        );
        let frame: serde_json::Value = serde_json::from_str(&event.frame(7)).expect("JSON");
        assert_eq!(
            frame,
            serde_json::json!({
                "type": "daemon:register",
                "payload": {"action": "update"},
                "actor_id": "",
                "actor_type": "system",
                "event_id": event.id.to_string(),
                "seq": 7,
                "workspace_id": event.workspace.to_string(),
            })
        );
    }
}
