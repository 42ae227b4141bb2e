//! An event as its sockets get it.

use serde::Deserialize;

use super::kinds::{MEMBER_REMOVED, WORKSPACE_DELETED};
use crate::{
    hub::{Ends, Frame, wire},
    ids::UserId,
    protocol::event::Event,
};

/// Encodes an event once for everybody.
pub(super) fn encode(event: &Event, seq: u64) -> Frame {
    Frame { seq, wire: wire::text(&event.frame(seq)), ends: ends(event) }
}

/// For whom the sequence is over with this event. Read from the event itself, so that it is the
/// same whether it came from a commit, from another node or from the log.
fn ends(event: &Event) -> Option<Ends> {
    #[derive(Deserialize)]
    struct Removed {
        user_id: UserId,
    }
    match &*event.kind {
        WORKSPACE_DELETED => Some(Ends::Everybody),
        MEMBER_REMOVED => match serde_json::from_str::<Removed>(event.payload.get()) {
            Ok(removed) => Some(Ends::Member(removed.user_id)),
            Err(error) => {
                tracing::error!(event = %event.id, %error, "a removal that names nobody");
                None
            }
        },
        _ => None,
    }
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
        assert_eq!(encode(&removed, 1).ends, Some(Ends::Member(user)));
        assert_eq!(encode(&kinds::workspace_deleted(workspace, Actor::System), 2).ends, Some(Ends::Everybody));
        assert_eq!(encode(&kinds::runtimes_changed(workspace, Actor::System, "update", &[]), 3).ends, None);
    }
}
