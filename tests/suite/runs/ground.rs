//! A hub at work, as the cases about runs need it.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    support::{Backend, Hub, Socket, hub::id},
    tasks::desk,
};

/// A hub with a daemon's runtime and an agent on it that everybody may use.
pub struct World {
    pub hub: Hub,
    pub runtime: Uuid,
    pub agent: Uuid,
}

/// A task that a daemon has.
pub struct Job {
    pub task: Uuid,
    /// Its agent's.
    pub token: String,
    /// As it was claimed.
    pub claimed: Value,
}

pub async fn world(backend: Backend) -> World {
    world_with(backend, &[]).await
}

/// The same with settings.
pub async fn world_with(backend: Backend, settings: &[(&'static str, &str)]) -> World {
    let mut all = vec![QUIET];
    all.extend_from_slice(settings);
    people(Hub::start_with(backend, &all).await).await
}

/// No sweep but those that a case asks for, once the first is over.
pub const QUIET: (&str, &str) = ("HEARTWIRE_SWEEP_INTERVAL", "1h");

/// The same on a hub that is there.
pub async fn people(hub: Hub) -> World {
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "ann", "workspace").await;
    World { hub, runtime, agent }
}

impl World {
    pub async fn browser(&self) -> Socket {
        desk::browser(&self.hub, &self.hub.token).await
    }

    /// An issue that the agent is to do.
    pub async fn assigned(&self, title: &str) -> Uuid {
        let wish = json!({ "title": title, "assignee_type": "agent", "assignee_id": self.agent });
        id(&self.hub.cli("POST", "/api/issues", wish).await.expect(201))
    }

    /// An issue that nobody is to do.
    pub async fn issue(&self, title: &str) -> Uuid {
        id(&self.hub.cli("POST", "/api/issues", json!({ "title": title })).await.expect(201))
    }

    /// A person asks the agent for something about an issue; the comment.
    pub async fn asked(&self, issue: Uuid) -> Uuid {
        self.asked_below(issue, None).await
    }

    /// The same in a thread.
    pub async fn asked_below(&self, issue: Uuid, parent: Option<Uuid>) -> Uuid {
        let content = format!("[@ann](mention://agent/{}) please", self.agent);
        let wish = json!({ "content": content, "parent_id": parent });
        id(&self.hub.cli("POST", &format!("/api/issues/{issue}/comments"), wish).await.expect(201))
    }

    /// What is said about an issue, oldest first.
    pub async fn comments(&self, issue: Uuid) -> Vec<Value> {
        let list = self.hub.cli("GET", &format!("/api/issues/{issue}/comments"), Value::Null).await.expect(200);
        list.as_array().unwrap().clone()
    }

    /// What is said in a chat, oldest first.
    pub async fn talk(&self, token: &str, chat: Uuid) -> Vec<Value> {
        let path = format!("/api/chat/sessions/{chat}/messages");
        self.hub.cli_as(token, "GET", &path, Value::Null).await.expect(200).as_array().unwrap().clone()
    }

    /// The daemon claims what is next.
    pub async fn claim(&self) -> Job {
        let claimed = desk::claim(&self.hub, self.runtime).await;
        Job { task: id(&claimed), token: claimed["auth_token"].as_str().unwrap().to_owned(), claimed }
    }

    /// And begins.
    pub async fn begin(&self) -> Job {
        let job = self.claim().await;
        self.call(job.task, "start", json!({})).await;
        job
    }

    /// A call of the daemon about a task; what it is answered.
    pub async fn call(&self, task: Uuid, what: &str, body: Value) -> Value {
        self.hub.post(&format!("/api/daemon/tasks/{task}/{what}"), body).await.expect(200)
    }

    /// What the agent said, as people read it.
    pub async fn transcript(&self, task: Uuid) -> Vec<Value> {
        let list = self.hub.cli("GET", &format!("/api/tasks/{task}/messages"), Value::Null).await.expect(200);
        list.as_array().unwrap().clone()
    }

    /// How a token fares: 200 as long as it is worth something.
    pub async fn worth(&self, token: &str) -> u16 {
        self.hub.call("GET", "/api/me", Some(token), Value::Null).await.status
    }

    /// An id in statements on the store.
    pub fn literal(&self, id: Uuid) -> String {
        literal(&self.hub, id)
    }

    /// One value of a task's row, as text; empty if there is none.
    pub async fn of_task(&self, task: Uuid, column: &str) -> String {
        let which = self.literal(task);
        value(&self.hub, format!("SELECT COALESCE(CAST({column} AS text), '') FROM task WHERE id = {which}")).await
    }
}

/// An id in statements on a hub's store.
pub fn literal(hub: &Hub, id: Uuid) -> String {
    match hub.database_url {
        Some(_) => format!("'{id}'"),
        None => format!("x'{}'", id.simple()),
    }
}

/// The one row that a statement finds, of one column.
pub async fn value(hub: &Hub, sql: String) -> String {
    let mut rows = hub.rows(sql.leak()).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

/// All events that a browser has not read yet, up to now. What tasks say, and frames that are no
/// events, are passed over.
pub async fn told(hub: &Hub, browser: &mut Socket) -> Vec<Value> {
    let mark = Uuid::new_v4().to_string();
    hub.app.emit(&[(hub.workspace, 1)], &mark, 0).await.unwrap();
    let mut events = Vec::new();
    loop {
        let event = browser.next().await;
        if event["payload"]["mark"] == json!(mark) {
            return events;
        }
        if event["seq"].is_number() && event["type"] != "test:event" {
            events.push(event);
        }
    }
}

/// The types of events.
pub fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// The first event of a type.
#[track_caller]
pub fn of<'e>(events: &'e [Value], kind: &str) -> &'e Value {
    let found = events.iter().find(|event| event["type"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} among {:?}", kinds(events)))
}

/// Whether a text has in it what nobody may read.
pub fn is_secret(text: &str) -> bool {
    text.contains(SECRET)
}

/// Something that nobody may read.
pub const SECRET: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
