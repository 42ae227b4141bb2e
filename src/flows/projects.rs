//! The end of a project: whatever belonged to it goes on without.

use crate::{
    db::Tx,
    error::Result,
    identity::Insider,
    ids::ProjectId,
    workspace::{autopilots, issues, projects},
};

/// Removes a project.
pub async fn delete(tx: &mut Tx, who: &Insider, project: ProjectId) -> Result<()> {
    projects::lock(tx, who.workspace, project).await?;
    autopilots::leave_project(tx, who, project).await?;
    issues::leave_project(tx, who, project).await?;
    projects::delete(tx, who, project).await
}
