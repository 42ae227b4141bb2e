//! The end of a runtime profile: its runtimes go with it, unless somebody still needs them.

use std::sync::Arc;

use super::teardown::{Plan, Site, Tools};
use crate::{
    db::Tx,
    error::Result,
    events::Nodes,
    fleet::profiles,
    identity::{Insider, Role, members},
    ids::{RuntimeId, RuntimeProfileId},
};

/// Removes a profile and its runtimes; for owners and admins. Refused as long as an agent that was not
/// put aside is bound to one of them, or one that was leads a squad.
pub async fn delete(
    tx: &mut Tx,
    tools: &Tools,
    nodes: &Arc<Nodes>,
    who: &Insider,
    profile: RuntimeProfileId,
) -> Result<()> {
    who.require_rule()?;
    tx.allow_long_statements().await?;
    let runtimes = profiles::lock_to_remove(tx, who.workspace, profile).await?;
    // Whoever had to wait for one of them may not be who they were.
    members::require_role(tx, who.workspace, who.user, Role::Admin).await?;
    let by = who.user;
    let gone: Vec<RuntimeId> = runtimes.iter().map(|runtime| runtime.id).collect();
    let count = gone.len();
    if !runtimes.is_empty() {
        let site = Site::survey(tx, runtimes).await?;
        let plan = Plan::for_nobody(tx, site, "runtime profile").await?;
        plan.carry_out(tx, tools, by).await?;
    }
    profiles::delete(tx, nodes, who, profile, gone).await?;
    tx.after_commit(move || tracing::info!(%profile, %by, runtimes = count, "runtime profile removed"));
    Ok(())
}
