//! Autopilots: work that is asked for by the clock, or by hand. Whom and what they name is looked up
//! in `flows::autopilots`.
//!
//! What an autopilot says and when it goes off is as good as talking to the agent that does the work.
//! So whoever may not see that agent neither sees nor changes the autopilot.

mod brief;
pub mod due;
pub mod ends;
pub mod runs;
mod schedule;
mod subscribers;
pub mod triggers;

use uuid::Uuid;

pub use brief::Moment;

use super::{agents, words};
use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    events::kinds,
    identity::Insider,
    ids::{AgentId, AutopilotId, ProjectId, SquadId, UserId, WorkspaceId},
    protocol::autopilot::{Autopilot, CreateAutopilot, ListedAutopilot, PatchAutopilot, Subscriber},
    time::Timestamp,
};

const ASSIGNEES: &[&str] = &["agent", "squad"];
const STATUSES: &[&str] = &["active", "paused", "archived"];
const MODES: &[&str] = &["create_issue", "run_only"];

/// Whom an autopilot's work is given to: the type and the id, looked up and let through.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignee(pub String, pub Uuid);

#[derive(sqlx::FromRow)]
struct Row {
    id: AutopilotId,
    workspace_id: WorkspaceId,
    title: String,
    description: Option<String>,
    project_id: Option<ProjectId>,
    assignee_type: String,
    assignee_id: Uuid,
    status: String,
    execution_mode: String,
    issue_title_template: Option<String>,
    created_by_type: String,
    created_by_id: Uuid,
    last_run_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
    private_to: Option<UserId>,
}

impl Row {
    fn with(self, subscribers: Vec<Subscriber>) -> Autopilot {
        Autopilot {
            id: self.id,
            workspace_id: self.workspace_id,
            title: self.title,
            description: self.description,
            project_id: self.project_id,
            assignee_type: self.assignee_type,
            assignee_id: self.assignee_id,
            status: self.status,
            execution_mode: self.execution_mode,
            issue_title_template: self.issue_title_template,
            created_by_type: self.created_by_type,
            created_by_id: self.created_by_id,
            last_run_at: self.last_run_at,
            created_at: self.created_at,
            updated_at: self.updated_at,
            subscribers,
            private_to: self.private_to,
        }
    }
}

/// Autopilots, each with the owner of the private agent that does its work: its assignee, or the
/// leader of the squad that is; also once that agent is gone.
macro_rules! selected {
    ($also:literal, $rest:literal) => {
        concat!(
            "SELECT a.*, CASE WHEN g.id IS NULL THEN a.was_private_to
                              WHEN g.visibility = 'private' THEN g.owner_id END AS private_to ",
            $also,
            " FROM autopilot a
             LEFT JOIN squad s ON a.assignee_type = 'squad' AND s.id = a.assignee_id
             LEFT JOIN agent g ON g.id = CASE WHEN a.assignee_type = 'squad' THEN s.leader_id ELSE a.assignee_id END ",
            $rest
        )
    };
}

use selected;

#[derive(sqlx::FromRow)]
struct ListedRow {
    #[sqlx(flatten)]
    row: Row,
    next_run_at: Option<Timestamp>,
    last_run_status: Option<String>,
}

/// The autopilots that somebody may see, newest first, perhaps of one status only.
pub async fn list(db: &mut Session, who: &Insider, status: Option<&str>) -> Result<Vec<ListedAutopilot>> {
    let rows: Vec<ListedRow> = on!(db, |c| sqlx::query_as(selected!(
        ",
             (SELECT MIN(t.next_run_at) FROM autopilot_trigger t
              WHERE t.autopilot_id = a.id AND t.enabled) AS next_run_at,
             (SELECT r.status FROM autopilot_run r
              WHERE r.autopilot_id = a.id ORDER BY r.created_at DESC, r.id LIMIT 1) AS last_run_status",
        "WHERE a.workspace_id = $1 AND (a.status = $2 OR $2 IS NULL)
         ORDER BY a.created_at DESC, a.id DESC"
    ))
    .bind(who.workspace)
    .bind(status)
    .fetch_all(c))?;
    let mut kinds = triggers::kinds(db, who.workspace).await?;
    Ok(rows
        .into_iter()
        .filter(|listed| is_open(listed.row.private_to, who))
        .map(|ListedRow { row, next_run_at, last_run_status }| ListedAutopilot {
            trigger_kinds: kinds.remove(&row.id).unwrap_or_default(),
            autopilot: row.with(Vec::new()),
            next_run_at,
            last_run_status,
        })
        .collect())
}

