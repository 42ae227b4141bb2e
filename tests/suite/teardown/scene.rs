//! A daemon with two runtimes, and everything that can hang on one of them.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    support::{
        Hub,
        hub::{Answer, id},
    },
    tasks::desk,
};

/// Who and what there is.
pub struct Scene {
    /// The runtime that is taken apart, and another one of the same daemon.
    pub here: Uuid,
    pub there: Uuid,
    /// Bound here: for everybody, and private with secrets and skills.
    pub ann: Uuid,
    pub bob: Uuid,
    /// Bound here, and put aside.
    pub zoe: Uuid,
    /// Moved there, and left work here.
    pub max: Uuid,
    /// Finished, here and by ann.
    pub finished: Uuid,
    /// Finished, here and by bob.
    pub secret: Uuid,
    /// What runs here: ann's and max's.
    pub running: [Uuid; 2],
    /// What waits here, the oldest first.
    pub waiting: Vec<Uuid>,
    /// An active autopilot of ann's, a resting one of bob's.
    pub pilots: [Uuid; 2],
    /// The first owner's, with ann.
    pub chat: Uuid,
    /// Led by zoe, and archived.
    pub old_squad: Uuid,
    /// Led by max; ann is in it.
    pub squad: Uuid,
}

impl Scene {
    pub async fn set(hub: &Hub) -> Self {
        Self::set_as(hub, &hub.token).await
    }

    /// The same with the daemon and the agents of somebody else, who has to be an owner or admin.
    pub async fn set_as(hub: &Hub, token: &str) -> Self {
        let call = async |method: &str, path: &str, body: Value| {
            let answer = hub.cli_as(token, method, path, body).await;
            assert!(answer.status < 300, "{method} {path}: {}", answer.text);
            if answer.text.is_empty() { Value::Null } else { answer.json() }
        };
        let runtimes = hub.register_as(token, hub.workspace, "torn", &["claude", "codex"]).await;
        let (here, there) = (runtimes[0], runtimes[1]);
        let agent = async |name: &str, visibility: &str| {
            let wish = json!({
                "name": name, "runtime_id": here, "visibility": visibility, "mcp_config": { "key": "SECRET" },
                "custom_env": { "KEY": "SECRET" },
            });
            id(&call("POST", "/api/agents", wish).await)
        };
        let (ann, bob) = (agent("ann", "workspace").await, agent("bob", "private").await);
        let (zoe, max) = (agent("zoe", "workspace").await, agent("max", "workspace").await);
        let skill = id(&call("POST", "/api/skills", json!({ "name": "knitting" })).await);
        call("PUT", &format!("/api/agents/{bob}/skills"), json!({ "skill_ids": [skill] })).await;

        let issue = async |agent: Uuid| {
            let wish = json!({ "title": Uuid::new_v4(), "assignee_type": "agent", "assignee_id": agent });
            let issue = id(&call("POST", "/api/issues", wish).await);
            let task = call("GET", &format!("/api/issues/{issue}/active-task"), Value::Null).await;
            id(&task["tasks"][0])
        };
        let claim = async || {
            let path = format!("/api/daemon/runtimes/{here}/tasks/claim");
            let task = id(&call("POST", &path, json!({})).await["task"]);
            call("POST", &format!("/api/daemon/tasks/{task}/start"), json!({})).await;
            task
        };
        let work = async || {
            let task = claim().await;
            call("POST", &format!("/api/daemon/tasks/{task}/complete"), json!({ "output": "an answer" })).await;
            task
        };
        let finished = issue(ann).await;
        assert_eq!(work().await, finished);
        let secret = issue(bob).await;
        assert_eq!(work().await, secret);
        let mut running = [issue(ann).await, Uuid::nil()];
        assert_eq!(claim().await, running[0]);
        running[1] = issue(max).await;
        assert_eq!(claim().await, running[1]);
        let mut waiting = vec![issue(bob).await, issue(max).await];
        call("PUT", &format!("/api/agents/{max}"), json!({ "runtime_id": there })).await;

        let chat = id(&call("POST", "/api/chat/sessions", json!({ "agent_id": ann })).await);
        let said = call("POST", &format!("/api/chat/sessions/{chat}/messages"), json!({ "content": "hello" })).await;
        waiting.push(desk::uuid(&said["task_id"]));
        let pilot = async |agent: Uuid| {
            let wish =
                json!({ "title": "t", "description": "SECRET", "execution_mode": "run_only", "assignee_id": agent });
            id(&call("POST", "/api/autopilots", wish).await)
        };
        let pilots = [pilot(ann).await, pilot(bob).await];
        call("PATCH", &format!("/api/autopilots/{}", pilots[1]), json!({ "status": "paused" })).await;
        let squad = async |name: &str, leader: Uuid| {
            id(&call("POST", "/api/squads", json!({ "name": name, "leader_id": leader })).await)
        };
        let (old_squad, squad) = (squad("old", zoe).await, squad("new", max).await);
        let member = json!({ "member_type": "agent", "member_id": ann });
        call("POST", &format!("/api/squads/{squad}/members"), member).await;
        call("DELETE", &format!("/api/squads/{old_squad}"), Value::Null).await;
        call("POST", &format!("/api/agents/{zoe}/archive"), Value::Null).await;
        Self { here, there, ann, bob, zoe, max, finished, secret, running, waiting, pilots, chat, old_squad, squad }
    }

