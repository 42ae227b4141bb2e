//! Projects: what several issues are for.

pub mod resources;

use uuid::Uuid;

use super::{
    references,
    words::{self, PRIORITIES},
};
use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    events::kinds,
    identity::Insider,
    ids::{ProjectId, WorkspaceId},
    protocol::{
        lenient::Patch,
        project::{CreateProject, NewProject, Project, PutProject},
    },
    time::Timestamp,
};

/// Resources that a project can be made with.
const MOST_RESOURCES: usize = 100;
const STATUSES: &[&str] = &["planned", "in_progress", "paused", "completed", "cancelled"];

/// What a list is narrowed to.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Only this status.
    pub status: Option<String>,
    /// Only this priority.
    pub priority: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: ProjectId,
    workspace_id: WorkspaceId,
    title: String,
    description: Option<String>,
    icon: Option<String>,
    status: String,
    priority: String,
    lead_type: Option<String>,
    lead_id: Option<Uuid>,
    created_at: Timestamp,
    updated_at: Timestamp,
    issue_count: i64,
    done_count: i64,
    resource_count: i64,
}

impl From<Row> for Project {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            workspace_id: row.workspace_id,
            title: row.title,
            description: row.description,
            icon: row.icon,
            status: row.status,
            priority: row.priority,
            lead_type: row.lead_type,
            lead_id: row.lead_id,
            created_at: row.created_at,
            updated_at: row.updated_at,
            issue_count: row.issue_count,
            done_count: row.done_count,
            resource_count: row.resource_count,
        }
    }
}

/// A project with its counts, which are kept by triggers: nothing is counted here but resources.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT p.*,
                 (SELECT CAST(COALESCE(SUM(t.issues), 0) AS bigint) FROM issue_tally t
                  WHERE t.workspace_id = p.workspace_id AND t.project_id = p.id) AS issue_count,
                 (SELECT CAST(COALESCE(SUM(t.issues), 0) AS bigint) FROM issue_tally t
                  WHERE t.workspace_id = p.workspace_id AND t.project_id = p.id
                    AND t.status IN ('done', 'cancelled')) AS done_count,
                 (SELECT COUNT(*) FROM project_resource r WHERE r.project_id = p.id) AS resource_count
             FROM project p ",
            $rest
        )
    };
}

/// A workspace's projects, newest first.
pub async fn list(db: &mut Session, workspace: WorkspaceId, filter: &Filter) -> Result<Vec<Project>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(select!(
        "WHERE p.workspace_id = $1 AND (p.status = $2 OR $2 IS NULL) AND (p.priority = $3 OR $3 IS NULL)
         ORDER BY p.created_at DESC, p.id DESC"
    ))
    .bind(workspace)
    .bind(&filter.status)
    .bind(&filter.priority)
    .fetch_all(c))?;
    Ok(rows.into_iter().map(Project::from).collect())
}

/// One of a workspace's projects.
pub async fn get(db: &mut Session, workspace: WorkspaceId, project: ProjectId) -> Result<Project> {
    let row: Option<Row> = on!(db, |c| sqlx::query_as(select!("WHERE p.id = $1 AND p.workspace_id = $2"))
        .bind(project)
        .bind(workspace)
        .fetch_optional(c))?;
    row.map(Project::from).ok_or_else(not_found)
}

/// Whether the workspace has such a project; holds it where it is.
pub async fn exists(db: &mut Session, workspace: WorkspaceId, project: ProjectId) -> Result<bool> {
    let found: Option<i32> = on!(
        db,
        pg "SELECT 1 FROM project WHERE id = $1 AND workspace_id = $2 FOR KEY SHARE",
        lite "SELECT 1 FROM project WHERE id = $1 AND workspace_id = $2",
        |c, sql| sqlx::query_scalar(sql).bind(project).bind(workspace).fetch_optional(c)
    )?;
    Ok(found.is_some())
}

/// A new one, with what it is about: all of it or nothing.
pub async fn create(tx: &mut Tx, who: &Insider, wish: &CreateProject) -> Result<NewProject> {
    let title = words::title("title", &wish.title)?;
    words::optional_text("description", wish.description.as_deref())?;
    if wish.resources.len() > MOST_RESOURCES {
        return Err(Error::invalid("too_many_resources", "a project can be made with at most 100 resources"));
    }
    let status = words::one_of_or("status", STATUSES, &wish.status, "planned")?;
    let priority = words::one_of_or("priority", PRIORITIES, &wish.priority, "none")?;
    let lead = lead(tx, who.workspace, wish.lead_type.as_deref(), wish.lead_id.as_deref()).await?;
    let (id, now) = (ProjectId::fresh(), tx.now());
    exec!(tx, |c| sqlx::query(
        "INSERT INTO project (id, workspace_id, title, description, icon, status, priority, lead_type, lead_id,
                              created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)"
    )
    .bind(id)
    .bind(who.workspace)
    .bind(title)
    .bind(&wish.description)
    .bind(&wish.icon)
    .bind(status)
    .bind(priority)
    .bind(lead.as_ref().map(|(kind, _)| kind))
    .bind(lead.as_ref().map(|(_, id)| id))
    .bind(now))?;
    let mut resources = Vec::with_capacity(wish.resources.len());
    for (index, wish) in wish.resources.iter().enumerate() {
        let added = resources::insert(tx, who, id, wish).await;
        resources.push(added.map_err(|error| error.within(&format!("resources[{index}]")))?);
    }
    let project = get(tx, who.workspace, id).await?;
    tx.emit(kinds::project_created(who.actor(), &project));
    for resource in &resources {
        tx.emit(kinds::resource_created(who.actor(), resource));
    }
    Ok(NewProject { project, resources })
}

