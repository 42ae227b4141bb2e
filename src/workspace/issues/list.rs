//! The list of issues: filters, orders, pages. Each order has its index; totals come from the tally
//! where it has them.

use uuid::Uuid;

use super::{Row, prefix};
use crate::{
    db::{
        Session,
        sql::{Sql, Value},
    },
    error::{Error, Result},
    ids::WorkspaceId,
    protocol::issue::{Issue, Issues, Metadata},
    time::Timestamp,
};

/// Issues of one page at most, and unless fewer are asked for.
const PAGE: i64 = 100;
/// Open issues at once at most: as many as a board can show.
const OPEN: i64 = 5000;

const OPEN_STATUSES: &str = " AND status IN ('backlog', 'todo', 'in_progress', 'in_review', 'blocked')";

/// What a list is narrowed to; everything holds at once.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Only this status.
    pub status: Option<String>,
    /// Only this priority.
    pub priority: Option<String>,
    /// Only what one of these is to do.
    pub assignees: Vec<Uuid>,
    /// Only what this person or agent made.
    pub creator: Option<Uuid>,
    /// Only this project's.
    pub project: Option<Uuid>,
    /// Only what this person has to do with: by an agent of theirs, or by a squad that has one of
    /// them in it.
    pub involves: Option<Uuid>,
    /// Only what is marked like this.
    pub metadata: Metadata,
    /// Only what was made or changed in this span.
    pub within: Option<Within>,
    /// Only what has a date.
    pub scheduled: bool,
    /// Only what is not done or cancelled: in one piece, in the order of the board.
    pub open_only: bool,
}

/// A span of time, without its end.
#[derive(Debug, Clone, Copy)]
pub struct Within {
    /// Changed, or else made.
    pub changed: bool,
    /// From here on.
    pub from: Timestamp,
    /// Up to here.
    pub to: Timestamp,
}

/// What a list is sorted by.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the query")]
pub enum Sort {
    #[default]
    Position,
    Title,
    CreatedAt,
    StartDate,
    DueDate,
    Priority,
}

impl Sort {
    /// From the query's word.
    pub fn parse(word: &str) -> Result<Self> {
        Ok(match word {
            "" | "position" => Self::Position,
            "title" => Self::Title,
            "created_at" => Self::CreatedAt,
            "start_date" => Self::StartDate,
            "due_date" => Self::DueDate,
            "priority" => Self::Priority,
            _ => return Err(Error::invalid("invalid_sort", "invalid sort value")),
        })
    }

    /// As the indexes have it; what is newer comes first where the rest is the same.
    fn order(self, descending: bool) -> &'static str {
        match (self, descending) {
            (Self::Position, _) => "position, created_at DESC, id",
            (Self::Title, false) => "title_key, created_at DESC, id",
            (Self::Title, true) => "title_key DESC, created_at DESC, id",
            (Self::CreatedAt, false) => "created_at, id",
            (Self::CreatedAt, true) => "created_at DESC, id DESC",
            (Self::StartDate, false) => "(start_date IS NULL), start_date, created_at DESC, id",
            (Self::StartDate, true) => "(start_date IS NULL), start_date DESC, created_at DESC, id",
            (Self::DueDate, false) => "(due_date IS NULL), due_date, created_at DESC, id",
            (Self::DueDate, true) => "(due_date IS NULL), due_date DESC, created_at DESC, id",
            // The most urgent is the first.
            (Self::Priority, false) => "priority_rank DESC, created_at DESC, id",
            (Self::Priority, true) => "priority_rank, created_at DESC, id",
        }
    }
}

/// Which part of a list, and in which order.
#[derive(Debug, Default, Clone, Copy)]
pub struct Page {
    /// The order.
    pub sort: Sort,
    /// The other way round; means nothing for the order of the board.
    pub descending: bool,
    /// How many; as many as there may be, if nothing is said.
    pub limit: Option<i64>,
    /// How many to leave out.
    pub offset: i64,
}

/// A page of the workspace's issues.
pub async fn list(db: &mut Session, workspace: WorkspaceId, filter: &Filter, page: &Page) -> Result<Issues> {
    let mut rows = filter.narrow(Sql::new("SELECT * FROM issue WHERE "), workspace);
    if filter.open_only {
        rows.push(" ORDER BY position, created_at DESC, id LIMIT ").bind(Value::Number(OPEN));
    } else {
        let limit = page.limit.filter(|limit| *limit > 0).unwrap_or(PAGE).min(PAGE);
        rows.push(" ORDER BY ").push(page.sort.order(page.descending));
        rows.push(" LIMIT ").bind(Value::Number(limit)).push(" OFFSET ").bind(Value::Number(page.offset.max(0)));
    }
    let rows: Vec<Row> = rows.fetch_all(db).await?;
    let listed = rows.len() as i64;
    let total = if filter.open_only && listed < OPEN { listed } else { total(db, workspace, filter).await? };
    let prefix = prefix(db, workspace).await?;
    let issues = rows.into_iter().map(|row| Issue { labels: Some([]), ..row.wire(&prefix) }).collect();
    Ok(Issues { issues, total })
}

