//! The objects and bodies of the people's API that are about people and workspaces.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{lenient, runtime::Repo};
use crate::{
    ids::{DaemonTokenId, MemberId, TokenId, UserId, WorkspaceId},
    time::Timestamp,
};

/// A person, to themselves.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct User {
    pub id: UserId,
    pub name: String,
    pub email: String,
    pub avatar_url: Option<String>,
    pub language: Option<String>,
    pub timezone: Option<String>,
    pub starter_content_state: Option<String>,
    pub onboarded_at: Option<Timestamp>,
    pub onboarding_questionnaire: Value,
    pub profile_description: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// `PATCH /api/me`: what is absent or null stays.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct PatchMe {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub avatar_url: Option<String>,
    #[serde(default)]
    pub language: Option<String>,
    #[serde(default)]
    pub profile_description: Option<String>,
    #[serde(default)]
    pub timezone: Option<String>,
}

/// A token, without its secret.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Token {
    pub id: TokenId,
    pub name: String,
    pub token_prefix: String,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

/// A token just made; the only time its secret is told.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct NewToken {
    #[serde(flatten)]
    pub about: Token,
    pub token: String,
}

/// `POST /auth/session`: a token comes in, cookies go out.
#[derive(Default, Deserialize)]
pub struct SignIn {
    /// A person's token.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub token: String,
}

/// A daemon token, without its secret.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct DaemonToken {
    pub id: DaemonTokenId,
    pub workspace_id: WorkspaceId,
    pub daemon_id: String,
    pub created_by: UserId,
    pub token_prefix: String,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

/// A daemon token just made; the only time its secret is told.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct NewDaemonToken {
    #[serde(flatten)]
    pub about: DaemonToken,
    pub token: String,
}

/// `POST /api/workspaces/{id}/daemon-tokens`.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct CreateDaemonToken {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub daemon_id: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub expires_in_days: i64,
}

/// `POST …/members` and, without the address, `PATCH …/members/{id}`.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Membership {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub email: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub role: String,
}

/// `POST /api/tokens`.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct CreateToken {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub name: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub expires_in_days: i64,
}

/// The answer to a renewal.
#[derive(Debug, Serialize)]
pub struct Renewal {
    /// RFC 3339; empty for "never".
    pub expires_at: String,
    /// Whether anything changed.
    pub renewed: bool,
}

/// A workspace.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Workspace {
    pub id: WorkspaceId,
    pub name: String,
    pub slug: String,
    pub description: Option<String>,
    pub context: Option<String>,
    pub settings: Value,
    pub repos: Vec<Repo>,
    pub issue_prefix: String,
    pub avatar_url: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// `POST /api/workspaces`.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct CreateWorkspace {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub name: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub slug: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub context: Option<String>,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub issue_prefix: String,
}

/// `PATCH` and `PUT /api/workspaces/{id}`: what is absent or null stays.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct PatchWorkspace {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub context: Option<String>,
    #[serde(default)]
    pub settings: Option<serde_json::Map<String, Value>>,
    #[serde(default)]
    pub repos: Option<Vec<Option<Repo>>>,
    #[serde(default)]
    pub issue_prefix: Option<String>,
    #[serde(default)]
    pub avatar_url: Option<String>,
}

/// A membership. Elsewhere a member is named by the user id.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Member {
    pub id: MemberId,
    pub workspace_id: WorkspaceId,
    pub user_id: UserId,
    pub role: String,
    pub created_at: Timestamp,
    pub name: String,
    pub email: String,
    pub avatar_url: Option<String>,
}
