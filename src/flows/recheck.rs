//! Closing what rests on something that ended without this node being told.

use std::sync::Arc;

use super::hear::Ears;
use crate::{
    error::Result,
    events::Control,
    hub::Close,
    ids::{UserId, WorkspaceId},
    protocol::close,
};

/// Checks everything believed here and every open socket, and acts as if it had been told.
pub async fn recheck(ears: &Arc<Ears>) -> Result<()> {
    let holders = ears.registry.holders();
    let tokens = holders.iter().flat_map(|(holder, _)| [holder.token, holder.session]).filter(|row| !row.is_nil());
    let memberships: Vec<(WorkspaceId, UserId)> =
        holders.iter().filter_map(|(holder, follows)| Some(((*follows)?, holder.user))).collect();
    let ended = ears.credentials.recheck(tokens.collect(), memberships).await?;
    for token in ended.tokens {
        // Either it is a token's row or a session's.
        ears.hear(&Control::TokenEnded { token });
        ears.hear(&Control::SessionEnded { session: token });
    }
    for (workspace, user) in ended.memberships {
        ears.hear(&Control::Membership { workspace, user });
        // The event that removed them closes their browsers, unless their lane was lost with it.
        ears.registry.close_follower(workspace, user, &Close::new(close::REVOKED, "revoked"));
    }
    Ok(())
}
