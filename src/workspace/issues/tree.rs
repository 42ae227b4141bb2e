//! Issues below issues.

use super::{Row, prefix};
use crate::{
    db::{Session, on},
    error::{Error, Result},
    ids::{IssueId, WorkspaceId},
    protocol::issue::Issue,
    workspace::references,
};

/// Levels below each other at most.
const DEEPEST: usize = 10;

/// The issue that another one is to be below; `None` for the topmost.
pub(super) async fn parent(
    db: &mut Session,
    workspace: WorkspaceId,
    wished: Option<&str>,
    child: Option<IssueId>,
) -> Result<Option<Row>> {
    let Some(wished) = wished.filter(|text| !text.is_empty()) else { return Ok(None) };
    let id: IssueId = references::id("parent_issue_id", wished)?;
    let found = super::find(db, workspace, id).await?.ok_or_else(|| references::invalid("parent_issue_id"))?;
    if let Some(child) = child {
        check_above(db, child, found.id).await?;
    }
    Ok(Some(found))
}

/// Refuses a parent that is the child itself or somewhere below it.
async fn check_above(db: &mut Session, child: IssueId, parent: IssueId) -> Result<()> {
    if child == parent {
        return Err(Error::invalid("own_parent", "an issue cannot be its own parent"));
    }
    let mut above = Some(parent);
    for _ in 0..DEEPEST {
        let Some(at) = above else { return Ok(()) };
        if at == child {
            return Err(Error::invalid("parent_cycle", "parent_issue_id would make a cycle"));
        }
        let next: Option<Option<IssueId>> =
            on!(db, |c| sqlx::query_scalar("SELECT parent_issue_id FROM issue WHERE id = $1")
                .bind(at)
                .fetch_optional(c))?;
        above = next.flatten();
    }
    match above {
        None => Ok(()),
        Some(_) => Err(Error::invalid("parent_too_deep", "issues can be at most 10 levels below each other")),
    }
}

/// What is right below an issue, in the order of the board.
pub async fn children(db: &mut Session, workspace: WorkspaceId, issue: IssueId) -> Result<Vec<Issue>> {
    let rows: Vec<Row> = on!(db, |c| {
        sqlx::query_as(
        "SELECT * FROM issue WHERE parent_issue_id = $1 AND workspace_id = $2 ORDER BY position, created_at DESC, id"
    )
    .bind(issue)
    .bind(workspace)
    .fetch_all(c)
    })?;
    let prefix = prefix(db, workspace).await?;
    Ok(rows.into_iter().map(|row| Issue { labels: Some([]), ..row.wire(&prefix) }).collect())
}
