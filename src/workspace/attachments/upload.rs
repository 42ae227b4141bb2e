//! A file on its way in.

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use super::{super::references, BROKEN_OFF, CHUNK, FORGOTTEN, Row, description};
use crate::{
    db::{Db, Tx, exec, on},
    error::{Error, Result},
    identity::Insider,
    ids::{AttachmentId, CommentId, IssueId, WorkspaceId},
    protocol::{attachment::Attachment, event::Actor},
};

/// An upload in progress. If it is dropped before it is [`kept`](Upload::keep), what came of it goes.
pub struct Upload {
    db: Db,
    workspace: WorkspaceId,
    by: Actor,
    filename: String,
    content_type: Option<String>,
    most: u64,
    id: AttachmentId,
    size: u64,
    /// Chunks that are stored, and what came since.
    place: i32,
    waiting: BytesMut,
    /// The chunk that is being stored; it is, even if nobody waits for it any more.
    writing: Option<BoxFuture<'static, Result<()>>>,
    begun: bool,
    kept: bool,
}

/// A file that is stored whole and belongs nowhere yet.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    id: AttachmentId,
    size: u64,
}

/// What a file is uploaded for; empty for nothing.
#[derive(Debug, Default)]
pub struct Belongs {
    /// An issue.
    pub issue_id: String,
    /// A comment.
    pub comment_id: String,
}

impl Upload {
    /// A file of `most` bytes at most.
    pub fn new(db: &Db, who: &Insider, filename: &str, content_type: Option<&str>, most: u64) -> Self {
        Self {
            db: db.clone(),
            workspace: who.workspace,
            by: who.actor(),
            filename: description::name(filename),
            content_type: content_type.map(str::to_owned),
            most,
            id: AttachmentId::fresh(),
            size: 0,
            place: 0,
            waiting: BytesMut::new(),
            writing: None,
            begun: false,
            kept: false,
        }
    }

    /// The next bytes.
    pub async fn push(&mut self, mut bytes: Bytes) -> Result<()> {
        self.size += bytes.len() as u64;
        if self.size > self.most {
            return Err(Error::too_large("file_too_large", "file too large"));
        }
        while !bytes.is_empty() {
            let fits = bytes.len().min(CHUNK - self.waiting.len());
            self.waiting.extend_from_slice(&bytes.split_to(fits));
            if self.waiting.len() == CHUNK {
                self.store().await?;
            }
        }
        Ok(())
    }

    /// There are no more bytes.
    pub async fn end(&mut self) -> Result<Received> {
        if !self.waiting.is_empty() || !self.begun {
            self.store().await?;
        }
        Ok(Received { id: self.id, size: self.size })
    }

    /// It is complete: nothing is to be undone any more.
    pub fn keep(mut self) {
        self.kept = true;
    }

    /// Stores what is waiting; with the first chunk also the row.
    async fn store(&mut self) -> Result<()> {
        let chunk = std::mem::take(&mut self.waiting).freeze();
        let row = (!self.begun).then(|| {
            let kind = description::content_type(self.content_type.as_deref(), &chunk);
            (self.filename.clone(), kind)
        });
        // Before the row is there, so that it goes however this ends.
        self.begun = true;
        let (id, workspace, by, place) = (self.id, self.workspace, self.by, self.place);
        self.place += 1;
        let write = self.db.write(workspace, async move |tx| {
            if let Some((filename, content_type)) = &row {
                insert(tx, id, workspace, by, filename, content_type).await?;
            }
            if chunk.is_empty() { Ok(()) } else { append(tx, id, place, &chunk).await }
        });
        let stored = self.writing.insert(write.into_future()).await;
        self.writing = None;
        stored
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.begun || self.kept {
            return;
        }
        let (id, writing) = (self.id, self.writing.take());
        let undo = self.db.write(self.workspace, async move |tx| {
            exec!(tx, |c| sqlx::query("DELETE FROM attachment WHERE id = $1 AND NOT complete").bind(id))
        });
        // Without a runtime the process ends, and the sweep will see to it.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            // What is still being written must not come after its removal.
            if let Some(writing) = writing {
                let _ = writing.await;
            }
            if let Err(error) = undo.await {
                tracing::warn!(%error, attachment = %id, "removing an upload that broke off");
            }
        });
    }
}

async fn insert(
    tx: &mut Tx,
    id: AttachmentId,
    workspace: WorkspaceId,
    by: Actor,
    filename: &str,
    content_type: &str,
) -> Result<()> {
    let now = tx.now();
    exec!(tx, |c| sqlx::query(
        "INSERT INTO attachment (id, workspace_id, uploader_type, uploader_id, filename, content_type, size_bytes,
                                 complete, sweep_after, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, 0, false, $8, $7)"
    )
    .bind(id)
    .bind(workspace)
    .bind(by.kind())
    .bind(by.id())
    .bind(filename)
    .bind(content_type)
    .bind(now)
    .bind(now.plus(BROKEN_OFF)))
    .map(drop)
}

