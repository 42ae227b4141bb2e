//! What is said about issues, with what follows from it elsewhere.

use crate::{
    db::Tx,
    error::Result,
    identity::Insider,
    ids::{CommentId, IssueId},
    protocol::comment::{Comment, CreateComment, PutComment},
    workspace::{attachments, comments, issues},
};

/// Somebody says something about an issue.
pub async fn create(tx: &mut Tx, who: &Insider, issue: IssueId, wish: &CreateComment) -> Result<Comment> {
    let issue = issues::plain(tx, who.workspace, issue).await?;
    let before = files(tx, issue.id, &wish.attachment_ids).await?;
    let comment = comments::create(tx, who, &issue, wish).await?;
    tell_issue(tx, who, issue.id, before).await?;
    Ok(comment)
}

/// Somebody says something else instead.
pub async fn put(tx: &mut Tx, who: &Insider, comment: CommentId, change: &PutComment) -> Result<Comment> {
    let issue = comments::issue_of(tx, who.workspace, comment).await?;
    let before = files(tx, issue, change.attachment_ids.as_deref().unwrap_or_default()).await?;
    let comment = comments::put(tx, who, comment, change).await?;
    tell_issue(tx, who, issue, before).await?;
    Ok(comment)
}

/// Somebody takes back what was said.
pub async fn delete(tx: &mut Tx, who: &Insider, comment: CommentId) -> Result<()> {
    comments::delete(tx, who, comment).await
}

/// How many files an issue has itself, where a comment may take some of them.
async fn files(tx: &mut Tx, issue: IssueId, wished: &[String]) -> Result<Option<usize>> {
    if wished.is_empty() { Ok(None) } else { Ok(Some(attachments::of_issue(tx, issue).await?.len())) }
}

async fn tell_issue(tx: &mut Tx, who: &Insider, issue: IssueId, before: Option<usize>) -> Result<()> {
    match before {
        Some(before) if attachments::of_issue(tx, issue).await?.len() != before => {
            issues::files_changed(tx, who, issue).await
        }
        _ => Ok(()),
    }
}