async fn total(db: &mut Session, workspace: WorkspaceId, filter: &Filter) -> Result<i64> {
    let sql = if filter.is_tallied() {
        let mut sql =
            Sql::new("SELECT CAST(COALESCE(SUM(issues), 0) AS bigint) FROM issue_tally WHERE workspace_id = ");
        sql.bind(Value::Id(workspace.0));
        if filter.open_only {
            sql.push(OPEN_STATUSES);
        } else if let Some(status) = &filter.status {
            sql.push(" AND status = ").bind(Value::Text(status.clone()));
        }
        if let Some(project) = filter.project {
            sql.push(" AND project_id = ").bind(Value::Id(project));
        }
        sql
    } else {
        filter.narrow(Sql::new("SELECT COUNT(*) FROM issue WHERE "), workspace)
    };
    let counted: Vec<(i64,)> = sql.fetch_all(db).await?;
    Ok(counted.first().map_or(0, |(total,)| *total))
}

impl Filter {
    /// Whether the tally knows how many there are.
    fn is_tallied(&self) -> bool {
        self.priority.is_none()
            && self.assignees.is_empty()
            && self.creator.is_none()
            && self.involves.is_none()
            && self.metadata.is_empty()
            && (self.open_only || (self.within.is_none() && !self.scheduled))
    }

    fn narrow(&self, mut sql: Sql, workspace: WorkspaceId) -> Sql {
        let here = Value::Id(workspace.0);
        if self.metadata.is_empty() && self.involves.is_none() {
            sql.push("workspace_id = ");
        } else {
            // The few that are found by something else are sorted, not looked for in the whole order;
            // SQLite has to be told, by a sign that keeps this term from an index.
            sql.push_for("workspace_id = ", "+workspace_id = ");
        }
        sql.bind(here.clone());
        if self.open_only {
            sql.push(OPEN_STATUSES);
        } else if let Some(status) = &self.status {
            sql.push(" AND status = ").bind(Value::Text(status.clone()));
        }
        if let Some(priority) = &self.priority {
            sql.push(" AND priority = ").bind(Value::Text(priority.clone()));
        }
        match self.assignees.as_slice() {
            [] => {}
            // By its own index, in order.
            [one] => drop(sql.push(" AND assignee_id = ").bind(Value::Id(*one))),
            several => drop(sql.push(" AND assignee_id ").bind(Value::AnyOf(several.to_vec()))),
        }
        if let Some(creator) = self.creator {
            sql.push(" AND creator_id = ").bind(Value::Id(creator));
        }
        if let Some(project) = self.project {
            sql.push(" AND project_id = ").bind(Value::Id(project));
        }
        if let Some(user) = self.involves {
            let user = Value::Id(user);
            sql.push(" AND assignee_id IN (SELECT id FROM agent WHERE workspace_id = ").bind(here.clone());
            sql.push(" AND owner_id = ").bind(user.clone());
            sql.push(
                " UNION ALL SELECT s.id FROM squad s JOIN squad_member m ON m.squad_id = s.id WHERE s.workspace_id = ",
            );
            sql.bind(here.clone()).push(" AND (m.member_id = ").bind(user.clone());
            sql.push(" OR m.member_id IN (SELECT id FROM agent WHERE workspace_id = ").bind(here);
            sql.push(" AND owner_id = ").bind(user).push(")))");
        }
        for (key, value) in &self.metadata {
            sql.push(" AND id IN (SELECT issue_id FROM issue_metadata WHERE workspace_id = ");
            sql.bind(Value::Id(workspace.0)).push(" AND key = ").bind(Value::Text(key.clone()));
            sql.push(" AND value = ").bind(Value::Text(super::metadata::comparable(value))).push(")");
        }
        // What has no paging is not narrowed further.
        if self.open_only {
            return sql;
        }
        if let Some(Within { changed, from, to }) = self.within {
            let (since, until) = if changed {
                (" AND updated_at >= ", " AND updated_at < ")
            } else {
                (" AND created_at >= ", " AND created_at < ")
            };
            sql.push(since).bind(Value::Number(from.0)).push(until).bind(Value::Number(to.0));
        }
        if self.scheduled {
            sql.push(" AND (start_date IS NOT NULL OR due_date IS NOT NULL)");
        }
        sql
    }
}
