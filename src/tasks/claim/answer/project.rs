//! What a project has to say to an agent that works for it.

use super::ClaimedTask;
use crate::{
    db::Tx,
    error::Result,
    ids::ProjectId,
    protocol::{project::Resource, runtime::Repo, task::ClaimedResource},
    workspace::projects::resources,
};

/// Tells of a project of the task's workspace. Its repositories, if it has any, are the only ones.
pub(super) async fn tell(tx: &mut Tx, project: ProjectId, title: String, task: &mut ClaimedTask) -> Result<()> {
    let resources = resources::list(tx, project).await?;
    let repos: Vec<Repo> = resources.iter().filter_map(repo).collect();
    if !repos.is_empty() {
        task.repos = repos;
    }
    task.about.project_id = Some(project);
    task.about.project_title = Some(title);
    task.about.project_resources = resources
        .into_iter()
        .map(|Resource { id, resource_type, resource_ref, label, .. }| ClaimedResource {
            id,
            resource_type,
            resource_ref,
            label,
        })
        .collect();
    Ok(())
}

fn repo(resource: &Resource) -> Option<Repo> {
    let url = resource.resource_ref.get("url")?.as_str()?.trim();
    let is_one = resource.resource_type == "github_repo" && !url.is_empty();
    is_one.then(|| Repo { url: url.to_owned(), description: String::new() })
}
