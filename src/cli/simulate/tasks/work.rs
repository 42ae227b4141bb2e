//! What a simulated daemon does for its runtimes: it claims when it is woken, and every half minute
//! by itself, and has agents do what it is given.

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

use super::{
    super::Shared,
    Tasks,
    run::{Agent, Task},
    running::Running,
};

/// Between two claims of a daemon that is not woken.
const POLL: Duration = Duration::from_secs(30);
/// Tasks of one daemon at once.
const SLOTS: usize = 20;
/// How long tasks under way may take at the end. Their agents stop working; reporting that may take several
/// tries.
const LEAVE: Duration = Duration::from_secs(60);

/// The pollers of one daemon, a runtime each.
pub struct Workers {
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
    running: Arc<Running>,
    wakes: HashMap<String, (Arc<Notify>, CancellationToken)>,
    pollers: JoinSet<()>,
}

impl Workers {
    /// None yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            slots: Arc::new(Semaphore::new(SLOTS)),
            running: Arc::default(),
            wakes: HashMap::new(),
            pollers: JoinSet::new(),
        }
    }

    /// Polls for these runtimes and no others.
    pub fn adopt<'i>(&mut self, ids: impl Iterator<Item = &'i String> + Clone) {
        let Some(tasks) = self.shared.tasks.clone() else { return };
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
            let (shared, tasks) = (self.shared.clone(), tasks.clone());
            let poller = Poller {
                shared,
                tasks,
                runtime: id.clone(),
                end,
                slots: self.slots.clone(),
                running: self.running.clone(),
            };
            self.pollers.spawn(poller.run(wake));
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

    /// A task of a runtime's is over: its agent stops.
    pub fn stop(&self, task: &str, reason: &str) {
        if let Some(tasks) = &self.shared.tasks {
            tasks.cancels.told(task);
        }
        self.running.tell(task, reason);
    }

    /// What a runtime's agents are at; nothing if no work is simulated.
    pub fn running(&self, runtime: &str) -> Option<Vec<String>> {
        self.shared.tasks.is_some().then(|| self.running.of(runtime))
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

/// Claims for one runtime.
struct Poller {
    shared: Arc<Shared>,
    tasks: Arc<Tasks>,
    runtime: String,
    end: CancellationToken,
    slots: Arc<Semaphore>,
    running: Arc<Running>,
}

impl Poller {
    async fn run(self, wake: Arc<Notify>) {
        let mut agents = JoinSet::new();
        let mut pause = POLL.mul_f64(rand::random_range(0.0..1.0));
        loop {
            tokio::select! {
                () = self.end.cancelled() => break,
                () = wake.notified() => {}
                () = sleep(pause) => {}
            }
            pause = POLL;
            while let Some((task, slot)) = self.claim().await {
                while agents.try_join_next().is_some() {}
                agents.spawn(self.work(task, slot));
            }
        }
        while agents.join_next().await.is_some() {}
    }

    /// A task and a place for it, if there is one.
    async fn claim(&self) -> Option<(Task, OwnedSemaphorePermit)> {
        #[derive(Deserialize)]
        struct Claim {
            task: Option<Task>,
        }
        let slot = self.end.run_until_cancelled(self.slots.clone().acquire_owned()).await?.ok()?;
        let (sent, tally) = (Instant::now(), &self.tasks.tally);
        let path = format!("/api/daemon/runtimes/{}/tasks/claim", self.runtime);
        match self.shared.hub.post::<Claim>(&path, &json!({})).await {
            Ok(Claim { task: Some(task) }) => {
                tally.claimed(&task.kind, task.key(), sent.elapsed());
                Some((task, slot))
            }
            Ok(Claim { task: None }) => {
                tally.nothing(sent.elapsed());
                None
            }
            Err(trouble) => {
                self.shared.report.error(format!("claim: {trouble}"));
                None
            }
        }
    }

    fn work(&self, task: Task, slot: OwnedSemaphorePermit) -> impl Future<Output = ()> + Send + use<> {
        let (shared, tasks, running) = (self.shared.clone(), self.tasks.clone(), self.running.clone());
        // From here on it is among those that run: it may be called off before it has begun.
        let (id, over) = (task.id.clone(), running.enter(&task.id, &task.runtime_id));
        async move {
            Agent { shared, tasks, task, over }.run().await;
            running.leave(&id);
            drop(slot);
        }
    }
}
