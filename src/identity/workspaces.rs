//! Workspaces: the tenants.

use std::collections::HashSet;

use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::types::Json;

use super::{Role, members};
use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    events::kinds,
    ids::{UserId, WorkspaceId},
    protocol::{
        event::Actor,
        people::{CreateWorkspace, PatchWorkspace, Workspace},
        runtime::Repo,
    },
    time::Timestamp,
};

/// Words that are, or may become, the first part of an address of the hub or of a client.
const RESERVED: &[&str] = &[
    "about",
    "account",
    "accounts",
    "admin",
    "api",
    "app",
    "assets",
    "attachments",
    "auth",
    "billing",
    "blog",
    "callback",
    "chat",
    "config",
    "console",
    "contact",
    "daemon",
    "daemons",
    "dashboard",
    "demo",
    "dev",
    "docs",
    "download",
    "downloads",
    "events",
    "explore",
    "favicon",
    "features",
    "files",
    "health",
    "healthz",
    "help",
    "home",
    "inbox",
    "index",
    "internal",
    "invite",
    "invites",
    "invitations",
    "issues",
    "legal",
    "live",
    "login",
    "logout",
    "mail",
    "me",
    "metrics",
    "new",
    "news",
    "null",
    "oauth",
    "onboarding",
    "openapi",
    "ping",
    "pricing",
    "privacy",
    "profile",
    "public",
    "readyz",
    "register",
    "root",
    "runtimes",
    "search",
    "security",
    "server",
    "settings",
    "setup",
    "signin",
    "signout",
    "signup",
    "sso",
    "static",
    "status",
    "support",
    "system",
    "team",
    "teams",
    "terms",
    "test",
    "token",
    "tokens",
    "undefined",
    "upload",
    "uploads",
    "user",
    "users",
    "webhook",
    "webhooks",
    "welcome",
    "workspace",
    "workspaces",
    "ws",
    "www",
];

#[derive(sqlx::FromRow)]
struct Row {
    id: WorkspaceId,
    name: String,
    slug: String,
    description: Option<String>,
    context: Option<String>,
    settings: Json<Value>,
    repos: Json<Value>,
    issue_prefix: String,
    avatar_url: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Row> for Workspace {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            name: row.name,
            slug: row.slug,
            description: row.description,
            context: row.context,
            settings: row.settings.0,
            repos: stored_repos(row.repos.0),
            issue_prefix: row.issue_prefix,
            avatar_url: row.avatar_url,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// A person's workspaces, oldest first.
pub async fn list(db: &mut Session, user: UserId) -> Result<Vec<Workspace>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(
        "SELECT w.* FROM workspace w JOIN member m ON m.workspace_id = w.id
         WHERE m.user_id = $1 AND w.deleted_at IS NULL ORDER BY w.created_at, w.id"
    )
    .bind(user)
    .fetch_all(c))?;
    Ok(rows.into_iter().map(Workspace::from).collect())
}

/// A workspace by id.
pub async fn get(db: &mut Session, workspace: WorkspaceId) -> Result<Workspace> {
    let row: Option<Row> = on!(db, |c| sqlx::query_as("SELECT * FROM workspace WHERE id = $1 AND deleted_at IS NULL")
        .bind(workspace)
        .fetch_optional(c))?;
    row.map(Workspace::from).ok_or_else(members::workspace_not_found)
}

/// As [`get`], under a lock that other changes of it wait for.
async fn lock(tx: &mut Tx, workspace: WorkspaceId) -> Result<Workspace> {
    members::lock_workspace(tx, workspace).await?;
    get(tx, workspace).await
}

/// A workspace's id by its slug.
pub async fn find(db: &mut Session, slug: &str) -> Result<Option<WorkspaceId>> {
    on!(db, |c| sqlx::query_scalar("SELECT id FROM workspace WHERE slug = $1 AND deleted_at IS NULL")
        .bind(slug)
        .fetch_optional(c))
}

/// Makes a workspace with its first owner. Nobody follows it yet, so there is no event.
pub async fn create(tx: &mut Tx, owner: UserId, wish: &CreateWorkspace) -> Result<Workspace> {
    let name = wish.name.trim();
    let slug = wish.slug.trim().to_lowercase();
    if name.is_empty() {
        return Err(Error::invalid("name_required", "name is required"));
    }
    if !is_slug(&slug) {
        return Err(Error::invalid("invalid_slug", "slug must be lower-case letters, digits and single hyphens"));
    }
    if RESERVED.contains(&slug.as_str()) {
        return Err(Error::invalid("reserved_slug", "slug is reserved"));
    }
    let now = tx.now();
    let id: Option<WorkspaceId> = on!(tx, |c| sqlx::query_scalar(
        "INSERT INTO workspace (id, name, slug, description, context, issue_prefix, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT (slug) DO NOTHING RETURNING id"
    )
    .bind(WorkspaceId::fresh())
    .bind(name)
    .bind(&slug)
    .bind(&wish.description)
    .bind(&wish.context)
    .bind(issue_prefix(&wish.issue_prefix, name))
    .bind(now)
    .fetch_optional(c))?;
    let id = id.ok_or_else(|| Error::conflict("slug_taken", "workspace slug already exists"))?;
    members::insert(tx, id, owner, Role::Owner).await?;
    get(tx, id).await
}

