//! What a simulated daemon does for its runtimes: it claims when it is woken, and every half minute
//! by itself, and does what it is given as a June daemon does it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::super::{
    Shared,
    client::{Secret, Trouble},
};

/// Between two claims of a daemon that is not woken.
const POLL: Duration = Duration::from_secs(30);
/// Tasks of one daemon at once.
const SLOTS: usize = 20;
/// How long tasks under way may take at the end.
const LEAVE: Duration = Duration::from_secs(3);
/// One task of so many fails.
const FAILS: u32 = 20;

/// The pollers of one daemon, a runtime each.
pub struct Workers {
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
    wakes: HashMap<String, (Arc<Notify>, CancellationToken)>,
    pollers: JoinSet<()>,
}

/// A claimed task, as far as the simulation reads it.
#[derive(Deserialize)]
struct Task {
    id: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    issue_id: String,
    #[serde(default)]
    trigger_comment_id: Option<String>,
    auth_token: String,
}

impl Task {
    /// What it has in common with the answer to the wish for it.
    fn key(&self) -> String {
        match (self.kind.as_str(), &self.trigger_comment_id) {
            (_, Some(comment)) => comment.clone(),
            ("direct", None) => self.issue_id.clone(),
            _ => self.id.clone(),
        }
    }
}

impl Workers {
    /// None yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, slots: Arc::new(Semaphore::new(SLOTS)), wakes: HashMap::new(), pollers: JoinSet::new() }
    }

    /// Polls for these runtimes and no others.
    pub fn adopt<'i>(&mut self, ids: impl Iterator<Item = &'i String> + Clone) {
        if self.shared.tally.is_none() {
            return;
        }
        self.wakes.retain(|id, (_, end)| {
            let stays = ids.clone().any(|other| other == id);
            if !stays {
                end.cancel();
            }
            stays
        });
        for id in ids {
            if self.wakes.contains_key(id) {
                continue;
            }
            let (wake, end) = (Arc::new(Notify::new()), CancellationToken::new());
            self.wakes.insert(id.clone(), (wake.clone(), end.clone()));
            self.pollers.spawn(poll(self.shared.clone(), id.clone(), wake, end, self.slots.clone()));
        }
    }

    /// There is something for a runtime.
    pub fn wake(&self, runtime: &str) {
        if let Some((wake, _)) = self.wakes.get(runtime) {
            wake.notify_one();
        }
    }

    /// There may be something for any.
    pub fn wake_all(&self) {
        self.wakes.values().for_each(|(wake, _)| wake.notify_one());
    }

    /// Claims nothing more, and ends what is under way.
    pub async fn leave(&mut self) {
        self.wakes.values().for_each(|(_, end)| end.cancel());
        let over = async { while self.pollers.join_next().await.is_some() {} };
        if timeout(LEAVE, over).await.is_err() {
            self.pollers.abort_all();
        }
    }
}

async fn poll(shared: Arc<Shared>, runtime: String, wake: Arc<Notify>, end: CancellationToken, slots: Arc<Semaphore>) {
    let Some(tally) = shared.tally.clone() else { return };
    let path = format!("/api/daemon/runtimes/{runtime}/tasks/claim");
    let mut running = JoinSet::new();
    let mut pause = POLL.mul_f64(rand::random_range(0.0..1.0));
    'awake: loop {
        tokio::select! {
            () = end.cancelled() => break,
            () = wake.notified() => {}
            () = sleep(pause) => {}
        }
        pause = POLL;
        loop {
            while running.try_join_next().is_some() {}
            let Ok(slot) = slots.clone().acquire_owned().await else { break 'awake };
            if end.is_cancelled() {
                break 'awake;
            }
            #[derive(Deserialize)]
            struct Claim {
                task: Option<Task>,
            }
            let sent = Instant::now();
            match shared.hub.post::<Claim>(&path, &json!({})).await {
                Ok(Claim { task: Some(task) }) => {
                    tally.claimed(&task.kind, task.key(), sent.elapsed());
                    running.spawn(run(shared.clone(), task, slot));
                }
                Ok(Claim { task: None }) => {
                    tally.nothing(sent.elapsed());
                    break;
                }
                Err(trouble) => {
                    shared.report.error(format!("claim: {trouble}"));
                    break;
                }
            }
        }
    }
    while running.join_next().await.is_some() {}
}

/// Does one task.
async fn run(shared: Arc<Shared>, task: Task, _slot: OwnedSemaphorePermit) {
    if let Err((step, trouble)) = steps(&shared, &task).await {
        // Somebody ended it: that is no error.
        match (&shared.tally, &trouble) {
            (Some(tally), Trouble::Status(status, _)) if status.as_u16() == 400 && step == "start" => {
                tally.withdrawn.up()
            }
            _ => shared.report.error(format!("{step}: {trouble}")),
        }
    }
}

async fn steps(shared: &Shared, task: &Task) -> Result<(), (&'static str, Trouble)> {
    let (hub, tally) = (&shared.hub, &shared.tally);
    let path = |step: &str| format!("/api/daemon/tasks/{}/{step}", task.id);
    hub.tell(&path("start"), &json!({})).await.map_err(|trouble| ("start", trouble))?;
    let session = json!({ "session_id": format!("session-{}", task.id), "work_dir": "/home/sim/work" });
    hub.tell(&path("session"), &session).await.map_err(|trouble| ("session", trouble))?;
    sleep(shared.work.mul_f64(rand::random_range(0.2..1.8))).await;
    if task.kind == "quick_create" {
        let agent = hub.with_token(Secret::new(&task.auth_token));
        let issue = json!({
            "title": format!("Simulated issue {}", &task.id[..8.min(task.id.len())]),
            "origin_type": "quick_create",
            "origin_id": task.id,
            "allow_duplicate": true,
        });
        agent.tell("/api/issues", &issue).await.map_err(|trouble| ("quick-created issue", trouble))?;
    }
    #[derive(Deserialize)]
    struct Status {
        status: String,
    }
    let status: Status = hub.get(&path("status")).await.map_err(|trouble| ("status", trouble))?;
    let Some(tally) = tally else { return Ok(()) };
    if status.status != "running" {
        tally.withdrawn.up();
        return Ok(());
    }
    if rand::random_range(0..FAILS) == 0 {
        let body = json!({ "error": "exit status 1", "session_id": session["session_id"] });
        hub.tell(&path("fail"), &body).await.map_err(|trouble| ("fail", trouble))?;
        tally.failed.up();
    } else {
        let body = json!({ "output": "Simulated: done as wished.", "session_id": session["session_id"] });
        hub.tell(&path("complete"), &body).await.map_err(|trouble| ("complete", trouble))?;
        tally.completed.up();
    }
    Ok(())
}
