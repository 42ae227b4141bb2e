//! People who change their minds: some tasks are called off while they run, and it is measured how soon
//! their daemon knows, by the frame that tells it or by asking.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use tokio::time::sleep;

use super::{
    super::{
        Shared,
        report::{Count, Figures, Latency},
    },
    Tasks,
    ledger::Cancel,
    run::{Status, Task},
};

/// What is measured.
pub struct Cancels {
    /// When each was called for, until its daemon knows.
    sent: Mutex<HashMap<String, Instant>>,
    asked: Count,
    by_frame: Latency,
    by_asking: Latency,
}

/// What a simulation says of it.
#[derive(Debug, Serialize)]
pub struct CancelFigures {
    /// Calls.
    pub asked: u64,
    /// Cancelled, and its daemon does not know.
    pub unheard: usize,
    /// From the call to the frame at the daemon.
    pub frame_ms: Figures,
    /// From the call to what a daemon that was not told reads when it asks.
    pub asking_ms: Figures,
}

impl Cancels {
    /// Nobody has called anything off.
    pub fn new() -> Result<Self, crate::error::Error> {
        Ok(Self {
            sent: Mutex::default(),
            asked: Count::default(),
            by_frame: Latency::new()?,
            by_asking: Latency::new()?,
        })
    }

    /// A daemon was told.
    pub fn told(&self, task: &str) {
        self.heard(task, &self.by_frame);
    }

    /// A daemon asked.
    pub fn asked(&self, task: &str) {
        self.heard(task, &self.by_asking);
    }

    fn heard(&self, task: &str, how: &Latency) {
        if let Some(sent) = self.sent.lock().remove(task) {
            how.note(sent.elapsed());
        }
    }

    /// The figures so far.
    pub fn figures(&self) -> CancelFigures {
        CancelFigures {
            asked: self.asked.get(),
            unheard: self.sent.lock().len(),
            frame_ms: self.by_frame.figures(),
            asking_ms: self.by_asking.figures(),
        }
    }
}

/// Somebody may call a task off, at some moment of so much work.
pub fn perhaps(shared: &Arc<Shared>, tasks: &Arc<Tasks>, task: &Task, work: Duration) {
    if rand::random_range(0.0..1.0) >= tasks.habits.cancel {
        return;
    }
    let after = work.mul_f64(rand::random_range(0.0..1.0));
    let (shared, tasks, task, issue) = (shared.clone(), tasks.clone(), task.id.clone(), task.issue_id.clone());
    let errands = tasks.errands.clone();
    errands.spawn(async move {
        if shared.stop_daemons.clone().run_until_cancelled(sleep(after)).await.is_some() {
            call_off(&shared, &tasks, &task, &issue).await;
        }
    });
}

async fn call_off(shared: &Shared, tasks: &Tasks, task: &str, issue: &str) {
    let cancels = &tasks.cancels;
    // Either way is the same to a daemon.
    let path = match issue {
        "" => format!("/api/tasks/{task}/cancel"),
        issue => format!("/api/issues/{issue}/tasks/{task}/cancel"),
    };
    tasks.ledger.cancel(task, Cancel::Asked);
    cancels.asked.up();
    cancels.sent.lock().insert(task.to_owned(), Instant::now());
    let answer = tasks.people.post::<Status>(&format!("{path}?workspace_id={}", shared.workspace), &json!({})).await;
    match answer {
        Ok(answer) if answer.status == "cancelled" => tasks.ledger.cancel(task, Cancel::Done),
        // It had ended already.
        Ok(_) => drop(cancels.sent.lock().remove(task)),
        Err(trouble) => {
            shared.report.error(format!("cancel: {trouble}"));
            if trouble.is_final() {
                cancels.sent.lock().remove(task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_knows_once_and_the_first_way_counts() {
        let cancels = Cancels::new().expect("counters");
        cancels.sent.lock().insert("a".to_owned(), Instant::now());
        cancels.sent.lock().insert("b".to_owned(), Instant::now());
        cancels.told("a");
        cancels.asked("a");
        cancels.told("nobody's");
        let figures = cancels.figures();
        assert_eq!((figures.frame_ms.count(), figures.asking_ms.count(), figures.unheard), (1, 0, 1));
    }
}
