//! Issues come, change and go, with what follows from it elsewhere: whoever an issue is given to
//! begins to work on it, and work for nobody's issue ends.

use std::sync::Arc;

use super::{
    autopilot_runs,
    held::{Asked, Held, assigned, behind},
    wakes,
};
use crate::{
    db::Tx,
    error::{Result, there},
    events::kinds,
    identity::Insider,
    ids::{AgentId, IssueId, TaskId},
    protocol::{
        issue::{CreateIssue, Issue, PutIssue},
        lenient::Patch,
    },
    tasks::{self, Queue, Which, Wish, Work},
    workspace::{
        comments,
        issues::{self, Change},
        references,
    },
};

/// A new issue. Whoever it is given to begins, unless it is put off.
pub async fn create(tx: &mut Tx, queue: &Arc<Queue>, who: &Insider, wish: &CreateIssue) -> Result<Issue> {
    require_origin(tx, who, wish).await?;
    let id = wish.assignee_id.as_deref().and_then(|text| text.parse().ok());
    let planned = behind(tx, who.workspace, wish.assignee_type.as_deref(), id).await?;
    let held = Held::take(tx, who.workspace, planned.map(|asked| asked.agent)).await?;

    let issue = issues::create(tx, who, wish).await?;
    tx.emit(kinds::issue_created(who.actor(), &issue));
    if issue.status != "backlog" {
        begin(tx, queue, &held, &issue).await?;
    }
    Ok(issue)
}

/// An issue that is said to come of a wish: it does, if it is made in the wish's task, or by whoever
/// wished.
async fn require_origin(tx: &mut Tx, who: &Insider, wish: &CreateIssue) -> Result<()> {
    let (Some("quick_create"), Some(origin)) = (wish.origin_type.as_deref(), wish.origin_id.as_deref()) else {
        // What else may be wrong with it is seen where it is stored.
        return Ok(());
    };
    let task: TaskId = references::id("origin_id", origin)?;
    let row = tasks::find(tx, task).await?.filter(|row| row.workspace_id == who.workspace);
    let row = row.filter(|row| row.context.is_some() && row.chat_session_id.is_none());
    let own = |row: &tasks::Row| row.is_done_by(who) || row.initiator_user_id.is_some_and(|user| who.is(user));
    if row.is_some_and(|row| own(&row)) { Ok(()) } else { Err(references::invalid("origin_id")) }
}

/// Changes an issue.
pub async fn put(tx: &mut Tx, queue: &Arc<Queue>, who: &Insider, issue: IssueId, change: PutIssue) -> Result<Issue> {
    let agents = concerned(tx, who, issue, &change).await?;
    let held = Held::take(tx, who.workspace, agents).await?;

    let change = issues::put(tx, who, issue, change).await?;
    let (old, new) = (&change.old, &change.new);
    // Who only takes it away from somebody lets them finish.
    let given = new.assignee_id.is_some() && is_reassigned(&change);
    let called_off = new.status == "cancelled" && old.status != "cancelled";
    if given || called_off {
        queue.cancel(tx, who.workspace, Which::Issue(issue), |agent| held.has(agent)).await?;
    }
    if new.status != old.status {
        autopilot_runs::follow_issue(tx, new).await?;
    }
    let begins = match (given, called_off) {
        (_, true) => false,
        (true, false) => new.status != "backlog",
        (false, false) => leaves_backlog(&change) && !is_at_it(tx, who, issue).await?,
    };
    if begins {
        begin(tx, queue, &held, new).await?;
    }
    if new.status == "done" && old.status != "done" {
        tell_parent(tx, queue, &held, new).await?;
    }
    Ok(change.new)
}

fn is_reassigned(change: &Change) -> bool {
    (&change.old.assignee_type, change.old.assignee_id) != (&change.new.assignee_type, change.new.assignee_id)
}

fn leaves_backlog(change: &Change) -> bool {
    let now = change.new.status.as_str();
    change.old.status == "backlog" && now != "backlog" && !issues::is_closed(now) && !is_reassigned(change)
}

/// Whether the one who acts is an agent in a task for this very issue: it need not be asked again.
async fn is_at_it(tx: &mut Tx, who: &Insider, issue: IssueId) -> Result<bool> {
    let Some(binding) = &who.task else { return Ok(false) };
    Ok(tasks::find(tx, binding.task).await?.is_some_and(|task| task.issue_id == Some(issue)))
}