/// Changes one.
pub async fn put(tx: &mut Tx, who: &Insider, project: ProjectId, change: PutProject) -> Result<Project> {
    lock(tx, who.workspace, project).await?;
    let old = get(tx, who.workspace, project).await?;
    let title = change.title.as_deref().map(|title| words::title("title", title)).transpose()?;
    if let Patch::Value(description) = &change.description {
        words::text("description", description)?;
    }
    let status = change.status.as_deref().map(|word| words::one_of("status", STATUSES, word)).transpose()?;
    let priority = change.priority.as_deref().map(|word| words::one_of("priority", PRIORITIES, word)).transpose()?;
    let (lead_type, lead_id) = if change.lead_type.is_absent() && change.lead_id.is_absent() {
        (old.lead_type.clone(), old.lead_id)
    } else {
        let kind = change.lead_type.over(old.lead_type.clone());
        let id = change.lead_id.over(old.lead_id.map(|id| id.to_string()));
        lead(tx, who.workspace, kind.as_deref(), id.as_deref()).await?.unzip()
    };
    let new = Project {
        title: title.unwrap_or(&old.title).to_owned(),
        description: change.description.over(old.description.clone()),
        icon: change.icon.over(old.icon.clone()),
        status: status.unwrap_or(&old.status).to_owned(),
        priority: priority.unwrap_or(&old.priority).to_owned(),
        lead_type,
        lead_id,
        ..old.clone()
    };
    if new == old {
        return Ok(old);
    }
    let new = Project { updated_at: tx.now(), ..new };
    exec!(tx, |c| sqlx::query(
        "UPDATE project SET title = $2, description = $3, icon = $4, status = $5, priority = $6,
             lead_type = $7, lead_id = $8, updated_at = $9
         WHERE id = $1"
    )
    .bind(project)
    .bind(&new.title)
    .bind(&new.description)
    .bind(&new.icon)
    .bind(&new.status)
    .bind(&new.priority)
    .bind(&new.lead_type)
    .bind(new.lead_id)
    .bind(new.updated_at))?;
    tx.emit(kinds::project_updated(who.actor(), &new));
    Ok(new)
}

/// Removes one that nothing refers to any more; the flow around it sees to that.
pub async fn delete(tx: &mut Tx, who: &Insider, project: ProjectId) -> Result<()> {
    exec!(tx, |c| sqlx::query("DELETE FROM project WHERE id = $1").bind(project))?;
    tx.emit(kinds::project_deleted(who.workspace, who.actor(), project));
    Ok(())
}

/// Locks one against other changes.
pub async fn lock(tx: &mut Tx, workspace: WorkspaceId, project: ProjectId) -> Result<()> {
    let found: Option<i32> = on!(
        tx,
        pg "SELECT 1 FROM project WHERE id = $1 AND workspace_id = $2 FOR UPDATE",
        lite "SELECT 1 FROM project WHERE id = $1 AND workspace_id = $2",
        |c, sql| sqlx::query_scalar(sql).bind(project).bind(workspace).fetch_optional(c)
    )?;
    found.map(drop).ok_or_else(not_found)
}

/// The refusal for projects that are not there or not the workspace's.
pub fn not_found() -> Error {
    Error::not_found("project_not_found", "project not found")
}

/// Who leads: both or neither.
async fn lead(
    db: &mut Session,
    workspace: WorkspaceId,
    kind: Option<&str>,
    id: Option<&str>,
) -> Result<Option<(String, Uuid)>> {
    match (kind.filter(|kind| !kind.is_empty()), id.filter(|id| !id.is_empty())) {
        (None, None) => Ok(None),
        (Some(kind), Some(id)) => {
            words::one_of("lead_type", &["member", "agent"], kind)?;
            let id = references::member_or_agent(db, workspace, kind, id, "lead_id").await?;
            Ok(Some((kind.to_owned(), id)))
        }
        _ => Err(Error::invalid("half_a_lead", "lead_type and lead_id go together")),
    }
}
