//! Registration and deregistration.
//!
//! A row's identity is (workspace, owner, daemon id, provider), and of a custom runtime its profile
//! instead of the provider: registering is an upsert with a stable id, and another person who registers
//! the same daemon id gets rows of their own. All entries are stored or none.

use std::{collections::HashSet, sync::Arc};

use super::{
    Fleet,
    enrol::{self, Entry},
    lease::State,
    liveness::Touched,
    merge::{self, Machine, TakenOver},
    presence::presence_of,
    runtimes::{self, ONLINE, Row},
};
use crate::{
    db::{Tx, exec},
    error::{Error, Result},
    events::{Control, kinds},
    identity::{Driver, Role, members, workspaces},
    ids::{RuntimeId, WorkspaceId},
    protocol::{
        daemon::{Register, Registered, WorkspaceRepos},
        event::Actor,
        runtime::Presence,
    },
    workspace::agents::rebind,
};

/// Characters of a daemon id or provider at most; they are index keys.
const KEY_CHARS: usize = 255;
/// Characters of a name, a version and the like at most: each is stored and sent with every entry.
const TEXT_CHARS: usize = 512;
/// Entries of one registration at most.
const ENTRIES: usize = 256;

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
        if request.legacy_daemon_ids.as_ref().is_some_and(|names| names.len() > ENTRIES) {
            return Err(Error::invalid("too_many_legacy_daemon_ids", format!("at most {ENTRIES} legacy_daemon_ids")));
        }
        let mut providers = request.runtimes.iter().map(enrol::provider);
        if daemon_id.chars().count() > KEY_CHARS || providers.any(|name| name.chars().count() > KEY_CHARS) {
            return Err(Error::invalid("too_long", format!("daemon_id and type have at most {KEY_CHARS} characters")));
        }
        let texts = [&request.device_name, &request.cli_version, &request.launched_by];
        let entry_texts = request.runtimes.iter().flat_map(|entry| [&entry.name, &entry.version]);
        if texts.into_iter().chain(entry_texts).any(|text| text.chars().count() > TEXT_CHARS) {
            return Err(Error::invalid("too_long", format!("names and versions have at most {TEXT_CHARS} characters")));
        }

        let fleet = self.clone();
        let (rows, home) = self
            .db
            .write(workspace, async move |tx| {
                // A membership that is about to end must not bring its runtimes back.
                members::hold(tx, workspace, user).await?;
                members::require(tx, workspace, user).await?;
                let home = workspaces::get(tx, workspace).await?;
                let profiles = enrol::profiles_of(tx, workspace, &request.runtimes).await?;
                let entries = request.runtimes.iter().zip(&profiles);
                let entries: Vec<Entry> =
                    entries.map(|(entry, profile)| Entry::new(entry, &request, profile.as_ref())).collect();
                let mut order: Vec<usize> = (0..entries.len()).collect();
                order.sort_by(|a, b| entries[*a].key().cmp(&entries[*b].key()));
                let machine = Machine {
                    workspace,
                    owner: user,
                    daemon_id: &daemon_id,
                    device: request.device_name.trim(),
                    former: request.legacy_daemon_ids.as_deref(),
                };
                let held = merge::hold(tx, &machine, &entries).await?;
                let mut rows: Vec<Option<Row>> = vec![None; entries.len()];
                for index in order {
                    rows[index] = Some(enrol::upsert(tx, workspace, user, &daemon_id, &entries[index]).await?);
                }
                let mut rows: Vec<Row> = rows.into_iter().flatten().collect();
                let taken = merge::take_over(tx, &machine, held, &rows).await?;
                for row in &mut rows {
                    if let Some(changed) = taken.changed.get(&row.id) {
                        row.clone_from(changed);
                    }
                }
                // Two entries of one provider or profile are one row.
                let mut seen = HashSet::new();
                let distinct = rows.iter().filter(|row| seen.insert(row.id));
                let wire: Vec<_> = distinct.cloned().map(|row| row.wire(None)).collect();
                tx.emit(kinds::runtimes_registered(workspace, &wire));
                fleet.tell_taken_over(tx, workspace, taken).await?;
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

    /// Tells of what a registration took over, once the new runtimes are told.
    async fn tell_taken_over(
        self: &Arc<Self>,
        tx: &mut Tx,
        workspace: WorkspaceId,
        mut taken: TakenOver,
    ) -> Result<()> {
        rebind::announce(tx, std::mem::take(&mut taken.agents)).await?;
        for gone in &taken.gone {
            tx.emit(kinds::runtime_deleted(workspace, Actor::System, gone.id));
        }
        let fleet = self.clone();
        tx.after_commit(move || {
            if !taken.gone.is_empty() {
                fleet.removed(&taken.gone);
            }
            taken.wake(&fleet.nodes);
        });
        Ok(())
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
