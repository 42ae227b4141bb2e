//! Registration and deregistration.
//!
//! A row's identity is (workspace, owner, daemon id, provider): registering is an upsert with a
//! stable id, and another person who registers the same daemon id gets rows of their own. All
//! entries are stored or none.

use std::{collections::HashSet, sync::Arc};

use serde_json::json;
use sqlx::types::Json;
use uuid::Uuid;

use super::{
    Fleet,
    lease::State,
    liveness::Touched,
    presence::presence_of,
    runtimes::{self, OFFLINE, ONLINE, Row},
};
use crate::{
    db::{Tx, exec, on},
    error::{Error, Result},
    events::{Control, kinds},
    identity::{Driver, Role, members, workspaces},
    ids::{RuntimeId, UserId, WorkspaceId},
    protocol::{
        daemon::{Register, RegisterRuntime, Registered, WorkspaceRepos},
        event::Actor,
        runtime::Presence,
    },
};

/// Characters of a daemon id or provider at most; they are index keys.
const KEY_CHARS: usize = 255;
/// Characters of a name, a version and the like at most: each is stored and sent with every entry.
const TEXT_CHARS: usize = 512;
/// Entries of one registration at most.
const ENTRIES: usize = 256;

/// One entry, normalised.
struct Entry {
    provider: String,
    name: String,
    device_info: String,
    status: &'static str,
    metadata: serde_json::Value,
}

impl Fleet {
    /// Registers what a daemon can drive; who drives it owns the rows.
    pub async fn register(self: &Arc<Self>, driver: &Driver, request: Register) -> Result<Registered> {
        let entries = request.runtimes.len() as u64;
        let registered = self.register_all(driver, request).await;
        match &registered {
            Ok(_) => drop(self.metrics.registered.inc_by(entries)),
            Err(_) => drop(self.metrics.registrations_failed.inc()),
        }
        registered
    }

    async fn register_all(self: &Arc<Self>, driver: &Driver, request: Register) -> Result<Registered> {
        let user = driver.user;
        let daemon_id = request.daemon_id.trim().to_owned();
        if daemon_id.is_empty() {
            return Err(Error::invalid("daemon_id_required", "daemon_id is required"));
        }
        if request.workspace_id.trim().is_empty() {
            return Err(Error::invalid("workspace_id_required", "workspace_id is required"));
        }
        if request.runtimes.is_empty() {
            return Err(Error::invalid("runtimes_required", "at least one runtime is required"));
        }
        if request.runtimes.len() > ENTRIES {
            return Err(Error::invalid("too_many_runtimes", format!("at most {ENTRIES} runtimes")));
        }
        let workspace: WorkspaceId = request
            .workspace_id
            .trim()
            .parse()
            .map_err(|_| Error::invalid("invalid_workspace_id", "invalid workspace_id"))?;
        if !driver.reaches(workspace) {
            return Err(members::workspace_not_found());
        }
        if !driver.is(workspace, &daemon_id) {
            return Err(Error::forbidden("daemon_id_mismatch", "daemon_id does not match the daemon token"));
        }
        let entries: Vec<Entry> = request.runtimes.iter().map(|entry| normalise(entry, &request)).collect();
        if daemon_id.chars().count() > KEY_CHARS || entries.iter().any(|e| e.provider.chars().count() > KEY_CHARS) {
            return Err(Error::invalid("too_long", format!("daemon_id and type have at most {KEY_CHARS} characters")));
        }
        let texts = [&request.device_name, &request.cli_version, &request.launched_by];
        let entry_texts = request.runtimes.iter().flat_map(|entry| [&entry.name, &entry.version]);
        if texts.into_iter().chain(entry_texts).any(|text| text.chars().count() > TEXT_CHARS) {
            return Err(Error::invalid("too_long", format!("names and versions have at most {TEXT_CHARS} characters")));
        }
        let profiles: Vec<String> = request.runtimes.iter().map(|entry| entry.profile_id.trim().to_owned()).collect();

        let (rows, home) = self
            .db
            .write(workspace, async move |tx| {
                // A membership that is about to end must not bring its runtimes back.
                members::hold(tx, workspace, user).await?;
                members::require(tx, workspace, user).await?;
                let home = workspaces::get(tx, workspace).await?;
                refuse_unknown_profiles(&profiles)?;
                // In the order of their keys, so that two registrations of one daemon queue up
                // instead of deadlocking.
                let mut order: Vec<usize> = (0..entries.len()).collect();
                order.sort_by(|a, b| entries[*a].provider.cmp(&entries[*b].provider));
                let mut rows: Vec<Option<Row>> = vec![None; entries.len()];
                for index in order {
                    rows[index] = Some(upsert(tx, workspace, user, &daemon_id, &entries[index]).await?);
                }
                let rows: Vec<Row> = rows.into_iter().flatten().collect();
                // Two entries of one provider are one row.
                let mut seen = HashSet::new();
                let distinct = rows.iter().filter(|row| seen.insert(row.id));
                let wire: Vec<_> = distinct.cloned().map(|row| row.wire(None)).collect();
                tx.emit(kinds::runtimes_registered(workspace, &wire));
                Ok((rows, home))
            })
            .await?;
        self.note_registered(&rows).await?;
        Ok(Registered {
            runtimes: self.wire(rows).await,
            repos_version: workspaces::repos_version(&home.repos),
            repos: home.repos,
            settings: home.settings,
        })
    }

