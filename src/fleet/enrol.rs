//! One entry of a registration, and its row: an upsert with a stable id.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sqlx::types::Json;

use super::{
    profiles,
    runtimes::{OFFLINE, ONLINE, Row},
};
use crate::{
    db::{Tx, exec, on},
    error::{Error, Result},
    ids::{RuntimeId, RuntimeProfileId, UserId, WorkspaceId},
    protocol::daemon::{Register, RegisterRuntime},
};

/// One entry, normalised.
pub(super) struct Entry {
    pub provider: String,
    pub profile: Option<RuntimeProfileId>,
    name: String,
    device_info: String,
    status: &'static str,
    metadata: serde_json::Value,
}

impl Entry {
    /// As a daemon sent it; of a custom runtime its profile says what it drives.
    pub(super) fn new(entry: &RegisterRuntime, request: &Register, profile: Option<&profiles::Row>) -> Self {
        let device = request.device_name.trim();
        let provider = profile.map_or_else(|| provider(entry), |profile| profile.protocol_family.clone());
        let kind = profile.map_or(provider.as_str(), |profile| &profile.display_name);
        let name = match (entry.name.trim(), device) {
            ("", "") => kind.to_owned(),
            ("", device) => format!("{kind} ({device})"),
            (name, _) => name.to_owned(),
        };
        let device_info = match (device, entry.version.as_str()) {
            (device, "") => device.to_owned(),
            ("", version) => version.to_owned(),
            (device, version) => format!("{device} · {version}"),
        };
        Self {
            profile: profile.map(|profile| profile.id),
            provider,
            name,
            device_info,
            status: if entry.status == OFFLINE { OFFLINE } else { ONLINE },
            metadata: json!({
                "version": entry.version,
                "cli_version": request.cli_version,
                "launched_by": request.launched_by,
            }),
        }
    }

    /// Registrations take their rows in this order, so that two of one daemon queue up instead of
    /// deadlocking.
    pub(super) fn key(&self) -> (&str, Option<RuntimeProfileId>) {
        (&self.provider, self.profile)
    }
}

/// What a built-in entry drives.
pub(super) fn provider(entry: &RegisterRuntime) -> String {
    match entry.r#type.trim().to_lowercase() {
        blank if blank.is_empty() => "unknown".to_owned(),
        provider => provider,
    }
}

/// The profile that each entry names, if it names one, locked; refuses what cannot be registered.
pub(super) async fn profiles_of(
    tx: &mut Tx,
    workspace: WorkspaceId,
    entries: &[RegisterRuntime],
) -> Result<Vec<Option<profiles::Row>>> {
    let invalid = |_| Error::invalid("invalid_profile_id", "invalid profile_id");
    let named: Vec<Option<RuntimeProfileId>> = entries
        .iter()
        .map(|entry| Some(entry.profile_id.trim()).filter(|text| !text.is_empty()))
        .map(|text| text.map(str::parse).transpose().map_err(invalid))
        .collect::<Result<_>>()?;
    let wanted: BTreeSet<RuntimeProfileId> = named.iter().flatten().copied().collect();
    let found = profiles::hold(tx, workspace, &wanted).await?;
    let found: BTreeMap<RuntimeProfileId, profiles::Row> = found.into_iter().map(|row| (row.id, row)).collect();
    named
        .into_iter()
        .map(|named| {
            let Some(id) = named else { return Ok(None) };
            match found.get(&id) {
                None => Err(Error::invalid("unknown_runtime_profile", format!("unknown runtime profile: {id}"))),
                Some(profile) if !profile.enabled => {
                    Err(Error::conflict("runtime_profile_disabled", format!("runtime profile is disabled: {id}")))
                }
                Some(profile) => Ok(Some(profile.clone())),
            }
        })
        .collect()
}

/// The statement that stores a runtime; its identity is one of the two unique keys.
macro_rules! upsert {
    ($identity:literal) => {
        concat!(
            "INSERT INTO agent_runtime
                 (id, workspace_id, owner_id, daemon_id, daemon_id_folded, provider, profile_id, name, status,
                  offline_at, device_info, metadata, last_seen_at, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13, $13)
             ON CONFLICT ",
            $identity,
            " DO UPDATE SET
                 provider = excluded.provider, name = excluded.name, status = excluded.status,
                 offline_cause = NULL, offline_at = excluded.offline_at,
                 device_info = excluded.device_info, metadata = excluded.metadata,
                 last_seen_at = excluded.last_seen_at, updated_at = excluded.updated_at
             RETURNING *"
        )
    };
}

/// Stores one entry's runtime; the row keeps its id over registrations.
pub(super) async fn upsert(
    tx: &mut Tx,
    workspace: WorkspaceId,
    owner: UserId,
    daemon_id: &str,
    entry: &Entry,
) -> Result<Row> {
    adopt(tx, workspace, owner, daemon_id, entry).await?;
    let sql = match entry.profile {
        None => upsert!("(workspace_id, owner_id, daemon_id, provider) WHERE profile_id IS NULL"),
        Some(_) => upsert!("(workspace_id, owner_id, daemon_id, profile_id) WHERE profile_id IS NOT NULL"),
    };
    let now = tx.now();
    let offline_at = (entry.status == OFFLINE).then_some(now);
    on!(tx, |c| sqlx::query_as(sql)
        .bind(RuntimeId::fresh())
        .bind(workspace)
        .bind(owner)
        .bind(daemon_id)
        .bind(daemon_id.to_lowercase())
        .bind(&entry.provider)
        .bind(entry.profile)
        .bind(&entry.name)
        .bind(entry.status)
        .bind(offline_at)
        .bind(&entry.device_info)
        .bind(Json(&entry.metadata))
        .bind(now)
        .fetch_one(c))
}

/// Gives an ownerless row to the first who registers it, unless they have one of their own.
async fn adopt(tx: &mut Tx, workspace: WorkspaceId, owner: UserId, daemon_id: &str, entry: &Entry) -> Result<()> {
    exec!(tx, |c| sqlx::query(
        "UPDATE agent_runtime SET owner_id = $4
         WHERE id = (SELECT id FROM agent_runtime
                     WHERE workspace_id = $1 AND daemon_id = $2 AND provider = $3
                       AND owner_id IS NULL AND profile_id IS NOT DISTINCT FROM $5
                     ORDER BY created_at, id LIMIT 1)
           AND NOT EXISTS (SELECT 1 FROM agent_runtime
                           WHERE workspace_id = $1 AND daemon_id = $2 AND provider = $3
                             AND owner_id = $4 AND profile_id IS NOT DISTINCT FROM $5)"
    )
    .bind(workspace)
    .bind(daemon_id)
    .bind(&entry.provider)
    .bind(owner)
    .bind(entry.profile))?;
    Ok(())
}
