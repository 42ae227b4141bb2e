//! Files that go along with a wish for an issue: their uploader's still, until the agent that makes the
//! issue gives them to it.

use serde_json::Value;
use sqlx::types::Json;

use super::{binding, references};
use crate::{
    db::{Session, Tx, exec, on},
    error::Result,
    identity::Insider,
    ids::AttachmentId,
};

/// Files that somebody names to go along: their own, and bound to nothing. None of them is swept as
/// long as they may still be waited for.
pub async fn require_own(tx: &mut Tx, who: &Insider, ids: &[String]) -> Result<Vec<AttachmentId>> {
    let mut wished: Vec<AttachmentId> = Vec::with_capacity(ids.len());
    for text in ids {
        let id = references::id("attachment_ids", text)?;
        if !wished.contains(&id) {
            wished.push(id);
        }
    }
    let mut sorted = wished.clone();
    sorted.sort_unstable();
    if sorted.is_empty() {
        return Ok(wished);
    }
    let rows = binding::locked(tx, who, &sorted).await?;
    if rows.len() != sorted.len() || !rows.iter().all(|row| row.is_by(who) && row.is_free()) {
        return Err(references::invalid("attachment_ids"));
    }
    let sweep_after = tx.now().plus(super::FORGOTTEN);
    for id in sorted {
        exec!(tx, |c| sqlx::query("UPDATE attachment SET sweep_after = $2 WHERE id = $1").bind(id).bind(sweep_after))?;
    }
    Ok(wished)
}

/// The files that went along with the wish that an agent is at work on; none for people.
pub(super) async fn to(db: &mut Session, who: &Insider) -> Result<Vec<AttachmentId>> {
    let Some(binding) = &who.task else { return Ok(Vec::new()) };
    let context: Option<Option<Json<Value>>> =
        on!(db, |c| sqlx::query_scalar("SELECT context FROM task WHERE id = $1 AND workspace_id = $2")
            .bind(binding.task)
            .bind(who.workspace)
            .fetch_optional(c))?;
    let context = context.flatten().map(|context| context.0).unwrap_or_default();
    if context["type"] != "quick_create" {
        return Ok(Vec::new());
    }
    let ids = context["attachment_ids"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(ids.iter().filter_map(|id| id.as_str()?.parse().ok()).collect())
}
