//! The end of runtimes that nobody has come back to.

use std::collections::{BTreeMap, BTreeSet};

use super::{Site, Tools};
use crate::{
    db::{Db, Tx},
    error::Result,
    events::kinds,
    fleet,
    ids::{RuntimeId, WorkspaceId},
    protocol::event::Actor,
    tasks,
    time::Timestamp,
};

/// Removes them, some at a time; returns how many went. A workspace that fails does not hold up the others.
pub async fn remove_forgotten(db: &Db, tools: &Tools) -> Result<usize> {
    let before = tools.fleet.forgotten_since();
    let forgotten = db.read(async move |db| fleet::forgotten(db, before).await).await?;
    let mut by_workspace: BTreeMap<WorkspaceId, Vec<RuntimeId>> = BTreeMap::new();
    forgotten.into_iter().for_each(|(workspace, id)| by_workspace.entry(workspace).or_default().push(id));
    let (mut count, mut trouble) = (0, None);
    for (workspace, ids) in by_workspace {
        let tools = tools.clone();
        match db.write(workspace, async move |tx| remove(tx, &tools, &ids, before).await).await {
            Ok(removed) => count += removed,
            Err(error) => {
                tracing::warn!(%workspace, %error, "runtimes that nobody came back to could not be removed");
                trouble = trouble.or(Some(error));
            }
        }
    }
    trouble.map_or(Ok(count), Err)
}

async fn remove(tx: &mut Tx, tools: &Tools, ids: &[RuntimeId], before: Timestamp) -> Result<usize> {
    tx.allow_long_statements().await?;
    let runtimes = fleet::condemn_forgotten(tx, ids, before).await?;
    if runtimes.is_empty() {
        return Ok(0);
    }
    let mut site = Site::survey(tx, runtimes).await?;
    // One that an agent was bound to meanwhile is not forgotten.
    let needed: BTreeSet<RuntimeId> = site.agents.drain(..).map(|agent| agent.runtime_id).collect();
    site.runtimes.retain(|runtime| !needed.contains(&runtime.id));
    if site.runtimes.is_empty() {
        return Ok(0);
    }
    // Agents that have moved elsewhere may have left work there.
    let tasks_cancelled = site.end_work(tx, &tools.queue, true).await?;
    let (workspace, ids) = (site.workspace, site.runtime_ids());
    tasks::let_go(tx, &ids, &[]).await?;
    fleet::remove(tx, &site.runtimes).await?;
    tx.emit(kinds::runtimes_changed(workspace, Actor::System, "runtime_gc", &ids));
    let (fleet, runtimes, count) = (tools.fleet.clone(), site.runtimes, ids.len());
    tx.after_commit(move || {
        fleet.removed(&runtimes);
        tracing::info!(%workspace, runtimes = ?ids, tasks_cancelled, "runtimes removed: offline for too long");
    });
    Ok(count)
}
