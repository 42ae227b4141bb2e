//! Who somebody is and what they may do: people, their tokens, workspaces, members and roles.

mod believed;
pub mod bootstrap;
mod credentials;
pub mod daemon_tokens;
mod insider;
pub mod jwt;
mod last_used;
pub mod members;
mod recheck;
pub mod secrets;
pub mod sessions;
mod settings;
pub mod task_tokens;
pub mod tokens;
pub mod users;
pub mod workspaces;

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    hub::Holder,
    ids::{AgentId, DaemonTokenId, SessionId, TaskId, TaskTokenId, TokenId, UserId, WorkspaceId},
    protocol::event::{Actor, Reader},
};

pub use credentials::{Credential, Credentials};
pub use insider::{Insider, enter};
pub use last_used::LastUsed;
pub use settings::{KEYS, Settings};

/// A caller whose credential was accepted. Travels in the request's extensions; nothing a client
/// can put into a header ends up here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A person.
    Person {
        /// Who.
        user: UserId,
        /// By what.
        proof: Proof,
    },
    /// A machine that holds a daemon token.
    Daemon(Arc<DaemonBinding>),
    /// An agent that holds its task's token.
    Agent(Arc<TaskBinding>),
}

/// What a person showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Their own token.
    Token(TokenId),
    /// A session, and the token that it was opened with.
    Session {
        /// The session.
        session: SessionId,
        /// Its token.
        token: TokenId,
    },
}

impl Proof {
    /// The token at the bottom of it.
    pub fn token(self) -> TokenId {
        match self {
            Self::Token(token) | Self::Session { token, .. } => token,
        }
    }
}

/// What a daemon token is good for.
#[derive(Debug, PartialEq, Eq)]
pub struct DaemonBinding {
    /// The token.
    pub token: DaemonTokenId,
    /// The only workspace.
    pub workspace: WorkspaceId,
    /// The only daemon id.
    pub daemon_id: String,
    /// Who made it, and owns what it registers.
    pub creator: UserId,
}

/// What a task token is good for.
#[derive(Debug, PartialEq, Eq)]
pub struct TaskBinding {
    /// The token.
    pub token: TaskTokenId,
    /// The only workspace.
    pub workspace: WorkspaceId,
    /// Who acts.
    pub agent: AgentId,
    /// In which task.
    pub task: TaskId,
    /// The owner of the runtime that runs it.
    pub user: UserId,
}

impl Identity {
    /// The person behind the credential.
    pub fn user(&self) -> UserId {
        match self {
            Self::Person { user, .. } => *user,
            Self::Daemon(binding) => binding.creator,
            Self::Agent(binding) => binding.user,
        }
    }

    /// The only workspace that the credential is good for, if there is only one.
    pub fn confined_to(&self) -> Option<WorkspaceId> {
        match self {
            Self::Person { .. } => None,
            Self::Daemon(binding) => Some(binding.workspace),
            Self::Agent(binding) => Some(binding.workspace),
        }
    }

    /// In whose name changes are made.
    pub fn actor(&self) -> Actor {
        match self {
            Self::Person { user, .. } => Actor::Member(*user),
            Self::Daemon(_) => Actor::System,
            Self::Agent(binding) => Actor::Agent(binding.agent),
        }
    }

    /// Whose sockets it opens, and the rows that they rest on: when one of those ends, so do they.
    pub fn holder(&self) -> Holder {
        let (token, session) = match self {
            Self::Person { proof: Proof::Token(token), .. } => (token.0, Uuid::nil()),
            Self::Person { proof: Proof::Session { session, token }, .. } => (token.0, session.0),
            Self::Daemon(binding) => (binding.token.0, Uuid::nil()),
            Self::Agent(binding) => (binding.token.0, Uuid::nil()),
        };
        Holder { user: self.user(), token, session }
    }
}

/// Who drives runtimes: a person's daemon, or one that its token confines to a workspace and a
/// daemon id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// Who owns the runtimes.
    pub user: UserId,
    /// The daemon token's confines.
    pub binding: Option<Arc<DaemonBinding>>,
}

impl Driver {
    /// Whether it may have to do with a workspace at all.
    pub fn reaches(&self, workspace: WorkspaceId) -> bool {
        self.binding.as_ref().is_none_or(|binding| binding.workspace == workspace)
    }

    /// Whether it may speak for a daemon of that workspace.
    pub fn is(&self, workspace: WorkspaceId, daemon_id: &str) -> bool {
        self.reaches(workspace) && self.binding.as_ref().is_none_or(|binding| binding.daemon_id == daemon_id)
    }
}

impl From<&Identity> for Driver {
    fn from(identity: &Identity) -> Self {
        let binding = match identity {
            Identity::Daemon(binding) => Some(binding.clone()),
            _ => None,
        };
        Self { user: identity.user(), binding }
    }
}

/// What a member may do in a workspace, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Role {
    /// Works there.
    Member,
    /// Runs it.
    Admin,
    /// Owns it.
    Owner,
}

impl Role {
    /// From the wire's word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "owner" => Some(Self::Owner),
            "admin" => Some(Self::Admin),
            "member" => Some(Self::Member),
            _ => None,
        }
    }

    /// As whom somebody in this role reads events.
    pub fn reader(self, user: UserId) -> Reader {
        Reader { user, rules: self >= Self::Admin }
    }

    /// The wire's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
        }
    }
}