/// One that somebody may see.
pub async fn open(db: &mut Session, who: &Insider, autopilot: AutopilotId) -> Result<Autopilot> {
    let autopilot = get(db, who.workspace, autopilot).await?;
    if is_open(autopilot.private_to, who) { Ok(autopilot) } else { Err(agents::no_access()) }
}

fn is_open(private_to: Option<UserId>, who: &Insider) -> bool {
    private_to.is_none_or(|owner| who.may_use_private(owner))
}

/// One of a workspace's, whoever asks.
pub async fn get(db: &mut Session, workspace: WorkspaceId, autopilot: AutopilotId) -> Result<Autopilot> {
    let row: Option<Row> = on!(db, |c| sqlx::query_as(selected!("", "WHERE a.id = $1 AND a.workspace_id = $2"))
        .bind(autopilot)
        .bind(workspace)
        .fetch_optional(c))?;
    let row = row.ok_or_else(not_found)?;
    Ok(row.with(subscribers::of(db, workspace, autopilot).await?))
}

/// Refuses the wish for a new one that lacks something, or says what is never right.
pub fn check(wish: &CreateAutopilot) -> Result<()> {
    words::title("title", &wish.title)?;
    words::required("assignee_id", &wish.assignee_id)?;
    words::required("execution_mode", &wish.execution_mode)?;
    words::one_of("execution_mode", MODES, &wish.execution_mode)?;
    words::optional_text("description", wish.description.as_deref())?;
    check_template(&wish.issue_title_template)
}

/// Who may be given the work, by the wire's word; nothing stands for `default`.
pub fn assignee_type<'w>(word: &'w str, default: &'w str) -> Result<&'w str> {
    words::one_of_or("assignee_type", ASSIGNEES, word, default)
}

/// A new one, at work at once. The wish has been checked; project and assignee are locked.
pub async fn create(
    tx: &mut Tx,
    who: &Insider,
    wish: &CreateAutopilot,
    project: Option<ProjectId>,
    assignee: &Assignee,
) -> Result<Autopilot> {
    let subscribers = subscribers::wished(tx, who.workspace, &wish.subscribers).await?;
    let (id, now, actor) = (AutopilotId::fresh(), tx.now(), who.actor());
    exec!(tx, |c| sqlx::query(
        "INSERT INTO autopilot (id, workspace_id, title, description, project_id, assignee_type, assignee_id, status,
                                execution_mode, issue_title_template, created_by_type, created_by_id,
                                created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'active', $8, $9, $10, $11, $12, $12)"
    )
    .bind(id)
    .bind(who.workspace)
    .bind(wish.title.trim())
    .bind(&wish.description)
    .bind(project)
    .bind(&assignee.0)
    .bind(assignee.1)
    .bind(&wish.execution_mode)
    .bind(Some(&wish.issue_title_template).filter(|template| !template.is_empty()))
    .bind(actor.kind())
    .bind(actor.id())
    .bind(now))?;
    subscribers::replace(tx, id, &subscribers).await?;
    let autopilot = get(tx, who.workspace, id).await?;
    tx.emit(kinds::autopilot_created(actor, &autopilot));
    Ok(autopilot)
}

