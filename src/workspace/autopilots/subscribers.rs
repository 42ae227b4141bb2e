//! Who is told of an autopilot's runs. Whoever has left the workspace is none of them.

use std::collections::HashMap;

use super::super::{references, words};
use crate::{
    db::{
        Arm, Session, Tx, lists, on,
        sql::{Sql, Value},
    },
    error::Result,
    ids::{AutopilotId, UserId, WorkspaceId},
    protocol::autopilot::{Subscriber, WishedSubscriber},
    time::Timestamp,
};

#[derive(sqlx::FromRow)]
struct Row {
    user_type: String,
    user_id: UserId,
    created_at: Timestamp,
}

/// An autopilot's subscribers, oldest first.
pub async fn of(db: &mut Session, workspace: WorkspaceId, autopilot: AutopilotId) -> Result<Vec<Subscriber>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(
        "SELECT s.user_type, s.user_id, s.created_at
         FROM autopilot_subscriber s JOIN member m ON m.workspace_id = $2 AND m.user_id = s.user_id
         WHERE s.autopilot_id = $1 ORDER BY s.created_at, s.user_id"
    )
    .bind(autopilot)
    .bind(workspace)
    .fetch_all(c))?;
    let subscriber = |Row { user_type, user_id, created_at }| Subscriber { user_type, user_id, created_at };
    Ok(rows.into_iter().map(subscriber).collect())
}

/// The subscribers of some autopilots, oldest first.
pub(super) async fn of_all(
    db: &mut Session,
    workspace: WorkspaceId,
    autopilots: &[AutopilotId],
) -> Result<HashMap<AutopilotId, Vec<Subscriber>>> {
    let mut sql = Sql::new(
        "SELECT s.autopilot_id, s.user_type, s.user_id, s.created_at
         FROM autopilot_subscriber s JOIN member m ON m.user_id = s.user_id WHERE m.workspace_id = ",
    );
    sql.bind(Value::Id(workspace.0)).push(" AND s.autopilot_id ");
    sql.bind(Value::AnyOf(autopilots.iter().map(|id| id.0).collect())).push(" ORDER BY s.created_at, s.user_id");
    let rows: Vec<(AutopilotId, String, UserId, Timestamp)> = sql.fetch_all(db).await?;
    let mut subscribers: HashMap<AutopilotId, Vec<Subscriber>> = HashMap::new();
    for (autopilot, user_type, user_id, created_at) in rows {
        subscribers.entry(autopilot).or_default().push(Subscriber { user_type, user_id, created_at });
    }
    Ok(subscribers)
}

/// The people a body names, each once; all of them members, or it is refused.
pub async fn wished(db: &mut Session, workspace: WorkspaceId, wished: &[WishedSubscriber]) -> Result<Vec<UserId>> {
    let mut ids: Vec<UserId> = Vec::with_capacity(wished.len());
    for (index, wish) in wished.iter().enumerate() {
        let id = one(wish).map_err(|error| error.within(&place(index)))?;
        ids.push(id);
    }
    let members = members(db, workspace, &ids).await?;
    if let Some(index) = ids.iter().position(|id| members.binary_search(id).is_err()) {
        return Err(references::invalid("user_id").within(&place(index)));
    }
    Ok(members)
}

/// Whether the subscribers are these people.
pub fn are(subscribers: &[Subscriber], people: &[UserId]) -> bool {
    // Neither has anybody twice.
    subscribers.len() == people.len() && subscribers.iter().all(|one| people.binary_search(&one.user_id).is_ok())
}

/// Makes these people the subscribers; whoever is one already stays it.
pub async fn replace(tx: &mut Tx, autopilot: AutopilotId, people: &[UserId]) -> Result<()> {
    let now = tx.now();
    let removed = match tx.arm() {
        Arm::Postgres(c) => {
            sqlx::query("DELETE FROM autopilot_subscriber WHERE autopilot_id = $1 AND user_id <> ALL($2)")
                .bind(autopilot)
                .bind(people)
                .execute(c)
                .await
                .map(drop)
        }
        Arm::Sqlite(c) => sqlx::query(
            "DELETE FROM autopilot_subscriber
             WHERE autopilot_id = $1 AND user_id NOT IN (SELECT unhex(value) FROM json_each($2))",
        )
        .bind(autopilot)
        .bind(lists::ids(people.iter().copied()))
        .execute(c)
        .await
        .map(drop),
    };
    tx.note(removed)?;
    let added = match tx.arm() {
        Arm::Postgres(c) => sqlx::query(
            "INSERT INTO autopilot_subscriber (autopilot_id, user_type, user_id, created_at)
             SELECT $1, 'member', id, $3 FROM UNNEST($2::uuid[]) AS id ON CONFLICT DO NOTHING",
        )
        .bind(autopilot)
        .bind(people)
        .bind(now)
        .execute(c)
        .await
        .map(drop),
        Arm::Sqlite(c) => sqlx::query(
            "INSERT INTO autopilot_subscriber (autopilot_id, user_type, user_id, created_at)
             SELECT $1, 'member', unhex(value), $3 FROM json_each($2) WHERE true ON CONFLICT DO NOTHING",
        )
        .bind(autopilot)
        .bind(lists::ids(people.iter().copied()))
        .bind(now)
        .execute(c)
        .await
        .map(drop),
    };
    tx.note(added)
}

fn one(wish: &WishedSubscriber) -> Result<UserId> {
    words::one_of_or("user_type", &["member"], &wish.user_type, "member")?;
    references::id("user_id", &wish.user_id)
}

fn place(index: usize) -> String {
    format!("subscribers[{index}]")
}

/// Those of the people who are members, by id.
async fn members(db: &mut Session, workspace: WorkspaceId, people: &[UserId]) -> Result<Vec<UserId>> {
    let found = match db.arm() {
        Arm::Postgres(c) => {
            sqlx::query_scalar("SELECT user_id FROM member WHERE workspace_id = $1 AND user_id = ANY($2)")
                .bind(workspace)
                .bind(people)
                .fetch_all(c)
                .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_scalar(
                "SELECT user_id FROM member
                 WHERE workspace_id = $1 AND user_id IN (SELECT unhex(value) FROM json_each($2))",
            )
            .bind(workspace)
            .bind(lists::ids(people.iter().copied()))
            .fetch_all(c)
            .await
        }
    };
    let mut members: Vec<UserId> = db.note(found)?;
    members.sort_unstable();
    Ok(members)
}
