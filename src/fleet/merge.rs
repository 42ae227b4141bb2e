//! Take-overs at registration: a machine that went by another name finds its agents and their work
//! under the new one.
//!
//! A daemon says by which ids its machine went before. Its owner's built-in runtimes of these ids, and
//! ownerless ones, are merged into those that it registers now: agents, tasks and chats are
//! re-pointed, the old rows go. Daemons from before there was such a list had the name of a
//! configuration at the end of their id (`host-staging`): of them the agents and what they have yet to
//! do move, and the rows stay until they are forgotten.
//!
//! Everything that a take-over touches is locked in the house's order, so whoever claims, binds or
//! queues beside it comes either before it and is taken over, or after it and finds the old row gone.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::types::Json;

use super::{
    Condemned,
    enrol::Entry,
    runtimes::{OFFLINE, Row},
};
use crate::{
    db::{Arm, Session, Tx, exec, lists, on},
    error::Result,
    events::{Control, Nodes},
    ids::{AgentId, RuntimeId, TaskId, UserId, WorkspaceId},
    workspace::agents::{self, rebind},
};

/// Who registers, as far as take-overs are concerned.
pub(super) struct Machine<'r> {
    pub workspace: WorkspaceId,
    pub owner: UserId,
    /// What its daemon calls it now.
    pub daemon_id: &'r str,
    /// What people call it.
    pub device: &'r str,
    /// What its daemon called it before, as sent; `None` if it has never heard of such a list.
    pub former: Option<&'r [String]>,
}

/// Rows that a registration may write, locked.
pub(super) struct Held {
    rows: Vec<Row>,
    /// Other people's runtimes under the machine's former names.
    foreign: usize,
}

/// What a take-over left to tell and to do.
#[derive(Default)]
pub(super) struct TakenOver {
    /// Registered rows that it changed, as they are now.
    pub changed: BTreeMap<RuntimeId, Row>,
    /// Agents that moved.
    pub agents: Vec<agents::Row>,
    /// Runtimes that are merged into others.
    pub gone: Vec<Condemned>,
    /// Tasks that wait at runtimes that took something over, one of each.
    waiting: Vec<(RuntimeId, TaskId)>,
}

/// One runtime, and the registered one that takes over from it.
struct Step {
    old: Row,
    new: Row,
    /// Whether it is merged, not just left by its agents.
    whole: bool,
}

impl Machine<'_> {
    /// The former name, as sent, of which a daemon id is a spelling, and its place in the list.
    fn former(&self, daemon_id: &str) -> Option<(usize, &str)> {
        let folded = daemon_id.to_lowercase();
        let mut names = self.former?.iter().map(|name| name.trim()).enumerate();
        names.find(|(_, name)| !name.is_empty() && name.to_lowercase() == folded)
    }

    fn may_take(&self, row: &Row) -> bool {
        row.owner_id.is_none_or(|owner| owner == self.owner)
    }

    /// Whether a row is this machine's under a former name.
    fn was(&self, row: &Row) -> bool {
        row.profile_id.is_none() && self.former(&row.daemon_id).is_some()
    }

    /// Whether a row is what an old daemon left behind here when its configuration had another name.
    fn left_behind(&self, row: &Row) -> bool {
        let suffix = row.daemon_id.strip_prefix(self.daemon_id);
        self.former.is_none()
            && row.profile_id.is_none()
            && row.owner_id == Some(self.owner)
            && row.status == OFFLINE
            && suffix.is_some_and(|suffix| suffix.starts_with('-'))
            && !self.device.is_empty()
            && device(row) == self.device
    }
}

/// The device's name in a row, whose `device_info` is `device · version`.
fn device(row: &Row) -> &str {
    let version = row.metadata.get("version").and_then(serde_json::Value::as_str).unwrap_or_default();
    match row.device_info.strip_suffix(version).filter(|_| !version.is_empty()) {
        Some(rest) => rest.strip_suffix(" · ").unwrap_or(rest),
        None => &row.device_info,
    }
}

