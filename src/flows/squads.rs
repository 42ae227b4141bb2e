//! What a squad's leader decides, and the end of a squad: its leader takes over what was assigned to
//! it. Work that goes on then goes on: it is the leader's already, or that of those whom it called,
//! and ending it would only throw it away. Nobody is asked anew either.

use crate::{
    db::Tx,
    error::{Error, Result},
    identity::Insider,
    ids::{IssueId, SquadId},
    protocol::squad::{Evaluate, Evaluated},
    workspace::{
        autopilots, issues,
        squads::{self, evaluations},
    },
};

/// The leader of the squad that an issue is assigned to says what it decided about it.
pub async fn evaluate(tx: &mut Tx, who: &Insider, issue: IssueId, wish: &Evaluate) -> Result<Evaluated> {
    let not_leader = || Error::forbidden("not_squad_leader", "only the leader of the issue's squad can do this");
    let leader = who.task.as_deref().ok_or_else(not_leader)?;
    let issue = issues::plain(tx, who.workspace, issue).await?;
    let squad = match (issue.assignee_type.as_deref(), issue.assignee_id) {
        (Some("squad"), Some(squad)) => squads::find(tx, who.workspace, SquadId(squad)).await?,
        _ => return Err(Error::invalid("not_assigned_to_squad", "issue is not assigned to a squad")),
    };
    if squad.leader_id != leader.agent {
        return Err(not_leader());
    }
    evaluations::note(tx, leader, &squad, issue.id, wish).await
}

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
