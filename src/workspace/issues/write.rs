//! Making, changing and removing issues. The flows around these put agents to work.

use sqlx::types::Json;
use uuid::Uuid;

use super::{
    Assignee, Row, STATUSES, activity, assignee, dates, find,
    insert::{New, insert},
    lock_row, normalised, not_found, number, prefix, title_key, tree,
};
use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    events::kinds::{self, IssueChange},
    identity::Insider,
    ids::{AgentId, IssueId, ProjectId, SquadId, TaskId, WorkspaceId},
    protocol::{
        event::Actor,
        issue::{CreateIssue, Issue, PutIssue, SlimIssue},
        lenient::Patch,
    },
    workspace::{
        attachments, projects, references,
        words::{self, PRIORITIES},
    },
};

/// Issues that are changed in one transaction at most: each is an event, and others wait meanwhile.
const TOGETHER: i64 = 500;

/// What a change did: what the flow around it goes by.
#[derive(Debug, Clone)]
pub struct Change {
    /// Before.
    pub old: Issue,
    /// After.
    pub new: Issue,
}

/// A new issue, on top of its column. Announced by the flow, which knows what belongs to it.
pub async fn create(tx: &mut Tx, who: &Insider, wish: &CreateIssue) -> Result<Issue> {
    let title = words::title("title", &wish.title)?;
    words::optional_text("description", wish.description.as_deref())?;
    let status = words::one_of_or("status", STATUSES, &wish.status, "todo")?;
    let priority = words::one_of_or("priority", PRIORITIES, &wish.priority, "none")?;
    let start_date = dates::day("start_date", wish.start_date.as_deref().unwrap_or_default())?;
    let due_date = dates::day("due_date", wish.due_date.as_deref().unwrap_or_default())?;
    let origin = origin(wish)?;
    let assignee = assignee::wished(tx, who, wish.assignee_type.as_deref(), wish.assignee_id.as_deref()).await?;
    let parent = tree::parent(tx, who.workspace, wish.parent_issue_id.as_deref(), None).await?;
    let project = match project(tx, who.workspace, wish.project_id.as_deref()).await? {
        Some(project) => Some(project),
        None => parent.as_ref().and_then(|parent| parent.project_id),
    };
    let parent = parent.map(|parent| parent.id);
    // From here on creations wait for each other.
    let number = number::next(tx, who.workspace).await?;
    if !wish.allow_duplicate {
        refuse_duplicate(tx, who.workspace, title, project, parent).await?;
    }
    let (kind, creator) = person_or_agent(who.actor(), who);
    let new = New {
        title,
        description: wish.description.as_deref(),
        status,
        priority,
        assignee,
        creator: (kind, creator),
        parent,
        project,
        start_date,
        due_date,
        origin: origin.map(|task| ("quick_create", task)),
    };
    let issue = insert(tx, who.workspace, number, new).await?;
    if attachments::bind_to_issue(tx, who, &wish.attachment_ids, issue.id).await?.is_empty() {
        return Ok(issue);
    }
    Ok(Issue { attachments: Some(attachments::of_issue(tx, issue.id).await?), ..issue })
}

