//! Runtimes that come back: offline to online, as one statement and one event per workspace for
//! what gathers within a quarter of a second. A hub that restarts in front of a thousand daemons
//! would write as many transactions otherwise.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Fleet, runtimes::ONLINE};
use crate::{
    db::{Arm, Tx, lists},
    error::{Error, Result},
    events::{Control, kinds},
    ids::{RuntimeId, WorkspaceId},
    protocol::event::Actor,
    time::Timestamp,
};

/// How long others are waited for.
const GATHER: Duration = Duration::from_millis(250);

/// What became of a runtime that a beat wanted back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Returned {
    Online,
    /// It was taken offline on purpose, after the contact began.
    StaysOffline,
    Gone,
}

/// Somebody who waits: for which runtime, since when, and where to tell them.
type Waiting = (RuntimeId, Timestamp, oneshot::Sender<Result<Returned>>);

/// Who waits, by workspace. A workspace with an entry has somebody who will write it.
#[derive(Default)]
pub(super) struct Transitions(Mutex<HashMap<WorkspaceId, Vec<Waiting>>>);

impl Fleet {
    /// Brings a runtime back online for a contact that began at `since`.
    pub(super) async fn bring_back(
        self: &Arc<Self>,
        workspace: WorkspaceId,
        runtime: RuntimeId,
        since: Timestamp,
    ) -> Result<Returned> {
        let (waiter, outcome) = oneshot::channel();
        let first = {
            let mut gathering = self.transitions.0.lock();
            let waiting = gathering.entry(workspace).or_default();
            waiting.push((runtime, since, waiter));
            waiting.len() == 1
        };
        if first {
            let fleet = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(GATHER.min(fleet.settings.beat_interval / 4)).await;
                fleet.write_transitions(workspace).await;
            });
        }
        outcome.await.map_err(|_| Error::internal("a transition was dropped"))?
    }

    async fn write_transitions(&self, workspace: WorkspaceId) {
        let waiting = self.transitions.0.lock().remove(&workspace).unwrap_or_default();
        // Of several contacts the one that began last has the best claim.
        let mut wanted: HashMap<RuntimeId, Timestamp> = HashMap::new();
        for (runtime, since, _) in &waiting {
            let latest = wanted.entry(*runtime).or_insert(*since);
            *latest = (*latest).max(*since);
        }
        let (ids, sinces): (Vec<RuntimeId>, Vec<Timestamp>) = wanted.into_iter().unzip();
        let nodes = self.nodes.clone();
        let clock = self.db.clock().clone();
        let written = self
            .db
            .write(workspace, async move |tx| {
                let rows = bring_online(tx, &ids, &sinces, clock.now()).await?;
                let back: Vec<RuntimeId> = rows.iter().filter(|row| row.changed).map(|row| row.id).collect();
                if !back.is_empty() {
                    tx.emit(kinds::runtimes_changed(workspace, Actor::System, "online", &back));
                    let nodes = nodes.clone();
                    tx.after_commit(move || nodes.tell(Control::RuntimesChanged { ids: back }));
                }
                Ok(rows.into_iter().map(|row| (row.id, row.status == ONLINE)).collect::<HashMap<_, _>>())
            })
            .await;
        match written {
            Ok(states) => {
                for (runtime, _, waiter) in waiting {
                    let outcome = match states.get(&runtime) {
                        Some(true) => Returned::Online,
                        Some(false) => Returned::StaysOffline,
                        None => Returned::Gone,
                    };
                    let _ = waiter.send(Ok(outcome));
                }
            }
            Err(error) => {
                tracing::warn!(%workspace, %error, "bringing runtimes back online");
                for (.., waiter) in waiting {
                    let _ = waiter.send(Err(Error::Unavailable("the database does not answer".into())));
                }
            }
        }
    }
}

#[derive(sqlx::FromRow)]
struct State {
    id: RuntimeId,
    status: String,
    changed: bool,
}

/// Sets those online that may be; gives the state of all that there are. A runtime that was
/// deregistered comes back for a contact that began later, a revoked one by registration only.
async fn bring_online(tx: &mut Tx, ids: &[RuntimeId], sinces: &[Timestamp], now: Timestamp) -> Result<Vec<State>> {
    match tx.arm() {
        Arm::Postgres(c) => {
            let rows = sqlx::query_as(
                "WITH wanted AS (
                     SELECT r.id, r.status, r.offline_cause, r.offline_at, w.since
                     FROM UNNEST($1::uuid[], $2::bigint[]) AS w (id, since) JOIN agent_runtime r ON r.id = w.id
                     ORDER BY r.id FOR NO KEY UPDATE OF r
                 ), back AS (
                     UPDATE agent_runtime r
                     SET status = 'online', offline_cause = NULL, offline_at = NULL, last_seen_at = $3, updated_at = $3
                     FROM wanted w
                     WHERE r.id = w.id AND (
                         (w.status = 'online' AND r.last_seen_at IS NULL)
                         OR (w.status = 'offline' AND CASE COALESCE(w.offline_cause, '')
                             WHEN 'revoked' THEN false
                             WHEN 'deregistered' THEN w.offline_at IS NULL OR w.since > w.offline_at
                             ELSE true END))
                     RETURNING r.id
                 )
                 SELECT w.id, CASE WHEN b.id IS NULL THEN w.status ELSE 'online' END AS status,
                        b.id IS NOT NULL AS changed
                 FROM wanted w LEFT JOIN back b ON b.id = w.id",
            )
            .bind(ids)
            .bind(sinces)
            .bind(now)
            .fetch_all(c)
            .await;
            tx.note(rows)
        }
        Arm::Sqlite(c) => {
            let wanted = lists::timed(ids, sinces);
            let back = sqlx::query_scalar::<_, RuntimeId>(
                "UPDATE agent_runtime AS r
                 SET status = 'online', offline_cause = NULL, offline_at = NULL, last_seen_at = $2, updated_at = $2
                 FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS since FROM json_each($1)) AS w
                 WHERE r.id = w.id AND (
                     (r.status = 'online' AND r.last_seen_at IS NULL)
                     OR (r.status = 'offline' AND CASE COALESCE(r.offline_cause, '')
                         WHEN 'revoked' THEN 0
                         WHEN 'deregistered' THEN r.offline_at IS NULL OR w.since > r.offline_at
                         ELSE 1 END))
                 RETURNING id",
            )
            .bind(&wanted)
            .bind(now)
            .fetch_all(&mut *c)
            .await;
            let rows = sqlx::query_as::<_, (RuntimeId, String)>(
                "SELECT id, status FROM agent_runtime
                 WHERE id IN (SELECT unhex(value ->> 0) FROM json_each($1))",
            )
            .bind(&wanted)
            .fetch_all(c)
            .await;
            let back = tx.note(back)?;
            let rows = tx.note(rows)?;
            Ok(rows.into_iter().map(|(id, status)| State { id, status, changed: back.contains(&id) }).collect())
        }
    }
}
