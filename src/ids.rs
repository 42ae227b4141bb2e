//! Identifiers as types, so that a runtime's id cannot be passed where a workspace's is wanted.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh, time-ordered id (UUID v7).
            #[allow(dead_code, reason = "not every kind is made by this part")]
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_hyphenated(text).map(Self)
            }
        }
    )*};
}

ids! {
    /// A person.
    UserId,
    /// A tenant: everything but people belongs to exactly one.
    WorkspaceId,
    /// One person's membership in one workspace.
    MemberId,
    /// A person's access token.
    TokenId,
    /// A person's sign-in.
    SessionId,
    /// A daemon's token.
    DaemonTokenId,
    /// A task's token.
    TaskTokenId,
    /// A coding agent of a workspace.
    AgentId,
    /// One run of an agent.
    TaskId,
    /// What an agent knows beside its instructions.
    SkillId,
    /// One file of a skill.
    SkillFileId,
    /// Agents and people who work together, led by an agent.
    SquadId,
    /// Somebody's place in a squad.
    SquadMemberId,
    /// What several issues are for.
    ProjectId,
    /// A repository or folder that a project is about.
    ResourceId,
    /// A piece of work.
    IssueId,
    /// What somebody said about an issue.
    CommentId,
    /// A person's talk with an agent.
    ChatSessionId,
    /// What one of the two said.
    ChatMessageId,
    /// A file that belongs to an issue, a comment or a chat.
    AttachmentId,
    /// Work that is asked for by the clock.
    AutopilotId,
    /// What sets an autopilot off.
    TriggerId,
    /// One time that an autopilot was set off.
    RunId,
    /// Something a daemon can drive: one agent CLI on one machine.
    RuntimeId,
    /// A custom kind of runtime.
    RuntimeProfileId,
    /// One logged state event.
    EventId,
}

/// A text that is no id.
#[derive(Debug, thiserror::Error)]
#[error("not a hyphenated UUID")]
pub struct NotAnId;

/// Only the 36-character form is an id on the wire; braces, URNs and bare hex are refused as the
/// clients never send them and two spellings of one id would be two cache keys.
fn parse_hyphenated(text: &str) -> Result<Uuid, NotAnId> {
    if text.len() != 36 {
        return Err(NotAnId);
    }
    Uuid::try_parse(text).map_err(|_| NotAnId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hyphenated_form_is_an_id() {
        let id = RuntimeId::fresh();
        assert_eq!(id.to_string().parse::<RuntimeId>().ok(), Some(id));
        for bad in ["", "-", "not-a-uuid", "é", &id.0.simple().to_string(), &id.0.urn().to_string()] {
            assert!(bad.parse::<RuntimeId>().is_err(), "{bad:?} was taken for an id");
        }
    }
}
