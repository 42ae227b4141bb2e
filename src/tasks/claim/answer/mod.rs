//! What a daemon is told about a task that it claimed: all of it is read at the claim, so that what
//! was changed while the task waited counts.

mod agent;
mod autopilot;
mod briefing;
mod chat;
mod comment;
mod home;
mod issue;
mod project;
mod quick_create;

use super::super::Row;
use crate::{
    db::Tx,
    error::Result,
    fleet::Seat,
    ids::UserId,
    protocol::task::{About, ClaimedTask},
    workspace::agents,
};

/// What a task is about, as it was found in the task's own workspace.
pub(super) struct Subject(Kind);

enum Kind {
    Issue(issue::Found),
    Chat(chat::Found),
    Run(autopilot::Found),
    Wish(quick_create::Wish),
}

/// Finds what a task is about. `None` if that, or the runtime, is another workspace's, or if it is gone:
/// then the daemon must not have the task. Whatever ends an issue or a chat ends its tasks, so nobody
/// comes here for one that is gone unless something went wrong.
pub(super) async fn subject(tx: &mut Tx, row: &Row, seat: &Seat) -> Result<Option<Subject>> {
    let home = row.workspace_id;
    if seat.workspace_id != home {
        return Ok(None);
    }
    // The kinds in the order in which a task shows its own.
    let kind = if let Some(chat) = row.chat_session_id {
        chat::find(tx, chat).await?.filter(|found| found.workspace_id == home).map(Kind::Chat)
    } else if let Some(run) = row.autopilot_run_id {
        autopilot::find(tx, run).await?.filter(|found| found.workspace_id == home).map(Kind::Run)
    } else if let Some(issue) = row.issue_id {
        issue::find(tx, issue).await?.filter(|found| found.workspace_id == home).map(Kind::Issue)
    } else {
        quick_create::wish(row).filter(|wish| wish.workspace_id == home).map(Kind::Wish)
    };
    Ok(kind.map(Subject))
}

/// Everything that the daemon needs but for the token. `owner` is the runtime's.
pub(super) async fn assemble(
    tx: &mut Tx,
    row: &Row,
    agent: &agents::Row,
    owner: UserId,
    subject: Subject,
) -> Result<ClaimedTask> {
    let home = home::find(tx, row, owner).await?;
    let mut task = ClaimedTask {
        task: row.clone().wire(),
        auth_token: String::new(),
        agent: agent::with_skills(tx, agent).await?,
        workspace_context: home.context,
        repos: home.repos,
        about: About {
            requesting_user_name: home.owner_name,
            requesting_user_profile_description: home.owner_description,
            initiator: home.initiator,
            ..About::default()
        },
    };
    match subject.0 {
        Kind::Issue(found) => issue::tell(tx, row, found, &mut task).await?,
        Kind::Chat(found) => chat::tell(tx, row, found, &mut task).await?,
        Kind::Run(found) => autopilot::tell(found, &mut task),
        Kind::Wish(wish) => quick_create::tell(tx, wish, &mut task).await?,
    }
    Ok(task)
}
