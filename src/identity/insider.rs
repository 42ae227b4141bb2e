//! Somebody inside a workspace: a member, or an agent in its task.

use std::sync::Arc;

use super::{Identity, Role, TaskBinding, members};
use crate::{
    db::Session,
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
    /// The person's role.
    pub role: Role,
    /// The agent that acts, and its task.
    pub task: Option<Arc<TaskBinding>>,
}

/// Lets a caller into a workspace, or refuses with the one answer for what is absent and what is
/// not theirs. A task's token lets its agent in as long as the person behind it is a member.
pub async fn enter(db: &mut Session, identity: &Identity, workspace: WorkspaceId) -> Result<Insider> {
    let user = identity.user();
    let role = members::require(db, workspace, user).await?;
    let task = match identity {
        Identity::Agent(binding) => Some(binding.clone()),
        _ => None,
    };
    Ok(Insider { workspace, user, role, task })
}

impl Insider {
    /// In whose name changes are made.
    pub fn actor(&self) -> Actor {
        match &self.task {
            Some(task) => Actor::Agent(task.agent),
            None => Actor::Member(self.user),
        }
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
