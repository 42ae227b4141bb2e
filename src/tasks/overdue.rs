//! Tasks that have taken too long, and those whose daemon is gone: what nobody will report the end of
//! fails by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Queue, Row,
    ends::{Failure, Held},
    reasons,
    status::Status,
};
use crate::{
    db::{Arm, Session, Tx, lists, on},
    error::Result,
    ids::{RuntimeId, TaskId, WorkspaceId},
    time::Timestamp,
};

/// Queued tasks that one sweep may end; the next one goes on.
const MOST: i64 = 500;
/// Tasks that end in one transaction: each is an event or more, and others wait meanwhile.
pub(super) const TOGETHER: usize = 100;

/// How long a task may be in a status.
struct Limit {
    status: Status,
    within: Duration,
    /// Since when it is.
    since: fn(&Row) -> Option<Timestamp>,
    /// The tasks that may be beyond it, the oldest first.
    sql: &'static str,
    error: &'static str,
    reason: &'static str,
}

macro_rules! older {
    ($status:literal, $column:literal) => {
        concat!(
            "SELECT id, workspace_id FROM task WHERE status = '",
            $status,
            "' AND ",
            $column,
            " < $1 ORDER BY ",
            $column,
            " LIMIT $2"
        )
    };
}

/// One longer than a claim is undelivered; the others a few times what agents need.
const LIMITS: [Limit; 4] = [
    Limit {
        status: Status::Dispatched,
        within: Duration::from_secs(300),
        since: |row| row.dispatched_at,
        sql: older!("dispatched", "dispatched_at"),
        error: "task timed out",
        reason: reasons::TIMEOUT,
    },
    Limit {
        status: Status::Running,
        within: Duration::from_secs(9000),
        since: |row| row.started_at,
        sql: older!("running", "started_at"),
        error: "task timed out",
        reason: reasons::TIMEOUT,
    },
    Limit {
        status: Status::WaitingLocalDirectory,
        within: Duration::from_secs(9000),
        since: |row| row.waiting_at,
        sql: older!("waiting_local_directory", "waiting_at"),
        error: "task timed out",
        reason: reasons::TIMEOUT,
    },
    Limit {
        status: Status::Queued,
        within: Duration::from_secs(7200),
        since: |row| Some(row.created_at),
        sql: older!("queued", "created_at"),
        error: "task expired in queue",
        reason: reasons::QUEUED_EXPIRED,
    },
];

impl Limit {
    fn is_passed(&self, row: &Row, now: Timestamp) -> bool {
        row.status == self.status && (self.since)(row).is_some_and(|since| now.since(since) > self.within)
    }
}

/// Why tasks were found, which has to hold still when they end.
#[derive(Clone, Copy)]
enum Finding {
    /// They are beyond it.
    Overdue(&'static Limit),
    /// Nothing has been heard of them since.
    Forsaken(Timestamp),
}

impl Finding {
    fn failure(self) -> Failure {
        match self {
            Self::Overdue(limit) => Failure::found(limit.error, limit.reason),
            Self::Forsaken(_) => Failure::found("runtime went offline", reasons::RUNTIME_OFFLINE),
        }
    }

    /// Those of some tasks, held by now, of which it holds.
    async fn still(self, tx: &mut Tx, mut rows: Vec<Row>) -> Result<Vec<Row>> {
        match self {
            Self::Overdue(limit) => {
                let now = tx.now();
                rows.retain(|row| limit.is_passed(row, now));
            }
            Self::Forsaken(silent) => {
                let forsaken: BTreeSet<TaskId> = forsaken(tx, silent).await?.iter().map(|task| task.id).collect();
                rows.retain(|row| forsaken.contains(&row.id));
            }
        }
        Ok(rows)
    }
}

#[derive(sqlx::FromRow)]
struct Found {
    id: TaskId,
    workspace_id: WorkspaceId,
}

impl Queue {
    /// Ends what has taken too long; how many. Not right after the hub was away: nobody could claim, start
    /// or report anything meanwhile, and whoever waits does so now.
    pub(super) async fn sweep_overdue(self: &Arc<Self>) -> Result<usize> {
        if self.fleet.silent_since().is_none() {
            return Ok(0);
        }
        let mut count = 0;
        for limit in &LIMITS {
            let before = self.db.clock().now().minus(limit.within);
            let found: Vec<Found> = self
                .db
                .read(async move |db| on!(db, |c| sqlx::query_as(limit.sql).bind(before).bind(MOST).fetch_all(c)))
                .await?;
            count += self.end_found(found, Finding::Overdue(limit)).await;
        }
        Ok(count)
    }

