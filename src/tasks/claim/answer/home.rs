//! Where a task is at home, and the people behind it.

use serde_json::Value;
use sqlx::types::Json;

use super::Row;
use crate::{
    db::{Tx, on},
    error::Result,
    identity::workspaces,
    ids::UserId,
    protocol::{runtime::Repo, task::Initiator},
};

/// What is the same for tasks of every kind.
pub(super) struct Home {
    /// What every agent of the workspace is told.
    pub context: String,
    pub repos: Vec<Repo>,
    /// Whose runtime it is.
    pub owner_name: String,
    pub owner_description: String,
    /// Who asked, as far as the task itself remembers.
    pub initiator: Option<Initiator>,
}

#[derive(sqlx::FromRow)]
struct Found {
    context: Option<String>,
    repos: Json<Value>,
    owner_name: Option<String>,
    owner_description: Option<String>,
    initiator_name: Option<String>,
    initiator_email: Option<String>,
}

/// The task's workspace.
pub(super) async fn find(tx: &mut Tx, row: &Row, owner: UserId) -> Result<Home> {
    let found: Found = on!(tx, |c| sqlx::query_as(
        "SELECT w.context, w.repos, o.name AS owner_name, o.profile_description AS owner_description,
             i.name AS initiator_name, i.email AS initiator_email
         FROM workspace w LEFT JOIN users o ON o.id = $2 LEFT JOIN users i ON i.id = $3 WHERE w.id = $1"
    )
    .bind(row.workspace_id)
    .bind(owner)
    .bind(row.initiator_user_id)
    .fetch_one(c))?;
    Ok(Home {
        context: found.context.unwrap_or_default(),
        repos: workspaces::stored_repos(found.repos.0),
        owner_name: found.owner_name.unwrap_or_default(),
        owner_description: found.owner_description.unwrap_or_default(),
        initiator: row.initiator_user_id.map(|user| Initiator {
            kind: "member",
            id: user.0,
            name: found.initiator_name.unwrap_or_default(),
            email: found.initiator_email,
        }),
    })
}
