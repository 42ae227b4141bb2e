//! `/api/issues`.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    Api,
    answer::{accepted, at_position, created, nothing, ok},
    extract::{self, Asked, Body, Door, Path, Segment},
    optional::OptionalBody,
};
use crate::{
    error::{Error, Result},
    events, flows,
    protocol::{
        issue::{Children, CreateIssue, Metadata, PutIssue, PutMetadata},
        squad::Evaluate,
        task::Rerun,
    },
    workspace::{
        comments,
        issues::{
            self,
            list::{Filter, Page, Sort, Within},
            metadata,
        },
    },
};

/// The query of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Query {
    status: String,
    priority: String,
    assignee_id: String,
    assignee_ids: String,
    creator_id: String,
    project_id: String,
    involves_user_id: String,
    metadata: String,
    date_field: String,
    date_start: String,
    date_end: String,
    scheduled: String,
    open_only: String,
    sort: String,
    direction: String,
    limit: String,
    offset: String,
}

impl Query {
    fn read(self) -> Result<(Filter, Page)> {
        let word = |text: String| Some(text).filter(|text| !text.is_empty());
        let id = |name: &'static str, text: &str| -> Result<Option<Uuid>> {
            if text.is_empty() { Ok(None) } else { extract::id::<Uuid>(text, name).map(Some) }
        };
        let mut assignees: Vec<Uuid> = Vec::new();
        for text in self.assignee_ids.split(',').map(str::trim).chain([self.assignee_id.as_str()]) {
            assignees.extend(id("assignee_id", text)?);
        }
        let filter = Filter {
            within: self.within()?,
            metadata: wished_metadata(&self.metadata)?,
            creator: id("creator_id", &self.creator_id)?,
            project: id("project_id", &self.project_id)?,
            involves: id("involves_user_id", &self.involves_user_id)?,
            assignees,
            scheduled: self.scheduled == "true",
            open_only: self.open_only == "true",
            status: word(self.status),
            priority: word(self.priority),
        };
        let page = Page {
            sort: Sort::parse(&self.sort)?,
            descending: self.direction.eq_ignore_ascii_case("desc"),
            limit: self.limit.parse().ok(),
            offset: self.offset.parse().unwrap_or(0),
        };
        Ok((filter, page))
    }

    /// All three of a span, or none.
    fn within(&self) -> Result<Option<Within>> {
        let invalid = || Error::invalid("invalid_dates", "date_field, date_start and date_end go together");
        let (field, start, end) = (self.date_field.as_str(), &self.date_start, &self.date_end);
        if field.is_empty() && start.is_empty() && end.is_empty() {
            return Ok(None);
        }
        let changed = match field {
            "updated_at" => true,
            "created_at" => false,
            _ => return Err(invalid()),
        };
        let (Ok(from), Ok(to)) = (start.parse(), end.parse()) else { return Err(invalid()) };
        Ok(Some(Within { changed, from, to }))
    }
}

fn wished_metadata(text: &str) -> Result<Metadata> {
    if text.is_empty() {
        return Ok(Metadata::new());
    }
    let plain = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
    // As many as an issue can have; PostgreSQL has no U+0000.
    let fits = |metadata: &Metadata| metadata.len() <= 50 && !text.contains("\\u0000") && metadata.values().all(plain);
    serde_json::from_str::<Metadata>(text).ok().filter(fits).ok_or_else(|| {
        Error::invalid("invalid_metadata", "invalid metadata: an object of strings, numbers and booleans")
    })
}

/// The workspace's issues.
pub async fn list(State(api): State<Api>, door: Door, Asked(query): Asked<Query>) -> Result<Response> {
    let (filter, page) = query.read()?;
    let (position, issues) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            Ok((position, issues::list::list(db, who.workspace, &filter, &page).await?))
        })
        .await?;
    Ok(at_position(&position, ok(issues)))
}

/// A new one.
pub async fn create(State(api): State<Api>, door: Door, Body(wish): Body<CreateIssue>) -> Result<Response> {
    let queue = api.queue.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        flows::issues::create(tx, &queue, &who, &wish).await
    });
    write.await.map(created)
}

