//! A message to an agent, and the end of a chat: with the work that they set going or end.
//!
//! The agent's row is locked before the chat's, as every transition of a task does it.

use std::sync::Arc;

use crate::{
    db::Tx,
    error::{Error, Result},
    events::kinds,
    identity::Insider,
    ids::ChatSessionId,
    protocol::chat::{SendMessage, Sent},
    tasks::{self, Queue, Row, Which, Wish, Work, Worker},
    workspace::{
        agents, attachments,
        chats::{self, messages},
    },
};

/// The rank of an answer in the queue: somebody waits for it.
const PRIORITY: i32 = 2;

/// Says something to an agent.
pub async fn send(
    tx: &mut Tx,
    queue: &Arc<Queue>,
    who: &Insider,
    session: ChatSessionId,
    wish: &SendMessage,
) -> Result<Sent> {
    let chat = chats::get(tx, who, session).await?;
    messages::require_content(&wish.content)?;
    let workers = tasks::lock_workers(tx, who.workspace, [chat.agent_id]).await?;
    let worker = workers.get(chat.agent_id)?;
    if !worker.agent.is_open_to(who) {
        return Err(agents::no_access());
    }
    let chat = chats::hold(tx, session).await?;
    chat.require_active()?;
    worker.agent.require_active()?;

    let task = ask(tx, queue, who, worker, session).await?;
    let message = messages::say(tx, &chat, &wish.content, Some(task.id)).await?;
    let attached = attachments::bind_to_chat_message(tx, who, &wish.attachment_ids, chat.id, message.id).await?;
    chats::touch(tx, &chat).await?;
    tx.emit(kinds::chat_message(who.workspace, who.user, &message));
    Ok(Sent {
        message_id: message.id,
        task_id: Some(task.id),
        created_at: task.created_at,
        attachment_ids: (!attached.is_empty()).then_some(attached),
    })
}

/// The task that answers a message. One that has not begun answers this one as well.
async fn ask(tx: &mut Tx, queue: &Arc<Queue>, who: &Insider, worker: &Worker, session: ChatSessionId) -> Result<Row> {
    let waiting = tasks::queued_of_chat(tx, session).await?;
    if let Some(waiting) = &waiting {
        if waiting.runtime_id == Some(worker.seat.id) {
            return Ok(waiting.clone());
        }
        // The agent has moved, and nobody may ever ask for work where it was.
        queue.cancel(tx, who.workspace, Which::Task(waiting.id), |id| id == worker.agent.id).await?;
    }
    let wish = Wish { work: Work::Chat(session), priority: PRIORITY, initiator: Some(who.user), force_fresh: false };
    let task = queue.enqueue(tx, worker, wish).await?;
    let task = task.ok_or_else(|| Error::internal("a chat's message was not queued"))?;
    if let Some(stranded) = waiting {
        messages::hand_on(tx, stranded.id, task.id).await?;
    }
    Ok(task)
}

/// Removes a chat with all that was said in it, and ends its work.
pub async fn delete(tx: &mut Tx, queue: &Arc<Queue>, who: &Insider, session: ChatSessionId) -> Result<()> {
    let agent = chats::get(tx, who, session).await?.agent_id;
    agents::lock_open(tx, who, agent).await?;
    let chat = chats::hold(tx, session).await?;
    queue.cancel(tx, who.workspace, Which::Chat(session), |id| id == agent).await?;
    chats::delete(tx, chat).await
}
