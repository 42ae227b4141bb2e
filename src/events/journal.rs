//! The end of a writing transaction: numbers for its events, and their rows in the log.
//!
//! The counter's row lock makes the order of numbers the order of commits, without gaps: whoever
//! holds N+1 knows that everything up to N is committed. Several workspaces' counters are locked in
//! the order of their ids, and nothing is locked after them.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::BoxFuture;
use serde::Serialize;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Lanes, log};
use crate::{
    db::{Arm, Batch, Sealed, Session, Sink, exec, on},
    error::Result,
    ids::WorkspaceId,
    protocol::event::{Audience, Event, Reduced},
    time::Timestamp,
};

/// The [`Sink`] of every [`crate::db::Db`].
pub struct Journal {
    lanes: Arc<Lanes>,
}

impl Journal {
    /// Hands committed events to these lanes.
    pub fn new(lanes: Arc<Lanes>) -> Arc<Self> {
        Arc::new(Self { lanes })
    }
}

impl Sink for Journal {
    fn seal<'a>(&'a self, tx: &'a mut Session, at: Timestamp, events: Vec<Event>) -> BoxFuture<'a, Result<Sealed>> {
        Box::pin(async move {
            let mut by_workspace: BTreeMap<WorkspaceId, Vec<Event>> = BTreeMap::new();
            for event in events {
                by_workspace.entry(event.workspace).or_default().push(event);
            }
            let mut batches = Vec::with_capacity(by_workspace.len());
            for (workspace, events) in by_workspace {
                let last = append(tx, workspace, at, &events).await?;
                batches.push(Batch { workspace, first: last + 1 - events.len() as u64, events });
            }
            Ok(Sealed(batches))
        })
    }

    fn landed<'a>(&'a self, tx: &'a mut Session, sealed: &'a Sealed) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let Some((batch, event)) = sealed.0.first().and_then(|batch| Some((batch, batch.events.first()?))) else {
                return Ok(false);
            };
            // The doubtful transaction holds this row until it has ended one way or the other; the
            // look comes in a second statement, whose snapshot is taken after that. If it is the one
            // that makes the row, only making it as well waits for it; the asker is rolled back.
            exec!(tx, |c| sqlx::query(
                "INSERT INTO event_counter (workspace_id, seq) VALUES ($1, 0) ON CONFLICT (workspace_id) DO NOTHING"
            )
            .bind(batch.workspace))?;
            on!(
                tx,
                pg "SELECT seq FROM event_counter WHERE workspace_id = $1 FOR UPDATE",
                lite "SELECT seq FROM event_counter WHERE workspace_id = $1",
                |c, sql| sqlx::query_scalar::<_, i64>(sql).bind(batch.workspace).fetch_optional(c)
            )?;
            let found: Option<Uuid> =
                on!(tx, |c| sqlx::query_scalar("SELECT id FROM event_log WHERE workspace_id = $1 AND seq = $2")
                    .bind(batch.workspace)
                    .bind(batch.first as i64)
                    .fetch_optional(c))?;
            Ok(found == Some(event.id.0))
        })
    }

    fn announce(&self, sealed: Sealed) {
        for batch in sealed.0 {
            self.lanes.hand_over(batch);
        }
    }

    fn doubt(&self, workspaces: Vec<WorkspaceId>) {
        self.lanes.doubt(&workspaces);
    }
}

/// Appends to one workspace's log and returns the last number given.
async fn append(tx: &mut Session, workspace: WorkspaceId, at: Timestamp, events: &[Event]) -> Result<u64> {
    let count = events.len() as i64;
    let bytes: i64 = events.iter().map(|event| event.size() as i64).sum();
    if matches!(tx.arm(), Arm::Sqlite(_)) {
        append_sqlite(tx, workspace, at, events, count, bytes).await
    } else {
        append_postgres(tx, workspace, at, events, count, bytes).await
    }
}

