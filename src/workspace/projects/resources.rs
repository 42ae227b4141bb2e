//! What a project is about: repositories, and folders on somebody's machine.

use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::types::Json;

use super::super::words;
use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    events::kinds,
    identity::{Insider, workspaces},
    ids::{ProjectId, ResourceId, UserId, WorkspaceId},
    protocol::{
        lenient,
        project::{CreateResource, PutResource, Resource},
    },
    time::Timestamp,
};

const TYPES: &[&str] = &["github_repo", "local_directory"];
/// Bytes of an address, a path or a daemon's id: they are in an index.
const LONGEST: usize = 2048;

#[derive(sqlx::FromRow)]
struct Row {
    id: ResourceId,
    project_id: ProjectId,
    workspace_id: WorkspaceId,
    resource_type: String,
    resource_ref: Json<Value>,
    label: Option<String>,
    position: i32,
    created_at: Timestamp,
    created_by: Option<UserId>,
}

impl From<Row> for Resource {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            project_id: row.project_id,
            workspace_id: row.workspace_id,
            resource_type: row.resource_type,
            resource_ref: row.resource_ref.0,
            label: row.label,
            position: row.position,
            created_at: row.created_at,
            created_by: row.created_by,
        }
    }
}

/// A project's resources, in their order.
pub async fn list(db: &mut Session, project: ProjectId) -> Result<Vec<Resource>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(
        "SELECT * FROM project_resource WHERE project_id = $1 ORDER BY position, created_at, id"
    )
    .bind(project)
    .fetch_all(c))?;
    Ok(rows.into_iter().map(Resource::from).collect())
}

/// Adds one.
pub async fn create(tx: &mut Tx, who: &Insider, project: ProjectId, wish: &CreateResource) -> Result<Resource> {
    super::lock(tx, who.workspace, project).await?;
    let resource = insert(tx, who, project, wish).await?;
    tx.emit(kinds::resource_created(who.actor(), &resource));
    Ok(resource)
}

/// Adds one without a word.
pub(super) async fn insert(tx: &mut Tx, who: &Insider, project: ProjectId, wish: &CreateResource) -> Result<Resource> {
    let kind = words::one_of("resource_type", TYPES, &wish.resource_type)?;
    let (reference, key) = reference(kind, &wish.resource_ref)?;
    let position = match wish.position {
        Some(position) => checked_position(position)?,
        None => on!(tx, |c| {
            sqlx::query_scalar(
            "SELECT COALESCE(MAX(position) + 1, 0) FROM project_resource WHERE project_id = $1 AND position < 1000000"
        )
        .bind(project)
        .fetch_one(c)
        })?,
    };
    let now = tx.now();
    let row: Option<Row> = on!(tx, |c| sqlx::query_as(
        "INSERT INTO project_resource (id, project_id, workspace_id, resource_type, resource_ref, ref_key, label,
                                       position, created_at, created_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (project_id, resource_type, ref_key) DO NOTHING RETURNING *"
    )
    .bind(ResourceId::fresh())
    .bind(project)
    .bind(who.workspace)
    .bind(kind)
    .bind(Json(reference))
    .bind(key)
    .bind(wish.label.as_deref().filter(|label| !label.is_empty()))
    .bind(position)
    .bind(now)
    .bind(who.user)
    .fetch_optional(c))?;
    row.map(Resource::from).ok_or_else(|| taken(kind))
}

/// Describes one anew; its type stays.
pub async fn put(
    tx: &mut Tx,
    who: &Insider,
    project: ProjectId,
    resource: ResourceId,
    change: PutResource,
) -> Result<Resource> {
    super::lock(tx, who.workspace, project).await?;
    let old = get(tx, project, resource).await?;
    let (reference, key) = reference(&old.resource_type, change.resource_ref.as_ref().unwrap_or(&old.resource_ref))?;
    let new = Resource {
        resource_ref: reference,
        label: change.label.over(old.label.clone()).filter(|label| !label.is_empty()),
        position: change.position.map(checked_position).transpose()?.unwrap_or(old.position),
        ..old.clone()
    };
    if new == old {
        return Ok(old);
    }
    // The project is locked, so nobody takes the place meanwhile.
    let other: Option<i32> = on!(tx, |c| sqlx::query_scalar(
        "SELECT 1 FROM project_resource WHERE project_id = $1 AND resource_type = $2 AND ref_key = $3 AND id <> $4"
    )
    .bind(project)
    .bind(&new.resource_type)
    .bind(&key)
    .bind(resource)
    .fetch_optional(c))?;
    if other.is_some() {
        return Err(taken(&new.resource_type));
    }
    exec!(tx, |c| sqlx::query(
        "UPDATE project_resource SET resource_ref = $2, ref_key = $3, label = $4, position = $5 WHERE id = $1"
    )
    .bind(resource)
    .bind(Json(&new.resource_ref))
    .bind(&key)
    .bind(&new.label)
    .bind(new.position))?;
    tx.emit(kinds::resource_updated(who.actor(), &new));
    Ok(new)
}

