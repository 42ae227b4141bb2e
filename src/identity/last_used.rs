//! When tokens were last used, gathered and written now and then, so that a request costs no write.

use std::collections::HashMap;

use parking_lot::Mutex;
use uuid::Uuid;

use super::{Identity, Proof};
use crate::{
    db::{Arm, Db, Tx, lists},
    error::Result,
    time::Timestamp,
};

type Uses = HashMap<Uuid, Timestamp>;

/// What was noted since the last flush.
#[derive(Default)]
pub struct LastUsed {
    personal: Mutex<Uses>,
    daemon: Mutex<Uses>,
}

/// The update of one table, in both dialects.
struct Statement {
    postgres: &'static str,
    sqlite: &'static str,
}

macro_rules! statement {
    ($table:literal) => {
        Statement {
            postgres: concat!(
                "UPDATE ",
                $table,
                " t SET last_used_at = u.at
                 FROM UNNEST($1::uuid[], $2::bigint[]) AS u (id, at)
                 WHERE t.id = u.id AND (t.last_used_at IS NULL OR t.last_used_at < u.at)"
            ),
            sqlite: concat!(
                "UPDATE ",
                $table,
                " AS t SET last_used_at = u.at
                 FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS at FROM json_each($1)) AS u
                 WHERE t.id = u.id AND (t.last_used_at IS NULL OR t.last_used_at < u.at)"
            ),
        }
    };
}

impl LastUsed {
    /// Notes a use.
    pub fn note(&self, identity: &Identity, at: Timestamp) {
        let (uses, token) = match identity {
            Identity::Person { proof: Proof::Token(token) | Proof::Session { token, .. }, .. } => {
                (&self.personal, token.0)
            }
            Identity::Daemon(binding) => (&self.daemon, binding.token.0),
            // They live for a task.
            Identity::Agent(_) => return,
        };
        uses.lock().insert(token, at);
    }

    /// Writes what was noted; what could not be written is noted again.
    pub async fn flush(&self, db: &Db) -> Result<()> {
        flush(db, &self.personal, statement!("personal_access_token")).await?;
        flush(db, &self.daemon, statement!("daemon_token")).await
    }
}

async fn flush(db: &Db, noted: &Mutex<Uses>, statement: Statement) -> Result<()> {
    let uses = std::mem::take(&mut *noted.lock());
    if uses.is_empty() {
        return Ok(());
    }
    let (ids, times): (Vec<Uuid>, Vec<Timestamp>) = uses.iter().map(|(id, at)| (*id, *at)).unzip();
    let written = db.write_global(async move |tx| write(tx, &statement, &ids, &times).await).await;
    if written.is_err() {
        let mut noted = noted.lock();
        for (token, at) in uses {
            noted.entry(token).or_insert(at);
        }
    }
    written
}

async fn write(tx: &mut Tx, statement: &Statement, ids: &[Uuid], times: &[Timestamp]) -> Result<()> {
    let outcome = match tx.arm() {
        Arm::Postgres(c) => sqlx::query(statement.postgres).bind(ids).bind(times).execute(c).await.map(drop),
        Arm::Sqlite(c) => sqlx::query(statement.sqlite).bind(lists::timed(ids, times)).execute(c).await.map(drop),
    };
    tx.note(outcome)
}
