//! `heartwire admin`: works on the store itself, beside a running hub or without one. What it
//! changes is logged like any change, so the hub's browsers see it within seconds.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Sources, failed};
use crate::{
    db::{Db, Session},
    error::{Error, Result},
    events::{self, Journal, Lanes, kinds},
    identity::{Role, daemon_tokens, members, tokens, users, workspaces},
    ids::{UserId, WorkspaceId},
    protocol::{
        event::Actor,
        people::{CreateDaemonToken, CreateWorkspace},
    },
};

#[derive(Debug, Args)]
pub(super) struct Admin {
    #[command(flatten)]
    sources: Sources,
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a person.
    CreateUser {
        #[arg(long)]
        email: String,
        #[arg(long)]
        name: String,
    },
    /// Make a workspace.
    CreateWorkspace {
        #[arg(long)]
        name: String,
        #[arg(long)]
        slug: String,
        /// E-mail address of its owner.
        #[arg(long)]
        owner: String,
    },
    /// Make an access token for a person; its secret is shown once.
    CreateToken {
        /// E-mail address.
        #[arg(long)]
        user: String,
        #[arg(long)]
        name: String,
        /// Days until it ends; never by default.
        #[arg(long, default_value_t = 0)]
        expires_in_days: i64,
    },
    /// Make a token for a machine that should not hold a person's; its secret is shown once.
    CreateDaemonToken {
        /// Slug.
        #[arg(long)]
        workspace: String,
        /// The only daemon id that it is good for.
        #[arg(long)]
        daemon_id: String,
        /// E-mail address of who owns what the daemon registers; the workspace's first owner by default.
        #[arg(long)]
        owner: Option<String>,
        /// Days until it ends; never by default.
        #[arg(long, default_value_t = 0)]
        expires_in_days: i64,
    },
    /// Make a person a member of a workspace.
    AddMember {
        /// Slug.
        #[arg(long)]
        workspace: String,
        /// E-mail address.
        #[arg(long)]
        user: String,
        /// member, admin or owner.
        #[arg(long, default_value = "member")]
        role: String,
    },
    /// Begin a new event epoch, as after restoring a backup: every client refetches.
    NewEpoch,
}

impl Admin {
    pub(super) async fn run(self) -> u8 {
        let config = match self.sources.load(&[]) {
            Ok(config) => config,
            Err(error) => return failed(&error),
        };
        // No lanes: the hub's own find what is written here.
        let lanes = Lanes::new(config.events.clone());
        let outcome = async {
            let db = Db::open(&config.db, Journal::new(lanes)).await?;
            let outcome = self.what.run(&db).await;
            db.close().await;
            outcome
        };
        match outcome.await {
            Ok(answer) if self.json => {
                println!("{answer}");
                0
            }
            Ok(answer) => {
                for (name, value) in answer.as_object().into_iter().flatten() {
                    println!("{name}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                }
                0
            }
            Err(error) => failed(&error),
        }
    }
}

impl What {
    async fn run(self, db: &Db) -> Result<Value> {
        match self {
            Self::CreateUser { email, name } => {
                let user = db.write_global(async move |tx| users::create(tx, &email, &name).await).await?;
                Ok(json!({ "id": user }))
            }
            Self::CreateWorkspace { name, slug, owner } => {
                let workspace = db
                    .write_global(async move |tx| {
                        let owner = known_user(tx, &owner).await?;
                        let wish = CreateWorkspace { name: name.clone(), slug: slug.clone(), ..Default::default() };
                        workspaces::create(tx, owner, &wish).await
                    })
                    .await?;
                Ok(json!({ "id": workspace.id, "slug": workspace.slug }))
            }
            Self::CreateToken { user, name, expires_in_days } => {
                let token = db
                    .write_global(async move |tx| {
                        let user = known_user(tx, &user).await?;
                        tokens::create(tx, user, &name, expires_in_days).await
                    })
                    .await?;
                Ok(json!({ "id": token.about.id, "token": token.token, "expires_at": token.about.expires_at }))
            }
            Self::CreateDaemonToken { workspace, daemon_id, owner, expires_in_days } => {
                let wish = CreateDaemonToken { daemon_id, expires_in_days };
                let token = db
                    .write_global(async move |tx| {
                        let workspace = known_workspace(tx, &workspace).await?;
                        let owner = match &owner {
                            Some(email) => known_user(tx, email).await?,
                            None => first_owner(tx, workspace).await?,
                        };
                        let role = members::role(tx, workspace, owner).await?;
                        role.ok_or_else(|| {
                            Error::not_found("not_a_member", "the owner is not a member of the workspace")
                        })?;
                        daemon_tokens::create(tx, workspace, owner, &wish).await
                    })
                    .await?;
                Ok(json!({
                    "id": token.about.id,
                    "token": token.token,
                    "workspace_id": token.about.workspace_id,
                    "daemon_id": token.about.daemon_id,
                    "created_by": token.about.created_by,
                    "expires_at": token.about.expires_at,
                }))
            }
            Self::AddMember { workspace, user, role } => {
                let role = Role::parse(&role)
                    .ok_or_else(|| Error::invalid("invalid_role", "the role is member, admin or owner"))?;
                let member = db
                    .write_global(async move |tx| {
                        let workspace = known_workspace(tx, &workspace).await?;
                        let user = known_user(tx, &user).await?;
                        let (member, name) = members::add(tx, workspace, user, role).await?;
                        tx.emit(kinds::member_added(Actor::System, &member, &name));
                        Ok(member)
                    })
                    .await?;
                Ok(json!({ "id": member.id, "workspace_id": member.workspace_id, "user_id": member.user_id }))
            }
            Self::NewEpoch => Ok(json!({ "epoch": events::renew(db).await? })),
        }
    }
}

async fn known_user(db: &mut Session, email: &str) -> Result<UserId> {
    let user = users::find(db, email).await?;
    user.ok_or_else(|| Error::not_found("user_not_found", format!("nobody has the address {email}")))
}

async fn first_owner(db: &mut Session, workspace: WorkspaceId) -> Result<UserId> {
    let members = members::list(db, workspace).await?;
    let owner = members.into_iter().find(|member| member.role == Role::Owner.name());
    owner.map(|owner| owner.user_id).ok_or_else(|| Error::not_found("no_owner", "the workspace has no owner"))
}

async fn known_workspace(db: &mut Session, slug: &str) -> Result<WorkspaceId> {
    let workspace = workspaces::find(db, slug).await?;
    workspace.ok_or_else(|| Error::not_found("workspace_not_found", format!("there is no workspace {slug}")))
}
