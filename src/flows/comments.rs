//! What is said about issues, with what follows from it elsewhere.

use crate::{
    db::Tx,
    error::Result,
    identity::Insider,
    ids::{CommentId, IssueId},
    protocol::comment::{Comment, CreateComment, PutComment},
    workspace::{comments, issues},
};

/// Somebody says something about an issue.
pub async fn create(tx: &mut Tx, who: &Insider, issue: IssueId, wish: &CreateComment) -> Result<Comment> {
    let issue = issues::plain(tx, who.workspace, issue).await?;
    comments::create(tx, who, &issue, wish).await
}

/// Somebody says something else instead.
pub async fn put(tx: &mut Tx, who: &Insider, comment: CommentId, change: &PutComment) -> Result<Comment> {
    comments::put(tx, who, comment, change).await
}

/// Somebody takes back what was said.
pub async fn delete(tx: &mut Tx, who: &Insider, comment: CommentId) -> Result<()> {
    comments::delete(tx, who, comment).await
}
