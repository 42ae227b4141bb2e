//! Chats: a person's talks with agents. A talk is its creator's; owners and admins have no part in
//! it. What a message sets going is in `flows::chats`.

pub mod ends;
pub mod messages;

use super::{agents, references, words};
use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    events::kinds,
    identity::Insider,
    ids::{AgentId, ChatSessionId, RuntimeId, TaskId, UserId, WorkspaceId},
    protocol::chat::{ChatSession, CreateChat},
    time::Timestamp,
};

/// Characters of a title at most.
const LONGEST_TITLE: usize = 200;

/// A chat as stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Row {
    /// Which.
    pub id: ChatSessionId,
    /// The agent that is talked to.
    pub agent_id: AgentId,
    workspace_id: WorkspaceId,
    /// Whose talk it is.
    pub creator_id: UserId,
    title: String,
    status: String,
    unread_since: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl Row {
    /// Refuses a chat that is over.
    pub fn require_active(&self) -> Result<()> {
        if self.status == "active" {
            return Ok(());
        }
        Err(Error::invalid("chat_archived", "chat session is archived"))
    }

    fn listed(self) -> ChatSession {
        ChatSession { has_unread: self.unread_since.is_some(), ..self.into() }
    }
}

impl From<Row> for ChatSession {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            workspace_id: row.workspace_id,
            agent_id: row.agent_id,
            creator_id: row.creator_id,
            title: row.title,
            status: row.status,
            has_unread: false,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Somebody's own chats with agents that they may still talk to, the latest first.
pub async fn list(db: &mut Session, who: &Insider, archived_too: bool) -> Result<Vec<ChatSession>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(
        "SELECT s.* FROM chat_session s JOIN agent a ON a.id = s.agent_id
         WHERE s.creator_id = $1 AND s.workspace_id = $2 AND (s.status = 'active' OR $3)
           AND (a.visibility <> 'private' OR a.owner_id = $1 OR $4)
         ORDER BY s.updated_at DESC, s.id DESC"
    )
    .bind(who.user)
    .bind(who.workspace)
    .bind(archived_too)
    .bind(who.rules())
    .fetch_all(c))?;
    Ok(rows.into_iter().map(Row::listed).collect())
}

/// One of somebody's own, with an agent that they may still talk to.
pub async fn get(db: &mut Session, who: &Insider, session: ChatSessionId) -> Result<Row> {
    let row: Option<Row> =
        on!(db, |c| sqlx::query_as("SELECT * FROM chat_session WHERE id = $1 AND workspace_id = $2")
            .bind(session)
            .bind(who.workspace)
            .fetch_optional(c))?;
    let row = row.ok_or_else(not_found)?;
    if row.creator_id != who.user {
        return Err(Error::forbidden("not_your_chat", "not your chat session"));
    }
    agents::open(db, who, row.agent_id).await?;
    Ok(row)
}

/// As [`get`], under a lock that other changes of it wait for. Whoever needs its agent locks that
/// first.
pub async fn lock(tx: &mut Tx, who: &Insider, session: ChatSessionId) -> Result<Row> {
    get(tx, who, session).await?;
    hold(tx, session).await
}

/// The row under that lock, for a flow that has seen to who may.
pub async fn hold(tx: &mut Tx, session: ChatSessionId) -> Result<Row> {
    let row: Option<Row> = on!(
        tx,
        pg "SELECT * FROM chat_session WHERE id = $1 FOR NO KEY UPDATE",
        lite "SELECT * FROM chat_session WHERE id = $1",
        |c, sql| sqlx::query_as(sql).bind(session).fetch_optional(c)
    )?;
    row.ok_or_else(not_found)
}

/// Where a chat of any workspace is, how it is, and since when it is as it is.
pub async fn standing(db: &mut Session, session: ChatSessionId) -> Result<Option<(WorkspaceId, String, Timestamp)>> {
    on!(db, |c| sqlx::query_as("SELECT workspace_id, status, updated_at FROM chat_session WHERE id = $1")
        .bind(session)
        .fetch_optional(c))
}

/// Whether a chat is somebody's.
pub async fn is_of(db: &mut Session, session: ChatSessionId, user: UserId) -> Result<bool> {
    let found: Option<i32> =
        on!(db, |c| sqlx::query_scalar("SELECT 1 FROM chat_session WHERE id = $1 AND creator_id = $2")
            .bind(session)
            .bind(user)
            .fetch_optional(c))?;
    Ok(found.is_some())
}

/// Whether it is a chat's message that an agent answers in a task.
pub async fn is_answered_in(db: &mut Session, session: ChatSessionId, task: TaskId) -> Result<bool> {
    let found: Option<i32> =
        on!(db, |c| sqlx::query_scalar("SELECT 1 FROM task WHERE id = $1 AND chat_session_id = $2")
            .bind(task)
            .bind(session)
            .fetch_optional(c))?;
    Ok(found.is_some())
}

