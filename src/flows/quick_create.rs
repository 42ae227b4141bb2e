//! Issues that agents make of somebody's words: the wish for one becomes a task.
//!
//! The wish lies in the task's context, for the daemon and for the rules about what its agent may
//! give to the issue.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::{
    db::{Session, Tx},
    error::{Error, Result},
    identity::Insider,
    ids::{AgentId, AttachmentId, IssueId, ProjectId, SquadId, TaskId},
    protocol::issue::QuickCreate,
    tasks::{self, Queue, Wish, Work, Worker},
    workspace::{agents, attachments, issues, projects, references, squads, words},
};

/// The rank of a wish in the queue: somebody waits for the issue.
const PRIORITY: i32 = 3;
/// The first version of the CLI that knows such tasks.
const OLDEST: [u64; 3] = [0, 2, 21];

/// Whom somebody asks.
enum Asked {
    Agent(AgentId),
    /// By its leader.
    Squad(SquadId),
}

/// Asks an agent, or a squad's leader, for an issue.
pub async fn ask(tx: &mut Tx, queue: &Arc<Queue>, who: &Insider, wish: &QuickCreate) -> Result<TaskId> {
    let prompt = words::text("prompt", words::required("prompt", &wish.prompt)?)?;
    let asked = asked(wish)?;
    let planned = match asked {
        Asked::Agent(agent) => agent,
        Asked::Squad(squad) => squads::find(tx, who.workspace, squad).await?.leader_id,
    };
    let workers = tasks::lock_workers(tx, who.workspace, [planned]).await?;
    let worker = match asked {
        // One that is not there was not planned for, either.
        Asked::Agent(agent) if !workers.has(agent) => return Err(gone(tx, who, agent).await?),
        Asked::Agent(agent) => workers.get(agent)?,
        Asked::Squad(squad) => workers.get(squads::lock(tx, who, squad).await?.leader_id)?,
    };
    require_assignable(who, &asked, worker)?;
    let project = project(tx, who, &wish.project_id).await?;
    let parent = parent(tx, who, &wish.parent_issue_id).await?;
    require_able(worker)?;
    let attached = attachments::require_own(tx, who, &wish.attachment_ids).await?;

    let context = context(who, prompt, &asked, project, parent, &attached);
    let work = Work::QuickCreate(Value::Object(context));
    let wish = Wish { work, priority: PRIORITY, initiator: Some(who.user), force_fresh: false };
    let task = queue.enqueue(tx, worker, wish).await?;
    task.map(|task| task.id).ok_or_else(|| Error::internal("a wish for an issue was not queued"))
}

fn asked(wish: &QuickCreate) -> Result<Asked> {
    match (wish.agent_id.as_str(), wish.squad_id.as_str()) {
        ("", "") => Err(Error::invalid("field_required", "agent_id or squad_id is required")),
        (agent, "") => references::id("agent_id", agent).map(Asked::Agent),
        ("", squad) => references::id("squad_id", squad).map(Asked::Squad),
        _ => Err(Error::invalid("agent_or_squad", "agent_id and squad_id exclude each other")),
    }
}

/// Why an agent that a body names is not among the workers: it is none of the workspace's, or it came
/// or moved only now.
async fn gone(db: &mut Session, who: &Insider, agent: AgentId) -> Result<Error> {
    match agents::find(db, who.workspace, agent).await? {
        Some(_) => Ok(Error::PlanChanged),
        None => Ok(references::invalid("agent_id")),
    }
}

/// In the words of an issue's assignment.
fn require_assignable(who: &Insider, asked: &Asked, worker: &Worker) -> Result<()> {
    let squad = matches!(asked, Asked::Squad(_));
    if !worker.is_active() {
        return Err(if squad {
            Error::invalid("leader_archived", "cannot assign to a squad with an archived leader")
        } else {
            Error::invalid("agent_archived", "cannot assign to an archived agent")
        });
    }
    if !worker.agent.is_open_to(who) {
        return Err(if squad {
            Error::forbidden("leader_private", "cannot assign to squad with private leader")
        } else {
            Error::forbidden("agent_private", "cannot assign to private agent")
        });
    }
    Ok(())
}

