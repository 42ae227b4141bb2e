//! Tasks: the objects that people and daemons read, and the bodies that daemons send.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{chat::CancelledMessage, lenient, runtime::Repo};
use crate::{
    ids::{
        AgentId, AttachmentId, AutopilotId, ChatSessionId, CommentId, IssueId, ProjectId, ResourceId, RunId, RuntimeId,
        SkillId, SquadId, TaskId, WorkspaceId,
    },
    time::Timestamp,
};

/// The frame that wakes a daemon: there is something to claim.
pub const TASK_AVAILABLE: &str = "daemon:task_available";

/// See [`TASK_AVAILABLE`].
pub fn task_available(runtime: RuntimeId, task: TaskId) -> String {
    serde_json::json!({ "type": TASK_AVAILABLE, "payload": { "runtime_id": runtime, "task_id": task } }).to_string()
}

/// The frame that tells a daemon that a task of its is over: the agent need not go on.
pub const TASK_CANCELLED: &str = "daemon:task_cancelled";

/// See [`TASK_CANCELLED`].
pub fn task_cancelled(runtime: RuntimeId, task: TaskId, reason: &str) -> String {
    let payload = serde_json::json!({ "runtime_id": runtime, "task_id": task, "reason": reason });
    serde_json::json!({ "type": TASK_CANCELLED, "payload": payload }).to_string()
}

/// The frame by which a daemon that has come back says what it still runs.
pub const RUNNING_TASKS: &str = "daemon:running_tasks";

/// The payload of [`RUNNING_TASKS`].
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct RunningTasks {
    /// Where.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub runtime_id: String,
    /// What.
    #[serde(default, deserialize_with = "lenient::list")]
    pub task_ids: Vec<String>,
}

/// A task, as clients read it. What is left out must be absent, not null.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Task {
    pub id: TaskId,
    pub agent_id: AgentId,
    /// Empty once the runtime is gone.
    pub runtime_id: String,
    /// Empty for tasks without an issue.
    pub issue_id: String,
    pub workspace_id: WorkspaceId,
    pub status: &'static str,
    pub priority: i32,
    pub dispatched_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub result: Option<Value>,
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    pub attempt: i32,
    pub max_attempts: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_task_id: Option<TaskId>,
    pub created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_work_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_comment_id: Option<CommentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_summary: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_session_id: Option<ChatSessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autopilot_run_id: Option<RunId>,
    pub kind: &'static str,
}

/// `POST /api/tasks/{id}/cancel`: the answer.
#[derive(Debug, Serialize)]
pub struct CancelledTask {
    /// The task as it is now.
    #[serde(flatten)]
    pub task: Task,
    /// What a person had said and may say otherwise, if it was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled_chat_message: Option<CancelledMessage>,
}

/// `POST /api/daemon/runtimes/{id}/tasks/claim`: the answer.
#[derive(Debug, Serialize)]
pub struct Claim {
    /// What was claimed, if there was anything.
    pub task: Option<Box<ClaimedTask>>,
}

/// A task with everything that its daemon needs to run it.
#[derive(Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct ClaimedTask {
    #[serde(flatten)]
    pub task: Task,
    /// The agent acts by it until the task ends.
    pub auth_token: String,
    pub agent: ClaimedAgent,
    pub workspace_context: String,
    pub repos: Vec<Repo>,
    #[serde(flatten)]
    pub about: About,
}

/// What a claimed task is about. What is left out must be absent: a daemon cannot read a claim in
/// which one field has another type than it expects.
#[derive(Default, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct About {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub thread_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<ProjectId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_title: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub project_resources: Vec<ClaimedResource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prior_session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prior_work_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_thread_id: Option<CommentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_comment_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_author_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_author_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_comment_count: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_comments_since: Option<Timestamp>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub chat_message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chat_message_attachments: Vec<ClaimedAttachment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autopilot_id: Option<AutopilotId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autopilot_title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autopilot_description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autopilot_source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autopilot_trigger_payload: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quick_create_prompt: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quick_create_attachment_ids: Vec<AttachmentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub squad_id: Option<SquadId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub squad_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_issue_id: Option<IssueId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_issue_identifier: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub requesting_user_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub requesting_user_profile_description: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub initiator: Option<Initiator>,
}

/// Who asked for a task.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Initiator {
    #[serde(rename = "initiator_type")]
    pub kind: &'static str,
    #[serde(rename = "initiator_id")]
    pub id: Uuid,
    #[serde(rename = "initiator_name", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// A person's.
    #[serde(rename = "initiator_email", skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

impl std::fmt::Debug for ClaimedTask {
    /// Without what is secret in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClaimedTask").field("task", &self.task.id).finish_non_exhaustive()
    }
}

/// The agent, secrets included: the only answer that has them beside the agent's environment.
#[derive(Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct ClaimedAgent {
    pub id: AgentId,
    pub name: String,
    pub instructions: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skills: Vec<ClaimedSkill>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_env: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub custom_args: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcp_config: Option<Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub thinking_level: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_config: Option<Value>,
}

/// A skill with its files.
#[derive(Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct ClaimedSkill {
    pub id: SkillId,
    pub name: String,
    pub description: String,
    pub content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ClaimedFile>,
}

/// One file of a skill.
#[derive(Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct ClaimedFile {
    pub path: String,
    pub content: String,
}

/// A resource of the issue's project.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct ClaimedResource {
    pub id: ResourceId,
    pub resource_type: String,
    pub resource_ref: Value,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// A file that came with what somebody said.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct ClaimedAttachment {
    pub id: AttachmentId,
    pub filename: String,
    pub content_type: String,
}

/// `POST /api/daemon/tasks/{id}/complete`.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct CompleteTask {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub pr_url: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub output: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub session_id: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub work_dir: String,
}

/// `POST /api/daemon/tasks/{id}/fail`.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct FailTask {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub error: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub session_id: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub work_dir: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub failure_reason: String,
}

/// `POST /api/daemon/tasks/{id}/wait-local-directory`.
#[derive(Debug, Default, Clone, Deserialize)]
pub struct WaitTask {
    /// What for.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub reason: String,
}

/// `POST /api/daemon/tasks/{id}/session`.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct PinSession {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub session_id: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub work_dir: String,
}

/// `POST /api/issues/{id}/rerun`.
#[derive(Debug, Default, Clone, Deserialize)]
pub struct Rerun {
    /// The task to run once more, if it is not what the issue asks for today.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub task_id: String,
}
