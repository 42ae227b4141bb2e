//! What an end leaves in the chat that the task answered in.

use super::held::Held;
use crate::{
    db::Tx,
    error::{Result, there},
    events::kinds,
    protocol::chat::CancelledMessage,
    tasks::{Row, messages, reasons},
    workspace::chats::{self, Pointer, messages as said},
};

/// What is said in place of an answer that was called off in the midst.
const STOPPED: &str = "Stopped.";

/// The agent has answered.
pub(super) async fn completed(tx: &mut Tx, held: &Held, row: &Row, output: &str) -> Result<()> {
    let Some(chat) = held.chat_of(row) else { return Ok(()) };
    chats::point(tx, chat, &pointer(row)).await?;
    let answer = match output.trim().is_empty() {
        true => None,
        false => {
            let elapsed = tx.now().since(row.created_at);
            Some(said::answer(tx, chat, output, row.id, None, Some(elapsed)).await?)
        }
    };
    tx.emit(kinds::chat_done(row.workspace_id, chat.creator_id, chat.id, row.id, answer.as_ref()));
    Ok(())
}

/// Where its session is stays known, unless it is of no use any more.
pub(super) async fn failed(tx: &mut Tx, held: &Held, row: &Row) -> Result<()> {
    let reason = row.failure_reason.as_deref().unwrap_or_default();
    match held.chat_of(row) {
        Some(chat) if !reasons::spoils_session(reason) => chats::point(tx, chat, &pointer(row)).await,
        _ => Ok(()),
    }
}

/// There will be no answer: why is said in its place.
pub(super) async fn given_up(tx: &mut Tx, held: &Held, row: &Row) -> Result<()> {
    let Some(chat) = held.chat_of(row) else { return Ok(()) };
    let elapsed = tx.now().since(row.created_at);
    let error = row.error.as_deref().unwrap_or_default();
    said::answer(tx, chat, error, row.id, row.failure_reason.as_deref(), Some(elapsed)).await.map(drop)
}

fn pointer(row: &Row) -> Pointer<'_> {
    Pointer { session_id: row.session_id.as_deref(), work_dir: row.work_dir.as_deref(), runtime: row.runtime_id }
}

/// What became of the message that a cancelled task was to answer.
pub type Withdrawn = Option<CancelledMessage>;

/// A person has called an answer off, in a chat that is locked. If nothing was said yet, their
/// message is taken back, so that they can say it otherwise; else it is noted that there was an end.
pub async fn finish_cancelled(tx: &mut Tx, chat: &chats::Row, row: &Row) -> Result<Withdrawn> {
    if messages::last_position(tx, row.id).await? == 0
        && let Some(message) = said::withdraw(tx, chat, row.id).await?
    {
        return Ok(Some(message));
    }
    stopped(tx, chat, row).await?;
    Ok(None)
}

/// There will be no answer, since the task was cancelled: that is said in its place.
async fn stopped(tx: &mut Tx, chat: &chats::Row, row: &Row) -> Result<()> {
    let elapsed = tx.now().since(row.created_at);
    said::answer(tx, chat, STOPPED, row.id, None, Some(elapsed)).await.map(drop)
}

/// The same of a task that could not be given to its daemon: nobody would know what became of the
/// question.
pub(in crate::tasks) async fn refused(tx: &mut Tx, row: &Row) -> Result<()> {
    let Some(chat) = row.chat_session_id else { return Ok(()) };
    match there(chats::hold(tx, chat).await)? {
        Some(chat) => stopped(tx, &chat, row).await,
        None => Ok(()),
    }
}
