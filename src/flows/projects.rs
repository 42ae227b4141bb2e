//! The end of a project: whatever belonged to it goes on without.

use crate::{
    db::Tx,
    error::Result,
    identity::Insider,
    ids::ProjectId,
    workspace::{autopilots, issues, projects},
};

/// Takes some issues out of a project that is to go; whether there may be more. In pieces of their
/// own before [`delete`], so that a large project does not stop everybody else.
pub async fn empty(tx: &mut Tx, who: &Insider, project: ProjectId) -> Result<bool> {
    projects::lock(tx, who.workspace, project).await?;
    issues::leave_project(tx, who, project).await
}

/// Removes a project.
pub async fn delete(tx: &mut Tx, who: &Insider, project: ProjectId) -> Result<()> {
    projects::lock(tx, who.workspace, project).await?;
    autopilots::leave_project(tx, who, project).await?;
    // What came since it was emptied.
    while issues::leave_project(tx, who, project).await? {}
    projects::delete(tx, who, project).await
}
