//! A message to an agent, and the end of a chat: with the work that they set going or end.
//!
//! The agent's row is locked before the chat's, as every transition of a task does it.

use crate::{
    db::Tx,
    error::Result,
    events::kinds,
    identity::Insider,
    ids::{ChatSessionId, TaskId},
    protocol::chat::{SendMessage, Sent},
    workspace::{
        agents, attachments,
        chats::{self, messages},
    },
};

/// Says something to an agent.
pub async fn send(tx: &mut Tx, who: &Insider, session: ChatSessionId, wish: &SendMessage) -> Result<Sent> {
    let chat = chats::get(tx, who, session).await?;
    messages::require_content(&wish.content)?;
    let agent = agents::lock_open(tx, who, chat.agent_id).await?;
    let chat = chats::lock(tx, who, session).await?;
    chat.require_active()?;
    agent.require_active()?;

    let task = ask(&agent);
    let message = messages::say(tx, &chat, &wish.content, task).await?;
    let attached = attachments::bind_to_chat_message(tx, who, &wish.attachment_ids, chat.id, message.id).await?;
    chats::touch(tx, &chat).await?;
    tx.emit(kinds::chat_message(who.workspace, who.user, &message));
    Ok(Sent {
        message_id: message.id,
        task_id: task,
        created_at: message.created_at,
        attachment_ids: (!attached.is_empty()).then_some(attached),
    })
}

/// The task that answers a message. Queueing it belongs here: what it emits precedes the message.
fn ask(_: &agents::Row) -> Option<TaskId> {
    None
}

/// Removes a chat with all that was said in it. Ending its work belongs before the removal, which
/// would cut the tasks off from the chat.
pub async fn delete(tx: &mut Tx, who: &Insider, session: ChatSessionId) -> Result<()> {
    let chat = chats::get(tx, who, session).await?;
    agents::lock_open(tx, who, chat.agent_id).await?;
    let chat = chats::lock(tx, who, session).await?;
    chats::delete(tx, chat).await
}