    pub async fn delete(&self, hub: &Hub) -> Answer {
        hub.delete(&format!("/api/runtimes/{}", self.here)).await
    }

    /// With the agents that are active.
    pub async fn cascade(&self, hub: &Hub) -> Answer {
        cascade(hub, self.here, &[self.bob, self.ann]).await
    }

    /// The agents that are bound here, all put aside.
    pub async fn archive(&self, hub: &Hub) {
        for agent in [self.ann, self.bob] {
            hub.cli("POST", &format!("/api/agents/{agent}/archive"), Value::Null).await.expect(200);
        }
    }

    /// Everything on the runtime is gone, and nothing beside it.
    pub async fn is_gone(&self, hub: &Hub) {
        assert!(hub.runtime(self.here).await.is_none(), "the runtime is there");
        assert!(hub.runtime(self.there).await.is_some(), "the other runtime is gone");
        let agents = hub.cli("GET", "/api/agents?include_archived=true", Value::Null).await.expect(200);
        let left: Vec<Uuid> = agents.as_array().unwrap().iter().map(id).collect();
        assert_eq!(left, [self.max]);
        assert_eq!(agents[0]["archived_at"], Value::Null);
        let active = "SELECT 'x' FROM task WHERE status NOT IN ('completed', 'failed', 'cancelled')";
        assert_eq!(hub.rows(active).await, [""; 0], "something is still to be done");
        let squads = hub.rows("SELECT name FROM squad").await;
        assert_eq!(squads, ["new"]);
        assert_eq!(hub.rows("SELECT 'x' FROM chat_session").await, [""; 0]);
    }
}

pub async fn cascade(hub: &Hub, runtime: Uuid, confirmed: &[Uuid]) -> Answer {
    let path = format!("/api/runtimes/{runtime}/archive-agents-and-delete");
    hub.cli("POST", &path, json!({ "expected_active_agent_ids": confirmed })).await
}

/// The membership of somebody.
pub async fn member_id(hub: &Hub, email: &str) -> Uuid {
    let members = hub.get(&format!("/api/workspaces/{}/members", hub.workspace)).await.expect(200);
    id(members.as_array().unwrap().iter().find(|member| member["email"] == email).expect(email))
}

pub async fn remove(hub: &Hub, email: &str) -> Answer {
    let member = member_id(hub, email).await;
    hub.delete(&format!("/api/workspaces/{}/members/{member}", hub.workspace)).await
}