    /// Ends what daemons have that nothing is heard of any more; how many. A runtime's verdict alone ends
    /// nothing: its daemon may be back in time to report.
    pub(super) async fn sweep_forsaken(self: &Arc<Self>) -> Result<usize> {
        // What is read here is old evidence, as in the sweep of runtimes.
        let Some(silent) = self.fleet.silent_since() else { return Ok(0) };
        let found: Vec<Forsaken> = self.db.read(async move |db| forsaken(db, silent).await).await?;
        if found.is_empty() {
            return Ok(0);
        }
        let runtimes: BTreeSet<RuntimeId> = found.iter().map(|task| task.runtime_id).collect();
        let runtimes: Vec<RuntimeId> = runtimes.into_iter().collect();
        let tasks: Vec<TaskId> = found.iter().map(|task| task.id).collect();
        let (Some(living), Some(heard)) = (self.fleet.living(&runtimes).await, self.fleet.heard_of(&tasks).await)
        else {
            return Ok(0);
        };
        let is_heard = |task: &Forsaken| heard.get(&task.id).is_some_and(|at| *at >= silent);
        let lost = found.into_iter().filter(|task| !living.contains(&task.runtime_id) && !is_heard(task));
        let lost: Vec<Found> = lost.map(|Forsaken { id, workspace_id, .. }| Found { id, workspace_id }).collect();
        Ok(self.end_found(lost, Finding::Forsaken(silent)).await)
    }

    /// Tasks that were found fail, if they still are what they were found to be. What goes wrong in one
    /// workspace keeps nothing else from being done.
    async fn end_found(self: &Arc<Self>, found: Vec<Found>, finding: Finding) -> usize {
        let mut by_workspace: BTreeMap<WorkspaceId, Vec<TaskId>> = BTreeMap::new();
        found.into_iter().for_each(|task| by_workspace.entry(task.workspace_id).or_default().push(task.id));
        let mut count = 0;
        for (workspace, tasks) in by_workspace {
            for tasks in tasks.chunks(TOGETHER) {
                let (queue, tasks) = (self.clone(), tasks.to_vec());
                let ended =
                    self.db.write(workspace, async move |tx| queue.end_now(tx, workspace, &tasks, finding).await);
                match ended.await {
                    Ok(ended) => count += ended,
                    Err(error) => tracing::warn!(%workspace, %error, "ending tasks that are overdue"),
                }
            }
        }
        count
    }

    async fn end_now(
        self: &Arc<Self>,
        tx: &mut Tx,
        workspace: WorkspaceId,
        tasks: &[TaskId],
        finding: Finding,
    ) -> Result<usize> {
        let planned = find_all(tx, tasks).await?;
        let held = Held::take(tx, workspace, &planned).await?;
        let rows = find_all(tx, tasks).await?;
        let mut rows = finding.still(tx, rows).await?;
        rows.retain(|row| held.has(row.agent_id));
        if rows.is_empty() {
            return Ok(0);
        }
        let failure = finding.failure();
        let failed = self.fail_all(tx, &held, rows, &failure).await?;
        let (count, retried, error) = (failed.rows.len(), failed.retried.len(), failure.in_words().to_owned());
        tx.after_commit(move || tracing::info!(%workspace, tasks = count, retried, error, "tasks failed"));
        Ok(count)
    }
}

/// In-flight tasks of offline runtimes, and nothing is newer about any of it than `silent`.
#[derive(sqlx::FromRow)]
struct Forsaken {
    id: TaskId,
    workspace_id: WorkspaceId,
    runtime_id: RuntimeId,
}

async fn forsaken(db: &mut Session, silent: Timestamp) -> Result<Vec<Forsaken>> {
    on!(db, |c| sqlx::query_as(concat!(
        "SELECT t.id, t.workspace_id, t.runtime_id FROM agent_runtime r JOIN task t ON t.runtime_id = r.id
         WHERE r.status = 'offline' AND COALESCE(r.last_seen_at, r.created_at) < $1
           AND t.dispatched_at < $1 AND COALESCE(t.started_at, 0) < $1 AND t.status IN ",
        super::status::in_flight!(),
        " AND t.status IN ",
        // For the index.
        super::status::active!(),
        " ORDER BY t.id LIMIT $2"
    ))
    .bind(silent)
    .bind(MOST)
    .fetch_all(c))
}

/// Some tasks, by the time they were made.
pub(super) async fn find_all(db: &mut Session, tasks: &[TaskId]) -> Result<Vec<Row>> {
    let rows = match db.arm() {
        Arm::Postgres(c) => {
            sqlx::query_as("SELECT * FROM task WHERE id = ANY($1) ORDER BY created_at, id")
                .bind(tasks)
                .fetch_all(c)
                .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_as(
                "SELECT * FROM task WHERE id IN (SELECT unhex(value) FROM json_each($1)) ORDER BY created_at, id",
            )
            .bind(lists::ids(tasks.iter().copied()))
            .fetch_all(c)
            .await
        }
    };
    db.note(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_that_is_not_an_end_has_one_limit() {
        for status in super::super::status::ALL {
            let limits = LIMITS.iter().filter(|limit| limit.status == status).count();
            assert_eq!(limits, usize::from(super::super::status::Operation::Cancel.applies_to(status)), "{status:?}");
        }
        for limit in &LIMITS {
            assert!(limit.sql.contains(&format!("'{}'", limit.status.word())), "{}", limit.sql);
        }
    }
}