/// What of a change was looked up and locked before the autopilot is.
pub struct Parents {
    /// The project it belongs to from now on; none if nothing is said of it.
    pub project: Option<Option<ProjectId>>,
    /// Who does its work from now on, or why they may not; none if nothing is said of it.
    pub assignee: Option<(Assignee, Result<()>)>,
}

/// Changes one.
pub async fn patch(
    tx: &mut Tx,
    who: &Insider,
    autopilot: AutopilotId,
    change: PatchAutopilot,
    parents: Parents,
) -> Result<Autopilot> {
    let old = lock(tx, who, autopilot).await?;
    let title = change.title.as_deref().map(|title| words::title("title", title)).transpose()?;
    let status = change.status.as_deref().map(|word| words::one_of("status", STATUSES, word)).transpose()?;
    let mode = change.execution_mode.as_deref();
    let mode = mode.map(|word| words::one_of("execution_mode", MODES, word)).transpose()?;
    let template = change.issue_title_template.over(old.issue_title_template.clone());
    let template = template.filter(|template| !template.is_empty());
    template.as_deref().map(check_template).transpose()?;
    let description = change.description.over(old.description.clone());
    words::optional_text("description", description.as_deref())?;
    let before = Assignee(old.assignee_type.clone(), old.assignee_id);
    let assignee = match parents.assignee {
        // Who has the work already keeps it, whatever has become of them.
        Some((wished, admitted)) if wished != before => admitted.map(|()| wished)?,
        _ => before,
    };
    let wished = match &change.subscribers {
        Some(wished) => Some(subscribers::wished(tx, who.workspace, wished).await?),
        None => None,
    };
    let same_people = wished.as_ref().is_none_or(|wished| subscribers::are(&old.subscribers, wished));
    let new = Autopilot {
        title: title.unwrap_or(&old.title).to_owned(),
        description,
        project_id: parents.project.unwrap_or(old.project_id),
        assignee_type: assignee.0,
        assignee_id: assignee.1,
        status: status.unwrap_or(&old.status).to_owned(),
        execution_mode: mode.unwrap_or(&old.execution_mode).to_owned(),
        issue_title_template: template,
        ..old.clone()
    };
    if new == old && same_people {
        return Ok(old);
    }
    let now = tx.now();
    exec!(tx, |c| sqlx::query(
        "UPDATE autopilot SET title = $2, description = $3, project_id = $4, assignee_type = $5, assignee_id = $6,
             status = $7, execution_mode = $8, issue_title_template = $9, updated_at = $10
         WHERE id = $1"
    )
    .bind(autopilot)
    .bind(&new.title)
    .bind(&new.description)
    .bind(new.project_id)
    .bind(&new.assignee_type)
    .bind(new.assignee_id)
    .bind(&new.status)
    .bind(&new.execution_mode)
    .bind(&new.issue_title_template)
    .bind(now))?;
    if let Some(wished) = wished.filter(|_| !same_people) {
        subscribers::replace(tx, autopilot, &wished).await?;
    }
    if new.status == "active" && old.status != "active" {
        triggers::skip_missed(tx, autopilot).await?;
    }
    let new = get(tx, who.workspace, autopilot).await?;
    tx.emit(kinds::autopilot_updated(who.actor(), &new));
    Ok(new)
}

/// Removes one, locked, with its triggers and runs.
pub async fn delete(tx: &mut Tx, who: &Insider, autopilot: AutopilotId) -> Result<()> {
    exec!(tx, |c| sqlx::query("DELETE FROM autopilot WHERE id = $1").bind(autopilot))?;
    tx.emit(kinds::autopilot_deleted(who.workspace, who.actor(), autopilot));
    Ok(())
}