/// Refuses an agent that nobody would hear of before somebody starts or updates its daemon.
fn require_able(worker: &Worker) -> Result<()> {
    if !worker.is_ready() {
        let reason = "the agent's runtime is offline";
        return Err(Error::unprocessable("agent_unavailable", reason).with("reason", &reason));
    }
    let version = worker.seat.cli_version();
    if release(version).is_none_or(|release| release >= OLDEST) {
        return Ok(());
    }
    let oldest = OLDEST.map(|part| part.to_string()).join(".");
    let text = format!("the agent's daemon is too old for this: {version}; {oldest} or newer is needed");
    Err(Error::unprocessable("daemon_version_unsupported", text)
        .with("current_version", &version)
        .with("min_version", &oldest)
        .with("runtime_id", &worker.seat.id))
}

/// The numbers of a released version, `v0.2.20` or `0.2.20-rc.1`; none of a build in between two
/// (`v0.2.20-5-g1a2b3c4`), which is younger than its name says, or of anything else.
fn release(version: &str) -> Option<[u64; 3]> {
    let text = version.trim();
    let text = text.strip_prefix('v').unwrap_or(text);
    let text = text.split('+').next().unwrap_or_default();
    let (numbers, rest) = text.split_once('-').unwrap_or((text, ""));
    if is_build(rest) {
        return None;
    }
    let mut parts = numbers.split('.').map(|part| part.parse().ok());
    let release = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(release)
}

/// `5-g1a2b3c4`, perhaps with more before or behind it.
fn is_build(rest: &str) -> bool {
    let parts: Vec<&str> = rest.split('-').collect();
    parts.windows(2).any(|pair| {
        let [commits, hash] = pair else { return false };
        let hash = hash.strip_prefix('g').unwrap_or_default();
        commits.parse::<u32>().is_ok() && hash.len() >= 4 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

async fn project(db: &mut Session, who: &Insider, wished: &str) -> Result<Option<ProjectId>> {
    if wished.is_empty() {
        return Ok(None);
    }
    let project = references::id("project_id", wished)?;
    if projects::exists(db, who.workspace, project).await? {
        Ok(Some(project))
    } else {
        Err(references::invalid("project_id"))
    }
}

async fn parent(db: &mut Session, who: &Insider, wished: &str) -> Result<Option<IssueId>> {
    if wished.is_empty() {
        return Ok(None);
    }
    let parent: IssueId = references::id("parent_issue_id", wished)?;
    match issues::resolve(db, who.workspace, &parent.to_string()).await {
        Err(Error::Refused(_)) => Err(references::invalid("parent_issue_id")),
        found => found.map(Some),
    }
}

fn context(
    who: &Insider,
    prompt: &str,
    asked: &Asked,
    project: Option<ProjectId>,
    parent: Option<IssueId>,
    attached: &[AttachmentId],
) -> Map<String, Value> {
    let mut context = Map::new();
    context.insert("type".into(), json!("quick_create"));
    context.insert("prompt".into(), json!(prompt));
    context.insert("requester_id".into(), json!(who.user));
    context.insert("workspace_id".into(), json!(who.workspace));
    if let Some(project) = project {
        context.insert("project_id".into(), json!(project));
    }
    if let Asked::Squad(squad) = asked {
        context.insert("squad_id".into(), json!(squad));
    }
    if let Some(parent) = parent {
        context.insert("parent_issue_id".into(), json!(parent));
    }
    if !attached.is_empty() {
        context.insert("attachment_ids".into(), json!(attached));
    }
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_released_versions_are_too_old() {
        for old in ["0.2.20", "v0.2.20", "0.1.99", " v0.0.0 ", "0.2.20-rc.1", "0.2.20+build"] {
            assert!(release(old).is_some_and(|release| release < OLDEST), "{old}");
        }
        for fine in [
            "",
            "dev",
            "0.2.21",
            "v0.2.21-rc.1",
            "0.3.0",
            "1.0.0",
            "0.2.20-5-g1a2b3c4",
            "v0.1.0-5-g1a2b3c4-dirty",
            "v0.1.0-rc.1-5-g1a2b3c4",
            "0.2",
            "0.2.20.1",
            "0.2.x",
            "1a2b3c4",
        ] {
            assert!(release(fine).is_none_or(|release| release >= OLDEST), "{fine}");
        }
    }
}