/// Finds what the registration may write, and locks it by id before anything is written.
pub(super) async fn hold(tx: &mut Tx, machine: &Machine<'_>, entries: &[Entry]) -> Result<Held> {
    let mut rows = named(tx, machine, entries).await?;
    let foreign = rows.iter().filter(|row| !machine.may_take(row) && machine.was(row)).count();
    if machine.former.is_none() {
        rows.extend(offline(tx, machine).await?.into_iter().filter(|row| machine.left_behind(row)));
    }
    rows.retain(|row| machine.may_take(row));
    let takes_over = rows.iter().any(|row| machine.was(row) || machine.left_behind(row));
    let ids: BTreeSet<RuntimeId> = rows.iter().map(|row| row.id).collect();
    Ok(Held { rows: lock(tx, &ids, takes_over).await?, foreign })
}

/// Takes over what is locked from its old rows to the registered ones, and says what is to be told.
pub(super) async fn take_over(tx: &mut Tx, machine: &Machine<'_>, held: Held, registered: &[Row]) -> Result<TakenOver> {
    let steps = steps(machine, held.rows, registered);
    if !steps.is_empty() {
        tx.allow_long_statements().await?;
    }
    let mut agents: BTreeSet<AgentId> = BTreeSet::new();
    for step in &steps {
        agents.extend(rebind::concerned(tx, step.old.id).await?);
    }
    rebind::lock(tx, &agents).await?;
    let mut taken = TakenOver::default();
    for Step { old, new, .. } in &steps {
        taken.agents.extend(rebind::rebind(tx, old.id, new.id, &new.runtime_mode).await?);
    }
    for Step { old, new, .. } in steps.iter().filter(|step| step.whole) {
        repoint_chats(tx, old.id, new.id).await?;
    }
    let mut tasks = 0;
    for Step { old, new, whole } in &steps {
        tasks += move_unfinished(tx, old.id, new, *whole).await?;
        if *whole {
            tasks += move_finished(tx, old.id, new).await?;
            move_usage(tx, old.id, new.id).await?;
            exec!(tx, |c| sqlx::query("DELETE FROM agent_runtime WHERE id = $1").bind(old.id))?;
            taken.gone.push(Condemned::from(old));
        }
    }
    for new in registered {
        let merged: Vec<&Row> =
            steps.iter().filter(|step| step.new.id == new.id && step.whole).map(|step| &step.old).collect();
        if !merged.is_empty() && !taken.changed.contains_key(&new.id) {
            taken.changed.insert(new.id, mark(tx, machine, new.id, &merged).await?);
        }
        if steps.iter().any(|step| step.new.id == new.id) {
            taken.waiting.extend(first_waiting(tx, new.id).await?.map(|task| (new.id, task)));
        }
    }
    tell_log(tx, machine, &taken, tasks, held.foreign);
    Ok(taken)
}

impl TakenOver {
    /// The daemons that drive the registered runtimes already are woken, if something waits there now.
    pub(super) fn wake(&self, nodes: &Nodes) {
        for (runtime, task) in &self.waiting {
            nodes.tell(Control::TaskAvailable { runtime: *runtime, task: *task });
        }
    }
}

/// What is taken over from whom, by the old rows' ids.
fn steps(machine: &Machine<'_>, held: Vec<Row>, registered: &[Row]) -> Vec<Step> {
    let mut steps = Vec::new();
    for old in held {
        if registered.iter().any(|new| new.id == old.id) || !machine.may_take(&old) {
            continue;
        }
        let whole = machine.was(&old);
        let new = registered.iter().find(|new| new.profile_id.is_none() && new.provider == old.provider);
        if let Some(new) = new.filter(|_| whole || machine.left_behind(&old)) {
            steps.push(Step { old, new: new.clone(), whole });
        }
    }
    steps
}

