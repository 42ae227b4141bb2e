//! An event as its sockets get it.

use serde::Deserialize;

use super::kinds::{MEMBER_REMOVED, MEMBER_UPDATED, WORKSPACE_DELETED};
use crate::{
    hub::{Effect, Ends, Frame, wire},
    ids::UserId,
    protocol::event::Event,
};

/// Encodes an event once for everybody.
pub(super) fn encode(event: &Event, seq: u64) -> Frame {
    let reduced = event.reduced_frame(seq).map(|(audience, json)| Box::new((audience, wire::text(&json))));
    Frame { seq, wire: wire::text(&event.frame(seq)), reduced, effect: effect(event) }
}

/// What this event means for those who follow. Read from the event itself, so that it is the same
/// whether it came from a commit, from another node or from the log.
fn effect(event: &Event) -> Option<Effect> {
    #[derive(Deserialize)]
    struct Removed {
        user_id: UserId,
    }
    #[derive(Deserialize)]
    struct Updated {
        member: Ranked,
    }
    #[derive(Deserialize)]
    struct Ranked {
        user_id: UserId,
        role: String,
    }
    match &*event.kind {
        WORKSPACE_DELETED => Some(Effect::Ends(Ends::Everybody)),
        MEMBER_REMOVED => read::<Removed>(event).map(|removed| Effect::Ends(Ends::Member(removed.user_id))),
        MEMBER_UPDATED => {
            read::<Updated>(event).map(|Updated { member }| Effect::Rules(member.user_id, member.role != "member"))
        }
        _ => None,
    }
}

fn read<'e, T: Deserialize<'e>>(event: &'e Event) -> Option<T> {
    serde_json::from_str(event.payload.get())
        .inspect_err(
            |error| tracing::error!(event = %event.id, kind = %event.kind, %error, "an event that says nothing"),
        )
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        events::kinds,
        ids::{MemberId, WorkspaceId},
        protocol::event::Actor,
    };

    #[test]
    fn removals_and_deletions_end_sequences() {
        let (workspace, user) = (WorkspaceId::fresh(), UserId::fresh());
        let removed = kinds::member_removed(workspace, Actor::System, MemberId::fresh(), user);
        assert_eq!(encode(&removed, 1).effect, Some(Effect::Ends(Ends::Member(user))));
        assert_eq!(
            encode(&kinds::workspace_deleted(workspace, Actor::System), 2).effect,
            Some(Effect::Ends(Ends::Everybody))
        );
        assert_eq!(encode(&kinds::runtimes_changed(workspace, Actor::System, "update", &[]), 3).effect, None);
    }
}
