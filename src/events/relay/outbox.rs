//! What waits to be published. Control messages have a place of their own and go first: a crowd of
//! frames that nobody will miss must not keep "this token is worth nothing" from the other nodes.

use tokio::sync::mpsc;

use super::EphemeralFrame;
use crate::{
    db::Batch,
    events::{Control, Talk},
    ids::WorkspaceId,
};

/// What waits of each kind. More is dropped: events are read from the log elsewhere, and whatever
/// depends on a control message is corrected later.
const OUTBOX: usize = 4096;

/// Something to publish.
pub(super) enum Outgoing {
    /// Committed events.
    Events(Batch),
    /// A control message.
    Control(Control),
    /// A frame without a place in the sequence.
    Ephemeral(WorkspaceId, EphemeralFrame),
    /// What a task says.
    Talk(WorkspaceId, Talk),
}

/// The end that publishes.
pub(super) struct Outbox {
    control: mpsc::Receiver<Control>,
    rest: mpsc::Receiver<Outgoing>,
}

/// The ends that are written to.
pub(super) fn outbox() -> (mpsc::Sender<Control>, mpsc::Sender<Outgoing>, Outbox) {
    let (tell, control) = mpsc::channel(OUTBOX);
    let (send, rest) = mpsc::channel(OUTBOX);
    (tell, send, Outbox { control, rest })
}

impl Outbox {
    /// What is to be published next, some at once; nothing once nobody can write any more.
    pub(super) async fn next(&mut self, most: usize) -> Vec<Outgoing> {
        let (mut control, mut rest) = (Vec::new(), Vec::new());
        tokio::select! {
            biased;
            1.. = self.control.recv_many(&mut control, most) => {}
            1.. = self.rest.recv_many(&mut rest, most) => {}
            else => {}
        }
        rest.extend(control.into_iter().map(Outgoing::Control));
        rest
    }

    /// Drops what others find in the log or do without. Control messages wait: they are right late,
    /// too.
    pub(super) fn drop_what_is_found_elsewhere(&mut self) {
        while self.rest.try_recv().is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn frame() -> Outgoing {
        Outgoing::Ephemeral(WorkspaceId::fresh(), EphemeralFrame { json: "{}".into(), fleet: true })
    }

    #[tokio::test]
    async fn a_control_message_passes_a_crowd_of_frames_and_survives_a_server_that_is_away() {
        let (tell, send, mut outbox) = outbox();
        while send.try_send(frame()).is_ok() {}
        assert!(tell.try_send(Control::TokenEnded { token: Uuid::nil() }).is_ok(), "it has a place of its own");
        assert!(matches!(outbox.next(256).await[..], [Outgoing::Control(_)]), "and goes first");
        assert_eq!(outbox.next(256).await.len(), 256);

        assert!(tell.try_send(Control::TokenEnded { token: Uuid::nil() }).is_ok());
        outbox.drop_what_is_found_elsewhere();
        assert!(matches!(outbox.next(256).await[..], [Outgoing::Control(_)]));
        drop((tell, send));
        assert!(outbox.next(256).await.is_empty(), "nobody can write any more");
    }
}
