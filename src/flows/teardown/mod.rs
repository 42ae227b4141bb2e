//! Taking runtimes apart, wholly or not at all.
//!
//! The runtimes are locked first: from then on nothing is bound to them, queued for them or claimed
//! from them. Then the [`Site`] is surveyed and everybody on it locked; whoever wanted the removal may
//! be refused by what is found there; and at last everything goes, in the order in which it is told.
//! History stays: finished tasks keep what was done, on no runtime.

mod forgotten;
mod plan;
mod raze;
mod site;

use std::sync::Arc;

pub use forgotten::remove_forgotten;
pub use plan::{Plan, Razed};
pub use site::Site;

use crate::{
    db::Tx,
    error::Result,
    fleet::{self, Fleet},
    ids::{AgentId, RuntimeId, UserId, WorkspaceId},
    tasks::Queue,
};

/// What taking apart needs of the rest.
#[derive(Clone)]
pub struct Tools {
    /// The work, which ends.
    pub queue: Arc<Queue>,
    /// The runtimes.
    pub fleet: Arc<Fleet>,
}

/// Somebody's wish that a runtime go.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// Which.
    pub runtime: RuntimeId,
    /// Whose wish.
    pub by: UserId,
    /// The workspace that it must be of, if one was named.
    pub selected: Option<WorkspaceId>,
}

/// Removes a runtime without active agents, with those that were put aside. Refused if there are
/// active ones, or if one of the others leads a squad.
pub async fn delete(tx: &mut Tx, tools: &Tools, wish: Wish) -> Result<()> {
    tx.allow_long_statements().await?;
    let runtime = fleet::condemn(tx, wish.runtime, wish.by, wish.selected).await?;
    let site = Site::survey(tx, vec![runtime]).await?;
    let plan = Plan::for_nobody(tx, site, "runtime").await?;
    plan.carry_out(tx, tools, wish.by).await.map(drop)
}

/// Removes a runtime with all of its agents, the active ones among them being exactly the confirmed.
/// Refused if they are not, or if any of the runtime's agents leads a squad.
pub async fn delete_with_agents(tx: &mut Tx, tools: &Tools, wish: Wish, confirmed: &[AgentId]) -> Result<Razed> {
    tx.allow_long_statements().await?;
    let runtime = fleet::condemn(tx, wish.runtime, wish.by, wish.selected).await?;
    let site = Site::survey(tx, vec![runtime]).await?;
    let plan = Plan::for_confirmed(tx, site, confirmed).await?;
    plan.carry_out(tx, tools, wish.by).await
}
