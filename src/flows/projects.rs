//! The end of a project: whatever belonged to it goes on without.

use crate::{
    db::{Tx, exec},
    error::Result,
    identity::Insider,
    ids::ProjectId,
    workspace::{issues, projects},
};

/// Removes a project.
pub async fn delete(tx: &mut Tx, who: &Insider, project: ProjectId) -> Result<()> {
    projects::lock(tx, who.workspace, project).await?;
    issues::leave_project(tx, who, project).await?;
    exec!(tx, |c| sqlx::query("UPDATE autopilot SET project_id = NULL WHERE project_id = $1").bind(project))?;
    projects::delete(tx, who, project).await
}
