//! The end of a runtime profile: its runtimes go with it, unless somebody still needs them.

use std::sync::Arc;

use serde_json::json;

use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    events::{Nodes, kinds},
    fleet::{Fleet, Gone, profiles},
    identity::Insider,
    ids::{AgentId, RuntimeProfileId, SquadId},
    protocol::agent::SlimAgent,
};

/// Bytes of a list in a refusal at most: clients read 4,096 of the whole.
const LONGEST_LIST: usize = 3500;

/// Removes a profile and its runtimes; for owners and admins. Refused as long as an agent that was not
/// put aside is bound to one of them, or one that was leads a squad.
pub async fn delete(
    tx: &mut Tx,
    fleet: &Arc<Fleet>,
    nodes: &Arc<Nodes>,
    who: &Insider,
    profile: RuntimeProfileId,
) -> Result<()> {
    who.require_rule()?;
    let runtimes = profiles::lock_to_remove(tx, who.workspace, profile).await?;
    require_no_agents(tx, profile).await?;
    require_no_squads(tx, profile).await?;
    let (by, count) = (who.user, runtimes.len());
    take_apart(tx, fleet, who, profile, runtimes).await?;
    profiles::delete(tx, nodes, who, profile).await?;
    tx.after_commit(move || tracing::info!(%profile, %by, runtimes = count, "runtime profile removed"));
    Ok(())
}

/// Removes a profile's runtimes, which are locked and have neither active agents nor active squads.
/// What else there may be of theirs (agents put aside with what hangs on them, unfinished tasks) is not
/// cleaned up here, and forbids it.
async fn take_apart(
    tx: &mut Tx,
    fleet: &Arc<Fleet>,
    who: &Insider,
    profile: RuntimeProfileId,
    runtimes: Vec<Gone>,
) -> Result<()> {
    let in_use: bool = on!(tx, |c| sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM agent_runtime r WHERE r.profile_id = $1 AND (
             EXISTS (SELECT 1 FROM agent a WHERE a.runtime_id = r.id)
             OR EXISTS (SELECT 1 FROM task t WHERE t.runtime_id = r.id
                 AND t.status IN ('queued', 'dispatched', 'running', 'waiting_local_directory'))))"
    )
    .bind(profile)
    .fetch_one(c))?;
    if in_use {
        let text = "cannot delete runtime profile: its runtimes have archived agents or unfinished tasks.";
        return Err(Error::conflict("runtime_profile_in_use", text));
    }
    exec!(tx, |c| sqlx::query("DELETE FROM agent_runtime WHERE profile_id = $1").bind(profile))?;
    for runtime in &runtimes {
        tx.emit(kinds::runtime_deleted(who.workspace, who.actor(), runtime.id));
    }
    fleet.bid_farewell(tx, runtimes);
    Ok(())
}

async fn require_no_agents(db: &mut Session, profile: RuntimeProfileId) -> Result<()> {
    let agents: Vec<SlimAgent> = on!(db, |c| sqlx::query_as(
        "SELECT a.id, a.name, a.status, a.avatar_url FROM agent a JOIN agent_runtime r ON r.id = a.runtime_id
         WHERE r.profile_id = $1 AND a.archived_at IS NULL ORDER BY a.name"
    )
    .bind(profile)
    .fetch_all(c))?;
    if agents.is_empty() {
        return Ok(());
    }
    let text = "cannot delete runtime profile: it has active agents bound to it. Archive or reassign the agents first.";
    let refusal = Error::conflict("runtime_has_active_agents", text);
    let whole = json!(agents);
    if whole.to_string().len() <= LONGEST_LIST {
        return Err(refusal.with("active_agents", &whole));
    }
    let names: Vec<_> = agents.iter().map(|agent| json!({ "id": agent.id, "name": agent.name })).collect();
    Err(refusal.with("active_agents", &names))
}

async fn require_no_squads(db: &mut Session, profile: RuntimeProfileId) -> Result<()> {
    let squads: Vec<(SquadId, String, AgentId)> = on!(db, |c| sqlx::query_as(
        "SELECT s.id, s.name, s.leader_id FROM squad s
         JOIN agent a ON a.id = s.leader_id JOIN agent_runtime r ON r.id = a.runtime_id
         WHERE r.profile_id = $1 AND s.archived_at IS NULL ORDER BY s.created_at, s.id"
    )
    .bind(profile)
    .fetch_all(c))?;
    if squads.is_empty() {
        return Ok(());
    }
    let text = "cannot delete runtime profile: archived agents bound to it lead active squads. Archive the squads or \
                give them other leaders first.";
    let list: Vec<_> =
        squads.iter().map(|(id, name, leader)| json!({ "id": id, "name": name, "leader_id": leader })).collect();
    Err(Error::conflict("runtime_has_active_squads", text).with("active_squads", &list))
}