/// The agents that a change may give work to or take it from.
async fn concerned(tx: &mut Tx, who: &Insider, issue: IssueId, change: &PutIssue) -> Result<Vec<AgentId>> {
    let reassigns = !change.assignee_type.is_absent() || !change.assignee_id.is_absent();
    let (workspace, status) = (who.workspace, change.status.as_deref());
    if !reassigns && status.is_none() {
        return Ok(Vec::new());
    }
    let current = issues::plain(tx, workspace, issue).await?;
    let mut agents = Vec::new();
    if reassigns || status == Some("cancelled") {
        agents = tasks::agents_of(tx, workspace, Which::Issue(issue)).await?;
    }
    let asked = if reassigns {
        let kind = change.assignee_type.clone().over(current.assignee_type.clone());
        let id = match &change.assignee_id {
            Patch::Absent => current.assignee_id,
            Patch::Null => None,
            Patch::Value(text) => text.parse().ok(),
        };
        behind(tx, workspace, kind.as_deref(), id).await?
    } else if current.status == "backlog" {
        assigned(tx, &current).await?
    } else {
        None
    };
    agents.extend(asked.map(|asked| asked.agent));
    if status == Some("done") && current.status != "done" {
        let above = match &change.parent_issue_id {
            Patch::Absent => current.parent_issue_id,
            Patch::Null => None,
            Patch::Value(text) => text.parse().ok(),
        };
        let parent = match above {
            Some(above) => there(issues::plain(tx, workspace, above).await)?,
            None => None,
        };
        if let Some(parent) = parent {
            agents.extend(assigned(tx, &parent).await?.map(|asked| asked.agent));
        }
    }
    Ok(agents)
}

/// Removes an issue; work for it ends before.
pub async fn delete(tx: &mut Tx, queue: &Arc<Queue>, who: &Insider, issue: IssueId) -> Result<()> {
    let agents = tasks::agents_of(tx, who.workspace, Which::Issue(issue)).await?;
    let held = Held::take(tx, who.workspace, agents).await?;
    issues::lock_to_delete(tx, issue).await?;
    queue.cancel(tx, who.workspace, Which::Issue(issue), |agent| held.has(agent)).await?;
    autopilot_runs::lose_issue(tx, who.workspace, issue).await?;
    issues::delete(tx, who, issue).await
}

/// Asks whoever an issue is assigned to. A squad's leader is asked only where it can begin at once.
async fn begin(tx: &mut Tx, queue: &Arc<Queue>, held: &Held, issue: &Issue) -> Result<()> {
    let Some(Asked { agent, leads }) = assigned(tx, issue).await? else { return Ok(()) };
    let Some(worker) = held.active(agent)?.filter(|worker| !leads || worker.is_ready()) else { return Ok(()) };
    let wish = Wish {
        work: Work::Issue { issue: issue.id, trigger: None, leads },
        priority: tasks::priority_of(&issue.priority),
        initiator: None,
        force_fresh: false,
    };
    queue.enqueue(tx, worker, wish).await.map(drop)
}

/// Says on the issue above that one below it is done, and wakes its agent or leader by that; unless
/// nobody reads it for work: it is closed, or a person's.
async fn tell_parent(tx: &mut Tx, queue: &Arc<Queue>, held: &Held, child: &Issue) -> Result<()> {
    let Some(parent) = child.parent_issue_id else { return Ok(()) };
    // It may have gone meanwhile.
    let parent = there(issues::lock(tx, child.workspace_id, parent).await)?;
    let Some(parent) = parent.filter(|parent| !issues::is_closed(&parent.status)) else { return Ok(()) };
    if parent.assignee_type.as_deref() == Some("member") {
        return Ok(());
    }
    let Issue { id, identifier, title, .. } = child;
    let text = format!("[{identifier}](mention://issue/{id}) is done: {title}");
    let comment = comments::create_as_system(tx, &parent, &text).await?;
    let Some(asked) = assigned(tx, &parent).await? else { return Ok(()) };
    // A leader that did it, or whose squad did, knows.
    if asked.leads && assigned(tx, child).await?.is_some_and(|done_by| done_by.agent == asked.agent) {
        return Ok(());
    }
    let Some(worker) = held.active(asked.agent)? else { return Ok(()) };
    queue.enqueue(tx, worker, wakes::by_comment(&parent, asked, comment.id, &text)).await.map(drop)
}
