//! What is said about issues, with what follows from it elsewhere: it asks agents for work, and work
//! that it asked for ends with it.
//!
//! Every change holds the issue, so that nobody is woken for an issue that is somebody else's by then,
//! and no work is asked for by what is gone.

use std::sync::Arc;

use super::{
    held::Held,
    instead,
    wakes::{self, Said},
};
use crate::{
    db::{Session, Tx},
    error::{Error, Result},
    identity::Insider,
    ids::{AgentId, CommentId, IssueId},
    protocol::{
        comment::{Comment, CreateComment, PutComment},
        issue::Issue,
    },
    tasks::{self, Queue, Row, Which},
    workspace::{
        attachments,
        comments::{self, Brief},
        issues,
        squads::evaluations,
    },
};

/// Somebody says something about an issue.
pub async fn create(
    tx: &mut Tx,
    queue: &Arc<Queue>,
    who: &Insider,
    issue: IssueId,
    wish: &CreateComment,
) -> Result<Comment> {
    let planned = issues::plain(tx, who.workspace, issue).await?;
    require_place(tx, who, issue, wish).await?;
    let parent = answered(tx, who, issue, wish).await?;
    let whom = wakes::whom(tx, &new(who, &planned, &wish.content, parent.as_ref())).await?;
    let held = Held::take(tx, who.workspace, whom.into_iter().map(|asked| asked.agent)).await?;

    let issue = issues::lock(tx, who.workspace, issue).await?;
    let parent = match parent {
        // It may say something else by now.
        Some(parent) => comments::brief(tx, who.workspace, parent.id).await?,
        None => None,
    };
    let before = files(tx, issue.id, &wish.attachment_ids).await?;
    let comment = comments::create(tx, who, &issue, wish).await?;
    tell_issue(tx, who, issue.id, before).await?;

    let suppressed: Vec<AgentId> = wish.suppress_agent_ids.iter().filter_map(|id| id.parse().ok()).collect();
    let said = new(who, &issue, &wish.content, parent.as_ref());
    wakes::wake(tx, queue, who, &held, comment.id, &said, &suppressed).await?;
    Ok(comment)
}

/// Refuses an agent that says what does not belong to its task: it answers who asked it, where they
/// asked; and who decided that there is nothing to do says nothing.
async fn require_place(tx: &mut Tx, who: &Insider, issue: IssueId, wish: &CreateComment) -> Result<()> {
    let Some(binding) = &who.task else { return Ok(()) };
    if evaluations::is_no_action(tx, binding.task).await? {
        let text = "squad leader recorded no_action; comments are not allowed for this task";
        return Err(Error::conflict("squad_no_action", text));
    }
    let task = tasks::find(tx, binding.task).await?.filter(|task| task.issue_id == Some(issue));
    let Some(trigger) = task.and_then(|task| task.trigger_comment_id) else { return Ok(()) };
    let parent: Option<CommentId> = wish.parent_id.as_deref().and_then(|text| text.parse().ok());
    if parent == Some(trigger) {
        return Ok(());
    }
    let text = format!("parent_id must equal this task's trigger comment id ({trigger})");
    Err(Error::conflict("not_the_trigger_comment", text))
}

/// What a comment answers, if that is there; what is wrong with it is refused later.
async fn answered(db: &mut Session, who: &Insider, issue: IssueId, wish: &CreateComment) -> Result<Option<Brief>> {
    let Some(parent) = wish.parent_id.as_deref().and_then(|text| text.parse().ok()) else { return Ok(None) };
    Ok(comments::brief(db, who.workspace, parent).await?.filter(|parent| parent.issue_id == issue))
}

fn new<'s>(who: &Insider, issue: &'s Issue, content: &'s str, parent: Option<&'s Brief>) -> Said<'s> {
    let task = who.task.as_deref();
    Said {
        issue,
        by_person: task.is_none(),
        by_agent: task.map(|task| task.agent),
        in_task: task.map(|task| task.task),
        content,
        parent,
    }
}

