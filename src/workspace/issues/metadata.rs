//! What an issue is marked with: up to fifty keys with a string, a number or a truth value each.

use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::types::Json;

use super::{lock, plain};
use crate::{
    db::{Session, Tx, exec},
    error::{Error, Result},
    events::kinds,
    identity::Insider,
    ids::{IssueId, WorkspaceId},
    protocol::issue::{Metadata, WholeMetadata},
};

const MOST_KEYS: usize = 50;
const LONGEST_KEY: usize = 64;
const MOST_BYTES: usize = 8 << 10;
/// Bytes of a value that is compared as it is.
const COMPARED: usize = 200;

/// An issue's metadata.
pub async fn get(db: &mut Session, workspace: WorkspaceId, issue: IssueId) -> Result<WholeMetadata> {
    Ok(WholeMetadata { metadata: plain(db, workspace, issue).await?.metadata })
}

/// Marks an issue.
pub async fn put(tx: &mut Tx, who: &Insider, issue: IssueId, key: &str, value: &Value) -> Result<WholeMetadata> {
    check_key(key)?;
    if !(value.is_string() || value.is_number() || value.is_boolean()) {
        return Err(Error::invalid("invalid_metadata", "value must be a string, a number or a boolean"));
    }
    let mut metadata = lock(tx, who.workspace, issue).await?.metadata;
    if metadata.get(key) == Some(value) {
        return Ok(WholeMetadata { metadata });
    }
    metadata.insert(key.to_owned(), value.clone());
    if metadata.len() > MOST_KEYS {
        return Err(Error::invalid("too_much_metadata", "an issue has at most 50 metadata keys"));
    }
    if Json(&metadata).0.iter().map(|(key, value)| key.len() + value.to_string().len() + 4).sum::<usize>() > MOST_BYTES
    {
        return Err(Error::invalid("too_much_metadata", "an issue's metadata is at most 8 KB"));
    }
    exec!(tx, |c| sqlx::query(
        "INSERT INTO issue_metadata (issue_id, workspace_id, key, value) VALUES ($1, $2, $3, $4)
         ON CONFLICT (issue_id, key) DO UPDATE SET value = excluded.value"
    )
    .bind(issue)
    .bind(who.workspace)
    .bind(key)
    .bind(comparable(value)))?;
    store(tx, who, issue, metadata).await
}

/// Takes a mark away; it is no error if there is none.
pub async fn delete(tx: &mut Tx, who: &Insider, issue: IssueId, key: &str) -> Result<WholeMetadata> {
    check_key(key)?;
    let mut metadata = lock(tx, who.workspace, issue).await?.metadata;
    if metadata.remove(key).is_none() {
        return Ok(WholeMetadata { metadata });
    }
    exec!(tx, |c| sqlx::query("DELETE FROM issue_metadata WHERE issue_id = $1 AND key = $2").bind(issue).bind(key))?;
    store(tx, who, issue, metadata).await
}

async fn store(tx: &mut Tx, who: &Insider, issue: IssueId, metadata: Metadata) -> Result<WholeMetadata> {
    let now = tx.now();
    exec!(tx, |c| sqlx::query("UPDATE issue SET metadata = $2, updated_at = $3 WHERE id = $1")
        .bind(issue)
        .bind(Json(&metadata))
        .bind(now))?;
    tx.emit(kinds::issue_metadata_changed(who.workspace, who.actor(), issue, &metadata));
    Ok(WholeMetadata { metadata })
}

/// A value as it is compared: `1` is `1.0`, and a long one is its hash.
pub(super) fn comparable(value: &Value) -> String {
    let whole = value.as_f64().filter(|number| value.is_f64() && number.fract() == 0.0 && number.abs() < 9e15);
    let text = whole.map_or_else(|| value.to_string(), |number| (number as i64).to_string());
    if text.len() <= COMPARED {
        return text;
    }
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check_key(key: &str) -> Result<()> {
    let mut letters = key.chars();
    let first = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    if first && key.len() <= LONGEST_KEY && letters.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
        return Ok(());
    }
    Err(Error::invalid("invalid_metadata_key", "metadata keys match ^[a-zA-Z_][a-zA-Z0-9_.-]{0,63}$"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_compared_as_what_they_are() {
        let same = |a: Value, b: Value| comparable(&a) == comparable(&b);
        assert!(same(json!(1), json!(1.0)) && !same(json!(1), json!(1.5)) && !same(json!(1), json!("1")));
        let long = "x".repeat(500);
        assert!(same(json!(long), json!(long)) && !same(json!(long), json!(format!("{long}y"))));
        assert!(comparable(&json!(long)).len() <= COMPARED);
    }

    #[test]
    fn keys_are_short_names() {
        for good in ["a", "_x", "pr.url-1", &"k".repeat(64)] {
            assert!(check_key(good).is_ok(), "{good}");
        }
        for bad in ["", "1a", "a b", "ä", ".a", &"k".repeat(65)] {
            assert!(check_key(bad).is_err(), "{bad}");
        }
    }
}