/// Runtimes of what is registered under any of the machine's names, whoever's.
async fn named(db: &mut Session, machine: &Machine<'_>, entries: &[Entry]) -> Result<Vec<Row>> {
    let providers: BTreeSet<&str> = entries.iter().map(|entry| entry.provider.as_str()).collect();
    let providers: Vec<String> = providers.into_iter().map(str::to_owned).collect();
    let former = machine.former.unwrap_or_default().iter().map(|name| name.trim()).filter(|name| !name.is_empty());
    let names: BTreeSet<String> = former.chain([machine.daemon_id]).map(str::to_lowercase).collect();
    let names: Vec<String> = names.into_iter().collect();
    let rows = match db.arm() {
        Arm::Postgres(c) => {
            sqlx::query_as(
                "SELECT * FROM agent_runtime
                 WHERE workspace_id = $1 AND provider = ANY($2) AND daemon_id_folded = ANY($3)",
            )
            .bind(machine.workspace)
            .bind(providers)
            .bind(names)
            .fetch_all(c)
            .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_as(
                "SELECT * FROM agent_runtime
                 WHERE workspace_id = $1 AND provider IN (SELECT value FROM json_each($2))
                   AND daemon_id_folded IN (SELECT value FROM json_each($3))",
            )
            .bind(machine.workspace)
            .bind(Json(providers))
            .bind(Json(names))
            .fetch_all(c)
            .await
        }
    };
    db.note(rows)
}

/// The owner's built-in runtimes that are offline.
async fn offline(db: &mut Session, machine: &Machine<'_>) -> Result<Vec<Row>> {
    on!(db, |c| sqlx::query_as(
        "SELECT * FROM agent_runtime
         WHERE workspace_id = $1 AND owner_id = $2 AND profile_id IS NULL AND status = 'offline'"
    )
    .bind(machine.workspace)
    .bind(machine.owner)
    .fetch_all(c))
}

/// The rows as they are under their locks; those that are gone by then are left out. Where something is
/// taken over nobody may bind or queue anything meanwhile.
async fn lock(tx: &mut Tx, runtimes: &BTreeSet<RuntimeId>, takes_over: bool) -> Result<Vec<Row>> {
    if runtimes.is_empty() {
        return Ok(Vec::new());
    }
    let rows = match tx.arm() {
        Arm::Postgres(c) => {
            let sql = match takes_over {
                true => "SELECT * FROM agent_runtime WHERE id = ANY($1) ORDER BY id FOR UPDATE",
                false => "SELECT * FROM agent_runtime WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE",
            };
            sqlx::query_as(sql).bind(runtimes.iter().copied().collect::<Vec<_>>()).fetch_all(c).await
        }
        Arm::Sqlite(c) => {
            sqlx::query_as(
                "SELECT * FROM agent_runtime WHERE id IN (SELECT unhex(value) FROM json_each($1)) ORDER BY id",
            )
            .bind(lists::ids(runtimes.iter().copied()))
            .fetch_all(c)
            .await
        }
    };
    tx.note(rows)
}

/// A change of many rows, on PostgreSQL in the order of their ids: others may be at it for other runtimes.
macro_rules! in_order {
    ($table:literal, $change:literal, $which:literal) => {
        [
            concat!(
                "UPDATE ",
                $table,
                " SET ",
                $change,
                " WHERE id IN (SELECT id FROM ",
                $table,
                " WHERE ",
                $which,
                " ORDER BY id FOR NO KEY UPDATE)"
            ),
            concat!("UPDATE ", $table, " SET ", $change, " WHERE ", $which),
        ]
    };
}

