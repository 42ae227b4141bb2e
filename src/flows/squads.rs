//! The end of a squad: its leader takes over what was assigned to it.

use crate::{
    db::Tx,
    error::Result,
    identity::Insider,
    ids::SquadId,
    workspace::{autopilots, issues, squads},
};

/// Gives some issues of a squad that is to go to its leader; whether there may be more. In pieces of
/// their own before [`delete`], so that a busy squad does not stop everybody else.
pub async fn hand_over(tx: &mut Tx, who: &Insider, squad: SquadId) -> Result<bool> {
    who.require_rule()?;
    let row = squads::lock(tx, who, squad).await?;
    issues::pass_on(tx, who, row.id, row.leader_id).await
}

/// Archives a squad; for owners and admins.
pub async fn delete(tx: &mut Tx, who: &Insider, squad: SquadId) -> Result<()> {
    who.require_rule()?;
    let row = squads::lock(tx, who, squad).await?;
    autopilots::pass_on(tx, who, row.id, row.leader_id).await?;
    // What came since it was handed over.
    while issues::pass_on(tx, who, row.id, row.leader_id).await? {}
    squads::archive(tx, who, &row).await?;
    let by = who.user;
    tx.after_commit(move || tracing::info!(%squad, leader = %row.leader_id, %by, "squad archived"));
    Ok(())
}
