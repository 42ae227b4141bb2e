//! A task as far as its daemon's calls, and hearing what it says, are concerned.

use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};
use uuid::Uuid;

use super::{Queue, row, status::Status};
use crate::{
    db::{Session, on},
    error::{Error, Result},
    identity::{Driver, Insider},
    ids::{AgentId, ChatSessionId, IssueId, RuntimeId, TaskId, UserId, WorkspaceId},
    protocol::event::Audience,
    time::Timestamp,
    workspace::agents,
};

/// Whose a task is, what it is for, and who may know more of it than that.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "the table's columns")]
pub struct Voice {
    pub id: TaskId,
    pub workspace_id: WorkspaceId,
    pub agent_id: AgentId,
    pub runtime_id: Option<RuntimeId>,
    pub owner_id: Option<UserId>,
    pub daemon_id: String,
    #[sqlx(try_from = "String")]
    pub status: Status,
    pub issue_id: Option<IssueId>,
    pub chat_session_id: Option<ChatSessionId>,
    pub(super) orphan_check_at: Option<Timestamp>,
    /// Who talks in the chat.
    creator: Option<UserId>,
    /// The owner of the agent, if it is private, or was when it went.
    private_to: Option<UserId>,
}

/// The voice of a task of any workspace.
pub async fn voice(db: &mut Session, task: TaskId) -> Result<Option<Voice>> {
    on!(db, |c| sqlx::query_as(
        "SELECT t.id, t.workspace_id, t.agent_id, t.runtime_id, t.owner_id, t.daemon_id, t.status,
             t.issue_id, t.chat_session_id, t.orphan_check_at, COALESCE(s.creator_id, t.initiator_user_id) AS creator,
             CASE WHEN a.id IS NULL THEN t.private_to WHEN a.visibility = 'private' THEN a.owner_id END AS private_to
         FROM task t LEFT JOIN agent a ON a.id = t.agent_id LEFT JOIN chat_session s ON s.id = t.chat_session_id
         WHERE t.id = $1"
    )
    .bind(task)
    .fetch_optional(c))
}

/// As [`voice`], for somebody inside a workspace: those of others are not there.
pub async fn voice_in(db: &mut Session, who: &Insider, task: TaskId) -> Result<Voice> {
    voice(db, task).await?.filter(|voice| voice.workspace_id == who.workspace).ok_or_else(row::not_found)
}

impl Voice {
    /// Refuses whoever may not hear what it says: of another's talk, and of a private agent.
    pub fn require_open_to(&self, who: &Insider) -> Result<()> {
        if who.task.as_ref().is_some_and(|binding| binding.task == self.id) {
            return Ok(());
        }
        if self.chat_session_id.is_some() {
            let own = self.creator.is_some_and(|creator| who.is(creator));
            return if own { Ok(()) } else { Err(Error::forbidden("not_your_task", "not your task")) };
        }
        match self.private_to {
            Some(owner) if !who.may_use_private(owner) => Err(agents::no_access()),
            _ => Ok(()),
        }
    }

    /// Who may hear it, if not everybody, and what the others are told.
    pub(super) fn private(&self) -> Option<(Audience, Box<RawValue>)> {
        let audience = match (self.chat_session_id, self.creator, self.private_to) {
            // Nobody knows whose talk it was: nobody hears it.
            (Some(_), creator, _) => Audience::Only(creator.unwrap_or(UserId(Uuid::nil()))),
            (None, _, Some(owner)) => Audience::OwnerAndAdmins(owner),
            (None, _, None) => return None,
        };
        let mut ids: Map<String, Value> = Map::from_iter([("task_id".to_owned(), json!(self.id))]);
        ids.extend(self.issue_id.map(|issue| ("issue_id".to_owned(), json!(issue))));
        ids.extend(self.chat_session_id.map(|chat| ("chat_session_id".to_owned(), json!(chat))));
        Some((audience, to_raw_value(&ids).unwrap_or_else(|_| RawValue::NULL.to_owned())))
    }
}

impl Queue {
    /// A task for the daemon that may work on it, or the refusal; it was heard of. Nobody waits for more than
    /// one statement. What a task itself remembers of whose it is decides, so a daemon's late calls are
    /// understood when the runtime is gone.
    pub async fn hear(&self, driver: &Driver, task: TaskId) -> Result<Voice> {
        let voice = self.db.read(async move |db| voice(db, task).await).await?.ok_or_else(row::not_found)?;
        self.fleet.require_works(voice.workspace_id, voice.owner_id, &voice.daemon_id, driver).await?;
        self.fleet.hear_of_work(driver, voice.runtime_id, task);
        self.hear_of_suspect(&voice);
        Ok(voice)
    }
}
