//! An issue is to be made of somebody's words.

use serde::Deserialize;

use super::{ClaimedTask, Row, briefing, project};
use crate::{
    db::{Tx, on},
    error::Result,
    ids::{AttachmentId, IssueId, ProjectId, SquadId, WorkspaceId},
    protocol::lenient,
};

/// What marks such a task's context.
const TYPE: &str = "quick_create";

/// The context as it was stored.
#[derive(Deserialize)]
struct Stored {
    #[serde(default, deserialize_with = "lenient::zero")]
    r#type: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    prompt: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    workspace_id: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    project_id: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    squad_id: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    parent_issue_id: String,
    #[serde(default, deserialize_with = "lenient::list")]
    attachment_ids: Vec<String>,
}

/// What was wished for. What it names may have gone since.
pub(super) struct Wish {
    pub workspace_id: WorkspaceId,
    prompt: String,
    project: Option<ProjectId>,
    squad: Option<SquadId>,
    parent: Option<IssueId>,
    attachments: Vec<AttachmentId>,
}

/// The wish in a task, if there is one.
pub(super) fn wish(row: &Row) -> Option<Wish> {
    let stored: Stored = serde_json::from_value(row.context.as_ref()?.0.clone()).ok()?;
    if stored.r#type != TYPE {
        return None;
    }
    Some(Wish {
        workspace_id: stored.workspace_id.parse().ok()?,
        prompt: stored.prompt,
        project: stored.project_id.parse().ok(),
        squad: stored.squad_id.parse().ok(),
        parent: stored.parent_issue_id.parse().ok(),
        attachments: stored.attachment_ids.iter().filter_map(|id| id.parse().ok()).collect(),
    })
}

/// What the project is called, and the parent.
#[derive(Default, sqlx::FromRow)]
struct Names {
    project_title: Option<String>,
    parent_number: Option<i64>,
    issue_prefix: String,
}

pub(super) async fn tell(tx: &mut Tx, wish: Wish, task: &mut ClaimedTask) -> Result<()> {
    let Names { project_title, parent_number, issue_prefix } = names(tx, &wish).await?;
    if let Some(squad) = wish.squad
        && let Some(squad) = briefing::led_by(tx, wish.workspace_id, squad, task.agent.id).await?
    {
        briefing::append(tx, &squad, task).await?;
        task.about.squad_id = Some(squad.id);
        task.about.squad_name = Some(squad.name);
    }
    match (wish.project, project_title) {
        (Some(project), Some(title)) => project::tell(tx, project, title, task).await?,
        (project, _) => task.about.project_id = project,
    }
    let about = &mut task.about;
    about.thread_name.clone_from(&wish.prompt);
    about.quick_create_prompt = Some(wish.prompt);
    about.quick_create_attachment_ids = wish.attachments;
    about.parent_issue_id = wish.parent;
    about.parent_issue_identifier = parent_number.map(|number| format!("{issue_prefix}-{number}"));
    Ok(())
}

async fn names(tx: &mut Tx, wish: &Wish) -> Result<Names> {
    if wish.project.is_none() && wish.parent.is_none() {
        return Ok(Names::default());
    }
    on!(tx, |c| sqlx::query_as(
        "SELECT p.title AS project_title, i.number AS parent_number, w.issue_prefix
         FROM workspace w
         LEFT JOIN project p ON p.id = $2 AND p.workspace_id = w.id
         LEFT JOIN issue i ON i.id = $3 AND i.workspace_id = w.id
         WHERE w.id = $1"
    )
    .bind(wish.workspace_id)
    .bind(wish.project)
    .bind(wish.parent)
    .fetch_one(c))
}
