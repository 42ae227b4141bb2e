//! Tasks that a restarted daemon left behind. It says so itself when it starts, and its tasks fail
//! with a chance of being tried again. A daemon of June also says so when it has only lost one of its
//! runtimes, of all the others too, whose agents still run: after such a loss a task that is still
//! heard of is spared, and fails only if it falls silent.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;

use super::{
    Queue, Row, Voice,
    ends::{Failure, Held},
    overdue::{TOGETHER, find_all},
    reasons,
    status::{Operation, active, in_flight},
};
use crate::{
    db::{Session, Tx, exec, on},
    error::Result,
    fleet::TASK_HEARD,
    identity::Driver,
    ids::{RuntimeId, TaskId, WorkspaceId},
    time::Timestamp,
};

/// Tasks that are looked at in one sweep at most.
const MOST: i64 = 500;

/// What became of a daemon's orphans.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// How many failed.
    pub orphaned: usize,
    /// How many of those are tried again.
    pub retried: usize,
}

fn failure() -> Failure {
    Failure::found("daemon restarted while task was in flight", reasons::RUNTIME_RECOVERY)
}

impl Queue {
    /// A daemon that was let in, or an owner or admin, says that nothing of a runtime's runs any more.
    pub async fn recover_orphans(
        self: &Arc<Self>,
        driver: &Driver,
        workspace: WorkspaceId,
        runtime: RuntimeId,
        began: Timestamp,
    ) -> Result<Recovered> {
        let found: Vec<Row> = self.db.read(async move |db| left_behind(db, runtime, began).await).await?;
        if found.is_empty() {
            return Ok(Recovered::default());
        }
        let ids: Vec<TaskId> = found.iter().map(|row| row.id).collect();
        let runs = match self.fleet.was_told_gone(driver.user).await {
            Some(false) => BTreeSet::new(),
            // Nobody knows, if the store that would know does not answer: then time will tell.
            told => match (told, self.fleet.heard_of(&ids).await) {
                (Some(true), Some(heard)) => since(&heard, self.db.clock().now().minus(TASK_HEARD)),
                _ => ids.iter().copied().collect(),
            },
        };
        let queue = self.clone();
        let left = Left { runtime, began, seen: ids.into_iter().collect(), runs };
        self.db.write(workspace, async move |tx| queue.recover(tx, workspace, &left).await).await
    }

    async fn recover(self: &Arc<Self>, tx: &mut Tx, workspace: WorkspaceId, left: &Left) -> Result<Recovered> {
        let &Left { runtime, began, .. } = left;
        let planned = left_behind(tx, runtime, began).await?;
        let held = Held::take(tx, workspace, &planned).await?;
        let rows = left_behind(tx, runtime, began).await?;
        // What was claimed since was nobody's to lose.
        let rows = rows.into_iter().filter(|row| held.has(row.agent_id) && left.seen.contains(&row.id));
        let (spared, lost): (Vec<Row>, Vec<Row>) = rows.partition(|row| left.runs.contains(&row.id));
        let now = tx.now();
        for row in &spared {
            on!(tx, |c| async {
                sqlx::query("UPDATE task SET orphan_check_at = $2 WHERE id = $1")
                    .bind(row.id)
                    .bind(now)
                    .execute(c)
                    .await
                    .map(drop)
            })?;
        }
        let failed = self.fail_all(tx, &held, lost, &failure()).await?;
        let recovered = Recovered { orphaned: failed.rows.len(), retried: failed.retried.len() };
        let spared = spared.len();
        tx.after_commit(move || tracing::info!(%runtime, ?recovered, spared, "recovered orphans"));
        Ok(recovered)
    }

