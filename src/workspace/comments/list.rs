//! The comments of an issue: all of them, what is new, one thread, the threads that moved last.

use uuid::Uuid;

use super::{Row, not_found};
use crate::{
    db::{
        Session,
        sql::{Sql, Value},
    },
    error::{Error, Result},
    ids::{CommentId, IssueId},
    protocol::comment::Comment,
    time::Timestamp,
    workspace::attachments,
};

/// Comments of one answer at most; the newest ones.
const MOST: i64 = 2000;
/// Characters of all comments of such an answer, so that it fits into memory.
const LETTERS: i64 = 16 << 20;
/// Characters of a comment in a summary.
const SUMMARY: usize = 200;

/// Which comments.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Only those made after this.
    pub since: Option<Timestamp>,
    /// Only the thread that this comment is in.
    pub thread: Option<CommentId>,
    /// Of the thread, the first comment and so many of the newest answers.
    pub tail: Option<i64>,
    /// So many of the threads that moved last.
    pub recent: Option<i64>,
    /// Where the page before ended: threads or answers older than this.
    pub before: Option<(Timestamp, Uuid)>,
    /// Only the first comments of threads.
    pub roots_only: bool,
    /// Long comments cut.
    pub summary: bool,
}

/// A page of comments, oldest first.
#[derive(Debug)]
pub struct Page {
    /// The comments.
    pub comments: Vec<Comment>,
    /// Where the next page begins, if there may be one.
    pub next: Option<(Timestamp, Uuid)>,
}

impl Filter {
    /// Refuses what contradicts itself.
    pub fn check(&self) -> Result<()> {
        let contradiction = |text: &'static str| Err(Error::invalid("contradictory_query", text));
        if self.tail.is_some() && self.thread.is_none() {
            return contradiction("tail needs thread");
        }
        if self.recent.is_some() && (self.thread.is_some() || self.since.is_some()) {
            return contradiction("recent goes with neither thread nor since");
        }
        if self.tail.is_some() && self.since.is_some() {
            return contradiction("tail does not go with since");
        }
        if self.roots_only && self.thread.is_some() {
            return contradiction("roots_only does not go with thread");
        }
        if self.before.is_some() && self.recent.is_none() && self.tail.is_none() {
            return contradiction("before needs recent or tail");
        }
        Ok(())
    }
}

/// The comments of an issue.
pub async fn list(db: &mut Session, issue: IssueId, filter: &Filter) -> Result<Page> {
    filter.check()?;
    let (rows, next) = match (filter.thread, filter.recent) {
        (Some(comment), _) => thread(db, issue, comment, filter).await?,
        (_, Some(threads)) => recent(db, issue, threads, filter).await?,
        _ => (newest(db, issue, filter).await?, None),
    };
    let ids: Vec<CommentId> = rows.iter().map(|row| row.id).collect();
    let mut attached = attachments::of_comments(db, &ids).await?;
    let comments = rows
        .into_iter()
        .map(|row| {
            let attachments = attached.remove(&row.id).unwrap_or_default();
            Comment { attachments, ..shown(row, filter) }
        })
        .collect();
    Ok(Page { comments, next })
}

fn shown(row: Row, filter: &Filter) -> Comment {
    let (replies, activity) = (row.reply_count, row.last_activity_at);
    let mut comment = Comment::from(row);
    if filter.roots_only {
        comment.reply_count = Some(replies);
        comment.last_activity_at = Some(activity);
    }
    if filter.summary
        && let Some((end, _)) = comment.content.char_indices().nth(SUMMARY)
    {
        comment.content.truncate(end);
        comment.content.push('…');
        comment.content_truncated = Some(true);
    }
    comment
}

