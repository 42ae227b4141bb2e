//! The tokens that tasks use, as their daemons report them: once for a task and model, the last
//! report counts. Rows say for themselves whose they are, so that reports stay right when agents,
//! runtimes and projects go.

use std::sync::Arc;

use super::{Queue, Voice, row};
use crate::{
    db::{Tx, on},
    error::Result,
    fleet,
    ids::{ProjectId, RuntimeId, TaskId},
    protocol::transcript::{ModelUsage, RejectedUsage, ReportUsage},
};

/// Rows of one report at most; those beyond are rejected.
const MOST: usize = 200;
/// Characters of a provider's or model's name.
const LONGEST_NAME: usize = 255;
/// Tokens that one row may tell of: sums of many stay exact.
const MOST_TOKENS: i64 = 1 << 50;

impl Queue {
    /// Stores the good rows of a report; which were not stored, and why.
    pub async fn note_usage(self: &Arc<Self>, voice: Voice, report: ReportUsage) -> Result<Vec<RejectedUsage>> {
        let (mut rows, mut rejected) = (Vec::new(), Vec::new());
        for (index, row) in report.usage.into_iter().enumerate() {
            match checked(index, row) {
                Ok(Some(row)) => rows.push(row),
                Ok(None) => {}
                Err(error) => rejected.push(RejectedUsage { index, error }),
            }
        }
        if rows.is_empty() {
            return Ok(rejected);
        }
        let queue = self.clone();
        self.db
            .write(voice.workspace_id, async move |tx| {
                let Place { origin_runtime_id: runtime, project_id: project } = place(tx, voice.id).await?;
                let provider = fleet::provider(tx, runtime).await?;
                for row in &rows {
                    let row = ModelUsage { provider: named(&row.provider, &provider), ..row.clone() };
                    if store(tx, &voice, runtime, project, &row).await? {
                        let queue = queue.clone();
                        tx.after_commit(move || queue.metrics.tokens(&row));
                    }
                }
                Ok(())
            })
            .await?;
        Ok(rejected)
    }
}

/// A row that can be stored; nothing of one that says nothing.
fn checked(index: usize, row: serde_json::Value) -> Result<Option<ModelUsage>, String> {
    if index >= MOST {
        return Err(format!("at most {MOST} rows"));
    }
    let row: Option<ModelUsage> = serde_json::from_value(row).map_err(|_| "invalid row".to_owned())?;
    let row = row.unwrap_or_default();
    let tokens = [row.input_tokens, row.output_tokens, row.cache_read_tokens, row.cache_write_tokens];
    if tokens.iter().any(|count| !(0..=MOST_TOKENS).contains(count)) {
        return Err("token counts must be whole numbers from 0 on".to_owned());
    }
    if [&row.provider, &row.model].iter().any(|name| name.chars().count() > LONGEST_NAME) {
        return Err(format!("provider and model have at most {LONGEST_NAME} characters"));
    }
    let provider = row.provider.trim().to_lowercase();
    let model = row.model.trim().to_owned();
    Ok(Some(ModelUsage { provider, model, ..row }).filter(|_| tokens.iter().any(|count| *count > 0)))
}

fn named(provider: &str, of_runtime: &str) -> String {
    let named = [provider, of_runtime, "unknown"].into_iter().find(|name| !name.is_empty());
    named.unwrap_or_default().to_owned()
}

/// Where a task's tokens were used.
#[derive(sqlx::FromRow)]
struct Place {
    origin_runtime_id: RuntimeId,
    project_id: Option<ProjectId>,
}

/// As it is now, and stays until the report is stored: a runtime that is merged into another takes its usage
/// along, this report's or the one before.
async fn place(tx: &mut Tx, task: TaskId) -> Result<Place> {
    let place: Option<Place> = on!(
        tx,
        pg "SELECT t.origin_runtime_id, (SELECT project_id FROM issue WHERE id = t.issue_id) AS project_id
            FROM task t WHERE t.id = $1 FOR SHARE OF t",
        lite "SELECT t.origin_runtime_id, (SELECT project_id FROM issue WHERE id = t.issue_id) AS project_id
              FROM task t WHERE t.id = $1",
        |c, sql| sqlx::query_as(sql).bind(task).fetch_optional(c)
    )?;
    place.ok_or_else(row::not_found)
}

/// Whether the row is new.
async fn store(
    tx: &mut Tx,
    voice: &Voice,
    runtime: RuntimeId,
    project: Option<ProjectId>,
    row: &ModelUsage,
) -> Result<bool> {
    let now = tx.now();
    on!(tx, |c| sqlx::query_scalar(
        "INSERT INTO task_usage (task_id, provider, model, workspace_id, runtime_id, agent_id, issue_id, project_id,
                                 input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, created_at,
                                 updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)
         ON CONFLICT (task_id, provider, model) DO UPDATE SET
             input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
             cache_read_tokens = excluded.cache_read_tokens, cache_write_tokens = excluded.cache_write_tokens,
             updated_at = excluded.updated_at + 1
         RETURNING created_at = updated_at"
    )
    .bind(voice.id)
    .bind(&row.provider)
    .bind(&row.model)
    .bind(voice.workspace_id)
    .bind(runtime)
    .bind(voice.agent_id)
    .bind(voice.issue_id)
    .bind(project)
    .bind(row.input_tokens)
    .bind(row.output_tokens)
    .bind(row.cache_read_tokens)
    .bind(row.cache_write_tokens)
    .bind(now)
    .fetch_one(c))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_is_stored_as_named_unless_it_is_bad_or_says_nothing() {
        let row = checked(0, json!({ "provider": " Claude ", "model": "m", "input_tokens": 1, "cost_usd_ticks": 5 }));
        let row = row.expect("good").expect("something");
        assert_eq!((row.provider.as_str(), row.input_tokens, row.output_tokens), ("claude", 1, 0));
        assert_eq!(checked(0, json!(null)), Ok(None));
        assert_eq!(checked(0, json!({ "model": "m" })), Ok(None));
        for bad in
            [json!(1), json!({ "input_tokens": -1 }), json!({ "input_tokens": "1" }), json!({ "input_tokens": 1.5 })]
        {
            assert!(checked(0, bad.clone()).is_err(), "{bad}");
        }
        assert!(checked(MOST, json!({ "input_tokens": 1 })).is_err());
        assert_eq!((named("a", "b"), named("", "b"), named("", "")), ("a".into(), "b".into(), "unknown".into()));
    }
}
