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

/// A contact whose runtime is to come back, and where to tell what became of it.
struct Waiting {
    runtime: RuntimeId,
    /// When the contact began.
    since: Timestamp,
    /// When it was heard: the row must not say that it was later, or a verdict on what has ended
    /// since would take it for life.
    heard: Timestamp,
    outcome: oneshot::Sender<Result<Returned>>,
}

/// Who waits, by workspace. A workspace with an entry has somebody who will write it.
#[derive(Default)]
pub(super) struct Transitions(Mutex<HashMap<WorkspaceId, Vec<Waiting>>>);

impl Fleet {
    /// Brings a runtime back online for a contact that began at `since` and was heard at `heard`.
    pub(super) async fn bring_back(
        self: &Arc<Self>,
        workspace: WorkspaceId,
        runtime: RuntimeId,
        since: Timestamp,
        heard: Timestamp,
    ) -> Result<Returned> {
        let (outcome, told) = oneshot::channel();
        let first = {
            let mut gathering = self.transitions.0.lock();
            let waiting = gathering.entry(workspace).or_default();
            waiting.push(Waiting { runtime, since, heard, outcome });
            waiting.len() == 1
        };
        if first {
            let fleet = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(GATHER.min(fleet.settings.beat_interval / 4)).await;
                fleet.write_transitions(workspace).await;
            });
        }
        told.await.map_err(|_| Error::internal("a transition was dropped"))?
    }

    async fn write_transitions(&self, workspace: WorkspaceId) {
        let waiting = self.transitions.0.lock().remove(&workspace).unwrap_or_default();
        let wanted = Wanted::of(&waiting);
        let nodes = self.nodes.clone();
        let clock = self.db.clock().clone();
        let written = self
            .db
            .write(workspace, async move |tx| {
                let rows = bring_online(tx, &wanted, clock.now()).await?;
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
                for Waiting { runtime, outcome, .. } in waiting {
                    let returned = match states.get(&runtime) {
                        Some(true) => Returned::Online,
                        Some(false) => Returned::StaysOffline,
                        None => Returned::Gone,
                    };
                    let _ = outcome.send(Ok(returned));
                }
            }
            Err(error) => {
                tracing::warn!(%workspace, %error, "bringing runtimes back online");
                for Waiting { outcome, .. } in waiting {
                    let _ = outcome.send(Err(Error::Unavailable("the database does not answer".into())));
                }
            }
        }
    }
}

/// What is written: columns, as the statement takes them.
#[derive(Default)]
struct Wanted {
    ids: Vec<RuntimeId>,
    sinces: Vec<Timestamp>,
    heard: Vec<Timestamp>,
}

impl Wanted {
    /// Of several contacts the one that began last has the best claim.
    fn of(waiting: &[Waiting]) -> Self {
        let mut latest: HashMap<RuntimeId, (Timestamp, Timestamp)> = HashMap::new();
        for Waiting { runtime, since, heard, .. } in waiting {
            let known = latest.entry(*runtime).or_insert((*since, *heard));
            *known = (known.0.max(*since), known.1.max(*heard));
        }
        let mut wanted = Self::default();
        for (id, (since, heard)) in latest {
            wanted.ids.push(id);
            wanted.sinces.push(since);
            wanted.heard.push(heard);
        }
        wanted
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
async fn bring_online(tx: &mut Tx, wanted: &Wanted, now: Timestamp) -> Result<Vec<State>> {
    let Wanted { ids, sinces, heard } = wanted;
    match tx.arm() {
        Arm::Postgres(c) => {
            let rows = sqlx::query_as(
                "WITH wanted AS (
                     SELECT r.id, r.status, r.offline_cause, r.offline_at, w.since, w.heard
                     FROM UNNEST($1::uuid[], $2::bigint[], $4::bigint[]) AS w (id, since, heard)
                     JOIN agent_runtime r ON r.id = w.id
                     ORDER BY r.id FOR NO KEY UPDATE OF r
                 ), back AS (
                     UPDATE agent_runtime r
                     SET status = 'online', offline_cause = NULL, offline_at = NULL,
                         last_seen_at = GREATEST(r.last_seen_at, w.heard), updated_at = $3
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
            .bind(heard)
            .fetch_all(c)
            .await;
            tx.note(rows)
        }
        Arm::Sqlite(c) => {
            let wanted = lists::timed_twice(ids, sinces, heard);
            let back = sqlx::query_scalar::<_, RuntimeId>(
                "UPDATE agent_runtime AS r
                 SET status = 'online', offline_cause = NULL, offline_at = NULL,
                     last_seen_at = MAX(COALESCE(r.last_seen_at, w.heard), w.heard), updated_at = $2
                 FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS since, value ->> 2 AS heard
                       FROM json_each($1)) AS w
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