/// Takes one away.
pub async fn delete(tx: &mut Tx, who: &Insider, project: ProjectId, resource: ResourceId) -> Result<()> {
    super::lock(tx, who.workspace, project).await?;
    get(tx, project, resource).await?;
    exec!(tx, |c| sqlx::query("DELETE FROM project_resource WHERE id = $1").bind(resource))?;
    tx.emit(kinds::resource_deleted(who.workspace, who.actor(), project, resource));
    Ok(())
}

async fn get(db: &mut Session, project: ProjectId, resource: ResourceId) -> Result<Resource> {
    let row: Option<Row> =
        on!(db, |c| sqlx::query_as("SELECT * FROM project_resource WHERE id = $1 AND project_id = $2")
            .bind(resource)
            .bind(project)
            .fetch_optional(c))?;
    row.map(Resource::from).ok_or_else(|| Error::not_found("resource_not_found", "project resource not found"))
}

/// Far from where numbers end.
fn checked_position(position: i32) -> Result<i32> {
    if (0..=1_000_000).contains(&position) {
        return Ok(position);
    }
    Err(Error::invalid("invalid_position", "position must be between 0 and 1000000"))
}

fn taken(kind: &str) -> Error {
    let text = match kind {
        "local_directory" => "project already has a local directory of this daemon",
        _ => "project already has this resource",
    };
    Error::conflict("resource_exists", text)
}

/// What a resource refers to, without what does not belong there, and what there may be one of.
fn reference(kind: &str, wished: &Value) -> Result<(Value, String)> {
    #[derive(Default, Deserialize)]
    struct Wished {
        #[serde(default, deserialize_with = "lenient::zero")]
        url: String,
        #[serde(default, deserialize_with = "lenient::zero")]
        default_branch_hint: String,
        #[serde(default, deserialize_with = "lenient::zero")]
        local_path: String,
        #[serde(default, deserialize_with = "lenient::zero")]
        daemon_id: String,
        #[serde(default, deserialize_with = "lenient::zero")]
        label: String,
    }
    let invalid = |text: &'static str| Error::invalid("invalid_resource_ref", text);
    let wished: Wished =
        serde_json::from_value(wished.clone()).map_err(|_| invalid("resource_ref must be an object"))?;
    let (url, path, daemon) = (wished.url.trim(), wished.local_path.trim(), wished.daemon_id.trim());
    if [url, path, daemon].iter().any(|text| text.len() > LONGEST) {
        return Err(invalid("resource_ref is too long"));
    }
    let (mut reference, key, optional) = match kind {
        "github_repo" if !workspaces::is_repo_address(url) => {
            return Err(invalid("url must be an http(s), ssh, git or scp-like address"));
        }
        "github_repo" => (json!({ "url": url }), url, ("default_branch_hint", wished.default_branch_hint)),
        _ if !is_absolute(path) => return Err(invalid("local_path must be absolute")),
        _ if daemon.is_empty() => return Err(invalid("daemon_id is required")),
        _ => (json!({ "local_path": path, "daemon_id": daemon }), daemon, ("label", wished.label)),
    };
    if !optional.1.is_empty() {
        reference[optional.0] = optional.1.into();
    }
    Ok((reference, key.to_owned()))
}

/// On the daemon's machine, whatever that is: `/x`, `C:\\x` or `\\\\host\\x`.
fn is_absolute(path: &str) -> bool {
    let drive = |path: &str| {
        let bytes = path.as_bytes();
        bytes.len() >= 3 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' && matches!(bytes[2], b'/' | b'\\')
    };
    path.starts_with('/') || path.starts_with(r"\\") || drive(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_keeps_what_belongs_to_its_type() {
        let repo = json!({ "url": " https://h/x ", "default_branch_hint": "main", "token": "secret" });
        let (kept, key) = reference("github_repo", &repo).expect("a repository");
        assert_eq!(
            (kept, key.as_str()),
            (json!({ "url": "https://h/x", "default_branch_hint": "main" }), "https://h/x")
        );
        for path in ["/src", r"C:\src", "c:/src", r"\\host\src"] {
            let folder = json!({ "local_path": path, "daemon_id": "d" });
            assert_eq!(reference("local_directory", &folder).expect(path).1, "d");
        }
        for bad in [
            json!({ "local_path": "src", "daemon_id": "d" }),
            json!({ "local_path": "C:src", "daemon_id": "d" }),
            json!({ "local_path": "/src" }),
            json!("text"),
            json!({ "local_path": "/".repeat(3000), "daemon_id": "d" }),
        ] {
            assert!(reference("local_directory", &bad).is_err(), "{bad}");
        }
        assert!(reference("github_repo", &json!({ "url": "file:///etc" })).is_err());
    }
}
