//! Statements whose text depends on what is asked for: put together from fixed pieces, with every
//! value bound.

use sqlx::{AssertSqlSafe, FromRow, Postgres, Sqlite, postgres::PgRow, sqlite::SqliteRow};
use uuid::Uuid;

use super::{Arm, Session, lists};
use crate::error::Result;

/// A statement under construction.
#[derive(Debug, Clone)]
pub struct Sql {
    pg: String,
    lite: String,
    values: Vec<Value>,
}

/// A value of a statement.
#[derive(Debug, Clone)]
pub enum Value {
    /// An id.
    Id(Uuid),
    /// Any of these ids: `= ANY(…)` or its like, so no operator precedes them.
    AnyOf(Vec<Uuid>),
    /// A text.
    Text(String),
    /// A number, or a time.
    Number(i64),
}

/// The same query on either database, with the values bound.
macro_rules! bound {
    ($database:ty, $text:expr, $values:expr, $ids:expr) => {{
        let mut query = sqlx::query_as::<$database, R>(AssertSqlSafe($text));
        for value in $values {
            query = match value {
                Value::Id(id) => query.bind(id),
                Value::AnyOf(ids) => query.bind($ids(ids)),
                Value::Text(text) => query.bind(text),
                Value::Number(number) => query.bind(number),
            };
        }
        query
    }};
}

impl Sql {
    /// Begins with a fixed text.
    pub fn new(text: &'static str) -> Self {
        Self { pg: text.to_owned(), lite: text.to_owned(), values: Vec::new() }
    }

    /// Goes on with a fixed text.
    pub fn push(&mut self, text: &'static str) -> &mut Self {
        self.pg.push_str(text);
        self.lite.push_str(text);
        self
    }

    /// Goes on with one of two fixed texts.
    pub fn push_for(&mut self, postgres: &'static str, sqlite: &'static str) -> &mut Self {
        self.pg.push_str(postgres);
        self.lite.push_str(sqlite);
        self
    }

    /// Goes on with a value.
    pub fn bind(&mut self, value: Value) -> &mut Self {
        let place = self.values.len() + 1;
        match value {
            Value::AnyOf(_) => {
                self.pg.push_str(&format!("= ANY(${place})"));
                self.lite.push_str(&format!("IN (SELECT unhex(value) FROM json_each(${place}))"));
            }
            _ => {
                self.pg.push_str(&format!("${place}"));
                self.lite.push_str(&format!("${place}"));
            }
        }
        self.values.push(value);
        self
    }

    /// All rows.
    pub async fn fetch_all<R>(self, db: &mut Session) -> Result<Vec<R>>
    where
        R: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        let rows = match db.arm() {
            Arm::Postgres(c) => bound!(Postgres, self.pg, self.values, |ids| ids).fetch_all(c).await,
            Arm::Sqlite(c) => bound!(Sqlite, self.lite, self.values, lists::ids).fetch_all(c).await,
        };
        db.note(rows)
    }
}
