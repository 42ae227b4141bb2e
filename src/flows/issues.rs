//! Issues come, change and go, with what follows from it elsewhere.

use crate::{
    db::Tx,
    error::{Error, Result},
    events::kinds,
    identity::Insider,
    ids::IssueId,
    protocol::issue::{CreateIssue, Issue, PutIssue},
    workspace::{
        comments,
        issues::{self, Change},
    },
};

/// A new issue.
pub async fn create(tx: &mut Tx, who: &Insider, wish: &CreateIssue) -> Result<Issue> {
    let issue = issues::create(tx, who, wish).await?;
    tx.emit(kinds::issue_created(who.actor(), &issue));
    Ok(issue)
}

/// Changes an issue.
pub async fn put(tx: &mut Tx, who: &Insider, issue: IssueId, change: PutIssue) -> Result<Issue> {
    let change = issues::put(tx, who, issue, change).await?;
    if change.old.status != "done" && change.new.status == "done" {
        tell_parent(tx, &change).await?;
    }
    Ok(change.new)
}

/// Removes an issue.
pub async fn delete(tx: &mut Tx, who: &Insider, issue: IssueId) -> Result<()> {
    issues::lock(tx, who.workspace, issue).await?;
    issues::delete(tx, who, issue).await
}

/// Says on the issue above that one below it is done, unless nobody reads it for work: it is closed,
/// or a person's.
async fn tell_parent(tx: &mut Tx, change: &Change) -> Result<()> {
    let Some(parent) = change.new.parent_issue_id else { return Ok(()) };
    let parent = match issues::plain(tx, change.new.workspace_id, parent).await {
        Ok(parent) => parent,
        // It went meanwhile.
        Err(Error::Refused(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    if issues::is_closed(&parent.status) || parent.assignee_type.as_deref() == Some("member") {
        return Ok(());
    }
    let Issue { id, identifier, title, .. } = &change.new;
    let text = format!("[{identifier}](mention://issue/{id}) is done: {title}");
    comments::create_as_system(tx, &parent, &text).await.map(drop)
}