/// One.
pub async fn get(State(api): State<Api>, door: Door, Path(reference): Segment) -> Result<Response> {
    let read = api.db.read(async move |db| {
        let who = door.enter(db).await?;
        let issue = issues::resolve(db, who.workspace, &reference).await?;
        issues::get(db, who.workspace, issue).await
    });
    read.await.map(ok)
}

/// Changes one.
pub async fn put(
    State(api): State<Api>,
    door: Door,
    Path(reference): Segment,
    Body(change): Body<PutIssue>,
) -> Result<Response> {
    let queue = api.queue.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        let issue = issues::resolve(tx, who.workspace, &reference).await?;
        flows::issues::put(tx, &queue, &who, issue, change.clone()).await
    });
    write.await.map(ok)
}

/// Removes one.
pub async fn delete(State(api): State<Api>, door: Door, Path(reference): Segment) -> Result<Response> {
    let queue = api.queue.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        let issue = issues::resolve(tx, who.workspace, &reference).await?;
        flows::issues::delete(tx, &queue, &who, issue).await
    });
    write.await.map(|()| nothing())
}

/// Asks for work on one once more.
pub async fn rerun(
    State(api): State<Api>,
    door: Door,
    Path(reference): Segment,
    OptionalBody(wish): OptionalBody<Rerun>,
) -> Result<Response> {
    let queue = api.queue.clone();
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        let issue = issues::resolve(tx, who.workspace, &reference).await?;
        flows::rerun::rerun(tx, &queue, &who, issue, &wish).await
    });
    write.await.map(accepted)
}

/// A squad's leader says what it decided about one.
pub async fn evaluate(
    State(api): State<Api>,
    door: Door,
    Path(reference): Segment,
    Body(wish): Body<Evaluate>,
) -> Result<Response> {
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        let issue = issues::resolve(tx, who.workspace, &reference).await?;
        flows::squads::evaluate(tx, &who, issue, &wish).await
    });
    write.await.map(created)
}

/// What is right below one.
pub async fn children(State(api): State<Api>, door: Door, Path(reference): Segment) -> Result<Response> {
    let (position, issues) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            let issue = issues::resolve(db, who.workspace, &reference).await?;
            Ok((position, issues::children(db, who.workspace, issue).await?))
        })
        .await?;
    Ok(at_position(&position, ok(Children { issues })))
}

/// What was said about one and what happened to it.
pub async fn timeline(State(api): State<Api>, door: Door, Path(reference): Segment) -> Result<Response> {
    let (position, entries) = api
        .db
        .read(async move |db| {
            let who = door.enter(db).await?;
            let position = events::position(db, who.workspace).await?;
            let issue = issues::resolve(db, who.workspace, &reference).await?;
            Ok((position, comments::timeline(db, issue).await?))
        })
        .await?;
    Ok(at_position(&position, ok(entries)))
}

/// What one is marked with.
pub async fn get_metadata(State(api): State<Api>, door: Door, Path(reference): Segment) -> Result<Response> {
    let read = api.db.read(async move |db| {
        let who = door.enter(db).await?;
        let issue = issues::resolve(db, who.workspace, &reference).await?;
        metadata::get(db, who.workspace, issue).await
    });
    read.await.map(ok)
}

/// Marks one.
pub async fn put_metadata(
    State(api): State<Api>,
    door: Door,
    Path((reference, key)): Path<(String, String)>,
    Body(wish): Body<PutMetadata>,
) -> Result<Response> {
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        let issue = issues::resolve(tx, who.workspace, &reference).await?;
        metadata::put(tx, &who, issue, &key, &wish.value).await
    });
    write.await.map(ok)
}

/// Takes a mark away.
pub async fn delete_metadata(
    State(api): State<Api>,
    door: Door,
    Path((reference, key)): Path<(String, String)>,
) -> Result<Response> {
    let write = api.db.write(door.workspace(), async move |tx| {
        let who = door.enter(tx).await?;
        let issue = issues::resolve(tx, who.workspace, &reference).await?;
        metadata::delete(tx, &who, issue, &key).await
    });
    write.await.map(ok)
}
