//! The first start on an empty store: an owner, a workspace and a token, so that a hub is usable
//! the moment it runs.

use super::{tokens, users, workspaces};
use crate::{
    db::{Db, exec, on},
    error::{Error, Result},
    ids::{UserId, WorkspaceId},
    protocol::people::CreateWorkspace,
};

/// What the first start made.
pub struct FirstOwner {
    /// The owner's address.
    pub email: String,
    /// The workspace's slug.
    pub slug: String,
    /// The secret; told once.
    pub token: String,
}

/// Makes the first owner unless there are people already.
pub async fn first_owner(db: &Db) -> Result<Option<FirstOwner>> {
    db.write_global(async |tx| {
        // Two nodes may start at once on an empty store; a statement of its own, because the next
        // one's snapshot has to be taken after the wait.
        exec!(
            tx,
            pg "SELECT pg_advisory_xact_lock(7301)",
            lite "SELECT 1",
            |c, sql| sqlx::query(sql)
        )?;
        let anybody: Option<i32> = on!(tx, |c| sqlx::query_scalar("SELECT 1 FROM users LIMIT 1").fetch_optional(c))?;
        if anybody.is_some() {
            return Ok(None);
        }
        let (email, slug) = ("owner@localhost", "home-base");
        let owner = users::create(tx, email, "Owner").await?;
        let wish = CreateWorkspace { name: "Home".into(), slug: slug.into(), ..Default::default() };
        workspaces::create(tx, owner, &wish).await?;
        let token = tokens::create(tx, owner, "first start", 0).await?.token;
        Ok(Some(FirstOwner { email: email.into(), slug: slug.into(), token }))
    })
    .await
}

/// What a demonstration needs to act as somebody.
pub struct Demo {
    /// The secret; valid for a day.
    pub token: String,
    /// Where.
    pub workspace: String,
}

/// Makes a token for an owner of the oldest workspace. Made anew each time, because no secret can
/// be read back from the store.
pub async fn demo(db: &Db) -> Result<Demo> {
    db.write_global(async |tx| {
        let found: Option<(WorkspaceId, UserId)> = on!(tx, |c| sqlx::query_as(
            "SELECT w.id, m.user_id FROM workspace w JOIN member m ON m.workspace_id = w.id
             WHERE w.deleted_at IS NULL AND m.role = 'owner'
             ORDER BY w.created_at, w.id, m.created_at, m.id LIMIT 1"
        )
        .fetch_optional(c))?;
        let (workspace, owner) =
            found.ok_or_else(|| Error::not_found("workspace_not_found", "there is no workspace to demonstrate in"))?;
        let token = tokens::create(tx, owner, "demo", 1).await?.token;
        Ok(Demo { token, workspace: workspace.to_string() })
    })
    .await
}
