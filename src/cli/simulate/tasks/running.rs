//! What a daemon's agents are at, so that one can be stopped from outside.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Whether, and why, an agent need not go on.
#[derive(Default)]
pub struct Over {
    stop: CancellationToken,
    reason: OnceLock<String>,
}

impl Over {
    /// Says so; whether nobody had before.
    pub fn tell(&self, reason: &str) -> bool {
        let first = self.reason.set(reason.to_owned()).is_ok();
        self.stop.cancel();
        first
    }

    /// Waits until it is said.
    pub async fn told(&self) {
        self.stop.cancelled().await;
    }

    /// What was said.
    pub fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }
}

/// The agents of one daemon, by their tasks.
#[derive(Default)]
pub struct Running(Mutex<HashMap<String, Agent>>);

struct Agent {
    runtime: String,
    over: Arc<Over>,
}

impl Running {
    /// One begins.
    pub fn enter(&self, task: &str, runtime: &str) -> Arc<Over> {
        let over = Arc::new(Over::default());
        let agent = Agent { runtime: runtime.to_owned(), over: over.clone() };
        self.0.lock().insert(task.to_owned(), agent);
        over
    }

    /// One has ended.
    pub fn leave(&self, task: &str) {
        self.0.lock().remove(task);
    }

    /// One need not go on.
    pub fn tell(&self, task: &str, reason: &str) {
        if let Some(agent) = self.0.lock().get(task) {
            agent.over.tell(reason);
        }
    }

    /// The tasks of a runtime.
    pub fn of(&self, runtime: &str) -> Vec<String> {
        let running = self.0.lock();
        running.iter().filter(|(_, agent)| agent.runtime == runtime).map(|(task, _)| task.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_stopped_by_its_task_and_the_first_reason_stays() {
        let running = Running::default();
        let (one, other) = (running.enter("1", "r"), running.enter("2", "r"));
        running.enter("3", "s");
        running.tell("1", "cancelled");
        running.tell("1", "gone");
        running.tell("4", "gone");
        assert_eq!((one.reason(), other.reason()), (Some("cancelled"), None));
        running.leave("1");
        assert_eq!(running.of("r"), ["2"]);
    }
}
