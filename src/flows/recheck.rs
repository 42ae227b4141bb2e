//! Closing what rests on something that ended without this node being told.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::hear::Ears;
use crate::{
    error::Result,
    events::Control,
    hub::Close,
    ids::{RuntimeId, UserId, WorkspaceId},
    protocol::close,
};

/// Checks everything believed here and every open socket, and acts as if it had been told.
pub async fn recheck(ears: &Arc<Ears>) -> Result<()> {
    let holders = ears.registry.holders();
    let tokens = holders.iter().flat_map(|(holder, _)| [holder.token, holder.session]).filter(|row| !row.is_nil());
    let driven = driven(ears).await?;
    let followed = holders.iter().filter_map(|(holder, follows)| Some(((*follows)?, holder.user)));
    let memberships: HashSet<_> = followed.chain(driven.keys().copied()).collect();
    let ended = ears.credentials.recheck(tokens.collect(), memberships.into_iter().collect()).await?;
    for token in ended.tokens {
        // Either it is a token's row or a session's.
        ears.hear(&Control::TokenEnded { token });
        ears.hear(&Control::SessionEnded { session: token });
    }
    for (workspace, user) in ended.memberships {
        ears.hear(&Control::Membership { workspace, user });
        // The event that removed them closes their browsers, unless their lane was lost with it.
        ears.registry.close_follower(workspace, user, &Close::new(close::REVOKED, "revoked"));
        if let Some(ids) = driven.get(&(workspace, user)) {
            ears.hear(&Control::RuntimesTaken { ids: ids.clone() });
        }
    }
    Ok(())
}

/// The runtimes that daemons drive over sockets here, by the membership that this rests on.
async fn driven(ears: &Ears) -> Result<HashMap<(WorkspaceId, UserId), Vec<RuntimeId>>> {
    let driven = ears.registry.driven();
    let all: Vec<RuntimeId> = driven.iter().flat_map(|(_, runtimes)| runtimes).copied().collect();
    let homes = ears.fleet.homes(&all).await?;
    let mut by_membership: HashMap<_, Vec<RuntimeId>> = HashMap::new();
    for (user, runtimes) in driven {
        for runtime in runtimes {
            if let Some(workspace) = homes.get(&runtime) {
                by_membership.entry((*workspace, user)).or_default().push(runtime);
            }
        }
    }
    Ok(by_membership)
}
