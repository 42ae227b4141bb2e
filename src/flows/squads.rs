//! The end of a squad: its leader takes over what was assigned to it.

use crate::{
    db::Tx,
    error::Result,
    identity::Insider,
    ids::SquadId,
    workspace::{autopilots, issues, squads},
};

/// Archives a squad; for owners and admins.
pub async fn delete(tx: &mut Tx, who: &Insider, squad: SquadId) -> Result<()> {
    who.require_rule()?;
    let row = squads::lock(tx, who, squad).await?;
    autopilots::pass_on(tx, who, row.id, row.leader_id).await?;
    issues::pass_on(tx, who, row.id, row.leader_id).await?;
    squads::archive(tx, who, &row).await?;
    let by = who.user;
    tx.after_commit(move || tracing::info!(%squad, leader = %row.leader_id, %by, "squad archived"));
    Ok(())
}
