//! A task as stored, and as clients read it.

use serde_json::Value;
use sqlx::types::Json;

use super::status::{Operation, Status};
use crate::{
    db::{Session, Tx, on},
    error::{Error, Result},
    events::kinds::{self, TaskTold},
    identity::Insider,
    ids::{AgentId, ChatSessionId, CommentId, IssueId, RunId, RuntimeId, TaskId, UserId, WorkspaceId},
    protocol::{event::Event, task::Task},
    time::Timestamp,
};

/// A task as stored.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "the table's columns")]
pub struct Row {
    pub id: TaskId,
    pub workspace_id: WorkspaceId,
    pub agent_id: AgentId,
    pub runtime_id: Option<RuntimeId>,
    pub owner_id: Option<UserId>,
    pub daemon_id: String,
    #[sqlx(try_from = "String")]
    pub status: Status,
    pub priority: i32,
    pub issue_id: Option<IssueId>,
    pub chat_session_id: Option<ChatSessionId>,
    pub autopilot_run_id: Option<RunId>,
    pub trigger_comment_id: Option<CommentId>,
    pub trigger_summary: Option<String>,
    pub context: Option<Json<Value>>,
    pub force_fresh_session: bool,
    pub is_leader_task: bool,
    pub initiator_user_id: Option<UserId>,
    pub attempt: i32,
    pub max_attempts: i32,
    pub parent_task_id: Option<TaskId>,
    pub session_id: Option<String>,
    pub work_dir: Option<String>,
    pub result: Option<Json<Value>>,
    pub error: Option<String>,
    pub failure_reason: Option<String>,
    pub dispatched_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub waiting_at: Option<Timestamp>,
    pub orphan_check_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

impl Row {
    /// What it is for, in the wire's word.
    pub fn kind(&self) -> &'static str {
        if self.chat_session_id.is_some() {
            "chat"
        } else if self.autopilot_run_id.is_some() {
            "autopilot"
        } else if self.issue_id.is_none() {
            "quick_create"
        } else if self.trigger_comment_id.is_some() {
            "comment"
        } else {
            "direct"
        }
    }

    /// The same for counting: comments and assignments are both an issue's.
    pub(super) fn source(&self) -> &'static str {
        match self.kind() {
            "comment" | "direct" => "issue",
            kind => kind,
        }
    }

    /// What is told of it in events.
    pub(super) fn told(&self) -> TaskTold {
        TaskTold {
            workspace: self.workspace_id,
            task_id: self.id,
            agent_id: self.agent_id,
            issue_id: self.issue_id,
            chat_session_id: self.chat_session_id,
            status: self.status.word(),
            failure_reason: self.failure_reason.clone().filter(|_| self.status == Status::Failed),
        }
    }

    /// The event that says what was done to it.
    pub(super) fn told_of(&self, operation: Operation) -> Event {
        kinds::task_changed(operation.event().unwrap_or("task:queued"), &self.told())
    }

    /// As somebody in its workspace reads it: what was said in another's chat is not theirs to know.
    pub fn seen_by(self, who: &Insider) -> Task {
        let whole = self.chat_session_id.is_none() || self.is_own_chat_of(who) || self.is_done_by(who);
        let task = self.wire();
        if whole {
            return task;
        }
        Task { result: None, error: None, trigger_summary: None, work_dir: None, relative_work_dir: None, ..task }
    }

    /// Whether it answers somebody in a chat of their own. Only a chat's creator speaks in it.
    pub fn is_own_chat_of(&self, who: &Insider) -> bool {
        self.chat_session_id.is_some() && self.initiator_user_id.is_some_and(|user| who.is(user))
    }

    /// Whether it is the one that an agent acts in.
    pub fn is_done_by(&self, who: &Insider) -> bool {
        who.task.as_ref().is_some_and(|binding| binding.task == self.id)
    }

    /// As clients read it.
    pub fn wire(self) -> Task {
        let kind = self.kind();
        let relative = self.work_dir.as_deref().map(|dir| relative(dir, self.workspace_id, self.id));
        Task {
            id: self.id,
            agent_id: self.agent_id,
            runtime_id: self.runtime_id.map(|id| id.to_string()).unwrap_or_default(),
            issue_id: self.issue_id.map(|id| id.to_string()).unwrap_or_default(),
            workspace_id: self.workspace_id,
            status: self.status.word(),
            priority: self.priority,
            dispatched_at: self.dispatched_at,
            started_at: self.started_at,
            completed_at: self.completed_at,
            result: self.result.map(|result| result.0),
            error: self.error,
            failure_reason: self.failure_reason,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            parent_task_id: self.parent_task_id,
            created_at: self.created_at,
            work_dir: self.work_dir.filter(|dir| !dir.is_empty()),
            relative_work_dir: relative.filter(|dir| !dir.is_empty()),
            trigger_comment_id: self.trigger_comment_id,
            trigger_summary: self.trigger_summary,
            chat_session_id: self.chat_session_id,
            autopilot_run_id: self.autopilot_run_id,
            kind,
        }
    }
}

/// A folder without what is the machine's own business: from `<workspace>/<task>` on, else without
/// the home, else its last part.
fn relative(dir: &str, workspace: WorkspaceId, task: TaskId) -> String {
    let slashed = dir.replace('\\', "/");
    let own = format!("{workspace}/{}", &task.to_string()[..8]);
    if let Some(at) = slashed.find(&own) {
        return slashed[at..].to_owned();
    }
    let mut parts = slashed.split('/').filter(|part| !part.is_empty());
    let first = parts.next().unwrap_or_default();
    let under_home = match first {
        "home" | "Users" => parts.next().is_some(),
        // A drive of Windows.
        drive if drive.ends_with(':') => parts.next() == Some("Users") && parts.next().is_some(),
        _ => false,
    };
    let rest: Vec<&str> = parts.collect();
    if under_home && !rest.is_empty() {
        return rest.join("/");
    }
    slashed.split('/').rfind(|part| !part.is_empty()).unwrap_or_default().to_owned()
}

/// A task of any workspace.
pub async fn find(db: &mut Session, task: TaskId) -> Result<Option<Row>> {
    on!(db, |c| sqlx::query_as("SELECT * FROM task WHERE id = $1").bind(task).fetch_optional(c))
}

/// The row under a lock that other changes of it wait for. Its agent is locked before it.
pub(super) async fn lock(tx: &mut Tx, task: TaskId) -> Result<Option<Row>> {
    on!(
        tx,
        pg "SELECT * FROM task WHERE id = $1 FOR NO KEY UPDATE",
        lite "SELECT * FROM task WHERE id = $1",
        |c, sql| sqlx::query_as(sql).bind(task).fetch_optional(c)
    )
}

/// "Gone": a daemon that reads this stops the agent.
pub fn not_found() -> Error {
    Error::not_found("task_not_found", "task not found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_shown_without_what_is_the_machine_s_own() {
        let (workspace, task) = (WorkspaceId::fresh(), TaskId::fresh());
        let own = format!("{workspace}/{}", &task.to_string()[..8]);
        let show = |dir: &str| relative(dir, workspace, task);
        assert_eq!(show(&format!("/home/ann/work/{own}/workdir")), format!("{own}/workdir"));
        assert_eq!(show("/home/ann/src/project"), "src/project");
        assert_eq!(show("/Users/ann/src"), "src");
        assert_eq!(show(r"C:\Users\ann\src\x"), "src/x");
        assert_eq!(show("/home/ann"), "ann");
        assert_eq!(show("/srv/data/project/"), "project");
        assert_eq!(show(""), "");
    }
}