/// The newest comments, or those after a time.
async fn newest(db: &mut Session, issue: IssueId, filter: &Filter) -> Result<Vec<Row>> {
    let mut sql = Sql::new(
        "SELECT * FROM (SELECT c.*, SUM(LENGTH(c.content)) OVER (ORDER BY c.created_at DESC, c.id DESC) AS letters
         FROM (SELECT * FROM comment WHERE issue_id = ",
    );
    sql.bind(Value::Id(issue.0));
    if filter.roots_only {
        sql.push(" AND parent_id IS NULL");
    }
    if let Some(since) = filter.since {
        sql.push(" AND created_at > ").bind(Value::Number(since.0));
    }
    sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").bind(Value::Number(MOST));
    sql.push(") c) d WHERE letters <= ").bind(Value::Number(LETTERS)).push(" ORDER BY created_at DESC, id DESC");
    let mut rows: Vec<Row> = sql.fetch_all(db).await?;
    rows.reverse();
    Ok(rows)
}

/// The first comment of a thread and its answers.
async fn thread(
    db: &mut Session,
    issue: IssueId,
    comment: CommentId,
    filter: &Filter,
) -> Result<(Vec<Row>, Option<(Timestamp, Uuid)>)> {
    let mut first = Sql::new("SELECT root.* FROM comment root JOIN comment c ON c.root_id = root.id WHERE c.id = ");
    first.bind(Value::Id(comment.0)).push(" AND c.issue_id = ").bind(Value::Id(issue.0));
    let root: Row = first.fetch_all(db).await?.pop().ok_or_else(not_found)?;
    let most = filter.tail.map_or(MOST, |tail| tail.clamp(0, MOST));
    let mut sql = Sql::new("SELECT * FROM comment WHERE root_id = ");
    sql.bind(Value::Id(root.id.0)).push(" AND parent_id IS NOT NULL");
    if let Some(since) = filter.since {
        sql.push(" AND created_at > ").bind(Value::Number(since.0));
    }
    older(&mut sql, filter.before, " AND (created_at, id) < (");
    sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").bind(Value::Number(most + 1));
    let mut answers: Vec<Row> = sql.fetch_all(db).await?;
    let more = answers.len() as i64 > most;
    answers.truncate(most as usize);
    let next = answers.last().filter(|_| more && filter.tail.is_some()).map(|row| (row.created_at, row.id.0));
    answers.reverse();
    if filter.since.is_none_or(|since| root.created_at > since) {
        answers.insert(0, root);
    }
    Ok((answers, next))
}

/// The threads that moved last.
async fn recent(
    db: &mut Session,
    issue: IssueId,
    threads: i64,
    filter: &Filter,
) -> Result<(Vec<Row>, Option<(Timestamp, Uuid)>)> {
    let threads = threads.clamp(1, 100);
    let mut sql = Sql::new("SELECT * FROM comment WHERE parent_id IS NULL AND issue_id = ");
    sql.bind(Value::Id(issue.0));
    older(&mut sql, filter.before, " AND (last_activity_at, id) < (");
    sql.push(" ORDER BY last_activity_at DESC, id DESC LIMIT ").bind(Value::Number(threads + 1));
    let mut roots: Vec<Row> = sql.fetch_all(db).await?;
    let more = roots.len() as i64 > threads;
    roots.truncate(threads as usize);
    let next = roots.last().filter(|_| more).map(|row| (row.last_activity_at, row.id.0));
    let mut rows = if filter.roots_only || roots.is_empty() {
        roots
    } else {
        let mut sql = Sql::new("SELECT * FROM comment WHERE root_id ");
        sql.bind(Value::AnyOf(roots.iter().map(|row| row.id.0).collect()));
        sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").bind(Value::Number(MOST));
        sql.fetch_all(db).await?
    };
    rows.sort_by_key(|row| (row.created_at, row.id));
    Ok((rows, next))
}

fn older(sql: &mut Sql, before: Option<(Timestamp, Uuid)>, condition: &'static str) {
    if let Some((at, id)) = before {
        sql.push(condition).bind(Value::Number(at.0)).push(", ").bind(Value::Id(id)).push(")");
    }
}
