//! New issues as they are stored, whoever makes them.

use uuid::Uuid;

use super::{Assignee, Row, number, prefix, title_key, write::rank};
use crate::{
    db::{Tx, on},
    error::Result,
    ids::{AgentId, IssueId, ProjectId, RunId, WorkspaceId},
    protocol::issue::Issue,
};

/// A new issue, checked, with all that it names held.
pub(super) struct New<'n> {
    pub title: &'n str,
    pub description: Option<&'n str>,
    pub status: &'n str,
    pub priority: &'n str,
    pub assignee: Option<Assignee>,
    pub creator: (&'n str, Uuid),
    pub parent: Option<IssueId>,
    pub project: Option<ProjectId>,
    pub start_date: Option<String>,
    pub due_date: Option<String>,
    pub origin: Option<(&'static str, Uuid)>,
}

/// Stores one on top of its column.
pub(super) async fn insert(tx: &mut Tx, workspace: WorkspaceId, number: i64, new: New<'_>) -> Result<Issue> {
    let top: Option<f64> = on!(tx, |c| sqlx::query_scalar(
        "SELECT position FROM issue WHERE workspace_id = $1 AND status = $2 ORDER BY position LIMIT 1"
    )
    .bind(workspace)
    .bind(new.status)
    .fetch_optional(c))?;
    let now = tx.now();
    let row: Row = on!(tx, |c| {
        sqlx::query_as(
        "INSERT INTO issue (id, workspace_id, number, title, title_key, description, status, priority, priority_rank,
                            assignee_type, assignee_id, creator_type, creator_id, parent_issue_id, project_id,
                            position, start_date, due_date, origin_type, origin_id, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $21)
         RETURNING *"
    )
    .bind(IssueId::fresh())
    .bind(workspace)
    .bind(number)
    .bind(new.title)
    .bind(title_key(new.title))
    .bind(new.description)
    .bind(new.status)
    .bind(new.priority)
    .bind(rank(new.priority))
    .bind(new.assignee.as_ref().map(|assignee| &assignee.kind))
    .bind(new.assignee.as_ref().map(|assignee| assignee.id))
    .bind(new.creator.0)
    .bind(new.creator.1)
    .bind(new.parent)
    .bind(new.project)
    .bind(top.map_or(0.0, |top| top - 1.0))
    .bind(&new.start_date)
    .bind(&new.due_date)
    .bind(new.origin.map(|(kind, _)| kind))
    .bind(new.origin.map(|(_, id)| id))
    .bind(now)
    .fetch_one(c)
    })?;
    Ok(row.wire(&prefix(tx, workspace).await?))
}

/// The issue of an autopilot's run.
#[derive(Debug)]
pub struct OfRun {
    /// Which run.
    pub run: RunId,
    /// Who works on it, and is said to have made it.
    pub agent: AgentId,
    /// The agent, or the squad that it leads; held.
    pub assignee: Assignee,
    /// Held, too.
    pub project: Option<ProjectId>,
    /// No longer than titles are.
    pub title: String,
    /// What is to be done.
    pub description: String,
}

/// A new issue of an autopilot's run, however many there are like it. Announced by the flow.
pub async fn create_for_run(tx: &mut Tx, workspace: WorkspaceId, wish: OfRun) -> Result<Issue> {
    let number = number::next(tx, workspace).await?;
    let new = New {
        title: &wish.title,
        description: Some(&wish.description),
        status: "todo",
        priority: "none",
        assignee: Some(wish.assignee),
        creator: ("agent", wish.agent.0),
        parent: None,
        project: wish.project,
        start_date: None,
        due_date: None,
        origin: Some(("autopilot", wish.run.0)),
    };
    insert(tx, workspace, number, new).await
}
