//! Somebody inside a workspace: a member, or an agent in its task.

use std::sync::Arc;

use super::{Identity, Role, TaskBinding, members};
use crate::{
    db::{Session, on},
    error::{Error, Result},
    ids::{UserId, WorkspaceId},
    protocol::event::Actor,
};

/// Who acts in a workspace, as the store had it when they entered.
#[derive(Debug, Clone)]
pub struct Insider {
    /// Where.
    pub workspace: WorkspaceId,
    /// The person; behind a task's token, the owner of the runtime.
    pub user: UserId,
    /// The person's role; behind a task's token, no more than that of the agent's owner.
    pub role: Role,
    /// The agent that acts, and its task.
    pub task: Option<Arc<TaskBinding>>,
}

/// Lets a caller into a workspace, or refuses with the one answer for what is absent and what is
/// not theirs. A task's token lets its agent in as long as the person behind it is a member.
pub async fn enter(db: &mut Session, identity: &Identity, workspace: WorkspaceId) -> Result<Insider> {
    let user = identity.user();
    let role = members::require(db, workspace, user).await?;
    let Identity::Agent(binding) = identity else {
        return Ok(Insider { workspace, user, role, task: None });
    };
    // Whoever made the agent may have bound it to an admin's public runtime: it gets no further by
    // that than they do.
    let maker: Option<String> = on!(db, |c| sqlx::query_scalar(
        "SELECT m.role FROM agent a JOIN member m ON m.workspace_id = a.workspace_id AND m.user_id = a.owner_id
         WHERE a.id = $1 AND a.workspace_id = $2"
    )
    .bind(binding.agent)
    .bind(workspace)
    .fetch_optional(c))?;
    let maker = maker.as_deref().and_then(Role::parse).unwrap_or(Role::Member);
    Ok(Insider { workspace, user, role: role.min(maker), task: Some(binding.clone()) })
}

impl Insider {
    /// In whose name changes are made.
    pub fn actor(&self) -> Actor {
        match &self.task {
            Some(task) => Actor::Agent(task.agent),
            None => Actor::Member(self.user),
        }
    }

    /// Whether a person is the one who acts: an agent is not the person behind its token.
    pub fn is(&self, user: UserId) -> bool {
        self.task.is_none() && self.user == user
    }

    /// Whether the person is an owner or admin.
    pub fn rules(&self) -> bool {
        self.role >= Role::Admin
    }

    /// Refuses whoever is neither owner nor admin.
    pub fn require_rule(&self) -> Result<()> {
        if self.rules() {
            Ok(())
        } else {
            Err(Error::forbidden("insufficient_permissions", "insufficient permissions"))
        }
    }

    /// Whether what is private to `owner` may be seen and used: by its owner, by owners and admins,
    /// and by agents always.
    pub fn may_use_private(&self, owner: UserId) -> bool {
        self.task.is_some() || self.rules() || self.user == owner
    }
}
