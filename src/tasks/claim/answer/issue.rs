//! Work on an issue.

use uuid::Uuid;

use super::{super::super::resume, ClaimedTask, Row, briefing, comment, project};
use crate::{
    db::{Tx, on},
    error::Result,
    ids::{IssueId, ProjectId, SquadId, WorkspaceId},
};

/// An issue, wherever it lies.
#[derive(sqlx::FromRow)]
pub(super) struct Found {
    pub workspace_id: WorkspaceId,
    id: IssueId,
    title: String,
    assignee_type: Option<String>,
    assignee_id: Option<Uuid>,
    project_id: Option<ProjectId>,
    project_title: Option<String>,
}

impl Found {
    /// The squad that it is given to.
    fn squad(&self) -> Option<SquadId> {
        self.assignee_id.filter(|_| self.assignee_type.as_deref() == Some("squad")).map(SquadId)
    }
}

pub(super) async fn find(tx: &mut Tx, issue: IssueId) -> Result<Option<Found>> {
    on!(tx, |c| sqlx::query_as(
        "SELECT i.workspace_id, i.id, i.title, i.assignee_type, i.assignee_id, p.id AS project_id,
             p.title AS project_title
         FROM issue i LEFT JOIN project p ON p.id = i.project_id AND p.workspace_id = i.workspace_id
         WHERE i.id = $1"
    )
    .bind(issue)
    .fetch_optional(c))
}

pub(super) async fn tell(tx: &mut Tx, row: &Row, found: Found, task: &mut ClaimedTask) -> Result<()> {
    if let Some(squad) = found.squad()
        && let Some(squad) = briefing::led_by(tx, found.workspace_id, squad, row.agent_id).await?
    {
        briefing::append(tx, &squad, task).await?;
    }
    if let Some(comment) = row.trigger_comment_id {
        comment::tell(tx, row, found.id, comment, task).await?;
    }
    if let (Some(project), Some(title)) = (found.project_id, found.project_title) {
        project::tell(tx, project, title, task).await?;
    }
    let prior = resume::of_issue(tx, row, found.id).await?;
    task.about.thread_name = found.title;
    task.about.prior_session_id = prior.session_id;
    task.about.prior_work_dir = prior.work_dir;
    Ok(())
}
