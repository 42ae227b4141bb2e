//! Who is called by several comments has one task for them, as long as it has not begun. When that ends with
//! the comment that asked for it, the newest of the others asks instead.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    held::{Asked, Held},
    wakes::{self, Said},
};
use crate::{
    db::{Session, Tx},
    error::Result,
    identity::{Role, members},
    ids::{AgentId, UserId},
    protocol::issue::Issue,
    tasks::{self, Queue, Row},
    time::Timestamp,
    workspace::{
        agents,
        comments::{self, Brief},
    },
};

/// Comments that are looked at for an agent at most: the newest.
const MOST: i64 = 50;

/// Agents that have lost their tasks for an issue, and since when comments may have had no effect because
/// of these.
pub(super) type Bereft = BTreeMap<AgentId, Timestamp>;

/// The agents of some tasks that were called off while the comments that asked for them are still there.
/// Whatever was said before an agent last began, it has read.
pub(super) async fn bereft(db: &mut Session, ended: &[Row]) -> Result<Bereft> {
    let mut bereft = Bereft::new();
    for row in ended {
        let (Some(issue), Some(comment)) = (row.issue_id, row.trigger_comment_id) else { continue };
        let Some(said) = comments::said_at(db, comment).await? else { continue };
        let begun = tasks::last_begun(db, issue, row.agent_id).await?;
        let since = begun.map_or(said, |begun| begun.max(said));
        bereft.entry(row.agent_id).and_modify(|earlier| *earlier = since.min(*earlier)).or_insert(since);
    }
    Ok(bereft)
}

/// The newest comment that calls one of them, and that has given it no task, asks for one.
pub(super) async fn ask(tx: &mut Tx, queue: &Arc<Queue>, held: &Held, issue: &Issue, bereft: Bereft) -> Result<()> {
    for (agent, since) in bereft {
        let Some(worker) = held.active(agent)? else { continue };
        if let Some((comment, asked)) = last_call(tx, issue, &worker.agent, since).await?
            && !tasks::has_woken(tx, comment.id, agent).await?
        {
            queue.enqueue(tx, worker, wakes::by_comment(issue, asked, comment.id, &comment.content)).await?;
        }
    }
    Ok(())
}

async fn last_call(
    db: &mut Session,
    issue: &Issue,
    agent: &agents::Row,
    since: Timestamp,
) -> Result<Option<(Brief, Asked)>> {
    for comment in comments::said_by_people_after(db, issue.id, since, MOST).await? {
        let parent = match comment.parent_id {
            Some(parent) => comments::brief(db, issue.workspace_id, parent).await?,
            None => None,
        };
        let (content, parent) = (comment.content.as_str(), parent.as_ref());
        let said = Said { issue, by_person: true, by_agent: None, in_task: None, content, parent };
        let asked = wakes::whom(db, &said).await?.into_iter().find(|asked| asked.agent == agent.id);
        if let Some(asked) = asked
            && may_ask(db, agent, UserId(comment.author_id)).await?
        {
            return Ok(Some((comment, asked)));
        }
    }
    Ok(None)
}

/// Whether an agent is within the reach of whoever said something.
async fn may_ask(db: &mut Session, agent: &agents::Row, author: UserId) -> Result<bool> {
    if agent.visibility != "private" || agent.owner_id == author {
        return Ok(true);
    }
    Ok(members::role(db, agent.workspace_id, author).await? >= Some(Role::Admin))
}
