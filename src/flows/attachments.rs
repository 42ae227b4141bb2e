//! Files come to issues and comments and go, and whoever shows those is told.

use crate::{
    db::Tx,
    error::Result,
    identity::Insider,
    ids::AttachmentId,
    protocol::attachment::Attachment,
    workspace::{
        attachments::{self, Belongs, Received},
        comments, issues,
    },
};

/// Makes a file that came an attachment of what it was uploaded for. A comment is its author's.
pub async fn complete(tx: &mut Tx, who: &Insider, file: Received, belongs: &Belongs) -> Result<Attachment> {
    let attachment = attachments::complete(tx, who, file, belongs).await?;
    if let Some(comment) = attachment.comment_id {
        comments::require_change(tx, who, comment).await?;
    }
    tell(tx, who, &attachment).await?;
    Ok(attachment)
}

/// Removes a file.
pub async fn delete(tx: &mut Tx, who: &Insider, attachment: AttachmentId) -> Result<()> {
    let attachment = attachments::delete(tx, who, attachment).await?;
    tell(tx, who, &attachment).await
}

async fn tell(tx: &mut Tx, who: &Insider, attachment: &Attachment) -> Result<()> {
    match (attachment.comment_id, attachment.issue_id) {
        (Some(comment), _) => comments::files_changed(tx, who, comment).await,
        (None, Some(issue)) => issues::files_changed(tx, who, issue).await,
        (None, None) => Ok(()),
    }
}
