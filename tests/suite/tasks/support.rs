//! Tasks that are in the store without anybody having asked for them, and a daemon that claims them.

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, SqliteConnection, types::Json};
use uuid::Uuid;

use crate::support::{
    Hub,
    hub::{Answer, id},
};

/// A task to put into the store. Times are seconds ago.
#[derive(Debug, Clone, Default)]
pub struct Given {
    pub agent: Uuid,
    pub runtime: Uuid,
    /// The runtime's, unless something else is wished.
    pub workspace: Option<Uuid>,
    pub issue: Option<Uuid>,
    pub chat: Option<Uuid>,
    pub run: Option<Uuid>,
    pub trigger: Option<Uuid>,
    pub context: Option<Value>,
    pub initiator: Option<Uuid>,
    pub fresh: bool,
    /// As a squad's leader.
    pub leads: bool,
    /// `queued`, if empty.
    pub status: &'static str,
    pub dispatched: Option<i64>,
    pub started: Option<i64>,
    pub waiting: Option<i64>,
    pub completed: Option<i64>,
    /// Now, unless something else is wished.
    pub created: Option<i64>,
    pub session: Option<&'static str>,
    pub work_dir: Option<&'static str>,
    pub error: Option<&'static str>,
    pub reason: Option<&'static str>,
}

macro_rules! insert {
    ($connection:expr, $now:literal, $id:expr, $given:expr) => {{
        let given: &Given = $given;
        let serial = given.issue.or(given.chat).or_else(|| given.run.is_none().then_some(given.agent));
        sqlx::query(concat!(
            "INSERT INTO task (id, workspace_id, agent_id, runtime_id, origin_runtime_id, owner_id, daemon_id, status,
                               priority, issue_id, chat_session_id, autopilot_run_id, serial_key, trigger_comment_id,
                               context, force_fresh_session, initiator_user_id, session_id, work_dir, error,
                               failure_reason, dispatched_at, started_at, completed_at, waiting_at, created_at,
                               is_leader_task)
             SELECT $1, COALESCE($2, r.workspace_id), $3, r.id, r.id, r.owner_id, r.daemon_id, $4,
                    0, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
                    ",
            $now,
            " - $17 * 1000000, ",
            $now,
            " - $18 * 1000000, ",
            $now,
            " - $19 * 1000000, ",
            $now,
            " - $21 * 1000000, ",
            $now,
            " - $22 * 1000000, $23
              FROM agent_runtime r WHERE r.id = $20"
        ))
        .bind($id)
        .bind(given.workspace)
        .bind(given.agent)
        .bind(if given.status.is_empty() { "queued" } else { given.status })
        .bind(given.issue)
        .bind(given.chat)
        .bind(given.run)
        .bind(serial)
        .bind(given.trigger)
        .bind(given.context.clone().map(Json))
        .bind(given.fresh)
        .bind(given.initiator)
        .bind(given.session)
        .bind(given.work_dir)
        .bind(given.error)
        .bind(given.reason)
        .bind(given.dispatched)
        .bind(given.started)
        .bind(given.completed)
        .bind(given.runtime)
        .bind(given.waiting)
        .bind(given.created.unwrap_or(0))
        .bind(given.leads)
        .execute(&mut $connection)
        .await
        .expect("a task")
    }};
}

/// Runs one statement with values on the hub's store.
macro_rules! on_store {
    ($hub:expr, |$connection:ident| $body:expr) => {
        match &$hub.database_url {
            Some(url) => {
                let mut $connection = PgConnection::connect(url).await.expect("the private server");
                $body
            }
            None => {
                let path = $hub.dir.path().join("heartwire.db");
                let mut $connection =
                    SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.expect("the store");
                $body
            }
        }
    };
}

/// Puts a task into the store; its id. One that waits is the only one that does.
pub async fn give(hub: &Hub, given: &Given) -> Uuid {
    if given.status.is_empty() {
        hub.sql_unnoticed("DELETE FROM task WHERE status = 'queued'").await;
    }
    let task = Uuid::now_v7();
    match &hub.database_url {
        Some(url) => {
            let mut connection = PgConnection::connect(url).await.expect("the private server");
            insert!(connection, "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint", task, given);
        }
        None => {
            let path = hub.dir.path().join("heartwire.db");
            let mut connection =
                SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.expect("the store");
            insert!(connection, "CAST(unixepoch('now', 'subsec') * 1000000 AS integer)", task, given);
        }
    }
    task
}

/// Puts a run of an autopilot into the store.
pub async fn run(hub: &Hub, autopilot: Uuid, payload: Option<Value>) -> Uuid {
    const RUN: &str =
        "INSERT INTO autopilot_run (id, autopilot_id, source, status, triggered_at, trigger_payload, created_at)
                       VALUES ($1, $2, 'manual', 'running', 1, $3, 1)";
    let run = Uuid::now_v7();
    on_store!(hub, |connection| {
        sqlx::query(RUN)
            .bind(run)
            .bind(autopilot)
            .bind(payload.map(Json))
            .execute(&mut connection)
            .await
            .map(drop)
            .expect("a run")
    });
    run
}

/// The statuses of all tasks, in the order in which they were made.
pub async fn statuses(hub: &Hub) -> Vec<String> {
    hub.rows("SELECT status FROM task ORDER BY created_at, id").await
}

/// An agent of the first owner.
pub async fn agent(hub: &Hub, name: &str, runtime: Uuid) -> Uuid {
    id(&hub.cli("POST", "/api/agents", json!({ "name": name, "runtime_id": runtime })).await.expect(201))
}

pub async fn issue(hub: &Hub, title: &str) -> Uuid {
    id(&hub.cli("POST", "/api/issues", json!({ "title": title })).await.expect(201))
}

/// Asks for work as a daemon does.
pub async fn ask(hub: &Hub, token: &str, runtime: Uuid) -> Answer {
    hub.call("POST", &format!("/api/daemon/runtimes/{runtime}/tasks/claim"), Some(token), json!({})).await
}

/// The task that the first owner's daemon gets.
pub async fn claim(hub: &Hub, runtime: Uuid) -> Value {
    let answer = ask(hub, &hub.token, runtime).await.expect(200);
    assert!(answer["task"].is_object(), "nothing to do: {answer}");
    answer["task"].clone()
}

/// Gives a task, and claims it.
pub async fn given(hub: &Hub, given: Given) -> Value {
    let (task, runtime) = (give(hub, &given).await, given.runtime);
    let claimed = claim(hub, runtime).await;
    assert_eq!(id(&claimed), task, "another task: {claimed}");
    claimed
}

/// As [`given`], and ended, so that the agent is free for the next one.
pub async fn given_and_ended(hub: &Hub, task: Given) -> Value {
    let claimed = given(hub, task).await;
    hub.sql_unnoticed("UPDATE task SET status = 'cancelled', completed_at = 1 WHERE status = 'dispatched'").await;
    claimed
}

pub fn task_path(task: &Value, call: &str) -> String {
    format!("/api/daemon/tasks/{}/{call}", id(task))
}