async fn append(tx: &mut Tx, id: AttachmentId, place: i32, bytes: &Bytes) -> Result<()> {
    let stored = exec!(
        tx,
        pg "INSERT INTO attachment_chunk (attachment_id, place, bytes)
            SELECT id, $2, $3 FROM attachment WHERE id = $1 AND NOT complete FOR KEY SHARE",
        lite "INSERT INTO attachment_chunk (attachment_id, place, bytes)
              SELECT id, $2, $3 FROM attachment WHERE id = $1 AND NOT complete",
        |c, sql| sqlx::query(sql).bind(id).bind(place).bind(bytes.to_vec())
    )?;
    if stored == 0 { Err(too_slow()) } else { Ok(()) }
}

/// Makes a file an attachment that others can see, of what it was uploaded for.
pub async fn complete(tx: &mut Tx, who: &Insider, file: Received, belongs: &Belongs) -> Result<Attachment> {
    let (issue, comment) = home(tx, who.workspace, belongs).await?;
    let now = tx.now();
    let sweep_after = issue.is_none().then(|| now.plus(FORGOTTEN));
    let row: Option<Row> = on!(tx, |c| sqlx::query_as(
        "UPDATE attachment SET complete = true, size_bytes = $2, issue_id = $3, comment_id = $4, created_at = $5,
             sweep_after = $6
         WHERE id = $1 AND NOT complete RETURNING *"
    )
    .bind(file.id)
    .bind(file.size as i64)
    .bind(issue)
    .bind(comment)
    .bind(now)
    .bind(sweep_after)
    .fetch_optional(c))?;
    row.map(Attachment::from).ok_or_else(too_slow)
}

/// The sweep took it for one that broke off.
fn too_slow() -> Error {
    Error::invalid("upload_too_slow", "the upload took too long")
}

/// The issue and comment that a file is uploaded for, held where they are. A comment's file is its
/// issue's as well.
async fn home(tx: &mut Tx, workspace: WorkspaceId, belongs: &Belongs) -> Result<(Option<IssueId>, Option<CommentId>)> {
    let wished: Option<IssueId> = given(&belongs.issue_id, "issue_id")?;
    let comment: Option<CommentId> = given(&belongs.comment_id, "comment_id")?;
    let of_comment: Option<IssueId> = match comment {
        Some(comment) => {
            let issue: Option<IssueId> =
                on!(tx, |c| sqlx::query_scalar("SELECT issue_id FROM comment WHERE id = $1 AND workspace_id = $2")
                    .bind(comment)
                    .bind(workspace)
                    .fetch_optional(c))?;
            Some(issue.ok_or_else(|| references::invalid("comment_id"))?)
        }
        None => None,
    };
    let issue = wished.or(of_comment);
    if let Some(issue) = issue {
        hold_issue(tx, workspace, issue).await?;
    }
    if let Some(comment) = comment {
        if of_comment != issue {
            return Err(references::invalid("comment_id"));
        }
        hold_comment(tx, comment).await?;
    }
    Ok((issue, comment))
}

fn given<T: std::str::FromStr>(text: &str, field: &str) -> Result<Option<T>> {
    let text = text.trim();
    if text.is_empty() { Ok(None) } else { references::id(field, text).map(Some) }
}

async fn hold_issue(tx: &mut Tx, workspace: WorkspaceId, issue: IssueId) -> Result<()> {
    let found: Option<i32> = on!(
        tx,
        pg "SELECT 1 FROM issue WHERE id = $1 AND workspace_id = $2 FOR KEY SHARE",
        lite "SELECT 1 FROM issue WHERE id = $1 AND workspace_id = $2",
        |c, sql| sqlx::query_scalar(sql).bind(issue).bind(workspace).fetch_optional(c)
    )?;
    found.map(drop).ok_or_else(|| references::invalid("issue_id"))
}

async fn hold_comment(tx: &mut Tx, comment: CommentId) -> Result<()> {
    let found: Option<i32> = on!(
        tx,
        pg "SELECT 1 FROM comment WHERE id = $1 FOR KEY SHARE",
        lite "SELECT 1 FROM comment WHERE id = $1",
        |c, sql| sqlx::query_scalar(sql).bind(comment).fetch_optional(c)
    )?;
    found.map(drop).ok_or_else(|| references::invalid("comment_id"))
}
