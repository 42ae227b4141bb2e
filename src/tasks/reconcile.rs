//! A daemon that has come back says what it still runs, and hears what of that is over.

use super::{
    Queue,
    status::{Operation, Status},
};
use crate::{
    db::{Arm, Session, lists},
    error::Result,
    identity::Driver,
    ids::{TaskId, UserId},
};

/// Tasks that one frame may name.
const MOST: usize = 2000;
/// What is said of a task that is not there, or not its.
const GONE: &str = "gone";

impl Queue {
    /// Those of some tasks that a daemon need not go on with, each with the reason in one word.
    pub async fn over(&self, driver: &Driver, mut tasks: Vec<TaskId>) -> Result<Vec<(TaskId, String)>> {
        tasks.truncate(MOST);
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let (user, ids) = (driver.user, tasks.clone());
        let found = self.db.read(async move |db| found(db, user, &ids).await).await?;
        Ok(tasks.into_iter().filter_map(|task| Some((task, end_of(&found, task)?))).collect())
    }
}

#[derive(sqlx::FromRow)]
struct Found {
    id: TaskId,
    #[sqlx(try_from = "String")]
    status: Status,
    failure_reason: Option<String>,
}

fn end_of(found: &[Found], task: TaskId) -> Option<String> {
    let Some(row) = found.iter().find(|row| row.id == task) else { return Some(GONE.to_owned()) };
    match row.status {
        status if Operation::Cancel.applies_to(status) => None,
        Status::Failed => Some(row.failure_reason.clone().unwrap_or_else(|| row.status.word().to_owned())),
        status => Some(status.word().to_owned()),
    }
}

async fn found(db: &mut Session, user: UserId, tasks: &[TaskId]) -> Result<Vec<Found>> {
    let found = match db.arm() {
        Arm::Postgres(c) => {
            sqlx::query_as("SELECT id, status, failure_reason FROM task WHERE id = ANY($1) AND owner_id = $2")
                .bind(tasks)
                .bind(user)
                .fetch_all(c)
                .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_as(
                "SELECT id, status, failure_reason FROM task
                 WHERE id IN (SELECT unhex(value) FROM json_each($1)) AND owner_id = $2",
            )
            .bind(lists::ids(tasks.iter().copied()))
            .bind(user)
            .fetch_all(c)
            .await
        }
    };
    db.note(found)
}
