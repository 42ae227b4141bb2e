//! `/api/upload-file` and `/api/attachments`.

use axum::{
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use futures_util::{Stream, stream};

use super::{
    Api,
    answer::{nothing, ok},
    download::download,
    extract::{self, Caller, Door, Segment, Selected},
    form::{self, Form, Part},
};
use crate::{
    db::Db,
    error::{Error, Result},
    flows,
    identity::Insider,
    ids::AttachmentId,
    protocol::attachment::Attachment,
    workspace::attachments::{self, Belongs, Upload},
};

/// Takes a file. Its fields may come in any order, so what it belongs to is looked at last.
pub async fn upload(State(api): State<Api>, door: Door, request: Request) -> Result<Response> {
    let entering = door.clone();
    let who = api.db.read(async move |db| entering.enter(db).await).await?;
    form::check_length(request.headers(), api.settings.max_upload.saturating_add(form::BESIDE))?;
    let mut form = Form::of(request)?;
    let mut file = None;
    let mut belongs = Belongs::default();
    while let Some(part) = form.next().await? {
        match part.name() {
            "file" if file.is_none() => file = Some(receive(&api, &who, part).await?),
            "issue_id" => belongs.issue_id = part.text().await?,
            "comment_id" => belongs.comment_id = part.text().await?,
            _ => {}
        }
    }
    let mut file = file.ok_or_else(|| Error::invalid("field_required", "file is required"))?;
    let received = file.end().await?;
    let attachment = api
        .db
        .write(door.workspace(), async move |tx| {
            // Much may have changed while it came.
            let who = door.enter(tx).await?;
            flows::attachments::complete(tx, &who, received, &belongs).await
        })
        .await?;
    file.keep();
    Ok(ok(attachment))
}

async fn receive(api: &Api, who: &Insider, mut part: Part) -> Result<Upload> {
    let mut file = Upload::new(&api.db, who, part.file_name(), part.content_type(), api.settings.max_upload);
    while let Some(bytes) = part.chunk().await? {
        file.push(bytes).await?;
    }
    Ok(file)
}

/// What is known of one.
pub async fn get(State(api): State<Api>, caller: Caller, selected: Selected, segment: Segment) -> Result<Response> {
    let attachment = id(&segment)?;
    let door = door(&api, caller, selected, attachment).await?;
    let read = api.db.read(async move |db| {
        let who = door.enter(db).await?;
        attachments::open(db, &who, attachment).await.map(Attachment::from)
    });
    read.await.map(ok)
}

/// The bytes of one.
pub async fn content(State(api): State<Api>, caller: Caller, selected: Selected, segment: Segment) -> Result<Response> {
    let attachment = id(&segment)?;
    let door = door(&api, caller, selected, attachment).await?;
    let row = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            attachments::open(db, &who, attachment).await
        })
        .await?;
    download(&row.filename, &row.content_type, row.size_bytes, bytes_of(api.db.clone(), attachment))
}

/// A chunk at a time, each read when the one before is on its way.
fn bytes_of(db: Db, attachment: AttachmentId) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    stream::try_unfold(0, move |place| {
        let read = db.read(async move |db| attachments::chunk(db, attachment, place).await);
        async move { Ok(read.await?.map(|bytes| (Bytes::from(bytes), place + 1))) }
    })
}

/// Removes one.
pub async fn delete(State(api): State<Api>, caller: Caller, selected: Selected, segment: Segment) -> Result<Response> {
    let attachment = id(&segment)?;
    let door = door(&api, caller, selected, attachment).await?;
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::attachments::delete(tx, &who, attachment).await
    });
    write.await.map(|()| nothing())
}

/// Pages show files by their bare address, without any header. So the workspace need not be named:
/// then it is the file's own, and a file elsewhere is one that does not exist.
async fn door(api: &Api, caller: Caller, selected: Selected, attachment: AttachmentId) -> Result<Door> {
    if let Some(workspace) = selected.0 {
        return Ok(Door::new(caller, workspace));
    }
    let read = api.db.read(async move |db| {
        let workspace = attachments::workspace_of(db, attachment).await?.ok_or_else(attachments::not_found)?;
        let door = Door::new(caller.clone(), workspace);
        match door.enter(db).await {
            Ok(_) => Ok(door),
            Err(Error::Refused(_)) => Err(attachments::not_found()),
            Err(error) => Err(error),
        }
    });
    read.await
}

fn id(segment: &str) -> Result<AttachmentId> {
    extract::id(segment, "attachment_id")
}
