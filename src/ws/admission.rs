//! Who may follow a workspace: decided on what the store says after the position was taken, and after
//! the socket can be found by what it rests on. So an end that the decision did not see reaches the
//! socket: as an event beyond its position, or through the registry.

use std::sync::Arc;

use super::Sockets;
use crate::{
    error::{Error, Refusal, Result},
    events::{self, Judged, Lane},
    hub::{Close, Entry, Follower},
    identity::{Credential, Identity, Role, members},
    ids::{UserId, WorkspaceId},
    protocol::{
        browser::{Position, Welcome},
        close,
    },
    time::Timestamp,
};

const TOO_MANY: &str = "too_many_sockets";

/// The decision about one socket.
pub(super) struct Admission<'s> {
    pub(super) sockets: &'s Sockets,
    pub(super) workspace: WorkspaceId,
}

/// A socket that may follow.
pub(super) struct Admitted {
    pub(super) user: UserId,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) lane: Arc<Lane>,
    pub(super) follower: Follower,
    pub(super) welcome: Welcome,
}

impl Admission<'_> {
    /// Admits a socket and gives it its place in the sequence.
    pub(super) async fn admit(&self, entry: &mut Entry, secret: &str, position: &Position) -> Result<Admitted> {
        let Sockets { db, lanes, .. } = self.sockets;
        let workspace = self.workspace;
        let Credential { identity, expires_at } = self.identify(entry, secret).await?;
        let user = identity.user();
        let (lane, room) = lanes.follow(db, workspace).await?;
        let position = position.clone();
        let (judged, role): (Judged, Role) = db
            .read(async move |db| {
                let judged = events::judge(db, workspace, &position).await?;
                Ok((judged, members::require(db, workspace, user).await?))
            })
            .await?;
        let follower = room.follow(judged.from, role.reader(user), judged.seq);
        let welcome = self.welcome(judged.epoch, judged.seq, judged.recovered);
        Ok(Admitted { user, expires_at, lane, follower, welcome })
    }

    /// Puts an open socket on another token of the same person; returns when that one ends.
    pub(super) async fn refresh(&self, entry: &mut Entry, secret: &str, user: UserId) -> Result<Option<Timestamp>> {
        let found = self.resolve(secret).await?;
        if found.identity.user() != user {
            return Err(Error::unauthenticated("another_user", "the token is another person's"));
        }
        self.identify(entry, secret).await.map(|credential| credential.expires_at)
    }

    pub(super) fn welcome(&self, epoch: String, seq: u64, recovered: Option<bool>) -> Welcome {
        Welcome {
            epoch,
            seq,
            recovered,
            ping_interval_ms: self.sockets.settings.browser_ping.as_millis() as u64,
            node: self.sockets.node.to_string(),
            server_time: self.sockets.db.clock().now().to_string(),
        }
    }

    /// Resolves the credential, and resolves it again if something was revoked before the socket
    /// could be found by it.
    async fn identify(&self, entry: &mut Entry, secret: &str) -> Result<Credential> {
        let registry = &self.sockets.registry;
        loop {
            let revocations = registry.revocations();
            let credential = self.resolve(secret).await?;
            if !entry.hold(credential.identity.holder(), self.sockets.settings.max_per_user) {
                return Err(Error::too_many(TOO_MANY, "too many connections"));
            }
            if registry.revocations() == revocations {
                return Ok(credential);
            }
        }
    }

    async fn resolve(&self, secret: &str) -> Result<Credential> {
        let credential = self.sockets.credentials.resolve(secret).await?;
        credential
            .filter(|credential| matches!(credential.identity, Identity::Person { .. }))
            .ok_or_else(|| Error::unauthenticated("invalid_token", "invalid token"))
    }
}

/// The close code for a refusal.
pub(super) fn goodbye(refusal: &Refusal) -> Close {
    let code = match refusal.code {
        TOO_MANY => close::TOO_MANY,
        _ => close::UNAUTHENTICATED,
    };
    Close::new(code, refusal.text.clone())
}