/// Somebody says something else instead: what the earlier words asked for is not wanted any more.
pub async fn put(
    tx: &mut Tx,
    queue: &Arc<Queue>,
    who: &Insider,
    comment: CommentId,
    change: &PutComment,
) -> Result<Comment> {
    let old = comments::brief(tx, who.workspace, comment).await?.ok_or_else(comments::not_found)?;
    let mut agents = Vec::new();
    if old.content != change.content {
        let planned = issues::plain(tx, who.workspace, old.issue_id).await?;
        let parent = parent(tx, who, &old).await?;
        let whom = wakes::whom(tx, &edited(&old, &planned, &change.content, parent.as_ref())).await?;
        agents = tasks::agents_of(tx, who.workspace, Which::Comment(comment)).await?;
        agents.extend(whom.into_iter().map(|asked| asked.agent));
    }
    let held = Held::take(tx, who.workspace, agents).await?;

    let issue = issues::lock(tx, who.workspace, old.issue_id).await?;
    let old = comments::brief(tx, who.workspace, comment).await?.ok_or_else(comments::not_found)?;
    let before = files(tx, issue.id, change.attachment_ids.as_deref().unwrap_or_default()).await?;
    let new = comments::put(tx, who, comment, change).await?;
    tell_issue(tx, who, issue.id, before).await?;
    if old.content != new.content {
        let ended = queue.cancel(tx, who.workspace, Which::Comment(comment), |agent| held.has(agent)).await?;
        let parent = parent(tx, who, &old).await?;
        let said = edited(&old, &issue, &new.content, parent.as_ref());
        wakes::wake(tx, queue, who, &held, comment, &said, &[]).await?;
        let bereft = instead::bereft(tx, &ended).await?;
        instead::ask(tx, queue, &held, &issue, bereft).await?;
    }
    Ok(new)
}

async fn parent(db: &mut Session, who: &Insider, comment: &Brief) -> Result<Option<Brief>> {
    match comment.parent_id {
        Some(parent) => comments::brief(db, who.workspace, parent).await,
        None => Ok(None),
    }
}

/// The new words are still their author's, whoever put them there.
fn edited<'s>(old: &Brief, issue: &'s Issue, content: &'s str, parent: Option<&'s Brief>) -> Said<'s> {
    Said {
        issue,
        by_person: old.author_type == "member",
        by_agent: Some(AgentId(old.author_id)).filter(|_| old.author_type == "agent"),
        in_task: old.source_task_id,
        content,
        parent,
    }
}

/// Somebody takes back what was said, with all answers and the work that they asked for.
pub async fn delete(tx: &mut Tx, queue: &Arc<Queue>, who: &Insider, comment: CommentId) -> Result<()> {
    let found = comments::brief(tx, who.workspace, comment).await?.ok_or_else(comments::not_found)?;
    let agents = asked_by(tx, found.issue_id, comment).await?.into_iter().map(|task| task.agent_id);
    let held = Held::take(tx, who.workspace, agents).await?;

    let issue = issues::lock(tx, who.workspace, found.issue_id).await?;
    let mut ended: Vec<Row> = Vec::new();
    for task in asked_by(tx, found.issue_id, comment).await? {
        if let Some(by) = task.trigger_comment_id.filter(|_| ended.iter().all(|row| row.id != task.id)) {
            ended.extend(queue.cancel(tx, who.workspace, Which::Comment(by), |agent| held.has(agent)).await?);
        }
    }
    let bereft = instead::bereft(tx, &ended).await?;
    comments::delete(tx, who, comment).await?;
    instead::ask(tx, queue, &held, &issue, bereft).await
}

/// The work that a comment and its answers ask for, oldest first.
async fn asked_by(db: &mut Session, issue: IssueId, comment: CommentId) -> Result<Vec<Row>> {
    let mut active = tasks::active_of_issue(db, issue).await?;
    active.retain(|task| task.trigger_comment_id.is_some());
    if active.is_empty() {
        return Ok(active);
    }
    let gone = comments::with_answers(db, comment).await?;
    active.retain(|task| task.trigger_comment_id.is_some_and(|by| gone.contains(&by)));
    active.reverse();
    Ok(active)
}

/// How many files an issue has itself, where a comment may take some of them.
async fn files(tx: &mut Tx, issue: IssueId, wished: &[String]) -> Result<Option<usize>> {
    if wished.is_empty() { Ok(None) } else { Ok(Some(attachments::of_issue(tx, issue).await?.len())) }
}

async fn tell_issue(tx: &mut Tx, who: &Insider, issue: IssueId, before: Option<usize>) -> Result<()> {
    match before {
        Some(before) if attachments::of_issue(tx, issue).await?.len() != before => {
            issues::files_changed(tx, who, issue).await
        }
        _ => Ok(()),
    }
}
