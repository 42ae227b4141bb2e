//! What a task has said so far.

use serde_json::value::RawValue;

use crate::{
    db::{Arm, Session, lists, on},
    error::Result,
    ids::{IssueId, TaskId},
    protocol::transcript::TaskMessage,
    time::Timestamp,
};

/// Messages of one answer at most, and characters of them, about.
const MOST: i64 = 5000;
const LETTERS: i64 = 16 << 20;
/// The same of what a listener is given at once.
const PAGE: i64 = 256;
const PAGE_LETTERS: i64 = 1 << 20;

/// Where to begin: after a number, after a position, or both.
#[derive(Debug, Clone, Copy, Default)]
pub struct Since {
    /// The greatest number that is known.
    pub seq: Option<i64>,
    /// The last position that is known.
    pub pos: i64,
}

#[derive(sqlx::FromRow)]
struct Row {
    pos: i64,
    seq: i64,
    r#type: String,
    tool: Option<String>,
    content: Option<String>,
    input: Option<String>,
    output: Option<String>,
    created_at: Timestamp,
}

/// A task's messages in order. With the position to go on from, if there are more of them than one
/// answer holds.
pub async fn list(
    db: &mut Session,
    task: TaskId,
    issue: Option<IssueId>,
    since: Since,
) -> Result<(Vec<TaskMessage>, Option<i64>)> {
    let messages = read(db, task, issue, since, MOST, LETTERS).await?;
    let Some(last) = messages.last().map(|message| message.pos) else { return Ok((messages, None)) };
    let more = last_position(db, task).await? > last;
    Ok((messages, more.then_some(last)))
}

/// The next messages for somebody who listens.
pub async fn page(db: &mut Session, task: TaskId, issue: Option<IssueId>, after: i64) -> Result<Vec<TaskMessage>> {
    read(db, task, issue, Since { seq: None, pos: after }, PAGE, PAGE_LETTERS).await
}

async fn read(
    db: &mut Session,
    task: TaskId,
    issue: Option<IssueId>,
    since: Since,
    most: i64,
    letters: i64,
) -> Result<Vec<TaskMessage>> {
    let Some(after) = begin(db, task, since).await? else { return Ok(Vec::new()) };
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(
        "SELECT pos, seq, type, tool, content, input, output, created_at FROM (
             SELECT m.*, SUM(letters) OVER (ORDER BY pos) - letters AS before FROM (
                 SELECT t.*, LENGTH(COALESCE(content, '')) + LENGTH(COALESCE(input, '')) + LENGTH(COALESCE(output, ''))
                     AS letters
                 FROM task_message t WHERE task_id = $1 AND pos > $2 AND ($3 IS NULL OR seq > $3) ORDER BY pos LIMIT $4
             ) m
         ) n WHERE before < $5 ORDER BY pos"
    )
    .bind(task)
    .bind(after)
    .bind(since.seq)
    .bind(most)
    .bind(letters)
    .fetch_all(c))?;
    Ok(rows.into_iter().map(|row| row.wire(task, issue)).collect())
}

/// The position after which to read; none if there is nothing with a greater number. It is looked for among
/// the numbers: whoever asks knows most of the messages, and they need not be read again.
async fn begin(db: &mut Session, task: TaskId, since: Since) -> Result<Option<i64>> {
    let Some(seq) = since.seq.filter(|seq| *seq > 0 && since.pos <= 0) else { return Ok(Some(since.pos)) };
    let first: Option<i64> = on!(db, |c| sqlx::query_scalar(
        // The sum keeps the least position from being looked for along the positions.
        "SELECT MIN(pos + 0) FROM task_message WHERE task_id = $1 AND seq > $2"
    )
    .bind(task)
    .bind(seq)
    .fetch_one(c))?;
    Ok(first.map(|pos| pos - 1))
}

impl Row {
    fn wire(self, task_id: TaskId, issue_id: Option<IssueId>) -> TaskMessage {
        TaskMessage {
            task_id,
            issue_id,
            seq: self.seq,
            pos: self.pos,
            r#type: self.r#type,
            tool: self.tool,
            content: self.content,
            input: self.input.and_then(|json| RawValue::from_string(json).ok()),
            output: self.output,
            created_at: self.created_at.precise(),
        }
    }
}

/// The position of the last thing that a task said; 0 if it has said nothing.
pub async fn last_position(db: &mut Session, task: TaskId) -> Result<i64> {
    let found: Option<i64> = on!(db, |c| sqlx::query_scalar("SELECT last_pos FROM task_stream WHERE task_id = $1")
        .bind(task)
        .fetch_optional(c))?;
    Ok(found.unwrap_or(0))
}

/// The same of several; of those that have said something.
pub(super) async fn last_positions(db: &mut Session, tasks: &[TaskId]) -> Result<Vec<(TaskId, i64)>> {
    let found =
        match db.arm() {
            Arm::Postgres(c) => {
                sqlx::query_as("SELECT task_id, last_pos FROM task_stream WHERE task_id = ANY($1)")
                    .bind(tasks)
                    .fetch_all(c)
                    .await
            }
            Arm::Sqlite(c) => sqlx::query_as(
                "SELECT task_id, last_pos FROM task_stream WHERE task_id IN (SELECT unhex(value) FROM json_each($1))",
            )
            .bind(lists::ids(tasks.iter().copied()))
            .fetch_all(c)
            .await,
        };
    db.note(found)
}