/// Gives all autopilots of a squad that ends to its leader, and tells of each; paused and archived
/// ones too.
pub async fn pass_on(tx: &mut Tx, who: &Insider, squad: SquadId, leader: AgentId) -> Result<()> {
    let ids: Vec<AutopilotId> = on!(
        tx,
        pg "SELECT id FROM autopilot WHERE assignee_id = $1 AND assignee_type = 'squad' ORDER BY id FOR NO KEY UPDATE",
        lite "SELECT id FROM autopilot WHERE assignee_id = $1 AND assignee_type = 'squad' ORDER BY id",
        |c, sql| sqlx::query_scalar(sql).bind(squad).fetch_all(c)
    )?;
    let now = tx.now();
    for id in ids {
        exec!(tx, |c| sqlx::query(
            "UPDATE autopilot SET assignee_type = 'agent', assignee_id = $2, updated_at = $3 WHERE id = $1"
        )
        .bind(id)
        .bind(leader)
        .bind(now))?;
        let autopilot = get(tx, who.workspace, id).await?;
        tx.emit(kinds::autopilot_updated(who.actor(), &autopilot));
    }
    Ok(())
}

/// Takes all autopilots out of a project that ends, and tells of each.
pub async fn leave_project(tx: &mut Tx, who: &Insider, project: ProjectId) -> Result<()> {
    let ids: Vec<AutopilotId> = on!(
        tx,
        pg "SELECT id FROM autopilot WHERE project_id = $1 ORDER BY id FOR NO KEY UPDATE",
        lite "SELECT id FROM autopilot WHERE project_id = $1 ORDER BY id",
        |c, sql| sqlx::query_scalar(sql).bind(project).fetch_all(c)
    )?;
    let now = tx.now();
    for id in ids {
        exec!(tx, |c| sqlx::query("UPDATE autopilot SET project_id = NULL, updated_at = $2 WHERE id = $1")
            .bind(id)
            .bind(now))?;
        let autopilot = get(tx, who.workspace, id).await?;
        tx.emit(kinds::autopilot_updated(who.actor(), &autopilot));
    }
    Ok(())
}

/// One that the caller may change, as it is under a lock that other changes of it wait for: it may
/// have come to another agent since it was looked at.
pub async fn lock(tx: &mut Tx, who: &Insider, autopilot: AutopilotId) -> Result<Autopilot> {
    hold(tx, who.workspace, autopilot).await?;
    open(tx, who, autopilot).await
}

/// The same for the hub itself, which may use every agent.
pub async fn lock_for_hub(tx: &mut Tx, workspace: WorkspaceId, autopilot: AutopilotId) -> Result<Autopilot> {
    hold(tx, workspace, autopilot).await?;
    get(tx, workspace, autopilot).await
}

async fn hold(tx: &mut Tx, workspace: WorkspaceId, autopilot: AutopilotId) -> Result<()> {
    let found: Option<i32> = on!(
        tx,
        pg "SELECT 1 FROM autopilot WHERE id = $1 AND workspace_id = $2 FOR UPDATE",
        lite "SELECT 1 FROM autopilot WHERE id = $1 AND workspace_id = $2",
        |c, sql| sqlx::query_scalar(sql).bind(autopilot).bind(workspace).fetch_optional(c)
    )?;
    found.map(drop).ok_or_else(not_found)
}

fn not_found() -> Error {
    Error::not_found("autopilot_not_found", "autopilot not found")
}

/// Refuses a template with any variable but the date.
fn check_template(template: &str) -> Result<()> {
    let rest = template.replace("{{date}}", "");
    if rest.contains("{{") || rest.contains("}}") {
        return Err(Error::invalid("invalid_template", "issue_title_template may contain only the variable {{date}}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_know_the_date_only() {
        for good in ["", "plain", "{{date}}", "{{date}} and {{date}}", "{date}", "a } b {"] {
            assert!(check_template(good).is_ok(), "{good}");
        }
        for bad in ["{{title}}", "{{ date }}", "{{date", "date}}", "{{}}", "{{date}} {{time}}", "{{da{{date}}te}}"] {
            assert!(check_template(bad).is_err(), "{bad}");
        }
    }
}
