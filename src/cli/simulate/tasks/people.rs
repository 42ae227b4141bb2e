//! People who wish for work, in each of the ways in which the hub is asked for it.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    super::{Shared, client::Trouble},
    Tasks,
};

/// Agents that are wished from at most.
const AGENTS: usize = 50;
/// How long the fleet has to come online before anybody wishes for anything.
const FLEET: Duration = Duration::from_secs(60);
/// Issues that may be commented on again.
const ISSUES: usize = 200;
/// The latest of those, which are not.
const SETTLED: usize = 20;
/// Wishes that are under way at once.
const AT_ONCE: usize = 64;
const KINDS: [&str; 5] = ["issue", "chat", "comment", "autopilot", "quick_create"];

/// Somebody with agents.
pub struct People {
    shared: Arc<Shared>,
    tasks: Arc<Tasks>,
    rate: f64,
    agents: Vec<Agent>,
    issues: Mutex<VecDeque<(String, usize)>>,
}

struct Agent {
    id: String,
    chat: String,
    autopilot: String,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

impl People {
    /// People who have not begun.
    pub fn new(shared: Arc<Shared>, tasks: Arc<Tasks>, rate: f64) -> Self {
        Self { shared, tasks, rate, agents: Vec::new(), issues: Mutex::default() }
    }

    /// Wishes until the daemons are told to leave.
    pub async fn run(mut self) {
        let stop = self.shared.stop_daemons.clone();
        stop.run_until_cancelled(async {
            if let Err(trouble) = self.prepare().await {
                self.shared.report.error(format!("preparing work: {trouble}"));
                return;
            }
            let (people, mut wishes) = (Arc::new(self), JoinSet::new());
            let mut tick = interval(Duration::from_secs_f64(1.0 / people.rate));
            tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for turn in 0.. {
                tick.tick().await;
                // Nobody waits for the others, unless the hub is far behind.
                while wishes.try_join_next().is_some() {}
                if wishes.len() >= AT_ONCE {
                    wishes.join_next().await;
                }
                wishes.spawn(people.clone().wish(turn));
            }
        })
        .await;
    }

    fn path(&self, path: &str) -> String {
        format!("{path}?workspace_id={}", self.shared.workspace)
    }

    /// Finds or makes an agent per runtime, each with a chat and an autopilot.
    async fn prepare(&mut self) -> Result<(), Trouble> {
        let began = Instant::now();
        let runtimes = loop {
            let runtimes = self.fleet().await?;
            if runtimes.len() >= self.shared.expected.min(AGENTS) || began.elapsed() > FLEET {
                break runtimes;
            }
            sleep(Duration::from_millis(200)).await;
        };
        let known: Vec<Value> = self.tasks.people.get(&self.path("/api/agents")).await?;
        let chats: Value = self.tasks.people.get(&self.path("/api/chat/sessions")).await?;
        let autopilots: Value = self.tasks.people.get(&self.path("/api/autopilots")).await?;
        let autopilots = &autopilots["autopilots"];
        for (index, runtime) in runtimes.into_iter().take(AGENTS).enumerate() {
            let name = format!("{}agent-{index}", self.shared.daemon_ids);
            let found = known.iter().find(|agent| agent["name"] == name.as_str());
            let id = match found.and_then(|agent| agent["id"].as_str()) {
                Some(id) if found.is_some_and(|agent| agent["runtime_id"] == runtime.as_str()) => id.to_owned(),
                Some(id) => {
                    let wish = json!({ "runtime_id": runtime });
                    self.tasks.people.put::<Id>(&self.path(&format!("/api/agents/{id}")), &wish).await?.id
                }
                None => {
                    let wish = json!({ "name": name, "runtime_id": runtime, "visibility": "workspace" });
                    self.tasks.people.post::<Id>(&self.path("/api/agents"), &wish).await?.id
                }
            };
            let chat = match known_id(&chats, "agent_id", &id, "Simulated") {
                Some(chat) => chat,
                None => {
                    let wish = json!({ "agent_id": id, "title": "Simulated" });
                    self.tasks.people.post::<Id>(&self.path("/api/chat/sessions"), &wish).await?.id
                }
            };
            let rounds = format!("{name} rounds");
            let autopilot = match known_id(autopilots, "assignee_id", &id, &rounds) {
                Some(autopilot) => autopilot,
                None => {
                    let wish = json!({ "title": rounds, "assignee_id": id, "execution_mode": "run_only" });
                    self.tasks.people.post::<Id>(&self.path("/api/autopilots"), &wish).await?.id
                }
            };
            self.agents.push(Agent { id, chat, autopilot });
        }
        match self.agents.is_empty() {
            true => Err(Trouble::NoAnswer("no runtime came online")),
            false => Ok(()),
        }
    }

