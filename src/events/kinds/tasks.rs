//! Tasks. They are told by ids; only a wish for an issue has words in it, which are between whoever
//! wishes and the agent.

use serde_json::{Map, Value, json};

use crate::{
    ids::{AgentId, ChatSessionId, IssueId, RuntimeId, TaskId, UserId, WorkspaceId},
    protocol::{
        agent::Agent,
        event::{Actor, Audience, Event},
    },
};

/// What is told of a task.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are the payload's")]
pub struct TaskTold {
    pub workspace: WorkspaceId,
    pub task_id: TaskId,
    pub agent_id: AgentId,
    pub issue_id: Option<IssueId>,
    pub chat_session_id: Option<ChatSessionId>,
    pub status: &'static str,
    pub failure_reason: Option<String>,
}

/// A task is in another status: `task:queued`, `running`, `waiting_local_directory`, `completed`,
/// `failed` or `cancelled`.
pub fn task_changed(kind: &'static str, task: &TaskTold) -> Event {
    let mut payload = json!({
        "task_id": task.task_id,
        "agent_id": task.agent_id,
        "issue_id": task.issue_id.map(|id| id.to_string()).unwrap_or_default(),
        "status": task.status,
    });
    if let Some(chat) = task.chat_session_id {
        payload["chat_session_id"] = json!(chat);
    }
    if let Some(reason) = &task.failure_reason {
        payload["failure_reason"] = json!(reason);
    }
    Event::new(task.workspace, kind, Actor::System, &payload)
}

/// A daemon has a task. With what a wish for an issue says, in full for those who may see the agent;
/// `private_to` is a private agent's owner.
pub fn task_dispatched(
    task: &TaskTold,
    runtime: RuntimeId,
    context: Option<&Map<String, Value>>,
    private_to: Option<UserId>,
) -> Event {
    let mut ids = Map::new();
    ids.insert("task_id".into(), json!(task.task_id));
    ids.insert("runtime_id".into(), json!(runtime));
    ids.insert("issue_id".into(), json!(task.issue_id.map(|id| id.to_string()).unwrap_or_default()));
    ids.insert("agent_id".into(), json!(task.agent_id));
    if let Some(chat) = task.chat_session_id {
        ids.insert("chat_session_id".into(), json!(chat));
    }
    let Some(context) = context else {
        return Event::new(task.workspace, "task:dispatch", Actor::System, &ids);
    };
    let mut whole = context.clone();
    whole.extend(ids.clone());
    let event = Event::new(task.workspace, "task:dispatch", Actor::System, &whole);
    match private_to {
        Some(owner) => event.in_full_for(Audience::OwnerAndAdmins(owner), &ids),
        None => event,
    }
}

/// An agent began to work, or has nothing left to do.
pub fn agent_worked(agent: &Agent) -> Event {
    let mut whole = json!({ "agent": agent });
    if let Some(fields) = whole["agent"].as_object_mut() {
        // What nobody needs who only looks whether it works.
        for name in [
            "instructions",
            "custom_args",
            "mcp_config",
            "mcp_config_redacted",
            "has_custom_env",
            "custom_env_key_count",
            "model",
            "thinking_level",
        ] {
            fields.remove(name);
        }
        fields.insert("skills".into(), json!([]));
    }
    let event = Event::new(agent.workspace_id, "agent:status", Actor::System, &whole);
    if agent.visibility != "private" {
        return event;
    }
    event.in_full_for(Audience::OwnerAndAdmins(agent.owner_id), &json!({ "agent_id": agent.id }))
}
