//! Issues: what work is about.

pub mod activity;
mod assignee;
mod dates;
mod insert;
pub mod list;
pub mod metadata;
mod number;
mod tree;
mod write;

use sqlx::types::Json;
use uuid::Uuid;

use crate::{
    db::{Session, Tx, on},
    error::{Error, Result},
    ids::{IssueId, ProjectId, WorkspaceId},
    protocol::issue::{Issue, Metadata},
    time::Timestamp,
    workspace::attachments,
};

pub use assignee::Assignee;
pub use insert::{OfRun, create_for_run};
pub use tree::children;
pub use write::{
    Change, create, delete, files_changed, leave_project, lock_to_delete, made_in, note_executed, pass_on, put,
    set_status,
};

/// What an issue may be.
pub const STATUSES: &[&str] = &["backlog", "todo", "in_progress", "in_review", "done", "blocked", "cancelled"];

#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
struct Row {
    id: IssueId,
    workspace_id: WorkspaceId,
    number: i64,
    title: String,
    description: Option<String>,
    status: String,
    priority: String,
    assignee_type: Option<String>,
    assignee_id: Option<Uuid>,
    creator_type: String,
    creator_id: Uuid,
    parent_issue_id: Option<IssueId>,
    project_id: Option<ProjectId>,
    position: f64,
    start_date: Option<String>,
    due_date: Option<String>,
    metadata: Json<Metadata>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl Row {
    /// The object, without what only lists and details have.
    fn wire(self, prefix: &str) -> Issue {
        Issue {
            identifier: format!("{prefix}-{}", self.number),
            id: self.id,
            workspace_id: self.workspace_id,
            number: self.number,
            title: self.title,
            description: self.description,
            status: self.status,
            priority: self.priority,
            assignee_type: self.assignee_type,
            assignee_id: self.assignee_id,
            creator_type: self.creator_type,
            creator_id: self.creator_id,
            parent_issue_id: self.parent_issue_id,
            project_id: self.project_id,
            position: self.position,
            start_date: self.start_date,
            due_date: self.due_date,
            created_at: self.created_at,
            updated_at: self.updated_at,
            metadata: self.metadata.0,
            labels: None,
            reactions: None,
            attachments: None,
        }
    }
}

/// Whether nothing more is to be done about an issue.
pub fn is_closed(status: &str) -> bool {
    ["done", "cancelled"].contains(&status)
}

/// The issue that a path names, by its id or as `PREFIX-7`.
pub async fn resolve(db: &mut Session, workspace: WorkspaceId, reference: &str) -> Result<IssueId> {
    let found: Option<IssueId> = if let Ok(id) = reference.parse::<IssueId>() {
        on!(db, |c| sqlx::query_scalar("SELECT id FROM issue WHERE id = $1 AND workspace_id = $2")
            .bind(id)
            .bind(workspace)
            .fetch_optional(c))?
    } else if let Some((prefix, number)) = identifier(reference) {
        on!(db, |c| sqlx::query_scalar(
            "SELECT i.id FROM issue i JOIN workspace w ON w.id = i.workspace_id
             WHERE i.workspace_id = $1 AND i.number = $2 AND w.issue_prefix = $3"
        )
        .bind(workspace)
        .bind(number)
        .bind(prefix)
        .fetch_optional(c))?
    } else {
        None
    };
    found.ok_or_else(not_found)
}

/// `prefix-7` in its parts, the prefix in capitals.
fn identifier(reference: &str) -> Option<(String, i64)> {
    let (prefix, digits) = reference.rsplit_once('-')?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && !prefix.contains('\0');
    plain.then(|| Some((prefix.to_uppercase(), digits.parse().ok()?))).flatten()
}

/// One with all its details.
pub async fn get(db: &mut Session, workspace: WorkspaceId, issue: IssueId) -> Result<Issue> {
    let found = plain(db, workspace, issue).await?;
    let attachments = Some(attachments::of_issue(db, issue).await?);
    Ok(Issue { labels: Some([]), reactions: Some([]), attachments, ..found })
}

/// One as events and changes have it.
pub async fn plain(db: &mut Session, workspace: WorkspaceId, issue: IssueId) -> Result<Issue> {
    let row = find(db, workspace, issue).await?.ok_or_else(not_found)?;
    Ok(row.wire(&prefix(db, workspace).await?))
}

/// Where an issue of any workspace is, how it is, and since when it is as it is.
pub async fn standing(db: &mut Session, issue: IssueId) -> Result<Option<(WorkspaceId, String, Timestamp)>> {
    on!(db, |c| sqlx::query_as("SELECT workspace_id, status, updated_at FROM issue WHERE id = $1")
        .bind(issue)
        .fetch_optional(c))
}

/// One under a lock that other changes of it wait for.
pub async fn lock(tx: &mut Tx, workspace: WorkspaceId, issue: IssueId) -> Result<Issue> {
    let row = lock_row(tx, workspace, issue).await?;
    Ok(row.wire(&prefix(tx, workspace).await?))
}

/// The refusal for issues that are not there or not the workspace's.
pub fn not_found() -> Error {
    Error::not_found("issue_not_found", "issue not found")
}

async fn find(db: &mut Session, workspace: WorkspaceId, issue: IssueId) -> Result<Option<Row>> {
    on!(db, |c| sqlx::query_as("SELECT * FROM issue WHERE id = $1 AND workspace_id = $2")
        .bind(issue)
        .bind(workspace)
        .fetch_optional(c))
}

async fn lock_row(tx: &mut Tx, workspace: WorkspaceId, issue: IssueId) -> Result<Row> {
    let row: Option<Row> = on!(
        tx,
        pg "SELECT * FROM issue WHERE id = $1 AND workspace_id = $2 FOR NO KEY UPDATE",
        lite "SELECT * FROM issue WHERE id = $1 AND workspace_id = $2",
        |c, sql| sqlx::query_as(sql).bind(issue).bind(workspace).fetch_optional(c)
    )?;
    row.ok_or_else(not_found)
}

/// What the workspace's issues are called by today.
async fn prefix(db: &mut Session, workspace: WorkspaceId) -> Result<String> {
    on!(db, |c| sqlx::query_scalar("SELECT issue_prefix FROM workspace WHERE id = $1").bind(workspace).fetch_one(c))
}

/// The key by which titles are sorted and compared: lower case, single spaces, no longer than an
/// index takes.
fn title_key(title: &str) -> String {
    normalised(title).chars().take(200).collect()
}

fn normalised(title: &str) -> String {
    title.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_a_prefix_and_digits() {
        assert_eq!(identifier("abc-12"), Some(("ABC".into(), 12)));
        assert_eq!(identifier("A-B-7"), Some(("A-B".into(), 7)));
        for bad in ["", "-", "abc", "abc-", "abc-x", "abc-1x", "abc--", "abc-99999999999999999999"] {
            assert_eq!(identifier(bad), None, "{bad}");
        }
    }

    #[test]
    fn titles_are_the_same_whatever_their_case_and_blanks() {
        assert_eq!(title_key("  Fix\t the\n BUG "), "fix the bug");
        assert_eq!(title_key(&"ä".repeat(500)).chars().count(), 200);
    }
}