    /// This simulation's runtimes that are online.
    async fn fleet(&self) -> Result<Vec<String>, Trouble> {
        let all: Vec<Value> = self.tasks.people.get(&self.path("/api/runtimes")).await?;
        let ours = all.iter().filter(|runtime| {
            runtime["status"] == "online"
                && runtime["daemon_id"].as_str().is_some_and(|id| id.starts_with(&self.shared.daemon_ids))
        });
        Ok(ours.filter_map(|runtime| runtime["id"].as_str().map(str::to_owned)).collect())
    }

    async fn wish(self: Arc<Self>, turn: usize) {
        let kind = KINDS[turn % KINDS.len()];
        if let Err(trouble) = self.wish_for(kind, turn).await {
            self.shared.report.error(format!("wish for {kind}: {trouble}"));
        }
    }

    async fn wish_for(&self, kind: &'static str, turn: usize) -> Result<(), Trouble> {
        // Each kind goes round all agents, and those that follow each other go to different ones.
        let place = (turn / KINDS.len() + turn % KINDS.len() * 7) % self.agents.len();
        let agent = &self.agents[place];
        let sent = Instant::now();
        let key = match kind {
            "issue" => {
                let wish = json!({
                    "title": format!("Simulated work {turn}"),
                    "assignee_type": "agent",
                    "assignee_id": agent.id,
                    "allow_duplicate": true,
                });
                let issue = self.tasks.people.post::<Id>(&self.path("/api/issues"), &wish).await?.id;
                let mut issues = self.issues.lock();
                issues.push_back((issue.clone(), place));
                if issues.len() > ISSUES {
                    issues.pop_front();
                }
                Some(issue)
            }
            "comment" => {
                // Not the latest: what waits for its first claim answers the comment as well.
                let Some((issue, place)) = self.settled() else { return Ok(()) };
                let agent = &self.agents[place].id;
                let wish = json!({ "content": format!("[@agent](mention://agent/{agent}) once more, please") });
                Some(
                    self.tasks.people.post::<Id>(&self.path(&format!("/api/issues/{issue}/comments")), &wish).await?.id,
                )
            }
            "chat" => {
                let path = self.path(&format!("/api/chat/sessions/{}/messages", agent.chat));
                let answer: Value = self.tasks.people.post(&path, &json!({ "content": "How far are you?" })).await?;
                answer["task_id"].as_str().map(str::to_owned)
            }
            "autopilot" => {
                let path = self.path(&format!("/api/autopilots/{}/trigger", agent.autopilot));
                let answer: Value = self.tasks.people.post(&path, &json!({})).await?;
                answer["task_id"].as_str().map(str::to_owned)
            }
            _ => {
                let wish = json!({ "prompt": "Something should be done", "agent_id": agent.id });
                let answer: Value = self.tasks.people.post(&self.path("/api/issues/quick-create"), &wish).await?;
                answer["task_id"].as_str().map(str::to_owned)
            }
        };
        if let Some(key) = key {
            self.tasks.tally.wished(kind, key, sent);
        }
        Ok(())
    }

    /// An issue that may be commented on again, once there are enough.
    fn settled(&self) -> Option<(String, usize)> {
        let mut issues = self.issues.lock();
        (issues.len() > SETTLED).then(|| issues.pop_front()).flatten()
    }
}

/// The first of a list that has this title and is about this agent.
fn known_id(list: &Value, about: &str, agent: &str, title: &str) -> Option<String> {
    let found = list.as_array()?.iter().find(|item| item[about] == agent && item["title"] == title)?;
    found["id"].as_str().map(str::to_owned)
}