/// Changes an issue and tells of it; nothing if the change changes nothing.
pub async fn put(tx: &mut Tx, who: &Insider, issue: IssueId, change: PutIssue) -> Result<Change> {
    // Whom and what the change names is held first: agents, squads and projects are locked before
    // issues.
    let planned = find(tx, who.workspace, issue).await?.ok_or_else(not_found)?;
    let assignee = wished_assignee(tx, who, &planned, change.assignee_type, change.assignee_id).await?;
    let project = match change.project_id {
        Patch::Absent => None,
        Patch::Null => Some(None),
        Patch::Value(wished) => Some(project(tx, who.workspace, Some(&wished)).await?),
    };
    if let Patch::Value(_) = &change.parent_issue_id {
        // Two issues that are put below each other at once would make a cycle.
        number::hold(tx, who.workspace).await?;
    }
    if change.status.as_deref() == Some("done") {
        let wished = match &change.parent_issue_id {
            Patch::Absent => planned.parent_issue_id,
            Patch::Null => None,
            Patch::Value(wished) => wished.parse().ok(),
        };
        // The flow tells the issue above; of two issues the one with the smaller id is locked first.
        if let Some(above) = wished.filter(|above| *above < issue) {
            match lock_row(tx, who.workspace, above).await {
                Ok(_) | Err(Error::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    let old = lock_row(tx, who.workspace, issue).await?;
    let title = change.title.as_deref().map(|title| words::title("title", title)).transpose()?;
    words::optional_text("description", change.description.as_deref())?;
    let status = change.status.as_deref().map(|word| words::one_of("status", STATUSES, word)).transpose()?;
    let priority = change.priority.as_deref().map(|word| words::one_of("priority", PRIORITIES, word)).transpose()?;
    if change.position.is_some_and(|position| !position.is_finite()) {
        return Err(Error::invalid("invalid_position", "invalid position"));
    }
    let mut new = Row {
        title: title.unwrap_or(&old.title).to_owned(),
        description: change.description.or_else(|| old.description.clone()),
        status: status.unwrap_or(&old.status).to_owned(),
        priority: priority.unwrap_or(&old.priority).to_owned(),
        position: change.position.unwrap_or(old.position),
        project_id: project.unwrap_or(old.project_id),
        ..old.clone()
    };
    if let Some(changed) = day("start_date", change.start_date)? {
        new.start_date = changed;
    }
    if let Some(changed) = day("due_date", change.due_date)? {
        new.due_date = changed;
    }
    if let Some(changed) = assignee {
        (new.assignee_type, new.assignee_id) = changed.map(|assignee| (assignee.kind, assignee.id)).unzip();
    }
    match change.parent_issue_id {
        Patch::Absent => {}
        Patch::Null => new.parent_issue_id = None,
        Patch::Value(wished) => {
            let parent = tree::parent(tx, who.workspace, Some(&wished), Some(issue)).await?;
            new.parent_issue_id = parent.map(|parent| parent.id);
        }
    }
    let prefix = prefix(tx, who.workspace).await?;
    let attached = !attachments::bind_to_issue(tx, who, &change.attachment_ids, issue).await?.is_empty();
    if new == old && !attached {
        let same = old.wire(&prefix);
        return Ok(Change { new: same.clone(), old: same });
    }
    new.updated_at = tx.now();
    store(tx, &new).await?;
    activity::note(tx, who.actor(), &old, &new).await?;
    let mut change = Change { old: old.wire(&prefix), new: new.wire(&prefix) };
    if attached {
        change.new.attachments = Some(attachments::of_issue(tx, issue).await?);
    }
    tx.emit(kinds::issue_updated(who.actor(), &IssueChange { old: &change.old, new: &change.new }));
    Ok(change)
}

/// Locks an issue that is about to be removed, with what is below it, in the order of their ids.
/// Nothing comes to lie below it from here on.
pub async fn lock_to_delete(tx: &mut Tx, issue: IssueId) -> Result<()> {
    let locked: Vec<IssueId> = on!(
        tx,
        pg "SELECT id FROM issue WHERE id = $1 OR parent_issue_id = $1 ORDER BY id FOR UPDATE",
        lite "SELECT id FROM issue WHERE id = $1",
        |c, sql| sqlx::query_scalar(sql).bind(issue).fetch_all(c)
    )?;
    if locked.contains(&issue) { Ok(()) } else { Err(not_found()) }
}

/// Removes an issue, locked to this end, with its comments; what was below it is on its own.
pub async fn delete(tx: &mut Tx, who: &Insider, issue: IssueId) -> Result<()> {
    let below: Vec<IssueId> = on!(
        tx,
        pg "SELECT id FROM issue WHERE parent_issue_id = $1 ORDER BY id FOR NO KEY UPDATE",
        lite "SELECT id FROM issue WHERE parent_issue_id = $1 ORDER BY id",
        |c, sql| sqlx::query_scalar(sql).bind(issue).fetch_all(c)
    )?;
    change_each(tx, who, below, |child| child.parent_issue_id = None).await?;
    exec!(tx, |c| sqlx::query("DELETE FROM issue WHERE id = $1").bind(issue))?;
    tx.emit(kinds::issue_deleted(who.workspace, who.actor(), issue));
    Ok(())
}

/// Takes issues out of a project that ends, at most [`TOGETHER`], and tells of each; whether there
/// may be more.
pub async fn leave_project(tx: &mut Tx, who: &Insider, project: ProjectId) -> Result<bool> {
    let ids: Vec<IssueId> = on!(
        tx,
        pg "SELECT id FROM issue WHERE project_id = $1 ORDER BY id LIMIT $2 FOR NO KEY UPDATE",
        lite "SELECT id FROM issue WHERE project_id = $1 ORDER BY id LIMIT $2",
        |c, sql| sqlx::query_scalar(sql).bind(project).bind(TOGETHER).fetch_all(c)
    )?;
    let more = ids.len() as i64 == TOGETHER;
    change_each(tx, who, ids, |issue| issue.project_id = None).await?;
    Ok(more)
}

/// As [`leave_project`]: gives issues of a squad that ends to its leader.
pub async fn pass_on(tx: &mut Tx, who: &Insider, squad: SquadId, leader: AgentId) -> Result<bool> {
    let ids: Vec<IssueId> = on!(
        tx,
        pg "SELECT id FROM issue WHERE assignee_id = $1 AND assignee_type = 'squad' ORDER BY id LIMIT $2
            FOR NO KEY UPDATE",
        lite "SELECT id FROM issue WHERE assignee_id = $1 AND assignee_type = 'squad' ORDER BY id LIMIT $2",
        |c, sql| sqlx::query_scalar(sql).bind(squad).bind(TOGETHER).fetch_all(c)
    )?;
    let change = |issue: &mut Row| {
        issue.assignee_type = Some("agent".to_owned());
        issue.assignee_id = Some(leader.0);
    };
    let more = ids.len() as i64 == TOGETHER;
    change_each(tx, who, ids, change).await?;
    Ok(more)
}

/// Changes issues that are locked, one by one, and tells of each.
async fn change_each(tx: &mut Tx, who: &Insider, ids: Vec<IssueId>, change: impl Fn(&mut Row)) -> Result<()> {
    let prefix = prefix(tx, who.workspace).await?;
    for id in ids {
        let old = find(tx, who.workspace, id).await?.ok_or_else(not_found)?;
        let mut new = Row { updated_at: tx.now(), ..old.clone() };
        change(&mut new);
        store(tx, &new).await?;
        activity::note(tx, who.actor(), &old, &new).await?;
        let (old, new) = (old.wire(&prefix), new.wire(&prefix));
        tx.emit(kinds::issue_updated(who.actor(), &IssueChange { old: &old, new: &new }));
    }
    Ok(())
}

/// Puts an issue that is locked into another status, and tells of it.
pub async fn set_status(
    tx: &mut Tx,
    actor: Actor,
    workspace: WorkspaceId,
    issue: IssueId,
    status: &'static str,
) -> Result<()> {
    let prefix = prefix(tx, workspace).await?;
    let old = find(tx, workspace, issue).await?.ok_or_else(not_found)?;
    let new = Row { status: status.to_owned(), updated_at: tx.now(), ..old.clone() };
    store(tx, &new).await?;
    activity::note(tx, actor, &old, &new).await?;
    tx.emit(kinds::issue_updated(actor, &IssueChange { old: &old.wire(&prefix), new: &new.wire(&prefix) }));
    Ok(())
}

/// Notes that an issue was worked on to an end, the first time.
pub async fn note_executed(tx: &mut Tx, issue: IssueId) -> Result<()> {
    let now = tx.now();
    exec!(tx, |c| sqlx::query("UPDATE issue SET first_executed_at = $2 WHERE id = $1 AND first_executed_at IS NULL")
        .bind(issue)
        .bind(now))
    .map(drop)
}

/// The issue that was made in a task for a wish: the first, if there are several.
pub async fn made_in(db: &mut Session, workspace: &WorkspaceId, task: TaskId) -> Result<Option<IssueId>> {
    on!(db, |c| sqlx::query_scalar(
        "SELECT id FROM issue WHERE origin_id = $1 AND origin_type = 'quick_create' AND workspace_id = $2
         ORDER BY created_at, id LIMIT 1"
    )
    .bind(task)
    .bind(workspace)
    .fetch_optional(c))
}

/// Tells that other files are attached to an issue.
pub async fn files_changed(tx: &mut Tx, who: &Insider, issue: IssueId) -> Result<()> {
    let prefix = prefix(tx, who.workspace).await?;
    let old = lock_row(tx, who.workspace, issue).await?;
    let new = Row { updated_at: tx.now(), ..old.clone() };
    store(tx, &new).await?;
    let attachments = Some(attachments::of_issue(tx, issue).await?);
    let new = Issue { attachments, ..new.wire(&prefix) };
    tx.emit(kinds::issue_updated(who.actor(), &IssueChange { old: &old.wire(&prefix), new: &new }));
    Ok(())
}

async fn store(tx: &mut Tx, row: &Row) -> Result<()> {
    exec!(tx, |c| sqlx::query(
        "UPDATE issue SET title = $2, title_key = $3, description = $4, status = $5, priority = $6,
             priority_rank = $7, assignee_type = $8, assignee_id = $9, parent_issue_id = $10, project_id = $11,
             position = $12, start_date = $13, due_date = $14, updated_at = $15, metadata = $16
         WHERE id = $1"
    )
    .bind(row.id)
    .bind(&row.title)
    .bind(title_key(&row.title))
    .bind(&row.description)
    .bind(&row.status)
    .bind(&row.priority)
    .bind(rank(&row.priority))
    .bind(&row.assignee_type)
    .bind(row.assignee_id)
    .bind(row.parent_issue_id)
    .bind(row.project_id)
    .bind(row.position)
    .bind(&row.start_date)
    .bind(&row.due_date)
    .bind(row.updated_at)
    .bind(Json(&row.metadata.0)))
    .map(drop)
}

/// An issue that is much the same and still open is refused, in a few words about it.
async fn refuse_duplicate(
    db: &mut Session,
    workspace: WorkspaceId,
    title: &str,
    project: Option<ProjectId>,
    parent: Option<IssueId>,
) -> Result<()> {
    // Of the same key only the open ones in the same place: few, however many there once were.
    let alike: Vec<(IssueId, i64, String)> = on!(db, |c| sqlx::query_as(
        "SELECT id, number, title FROM issue
         WHERE workspace_id = $1 AND title_key = $2 AND status NOT IN ('done', 'cancelled')
           AND (project_id = $3 OR (project_id IS NULL AND $3 IS NULL))
           AND (parent_issue_id = $4 OR (parent_issue_id IS NULL AND $4 IS NULL))
         ORDER BY created_at LIMIT 50"
    )
    .bind(workspace)
    .bind(title_key(title))
    .bind(project)
    .bind(parent)
    .fetch_all(c))?;
    let twin = alike.into_iter().find(|(_, _, other)| normalised(other) == normalised(title));
    let Some((id, number, title)) = twin else { return Ok(()) };
    let slim = SlimIssue { id, identifier: format!("{}-{number}", prefix(db, workspace).await?), title };
    let text = format!("an open issue with this title exists: {}", slim.identifier);
    Err(Error::conflict("active_duplicate_issue", text).with("issue", &slim))
}

/// The assignee after a change: `None` if the change says nothing about it.
async fn wished_assignee(
    tx: &mut Tx,
    who: &Insider,
    old: &Row,
    kind: Patch<String>,
    id: Patch<String>,
) -> Result<Option<Option<Assignee>>> {
    match (kind, id) {
        (Patch::Absent, Patch::Absent) => Ok(None),
        (Patch::Null, _) | (_, Patch::Null) => Ok(Some(None)),
        (kind, id) => {
            let kind = kind.over(old.assignee_type.clone());
            let id = id.over(old.assignee_id.map(|id| id.to_string()));
            if (&kind, &id) == (&old.assignee_type, &old.assignee_id.map(|id| id.to_string())) {
                // Nobody asks again whether who does it already may.
                return Ok(None);
            }
            assignee::wished(tx, who, kind.as_deref(), id.as_deref()).await.map(Some)
        }
    }
}

async fn project(db: &mut Session, workspace: WorkspaceId, wished: Option<&str>) -> Result<Option<ProjectId>> {
    let Some(wished) = wished.filter(|text| !text.is_empty()) else { return Ok(None) };
    let id: ProjectId = references::id("project_id", wished)?;
    if projects::exists(db, workspace, id).await? { Ok(Some(id)) } else { Err(references::invalid("project_id")) }
}

/// The task that asked for the issue, if a client says so.
fn origin(wish: &CreateIssue) -> Result<Option<Uuid>> {
    match wish.origin_type.as_deref().filter(|kind| !kind.is_empty()) {
        None => Ok(None),
        Some("quick_create") => references::id("origin_id", wish.origin_id.as_deref().unwrap_or_default()).map(Some),
        Some(_) => Err(Error::invalid("invalid_origin", "invalid origin_type; valid values: quick_create")),
    }
}

fn day(field: &'static str, change: Patch<String>) -> Result<Option<Option<String>>> {
    match change {
        Patch::Absent => Ok(None),
        Patch::Null => Ok(Some(None)),
        Patch::Value(text) => dates::day(field, &text).map(Some),
    }
}

/// 4 for the most urgent, 0 for none.
pub(super) fn rank(priority: &str) -> i32 {
    PRIORITIES.iter().rev().position(|word| *word == priority).unwrap_or(0) as i32
}

fn person_or_agent(actor: Actor, who: &Insider) -> (&'static str, Uuid) {
    (actor.kind(), actor.id().unwrap_or(who.user.0))
}
