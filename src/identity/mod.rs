//! Who somebody is and what they may do: people, their tokens, workspaces, members and roles.

pub mod bootstrap;
pub mod members;
pub mod tokens;
pub mod users;
pub mod workspaces;

use crate::ids::{TokenId, UserId};

/// A caller whose credential was accepted. Travels in the request's extensions; nothing a client
/// can put into a header ends up here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Somebody with a personal access token.
    Person {
        /// Who.
        user: UserId,
        /// By which token.
        token: TokenId,
    },
}

impl Identity {
    /// The person behind the credential.
    pub fn user(&self) -> UserId {
        match self {
            Self::Person { user, .. } => *user,
        }
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

    /// The wire's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
        }
    }
}
