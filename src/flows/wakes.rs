//! Whom a comment wakes: the agent or squad that the issue is assigned to, and whom it mentions.
//!
//! People's words go to the assignee unless they are meant for somebody else. Agents' words go to a
//! squad's leader, who answers for them all, and otherwise only to whom they mention: so two agents do
//! not keep each other awake.

use std::{collections::HashMap, sync::Arc};

use super::held::{Asked, Held};
use crate::{
    db::{Session, Tx},
    error::Result,
    identity::Insider,
    ids::{AgentId, CommentId, SquadId, TaskId},
    protocol::issue::Issue,
    tasks::{self, Queue, Trigger, Wish, Work},
    workspace::{
        comments::{
            self, Brief,
            mentions::{self, Mention},
        },
        squads,
    },
};

/// Something that is said about an issue.
pub(super) struct Said<'s> {
    /// About which.
    pub issue: &'s Issue,
    /// Whether a person says it.
    pub by_person: bool,
    /// The agent that says it.
    pub by_agent: Option<AgentId>,
    /// In which of its tasks.
    pub in_task: Option<TaskId>,
    /// What.
    pub content: &'s str,
    /// What it answers.
    pub parent: Option<&'s Brief>,
}

/// Whom it wakes, each agent once, if they can be woken at all.
pub(super) async fn whom(db: &mut Session, said: &Said<'_>) -> Result<Vec<Asked>> {
    if mentions::is_note(said.content) {
        return Ok(Vec::new());
    }
    let own = mentions::of(said.content);
    let called = match said.parent.filter(|parent| own.is_empty() && said.by_person && is_person(parent)) {
        // Who goes on without a name still speaks to the same ones.
        Some(parent) => mentions::of(&parent.content),
        None => own.clone(),
    };
    let leaders = leaders(db, said.issue, &called).await?;
    let mut asked: Vec<Asked> = assignee(db, said, &own, &leaders).await?.into_iter().collect();
    for mention in called {
        let one = match mention {
            Mention::Agent(agent) => Some(Asked { agent, leads: false }),
            Mention::Squad(squad) => leaders.get(&squad).map(|leader| Asked { agent: *leader, leads: true }),
            Mention::Member(_) | Mention::Issue(_) | Mention::All => None,
        };
        if let Some(one) = one
            && asked.iter().all(|other| other.agent != one.agent)
        {
            asked.push(one);
        }
    }
    Ok(asked)
}

/// The leaders of the squads that are mentioned, and of the issue's.
async fn leaders(db: &mut Session, issue: &Issue, called: &[Mention]) -> Result<HashMap<SquadId, AgentId>> {
    let mut wanted: Vec<SquadId> = called
        .iter()
        .filter_map(|mention| match mention {
            Mention::Squad(squad) => Some(*squad),
            _ => None,
        })
        .collect();
    wanted.extend(squad_of(issue));
    squads::leaders(db, issue.workspace_id, &wanted).await
}

fn squad_of(issue: &Issue) -> Option<SquadId> {
    issue.assignee_id.filter(|_| issue.assignee_type.as_deref() == Some("squad")).map(SquadId)
}

/// The issue's assignee, if it is spoken to.
async fn assignee(
    db: &mut Session,
    said: &Said<'_>,
    own: &[Mention],
    leaders: &HashMap<SquadId, AgentId>,
) -> Result<Option<Asked>> {
    if let Some(squad) = squad_of(said.issue) {
        let Some(leader) = leaders.get(&squad).copied() else { return Ok(None) };
        let for_others = said.by_person && own.iter().any(|mention| mention.addresses());
        let own_words = said.by_agent == Some(leader) && was_leading(db, said, leader).await?;
        return Ok(Some(Asked { agent: leader, leads: true }).filter(|_| !for_others && !own_words));
    }
    let agent = said.issue.assignee_id.filter(|_| said.issue.assignee_type.as_deref() == Some("agent")).map(AgentId);
    let Some(agent) = agent.filter(|_| said.by_person) else { return Ok(None) };
    let spoken_to = is_for(agent, own) && joins_in(db, said, own, agent).await?;
    Ok(Some(Asked { agent, leads: false }).filter(|_| spoken_to))
}

/// Whether nobody else is meant.
fn is_for(agent: AgentId, own: &[Mention]) -> bool {
    let mut addressed = own.iter().filter(|mention| mention.addresses()).peekable();
    addressed.peek().is_none() || (!own.contains(&Mention::All) && own.contains(&Mention::Agent(agent)))
}

/// Whether an agent takes part where this is said: what people answer each other is between them.
async fn joins_in(db: &mut Session, said: &Said<'_>, own: &[Mention], agent: AgentId) -> Result<bool> {
    let Some(parent) = said.parent.filter(|parent| is_person(parent)) else { return Ok(true) };
    let mentioned = Mention::Agent(agent);
    if own.contains(&mentioned) || mentions::of(&parent.content).contains(&mentioned) {
        return Ok(true);
    }
    comments::has_answered(db, parent.id, agent).await
}

/// Whether a leader says it as such: in the task in which it says it, or else in its last one here.
async fn was_leading(db: &mut Session, said: &Said<'_>, leader: AgentId) -> Result<bool> {
    let mut task = match said.in_task {
        Some(task) => tasks::find(db, task).await?.filter(|task| task.issue_id == Some(said.issue.id)),
        None => None,
    };
    if task.is_none() {
        task = tasks::newest_of(db, said.issue.id, leader).await?;
    }
    Ok(task.is_some_and(|task| task.is_leader_task))
}

fn is_person(comment: &Brief) -> bool {
    comment.author_type == "member"
}

/// Wakes those that a comment is for, but for the suppressed ones and those that are out of the
/// reach of whoever says it.
pub(super) async fn wake(
    tx: &mut Tx,
    queue: &Arc<Queue>,
    who: &Insider,
    held: &Held,
    comment: CommentId,
    said: &Said<'_>,
    suppressed: &[AgentId],
) -> Result<()> {
    for asked in whom(tx, said).await? {
        if suppressed.contains(&asked.agent) {
            continue;
        }
        let Some(worker) = held.active(asked.agent)?.filter(|worker| worker.agent.is_open_to(who)) else { continue };
        let wish = by_comment(said.issue, asked, comment, said.content);
        queue.enqueue(tx, worker, wish).await?;
    }
    Ok(())
}

/// The wish for work that a comment is.
pub(super) fn by_comment(issue: &Issue, asked: Asked, comment: CommentId, content: &str) -> Wish {
    let trigger = Some(Trigger { comment, summary: tasks::summary(content) });
    Wish {
        work: Work::Issue { issue: issue.id, trigger, leads: asked.leads },
        priority: tasks::priority_of(&issue.priority),
        initiator: None,
        force_fresh: false,
    }
}
