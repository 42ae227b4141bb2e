//! What a removed workspace held goes, some at a time, so that nobody else waits for it; its log and its
//! counter a day later, for whoever has yet to hear of the end, and with them the workspace itself.

use std::time::Duration;

use crate::{
    db::{Db, Session, exec, on},
    error::Result,
    ids::WorkspaceId,
    time::Timestamp,
};

/// How long the log outlives its workspace.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Rows that go in one transaction.
const TOGETHER: i64 = 500;
/// The same of files, which are large.
const FILES_TOGETHER: i64 = 10;

/// Some rows of a table by their own id.
macro_rules! own {
    ($table:literal) => {
        concat!("DELETE FROM ", $table, " WHERE id IN (SELECT id FROM ", $table, " WHERE workspace_id = $1 LIMIT $2)")
    };
}

/// Some rows of a table that belong to rows of another.
macro_rules! of {
    ($table:literal, $key:literal, $parent:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE id IN (SELECT c.id FROM ",
            $parent,
            " p JOIN ",
            $table,
            " c ON c.",
            $key,
            " = p.id WHERE p.workspace_id = $1 LIMIT $2)"
        )
    };
}

/// What goes, in an order in which nothing is left that something else rests on.
const STEPS: &[(&str, i64)] = &[
    (own!("attachment"), FILES_TOGETHER),
    // Answers before what they answer.
    (
        "DELETE FROM comment WHERE id IN (
             SELECT id FROM comment c WHERE workspace_id = $1
                 AND NOT EXISTS (SELECT 1 FROM comment a WHERE a.parent_id = c.id) LIMIT $2)",
        TOGETHER,
    ),
    (
        "DELETE FROM task_message WHERE (task_id, pos) IN (
             SELECT m.task_id, m.pos FROM task_stream s JOIN task_message m ON m.task_id = s.task_id
             WHERE s.workspace_id = $1 LIMIT $2)",
        TOGETHER,
    ),
    (
        "DELETE FROM task_stream WHERE task_id IN (SELECT task_id FROM task_stream WHERE workspace_id = $1 LIMIT $2)",
        TOGETHER,
    ),
    (
        "DELETE FROM task_usage WHERE (task_id, provider, model) IN (
             SELECT task_id, provider, model FROM task_usage WHERE workspace_id = $1 LIMIT $2)",
        TOGETHER,
    ),
    (own!("task_token"), TOGETHER),
    (own!("task"), TOGETHER),
    (own!("issue_activity"), TOGETHER),
    (own!("issue"), TOGETHER),
    (of!("chat_message", "chat_session_id", "chat_session"), TOGETHER),
    (own!("chat_session"), TOGETHER),
    (of!("autopilot_run", "autopilot_id", "autopilot"), TOGETHER),
    (own!("autopilot"), TOGETHER),
    (own!("project"), TOGETHER),
    (own!("squad"), TOGETHER),
    (own!("skill"), TOGETHER),
    (own!("agent"), TOGETHER),
    (own!("agent_runtime"), TOGETHER),
    (own!("runtime_profile"), TOGETHER),
    (own!("daemon_token"), TOGETHER),
    (own!("member"), TOGETHER),
];

/// What stays for a day.
const LAST: &[&str] = &["DELETE FROM event_log WHERE (workspace_id, seq) IN (
         SELECT workspace_id, seq FROM event_log WHERE workspace_id = $1 LIMIT $2)"];

/// Of which there are a few rows at most: what goes after the rest, and what goes last of all.
const FEW: &[&str] =
    &["DELETE FROM issue_tally WHERE workspace_id = $1", "DELETE FROM issue_number WHERE workspace_id = $1"];
const FEW_LAST: &[&str] = &["DELETE FROM event_counter WHERE workspace_id = $1", "DELETE FROM workspace WHERE id = $1"];

#[derive(sqlx::FromRow)]
struct Removed {
    id: WorkspaceId,
    deleted_at: Timestamp,
    emptied_at: Option<Timestamp>,
}

/// Removes what is left of removed workspaces; how many rows. One that fails does not hold up the others.
pub async fn purge(db: &Db) -> Result<u64> {
    let (mut rows, mut trouble) = (0, None);
    for removed in db.read(async |db| removed(db).await).await? {
        match purge_one(db, &removed).await {
            Ok(gone) => rows += gone,
            Err(error) => {
                tracing::warn!(workspace = %removed.id, %error, "a removed workspace could not be purged");
                trouble = trouble.or(Some(error));
            }
        }
    }
    trouble.map_or(Ok(rows), Err)
}

async fn purge_one(db: &Db, removed: &Removed) -> Result<u64> {
    let id = removed.id;
    let is_due = removed.deleted_at.plus(REMEMBERED) < db.clock().now();
    let mut rows = 0;
    // Once, and once more at the end, for what was under way when it was removed.
    if removed.emptied_at.is_none() || is_due {
        for &(sql, together) in STEPS {
            rows += all(db, id, sql, together).await?;
        }
        rows += few(db, id, FEW).await?;
    }
    if is_due {
        for &sql in LAST {
            rows += all(db, id, sql, TOGETHER).await?;
        }
        rows += few(db, id, FEW_LAST).await?;
        tracing::info!(workspace = %id, "a removed workspace is gone");
    } else if removed.emptied_at.is_none() {
        db.write_global(async move |tx| {
            let now = tx.now();
            exec!(tx, |c| sqlx::query("UPDATE workspace SET emptied_at = $2 WHERE id = $1").bind(id).bind(now))
        })
        .await?;
    }
    Ok(rows)
}

async fn removed(db: &mut Session) -> Result<Vec<Removed>> {
    on!(db, |c| sqlx::query_as(
        "SELECT id, deleted_at, emptied_at FROM workspace WHERE deleted_at IS NOT NULL ORDER BY deleted_at"
    )
    .fetch_all(c))
}

async fn few(db: &Db, workspace: WorkspaceId, statements: &'static [&'static str]) -> Result<u64> {
    db.write_global(async move |tx| {
        let mut rows = 0;
        for &sql in statements {
            rows += exec!(tx, |c| sqlx::query(sql).bind(workspace))?;
        }
        Ok(rows)
    })
    .await
}

/// All that a statement finds, some in each transaction.
async fn all(db: &Db, workspace: WorkspaceId, sql: &'static str, together: i64) -> Result<u64> {
    let mut rows = 0;
    loop {
        let gone =
            db.write_global(async move |tx| exec!(tx, |c| sqlx::query(sql).bind(workspace).bind(together))).await?;
        rows += gone;
        if gone == 0 {
            return Ok(rows);
        }
    }
}