/// Changes a workspace's own fields.
pub async fn patch(tx: &mut Tx, workspace: WorkspaceId, actor: Actor, change: &PatchWorkspace) -> Result<Workspace> {
    let name = change.name.as_deref().map(str::trim);
    if name == Some("") {
        return Err(Error::invalid("name_required", "name is required"));
    }
    let repos = change.repos.clone().map(wished_repos).transpose()?;
    let prefix = change.issue_prefix.as_deref().map(|prefix| prefix.trim().to_uppercase()).filter(|p| !p.is_empty());
    let before = lock(tx, workspace).await?;
    let now = tx.now();
    exec!(tx, |c| sqlx::query(
        "UPDATE workspace SET
             name = COALESCE($2, name),
             description = COALESCE($3, description),
             context = COALESCE($4, context),
             settings = COALESCE($5, settings),
             repos = COALESCE($6, repos),
             issue_prefix = COALESCE($7, issue_prefix),
             avatar_url = COALESCE($8, avatar_url),
             updated_at = $9
         WHERE id = $1 AND deleted_at IS NULL"
    )
    .bind(workspace)
    .bind(name)
    .bind(&change.description)
    .bind(&change.context)
    .bind(change.settings.clone().map(Json))
    .bind(repos.clone().map(Json))
    .bind(&prefix)
    .bind(&change.avatar_url)
    .bind(now))?;
    let mut changed = get(tx, workspace).await?;
    if (Workspace { updated_at: before.updated_at, ..changed.clone() }) == before {
        // A change that changes nothing is none.
        changed.updated_at = before.updated_at;
        exec!(tx, |c| sqlx::query("UPDATE workspace SET updated_at = $2 WHERE id = $1")
            .bind(workspace)
            .bind(before.updated_at))?;
        return Ok(changed);
    }
    tx.emit(kinds::workspace_updated(actor, &changed));
    Ok(changed)
}

/// A hash of the set of addresses: neither order nor descriptions change it.
pub fn repos_version(repos: &[Repo]) -> String {
    let mut urls: Vec<&str> = repos.iter().map(|repo| repo.url.as_str()).collect();
    urls.sort_unstable();
    let digest = Sha256::digest(urls.join("\n").as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Repositories as they are stored with a workspace, as everybody is told of them.
pub fn stored_repos(stored: Value) -> Vec<Repo> {
    distinct(serde_json::from_value(stored).unwrap_or_default())
}

fn wished_repos(wished: Vec<Option<Repo>>) -> Result<Vec<Repo>> {
    let wished: Vec<Repo> = wished.into_iter().map(Option::unwrap_or_default).collect();
    for (index, repo) in wished.iter().enumerate() {
        let url = repo.url.trim();
        if !is_repo_address(url) {
            return Err(Error::invalid(
                "invalid_repo",
                format!("repos[{index}]: url must be an http(s), ssh, git or scp-like address"),
            ));
        }
    }
    Ok(distinct(wished))
}

fn distinct(repos: Vec<Repo>) -> Vec<Repo> {
    let mut seen = HashSet::new();
    repos
        .into_iter()
        .map(|repo| Repo { url: repo.url.trim().to_owned(), ..repo })
        .filter(|repo| !repo.url.is_empty() && seen.insert(repo.url.clone()))
        .collect()
}

/// Whether something can be cloned from.
pub fn is_repo_address(url: &str) -> bool {
    if url.is_empty() || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return false;
    }
    if let Some((scheme, rest)) = url.split_once("://") {
        return ["http", "https", "ssh", "git"].contains(&scheme) && !rest.is_empty();
    }
    // user@host:path
    url.split_once('@').is_some_and(|(user, rest)| {
        !user.is_empty() && rest.split_once(':').is_some_and(|(host, path)| !host.is_empty() && !path.is_empty())
    })
}

fn is_slug(slug: &str) -> bool {
    slug.len() <= 63
        && slug
            .split('-')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

fn issue_prefix(wished: &str, name: &str) -> String {
    let wished = wished.trim().to_uppercase();
    if !wished.is_empty() {
        return wished;
    }
    let letters: String = name.to_uppercase().chars().filter(char::is_ascii_uppercase).take(3).collect();
    if letters.is_empty() { "WS".into() } else { letters }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_words_joined_by_single_hyphens() {
        for good in ["a", "my-team-2", "0"] {
            assert!(is_slug(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a--b", "A", "ä", "a b", &"a".repeat(64)] {
            assert!(!is_slug(bad), "{bad}");
        }
    }

    #[test]
    fn repositories_are_cloneable_addresses() {
        for good in ["https://h/x", "http://h/x", "ssh://git@h/x", "git://h/x", "git@h:org/x.git"] {
            assert!(is_repo_address(good), "{good}");
        }
        for bad in ["", "h/x", "file:///etc/passwd", "ftp://h/x", "https://", "https://h/a b", "@h:x", "git@h"] {
            assert!(!is_repo_address(bad), "{bad}");
        }
    }

    #[test]
    fn an_issue_prefix_comes_from_the_name() {
        assert_eq!(issue_prefix("", "My Team"), "MYT");
        assert_eq!(issue_prefix("", "日本"), "WS");
        assert_eq!(issue_prefix(" abc ", "x"), "ABC");
    }

    #[test]
    fn the_repos_version_depends_on_the_set_of_addresses_only() {
        let repo = |url: &str, description: &str| Repo { url: url.into(), description: description.into() };
        let one = repos_version(&[repo("a", "x"), repo("b", "")]);
        assert_eq!(one, repos_version(&[repo("b", "y"), repo("a", "")]));
        assert_ne!(one, repos_version(&[repo("a", "")]));
        assert_eq!(repos_version(&[]).len(), 64);
    }
}