/// What is unfinished at the old runtime is the new one's daemon's from here on: all of it, or only what
/// its agents have to do.
async fn move_unfinished(tx: &mut Tx, old: RuntimeId, new: &Row, whole: bool) -> Result<u64> {
    const SQL: [&str; 2] = in_order!(
        "task",
        "runtime_id = $2, origin_runtime_id = $2, owner_id = $3, daemon_id = $4",
        "runtime_id = $1 AND status IN ('queued', 'dispatched', 'running', 'waiting_local_directory')
             AND ($5 OR agent_id IN (SELECT id FROM agent WHERE runtime_id = $2))"
    );
    exec!(tx, pg SQL[0], lite SQL[1], |c, sql| sqlx::query(sql)
        .bind(old)
        .bind(new.id)
        .bind(new.owner_id)
        .bind(&new.daemon_id)
        .bind(whole))
}

/// What is finished, too: its daemon may have more to say of it.
async fn move_finished(tx: &mut Tx, old: RuntimeId, new: &Row) -> Result<u64> {
    const SQL: [&str; 2] = in_order!(
        "task",
        "runtime_id = $2, origin_runtime_id = $2, owner_id = $3, daemon_id = $4",
        "runtime_id = $1 AND status IN ('completed', 'failed', 'cancelled')"
    );
    exec!(tx, pg SQL[0], lite SQL[1], |c, sql| sqlx::query(sql)
        .bind(old)
        .bind(new.id)
        .bind(new.owner_id)
        .bind(&new.daemon_id))
}

/// What was used at the old runtime counts as used at the new one. The tasks are locked.
async fn move_usage(tx: &mut Tx, old: RuntimeId, new: RuntimeId) -> Result<()> {
    exec!(tx, |c| sqlx::query("UPDATE task_usage SET runtime_id = $2 WHERE runtime_id = $1").bind(old).bind(new))
        .map(drop)
}

/// Sessions of chats that ran at the old runtime can be taken up again at the new one.
async fn repoint_chats(tx: &mut Tx, old: RuntimeId, new: RuntimeId) -> Result<()> {
    const SQL: [&str; 2] = in_order!("chat_session", "runtime_id = $2", "runtime_id = $1");
    exec!(tx, pg SQL[0], lite SQL[1], |c, sql| sqlx::query(sql).bind(old).bind(new)).map(drop)
}

/// Notes on a registered row what was merged into it: the first name ever, and whether everybody may
/// bind agents to it.
async fn mark(tx: &mut Tx, machine: &Machine<'_>, new: RuntimeId, merged: &[&Row]) -> Result<Row> {
    let name = merged.iter().filter_map(|row| machine.former(&row.daemon_id)).min().map(|(_, name)| name);
    let public = merged.iter().any(|row| row.visibility == "public");
    on!(tx, |c| sqlx::query_as(
        "UPDATE agent_runtime
         SET legacy_daemon_id = COALESCE(legacy_daemon_id, $2),
             visibility = CASE WHEN $3 THEN 'public' ELSE visibility END
         WHERE id = $1 RETURNING *"
    )
    .bind(new)
    .bind(name)
    .bind(public)
    .fetch_one(c))
}

async fn first_waiting(db: &mut Session, runtime: RuntimeId) -> Result<Option<TaskId>> {
    on!(db, |c| sqlx::query_scalar(
        "SELECT id FROM task WHERE runtime_id = $1 AND status = 'queued'
         ORDER BY priority DESC, created_at, id LIMIT 1"
    )
    .bind(runtime)
    .fetch_optional(c))
}

fn tell_log(tx: &mut Tx, machine: &Machine<'_>, taken: &TakenOver, tasks: u64, foreign: usize) {
    let (workspace, by, daemon) = (machine.workspace, machine.owner, machine.daemon_id.to_owned());
    let (runtimes, agents) = (taken.gone.len(), taken.agents.len());
    tx.after_commit(move || {
        if runtimes > 0 || agents > 0 || tasks > 0 {
            tracing::info!(%workspace, %by, daemon, merged = runtimes, agents, tasks, "taken over from former names");
        }
        if foreign > 0 {
            let why = "runtimes under this machine's former names are other people's and stay";
            tracing::info!(%workspace, %by, daemon, runtimes = foreign, why, "not taken over");
        }
    });
}
