//! Ids in bodies. One that is absent, another workspace's or no id at all is refused in the same
//! words, so that nothing is learnt about other workspaces.

use std::str::FromStr;

use uuid::Uuid;

use crate::{
    db::{Session, on},
    error::{Error, Result},
    ids::WorkspaceId,
};

/// The refusal of an id in a body; `field` names it.
pub fn invalid(field: &str) -> Error {
    Error::invalid("invalid_reference", format!("invalid {field}"))
}

/// An id in a body.
pub fn id<T: FromStr>(field: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| invalid(field))
}

/// A member (by the person's id) or an agent of the workspace. Archived agents count.
pub async fn member_or_agent(
    db: &mut Session,
    workspace: WorkspaceId,
    kind: &str,
    text: &str,
    field: &str,
) -> Result<Uuid> {
    let wished: Uuid = id(field, text)?;
    let found: Option<Uuid> = match kind {
        "member" => {
            on!(db, |c| sqlx::query_scalar("SELECT user_id FROM member WHERE workspace_id = $1 AND user_id = $2")
                .bind(workspace)
                .bind(wished)
                .fetch_optional(c))?
        }
        "agent" => on!(db, |c| sqlx::query_scalar("SELECT id FROM agent WHERE workspace_id = $1 AND id = $2")
            .bind(workspace)
            .bind(wished)
            .fetch_optional(c))?,
        _ => None,
    };
    found.ok_or_else(|| invalid(field))
}