    /// What follows a registration: every node reads the rows anew, and they are known to live.
    async fn note_registered(self: &Arc<Self>, rows: &[Row]) -> Result<()> {
        self.nodes.tell(Control::RuntimesChanged { ids: rows.iter().map(|row| row.id).collect() });
        let before = self.facts.before_reading();
        let online: Vec<&Row> = rows.iter().filter(|row| row.status == ONLINE).collect();
        online.iter().for_each(|row| self.facts.learn(row.id, (*row).into(), before));
        let touches = online.iter().map(|row| self.keep_or_touch(row.id));
        let touched = futures_util::future::join_all(touches).await;
        for (row, touched) in online.iter().zip(touched) {
            let now = self.db.clock().now();
            let presence = match touched {
                Touched::Was(Some(lease)) if lease.state == State::Alive => presence_of(ONLINE, Some(lease)),
                // A verdict was under way, and may have found the row as it was before.
                Touched::Was(Some(lease)) if lease.state == State::Marked => {
                    self.facts.drop_all_of(&[row.id]);
                    self.bring_back(row.workspace_id, row.id, now, now).await?;
                    Presence::Http
                }
                Touched::Was(_) => Presence::Http,
                Touched::Away => {
                    self.due.note(row.id, now);
                    Presence::Http
                }
            };
            self.board.changed(row.workspace_id, row.id, presence, row.last_seen_at);
        }
        self.metrics.ready.inc_by(rows.iter().filter(|row| row.created_at == row.updated_at).count() as u64);
        Ok(())
    }

    /// The workspace's repositories and settings, for a daemon of one of its members.
    pub async fn repos(&self, workspace: WorkspaceId, driver: &Driver) -> Result<WorkspaceRepos> {
        self.require_member(workspace, driver).await?;
        let home = self.db.read(async move |db| workspaces::get(db, workspace).await).await?;
        Ok(WorkspaceRepos {
            workspace_id: workspace,
            repos_version: workspaces::repos_version(&home.repos),
            repos: home.repos,
            settings: home.settings,
        })
    }

    /// Whether somebody has to do with a workspace, in the words of the daemon's routes.
    pub async fn require_member(&self, workspace: WorkspaceId, driver: &Driver) -> Result<()> {
        if !driver.reaches(workspace) {
            return Err(runtimes::not_yours());
        }
        self.credentials.role(workspace, driver.user).await?.map(drop).ok_or_else(runtimes::not_yours)
    }

    /// Takes runtimes offline on their daemon's (or an admin's) word. Unknown and foreign ids are
    /// skipped; a runtime that is offline already is announced all the same.
    pub async fn deregister(&self, driver: &Driver, mut ids: Vec<RuntimeId>) -> Result<()> {
        let driver = driver.clone();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() > ENTRIES {
            return Err(Error::invalid("too_many_runtimes", format!("at most {ENTRIES} runtimes")));
        }
        let (nodes, clock) = (self.nodes.clone(), self.db.clock().clone());
        let ended = self
            .db
            .write_global(async move |tx| {
                let mut by_workspace = std::collections::BTreeMap::<WorkspaceId, Vec<RuntimeId>>::new();
                for id in &ids {
                    let Some(row) = runtimes::lock(tx, *id).await? else { continue };
                    if !driver.is(row.workspace_id, &row.daemon_id) {
                        continue;
                    }
                    let role = members::role(tx, row.workspace_id, driver.user).await?;
                    let owns = row.owner_id == Some(driver.user);
                    if !role.is_some_and(|role| owns || (role >= Role::Admin && driver.binding.is_none())) {
                        continue;
                    }
                    // Not when the transaction began: a contact that came while it waited for the
                    // row began before this, too.
                    let now = clock.now();
                    exec!(tx, |c| sqlx::query(
                        "UPDATE agent_runtime
                         SET status = 'offline', offline_at = $2, updated_at = $2,
                             offline_cause = CASE WHEN offline_cause = 'revoked' THEN 'revoked' ELSE 'deregistered' END
                         WHERE id = $1"
                    )
                    .bind(*id)
                    .bind(now))?;
                    by_workspace.entry(row.workspace_id).or_default().push(*id);
                }
                for (workspace, ids) in &by_workspace {
                    tx.emit(kinds::runtimes_changed(*workspace, Actor::System, "deregister", ids));
                    let (nodes, ids) = (nodes.clone(), ids.clone());
                    tx.after_commit(move || nodes.tell(Control::RuntimesChanged { ids }));
                }
                Ok(by_workspace)
            })
            .await?;
        for (workspace, ids) in ended {
            self.liveness.forget(&ids).await;
            ids.iter().for_each(|id| self.board.changed(workspace, *id, Presence::Offline, None));
        }
        Ok(())
    }
}

