//! Chats. They are between a person and an agent: everybody else gets ids.

use serde_json::{Value, json};

use crate::{
    ids::{ChatSessionId, TaskId, UserId, WorkspaceId},
    protocol::{
        chat::{ChatMessage, ChatSession},
        event::{Actor, Audience, Event},
    },
};

/// A person said something to an agent; the agent's answers have another event.
pub fn chat_message(workspace: WorkspaceId, creator: UserId, message: &ChatMessage) -> Event {
    let mut ids = json!({ "chat_session_id": message.chat_session_id, "message_id": message.id });
    if let Some(task) = message.task_id {
        ids["task_id"] = json!(task);
    }
    let mut whole = ids.clone();
    whole["role"] = json!(message.role);
    whole["content"] = json!(message.content);
    whole["created_at"] = json!(message.created_at);
    private(workspace, creator, "chat:message", &whole, &ids)
}

/// An agent has answered, or has nothing to say.
pub fn chat_done(
    workspace: WorkspaceId,
    creator: UserId,
    session: ChatSessionId,
    task: TaskId,
    answer: Option<&ChatMessage>,
) -> Event {
    let mut ids = json!({ "chat_session_id": session, "task_id": task });
    let mut whole = ids.clone();
    if let Some(answer) = answer {
        ids["message_id"] = json!(answer.id);
        whole = ids.clone();
        whole["content"] = json!(answer.content);
        whole["elapsed_ms"] = json!(answer.elapsed_ms);
        whole["created_at"] = json!(answer.created_at.precise());
    }
    Event::new(workspace, "chat:done", Actor::System, &whole).in_full_for(Audience::Only(creator), &ids)
}

/// A chat has another title.
pub fn chat_session_updated(session: &ChatSession) -> Event {
    let ids = json!({ "chat_session_id": session.id });
    let whole = json!({ "chat_session_id": session.id, "title": session.title, "updated_at": session.updated_at });
    private(session.workspace_id, session.creator_id, "chat:session_updated", &whole, &ids)
}

/// A chat's creator has seen its latest answer.
pub fn chat_session_read(workspace: WorkspaceId, creator: UserId, session: ChatSessionId) -> Event {
    only_ids(workspace, creator, "chat:session_read", session)
}

/// A chat is gone.
pub fn chat_session_deleted(workspace: WorkspaceId, creator: UserId, session: ChatSessionId) -> Event {
    only_ids(workspace, creator, "chat:session_deleted", session)
}

fn private(workspace: WorkspaceId, creator: UserId, kind: &'static str, whole: &Value, ids: &Value) -> Event {
    Event::new(workspace, kind, Actor::Member(creator), whole).in_full_for(Audience::Only(creator), ids)
}

/// There is nothing to leave out for anybody.
fn only_ids(workspace: WorkspaceId, creator: UserId, kind: &'static str, session: ChatSessionId) -> Event {
    Event::new(workspace, kind, Actor::Member(creator), &json!({ "chat_session_id": session }))
}