async fn append_postgres(
    tx: &mut Session,
    workspace: WorkspaceId,
    at: Timestamp,
    events: &[Event],
    count: i64,
    bytes: i64,
) -> Result<u64> {
    let Arm::Postgres(connection) = tx.arm() else { return Ok(0) };
    let ids: Vec<Uuid> = events.iter().map(|event| event.id.0).collect();
    let kinds: Vec<&str> = events.iter().map(|event| &*event.kind).collect();
    let actor_types: Vec<&str> = events.iter().map(|event| &*event.actor_type).collect();
    let actor_ids: Vec<Option<Uuid>> = events.iter().map(|event| event.actor_id).collect();
    let payloads: Vec<&str> = events.iter().map(|event| event.payload.get()).collect();
    let reduced: Vec<ReducedRow<'_>> = events.iter().map(|event| ReducedRow::of(event.reduced.as_ref())).collect();
    let audiences: Vec<Option<&str>> = reduced.iter().map(|row| row.audience).collect();
    let audience_users: Vec<Option<Uuid>> = reduced.iter().map(|row| row.user).collect();
    let reduced: Vec<Option<&str>> = reduced.iter().map(|row| row.payload).collect();
    let last: sqlx::Result<i64> = sqlx::query_scalar(
        "WITH counted AS (
             INSERT INTO event_counter AS held (workspace_id, seq, log_bytes) VALUES ($1, $2, $3)
             ON CONFLICT (workspace_id) DO UPDATE
                 SET seq = held.seq + $2, log_bytes = held.log_bytes + $3
             RETURNING seq
         ), logged AS (
             INSERT INTO event_log (workspace_id, seq, id, kind, actor_type, actor_id, payload, created_at,
                                    audience, audience_user, reduced)
             SELECT $1, counted.seq - $2 + e.place, e.id, e.kind, e.actor_type, e.actor_id, e.payload, $4,
                    e.audience, e.audience_user, e.reduced
             FROM counted, UNNEST($5::uuid[], $6::text[], $7::text[], $8::uuid[], $9::text[],
                                  $10::text[], $11::uuid[], $12::text[])
                 WITH ORDINALITY AS e (id, kind, actor_type, actor_id, payload, audience, audience_user, reduced, place)
         )
         SELECT seq FROM counted",
    )
    .bind(workspace)
    .bind(count)
    .bind(bytes)
    .bind(at)
    .bind(ids)
    .bind(kinds)
    .bind(actor_types)
    .bind(actor_ids)
    .bind(payloads)
    .bind(audiences)
    .bind(audience_users)
    .bind(reduced)
    .fetch_one(connection)
    .await;
    tx.note(last).map(|last| last as u64)
}

/// The columns of what those outside an audience get.
struct ReducedRow<'a> {
    audience: Option<&'a str>,
    user: Option<Uuid>,
    payload: Option<&'a str>,
}

impl<'a> ReducedRow<'a> {
    fn of(reduced: Option<&'a Reduced>) -> Self {
        let Some(Reduced { audience, payload }) = reduced else {
            return Self { audience: None, user: None, payload: None };
        };
        let (audience, user) = match audience {
            Audience::Only(user) => (log::ONLY, user),
            Audience::OwnerAndAdmins(user) => (log::OWNER_AND_ADMINS, user),
        };
        Self { audience: Some(audience), user: Some(user.0), payload: Some(payload.get()) }
    }
}

/// A row for SQLite's `json_each`; ids as hex, since JSON has no bytes.
#[derive(Serialize)]
struct Row<'a>(String, &'a str, &'a str, Option<String>, &'a str, Option<&'a str>, Option<String>, Option<&'a str>);

async fn append_sqlite(
    tx: &mut Session,
    workspace: WorkspaceId,
    at: Timestamp,
    events: &[Event],
    count: i64,
    bytes: i64,
) -> Result<u64> {
    let last: i64 = on!(tx, |c| sqlx::query_scalar(
        "INSERT INTO event_counter AS held (workspace_id, seq, log_bytes) VALUES ($1, $2, $3)
         ON CONFLICT (workspace_id) DO UPDATE
             SET seq = held.seq + excluded.seq, log_bytes = held.log_bytes + excluded.log_bytes
         RETURNING seq"
    )
    .bind(workspace)
    .bind(count)
    .bind(bytes)
    .fetch_one(c))?;
    let rows: Vec<Row<'_>> = events
        .iter()
        .map(|event| {
            let reduced = ReducedRow::of(event.reduced.as_ref());
            Row(
                event.id.0.simple().to_string(),
                &event.kind,
                &event.actor_type,
                event.actor_id.map(|id| id.simple().to_string()),
                event.payload.get(),
                reduced.audience,
                reduced.user.map(|id| id.simple().to_string()),
                reduced.payload,
            )
        })
        .collect();
    exec!(tx, |c| sqlx::query(
        "INSERT INTO event_log (workspace_id, seq, id, kind, actor_type, actor_id, payload, created_at,
                                audience, audience_user, reduced)
         SELECT $1, $2 + e.key + 1, unhex(e.value ->> 0), e.value ->> 1, e.value ->> 2,
                unhex(e.value ->> 3), e.value ->> 4, $3, e.value ->> 5, unhex(e.value ->> 6), e.value ->> 7
         FROM json_each($4) AS e"
    )
    .bind(workspace)
    .bind(last - count)
    .bind(at)
    .bind(Json(rows)))?;
    Ok(last as u64)
}