/// A new one. Nobody is told: there is nothing in it yet.
pub async fn create(tx: &mut Tx, who: &Insider, wish: &CreateChat) -> Result<ChatSession> {
    let agent: AgentId = references::id("agent_id", words::required("agent_id", &wish.agent_id)?)?;
    let title = checked(wish.title.trim())?;
    let agent = agents::hold(tx, who.workspace, agent).await?.ok_or_else(|| references::invalid("agent_id"))?;
    if !agent.is_open_to(who) {
        return Err(agents::no_access());
    }
    agent.require_active()?;
    let now = tx.now();
    let row: Row = on!(tx, |c| sqlx::query_as(
        "INSERT INTO chat_session (id, workspace_id, agent_id, creator_id, title, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $6) RETURNING *"
    )
    .bind(ChatSessionId::fresh())
    .bind(who.workspace)
    .bind(agent.id)
    .bind(who.user)
    .bind(title)
    .bind(now)
    .fetch_one(c))?;
    Ok(row.into())
}

/// Gives one another title.
pub async fn rename(tx: &mut Tx, who: &Insider, session: ChatSessionId, title: &str) -> Result<ChatSession> {
    let row = lock(tx, who, session).await?;
    let title = checked(words::required("title", title)?)?;
    if row.title == title {
        return Ok(row.into());
    }
    let row = Row { title: title.to_owned(), updated_at: tx.now(), ..row };
    exec!(tx, |c| sqlx::query("UPDATE chat_session SET title = $2, updated_at = $3 WHERE id = $1")
        .bind(row.id)
        .bind(&row.title)
        .bind(row.updated_at))?;
    let session = row.into();
    tx.emit(kinds::chat_session_updated(&session));
    Ok(session)
}

/// Notes that its creator has seen what is in it. Its place in the list stays.
pub async fn read(tx: &mut Tx, who: &Insider, session: ChatSessionId) -> Result<()> {
    let row = lock(tx, who, session).await?;
    if row.unread_since.is_none() {
        return Ok(());
    }
    exec!(tx, |c| sqlx::query("UPDATE chat_session SET unread_since = NULL WHERE id = $1").bind(row.id))?;
    tx.emit(kinds::chat_session_read(row.workspace_id, row.creator_id, row.id));
    Ok(())
}

/// Notes that something was said in one that is locked.
pub async fn touch(tx: &mut Tx, row: &Row) -> Result<()> {
    let now = tx.now();
    exec!(tx, |c| sqlx::query("UPDATE chat_session SET updated_at = $2 WHERE id = $1").bind(row.id).bind(now)).map(drop)
}

/// Where an agent's own session can be taken up again.
#[derive(Debug, Clone, Copy)]
pub struct Pointer<'p> {
    /// The session.
    pub session_id: Option<&'p str>,
    /// The folder.
    pub work_dir: Option<&'p str>,
    /// Where the session lives.
    pub runtime: Option<RuntimeId>,
}

/// Notes where the session of one that is locked is now; what is not known stays.
pub async fn point(tx: &mut Tx, row: &Row, to: &Pointer<'_>) -> Result<()> {
    if to.session_id.is_none() && to.work_dir.is_none() {
        return Ok(());
    }
    exec!(tx, |c| sqlx::query(
        "UPDATE chat_session SET session_id = COALESCE($2, session_id), work_dir = COALESCE($3, work_dir),
             runtime_id = CASE WHEN $2 IS NULL THEN runtime_id ELSE $4 END
         WHERE id = $1"
    )
    .bind(row.id)
    .bind(to.session_id)
    .bind(to.work_dir)
    .bind(to.runtime))
    .map(drop)
}

/// Removes one that is locked, with what was said and attached in it. The flow around it ends its
/// work first.
pub async fn delete(tx: &mut Tx, row: Row) -> Result<()> {
    exec!(tx, |c| sqlx::query("DELETE FROM chat_session WHERE id = $1").bind(row.id))?;
    tx.emit(kinds::chat_session_deleted(row.workspace_id, row.creator_id, row.id));
    Ok(())
}

/// The refusal for chats that are not there or not the workspace's.
pub fn not_found() -> Error {
    Error::not_found("chat_session_not_found", "chat session not found")
}

fn checked(title: &str) -> Result<&str> {
    if title.chars().count() <= LONGEST_TITLE {
        return Ok(title);
    }
    Err(Error::invalid("title_too_long", format!("title must be {LONGEST_TITLE} characters or fewer")))
}
