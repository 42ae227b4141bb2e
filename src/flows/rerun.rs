//! Work on an issue begins once more, from a clean slate.

use std::sync::Arc;

use super::held::{Asked, Held, assigned};
use crate::{
    db::{Session, Tx},
    error::{Error, Result},
    identity::Insider,
    ids::{IssueId, TaskId},
    protocol::{
        issue::Issue,
        task::{Rerun, Task},
    },
    tasks::{self, Queue, Row, Trigger, Which, Wish, Work},
    workspace::{agents, comments, issues},
};

/// Asks again: whoever did the named task, as it was asked for; or whoever the issue is assigned to. A
/// person asks for anything that they may; an agent for its own task only, which it need not name.
pub async fn rerun(tx: &mut Tx, queue: &Arc<Queue>, who: &Insider, issue: IssueId, wish: &Rerun) -> Result<Task> {
    let source = source(tx, who, issue, wish).await?;
    let planned = issues::plain(tx, who.workspace, issue).await?;
    let asked = whom(tx, &planned, source.as_ref()).await?;
    let held = Held::take(tx, who.workspace, [asked.agent]).await?;

    let issue = issues::lock(tx, who.workspace, issue).await?;
    let asked = whom(tx, &issue, source.as_ref()).await?;
    let Some(worker) = held.active(asked.agent)? else {
        return Err(Error::invalid("agent_archived", "agent is archived"));
    };
    if !worker.agent.is_open_to(who) {
        return Err(agents::no_access());
    }
    queue.cancel(tx, who.workspace, Which::IssueOf(issue.id, asked.agent), |agent| held.has(agent)).await?;
    let wish = Wish {
        work: Work::Issue { issue: issue.id, trigger: trigger(tx, who, source).await?, leads: asked.leads },
        priority: tasks::priority_of(&issue.priority),
        initiator: None,
        force_fresh: true,
    };
    let queued = queue.enqueue(tx, worker, wish).await?;
    queued.map(Row::wire).ok_or_else(|| Error::internal("a task is pending that was cancelled"))
}

/// The task that is to be done once more, if one is named.
async fn source(db: &mut Session, who: &Insider, issue: IssueId, wish: &Rerun) -> Result<Option<Row>> {
    let named: Option<TaskId> = match wish.task_id.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| invalid_task())?),
    };
    let task = match &who.task {
        Some(own) if named.is_none_or(|named| named == own.task) => Some(own.task),
        Some(_) => return Err(not_yours()),
        None => named,
    };
    let Some(task) = task else { return Ok(None) };
    let row = tasks::find(db, task).await?.filter(|row| row.workspace_id == who.workspace);
    match row.filter(|row| row.issue_id == Some(issue)) {
        Some(row) => Ok(Some(row)),
        None if who.task.is_some() => Err(not_yours()),
        None => Err(invalid_task()),
    }
}

/// The same words whether it is no id, nobody's or another issue's.
fn invalid_task() -> Error {
    Error::invalid("invalid_reference", "invalid task_id")
}

fn not_yours() -> Error {
    Error::forbidden("not_your_task", "an agent may rerun its own task only")
}

async fn whom(db: &mut Session, issue: &Issue, source: Option<&Row>) -> Result<Asked> {
    if let Some(source) = source {
        return Ok(Asked { agent: source.agent_id, leads: source.is_leader_task });
    }
    let text = "issue is not assigned to an agent or squad";
    assigned(db, issue).await?.ok_or_else(|| Error::invalid("not_assigned_to_agent", text))
}

/// The comment that asked for it, as long as that is there: an agent answers where it was asked.
async fn trigger(db: &mut Session, who: &Insider, source: Option<Row>) -> Result<Option<Trigger>> {
    let Some(comment) = source.and_then(|source| source.trigger_comment_id) else { return Ok(None) };
    let said = comments::brief(db, who.workspace, comment).await?;
    Ok(said.map(|said| Trigger { comment, summary: tasks::summary(&said.content) }))
}