fn normalise(entry: &RegisterRuntime, request: &Register) -> Entry {
    let device = request.device_name.trim();
    let provider = match entry.r#type.trim().to_lowercase() {
        blank if blank.is_empty() => "unknown".to_owned(),
        provider => provider,
    };
    let name = match (entry.name.trim(), device) {
        ("", "") => provider.clone(),
        ("", device) => format!("{provider} ({device})"),
        (name, _) => name.to_owned(),
    };
    let device_info = match (device, entry.version.as_str()) {
        (device, "") => device.to_owned(),
        ("", version) => version.to_owned(),
        (device, version) => format!("{device} · {version}"),
    };
    Entry {
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

/// No workspace has custom profiles yet, so every one that is named is unknown.
fn refuse_unknown_profiles(profiles: &[String]) -> Result<()> {
    let Some(profile) = profiles.iter().find(|profile| !profile.is_empty()) else {
        return Ok(());
    };
    if profile.parse::<Uuid>().is_err() {
        return Err(Error::invalid("invalid_profile_id", "invalid profile_id"));
    }
    Err(Error::invalid("unknown_runtime_profile", format!("unknown runtime profile: {profile}")))
}

async fn upsert(tx: &mut Tx, workspace: WorkspaceId, owner: UserId, daemon_id: &str, entry: &Entry) -> Result<Row> {
    adopt(tx, workspace, owner, daemon_id, &entry.provider).await?;
    let now = tx.now();
    let offline_at = (entry.status == OFFLINE).then_some(now);
    on!(tx, |c| sqlx::query_as(
        "INSERT INTO agent_runtime
             (id, workspace_id, owner_id, daemon_id, daemon_id_folded, provider, name, status, offline_at,
              device_info, metadata, last_seen_at, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $12)
         ON CONFLICT (workspace_id, owner_id, daemon_id, provider) WHERE profile_id IS NULL DO UPDATE SET
             name = excluded.name, status = excluded.status,
             offline_cause = NULL, offline_at = excluded.offline_at,
             device_info = excluded.device_info, metadata = excluded.metadata,
             last_seen_at = excluded.last_seen_at, updated_at = excluded.updated_at
         RETURNING *"
    )
    .bind(RuntimeId::fresh())
    .bind(workspace)
    .bind(owner)
    .bind(daemon_id)
    .bind(daemon_id.to_lowercase())
    .bind(&entry.provider)
    .bind(&entry.name)
    .bind(entry.status)
    .bind(offline_at)
    .bind(&entry.device_info)
    .bind(Json(&entry.metadata))
    .bind(now)
    .fetch_one(c))
}

/// Gives an ownerless row to the first who registers it, unless they have one of their own.
async fn adopt(tx: &mut Tx, workspace: WorkspaceId, owner: UserId, daemon_id: &str, provider: &str) -> Result<()> {
    exec!(tx, |c| sqlx::query(
        "UPDATE agent_runtime SET owner_id = $4
         WHERE id = (SELECT id FROM agent_runtime
                     WHERE workspace_id = $1 AND daemon_id = $2 AND provider = $3
                       AND owner_id IS NULL AND profile_id IS NULL
                     ORDER BY created_at, id LIMIT 1)
           AND NOT EXISTS (SELECT 1 FROM agent_runtime
                           WHERE workspace_id = $1 AND daemon_id = $2 AND provider = $3
                             AND owner_id = $4 AND profile_id IS NULL)"
    )
    .bind(workspace)
    .bind(daemon_id)
    .bind(provider)
    .bind(owner))?;
    Ok(())
}