    /// Spared tasks that have fallen silent since fail; those that were heard of are no orphans. Returns
    /// how many failed.
    pub async fn sweep_orphans(self: &Arc<Self>) -> Result<usize> {
        let before = self.db.clock().now().minus(TASK_HEARD + Duration::from_secs(1));
        let due: Vec<Row> = self
            .db
            .read(async move |db| {
                on!(db, |c| sqlx::query_as(concat!(
                    "SELECT * FROM task WHERE orphan_check_at < $1 AND status IN ",
                    in_flight!(),
                    " ORDER BY orphan_check_at LIMIT $2"
                ))
                .bind(before)
                .bind(MOST)
                .fetch_all(c))
            })
            .await?;
        let ids: Vec<TaskId> = due.iter().map(|row| row.id).collect();
        // Later, if nobody knows.
        let Some(heard) = self.fleet.heard_of(&ids).await else { return Ok(0) };
        let heard = Arc::new(heard);
        let mut by_workspace: BTreeMap<WorkspaceId, Vec<Row>> = BTreeMap::new();
        due.into_iter().for_each(|row| by_workspace.entry(row.workspace_id).or_default().push(row));
        let mut count = 0;
        for (workspace, rows) in by_workspace {
            for rows in rows.chunks(TOGETHER) {
                let (queue, rows, heard) = (self.clone(), rows.to_vec(), heard.clone());
                match self
                    .db
                    .write(workspace, async move |tx| queue.settle(tx, workspace, &rows, &heard, before).await)
                    .await
                {
                    Ok(failed) => count += failed,
                    Err(error) => tracing::warn!(%workspace, %error, "settling what became of suspected orphans"),
                }
            }
        }
        Ok(count)
    }

    async fn settle(
        self: &Arc<Self>,
        tx: &mut Tx,
        workspace: WorkspaceId,
        rows: &[Row],
        heard: &BTreeMap<TaskId, Timestamp>,
        before: Timestamp,
    ) -> Result<usize> {
        let held = Held::take(tx, workspace, rows).await?;
        let ids: Vec<TaskId> = rows.iter().map(|row| row.id).collect();
        // Those that are not suspected anew: what was heard of says nothing about that.
        let mut suspected = find_all(tx, &ids).await?;
        suspected
            .retain(|row| row.orphan_check_at.is_some_and(|at| at < before) && Operation::Fail.applies_to(row.status));
        let (spared, lost): (Vec<Row>, Vec<Row>) =
            suspected.into_iter().partition(|row| heard.get(&row.id).copied() >= row.orphan_check_at);
        for row in &spared {
            acquit(tx, row.id, row.orphan_check_at).await?;
        }
        Ok(self.fail_all(tx, &held, lost, &failure()).await?.rows.len())
    }

    /// A task was heard of. If it is suspected, its row says so as well: whoever settles what became of it
    /// may not be able to ask the lease store. Nobody waits for it.
    pub(super) fn hear_of_suspect(&self, voice: &Voice) {
        let (Some(suspected), workspace, task) = (voice.orphan_check_at, voice.workspace_id, voice.id) else { return };
        let db = self.db.clone();
        tokio::spawn(async move {
            if let Err(error) = db.write(workspace, async move |tx| acquit(tx, task, Some(suspected)).await).await {
                tracing::debug!(%task, %error, "noting that a suspected orphan is none");
            }
        });
    }
}

/// A task is under a suspicion no longer.
async fn acquit(tx: &mut Tx, task: TaskId, suspected: Option<Timestamp>) -> Result<()> {
    exec!(tx, |c| sqlx::query("UPDATE task SET orphan_check_at = NULL WHERE id = $1 AND orphan_check_at = $2")
        .bind(task)
        .bind(suspected))
    .map(drop)
}

/// What a daemon may have left behind, as far as anybody knows.
struct Left {
    runtime: RuntimeId,
    /// When it began to say so: what it was given since is at work.
    began: Timestamp,
    seen: BTreeSet<TaskId>,
    /// Of which a call came a short while ago, or may have come.
    runs: BTreeSet<TaskId>,
}

/// Those that were heard of since some time.
fn since(heard: &BTreeMap<TaskId, Timestamp>, since: Timestamp) -> BTreeSet<TaskId> {
    heard.iter().filter(|(_, at)| **at >= since).map(|(task, _)| *task).collect()
}

async fn left_behind(db: &mut Session, runtime: RuntimeId, began: Timestamp) -> Result<Vec<Row>> {
    on!(db, |c| sqlx::query_as(concat!(
        "SELECT * FROM task WHERE runtime_id = $1 AND dispatched_at < $2 AND status IN ",
        in_flight!(),
        " AND status IN ",
        // For the index.
        active!(),
        " ORDER BY created_at, id"
    ))
    .bind(runtime)
    .bind(began)
    .fetch_all(c))
}
