//! The end of a squad: its leader takes over what was assigned to it.

use crate::{
    db::{Tx, on},
    error::Result,
    identity::Insider,
    ids::{AutopilotId, SquadId},
    workspace::{
        issues,
        squads::{self, Row},
    },
};

/// Archives a squad; for owners and admins.
pub async fn delete(tx: &mut Tx, who: &Insider, squad: SquadId) -> Result<()> {
    who.require_rule()?;
    let row = squads::lock(tx, who, squad).await?;
    let autopilots = move_autopilots_to_leader(tx, &row).await?.len();
    issues::pass_on(tx, who, row.id, row.leader_id).await?;
    squads::archive(tx, who, &row).await?;
    let by = who.user;
    tx.after_commit(move || {
        tracing::info!(%squad, leader = %row.leader_id, %by, autopilots, "squad archived");
    });
    Ok(())
}

/// Gives the squad's autopilots to its leader, paused and archived ones too; which they are, by id.
async fn move_autopilots_to_leader(tx: &mut Tx, squad: &Row) -> Result<Vec<AutopilotId>> {
    let now = tx.now();
    let mut moved: Vec<AutopilotId> = on!(
        tx,
        pg "WITH held AS (
                SELECT id FROM autopilot WHERE assignee_id = $1 AND assignee_type = 'squad'
                ORDER BY id FOR NO KEY UPDATE
            )
            UPDATE autopilot t SET assignee_type = 'agent', assignee_id = $2, updated_at = $3
            FROM held WHERE t.id = held.id RETURNING t.id",
        lite "UPDATE autopilot SET assignee_type = 'agent', assignee_id = $2, updated_at = $3
              WHERE assignee_id = $1 AND assignee_type = 'squad' RETURNING id",
        |c, sql| sqlx::query_scalar(sql).bind(squad.id).bind(squad.leader_id).bind(now).fetch_all(c)
    )?;
    moved.sort_unstable();
    Ok(moved)
}
