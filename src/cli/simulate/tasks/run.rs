//! One task at a simulated daemon, step by step as a June daemon does it: start, progress, what the agent
//! says, the session, usage, progress, the end. All the while it asks every few seconds whether to go on;
//! a frame may tell it sooner.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    super::{
        Shared,
        client::{Secret, Trouble},
    },
    Tasks, cancels,
    ledger::End,
    running::Over,
    script::{Ending, Script},
};
use crate::protocol::transcript::{MessageReport, ReportMessages};

/// Between two reports of what the agent said.
const FLUSH: Duration = Duration::from_millis(500);
/// Between two questions whether to go on.
const ASK: Duration = Duration::from_secs(5);
/// A report of messages waits no longer.
const REPORT: Duration = Duration::from_secs(5);
/// Between the tries to report an end, in seconds.
const RETRIES: [u64; 5] = [4, 8, 16, 32, 64];

/// A claimed task, as far as the simulation reads it.
#[derive(Deserialize)]
pub struct Task {
    /// The task.
    pub id: String,
    agent_id: String,
    /// Whose daemon has it.
    pub runtime_id: String,
    /// What it is.
    #[serde(default)]
    pub kind: String,
    /// What it is for, or empty.
    #[serde(default)]
    pub issue_id: String,
    #[serde(default)]
    trigger_comment_id: Option<String>,
    auth_token: String,
}

impl Task {
    /// What it has in common with the answer to the wish for it.
    pub fn key(&self) -> String {
        match (self.kind.as_str(), &self.trigger_comment_id) {
            (_, Some(comment)) => comment.clone(),
            ("direct", None) => self.issue_id.clone(),
            _ => self.id.clone(),
        }
    }
}

/// How a task is, by any answer that says so.
#[derive(Deserialize)]
pub struct Status {
    /// In one word.
    pub status: String,
}

impl Status {
    fn is_over(&self) -> bool {
        ["completed", "failed", "cancelled"].contains(&self.status.as_str())
    }
}

/// An agent at work.
pub struct Agent {
    /// The simulation.
    pub shared: Arc<Shared>,
    /// Its work.
    pub tasks: Arc<Tasks>,
    /// What it does.
    pub task: Task,
    /// Whether it need not.
    pub over: Arc<Over>,
}

impl Agent {
    /// From the claim to the end, which goes into the ledger.
    pub async fn run(self) {
        let (task, tasks) = (&self.task.id, &self.tasks);
        tasks.ledger.claimed(task, &self.task.agent_id);
        let (work, watch) = (pin!(self.work()), pin!(self.watch()));
        let end = match select(work, watch).await {
            Either::Left((end, _)) => end,
            Either::Right(((), work)) => work.await,
        };
        tasks.tally.ended(end.word());
        tasks.ledger.ended(task, end);
    }

    /// Asks until it is over.
    async fn watch(&self) {
        loop {
            sleep(ASK).await;
            if self.is_over().await {
                return;
            }
        }
    }

    /// Whether the hub says that it is over; then the agent is told.
    async fn is_over(&self) -> bool {
        let reason = match self.shared.hub.get::<Status>(&self.path("status")).await {
            Ok(status) if status.is_over() => status.status,
            Ok(_) => return false,
            Err(trouble) if trouble.says_task_gone() => "gone".to_owned(),
            Err(trouble) => {
                self.error("status", &trouble);
                return false;
            }
        };
        if self.over.tell(&reason) && reason == "cancelled" {
            self.tasks.cancels.asked(&self.task.id);
        }
        true
    }

    async fn work(&self) -> End {
        if let Err(trouble) = self.shared.hub.tell(&self.path("start"), &json!({})).await {
            self.error("start", &trouble);
            return self.end("failed", &json!({ "error": format!("start task failed: {trouble}") })).await;
        }
        self.progress("Launching simulated agent", 1).await;
        let session = json!({ "session_id": format!("session-{}", self.task.id), "work_dir": "/home/sim/work" });
        self.note("session", &session).await;
        let script = Script::write(&self.tasks.habits);
        let rest = self.perform(&script.messages).await;
        if self.over.reason().is_none() && self.task.kind == "quick_create" {
            self.create_issue().await;
        }
        let usage = json!({
            "provider": "", "model": "simulated-1", "input_tokens": 1200 + 40 * script.messages.len(),
            "output_tokens": 300, "cache_read_tokens": 9000, "cache_write_tokens": 0,
        });
        self.note("usage", &json!({ "usage": [usage] })).await;
        if let Some(reason) = self.over.reason() {
            return End::Told(reason.to_owned());
        }
        // The last words are sent by somebody else: they may come after the end.
        tokio::join!(self.report(rest), self.finish(script.ending, &session)).1
    }

    /// Says something now and then, as long as it takes; what is not said yet comes back.
    async fn perform<'m>(&self, messages: &'m [MessageReport]) -> &'m [MessageReport] {
        let takes = self.tasks.habits.work.mul_f64(rand::random_range(0.2..1.8));
        cancels::perhaps(&self.shared, &self.tasks, &self.task, takes);
        let (began, mut said) = (Instant::now(), 0);
        loop {
            let stopped = tokio::select! {
                () = sleep(FLUSH.min(takes.saturating_sub(began.elapsed()))) => false,
                () = self.over.told() => true,
                () = self.shared.stop_daemons.cancelled() => true,
            };
            let part = began.elapsed().as_secs_f64() / takes.as_secs_f64().max(0.001);
            if part >= 1.0 && !stopped {
                return &messages[said..];
            }
            let due = ((messages.len() as f64 * part) as usize).clamp(said, messages.len());
            self.report(&messages[said..due]).await;
            said = due;
            if stopped {
                return &[];
            }
        }
    }

    /// Reports what the agent said. A report is made once; whether one that failed was stored is not known.
    async fn report(&self, messages: &[MessageReport]) {
        let (task, ledger, tally) = (&self.task.id, &self.tasks.ledger, &self.tasks.tally);
        for batch in messages.chunks(self.tasks.habits.batch.max(1)) {
            let sent = Instant::now();
            let report = ReportMessages { messages: batch.to_vec() };
            match self.shared.hub.tell_within(REPORT, &self.path("messages"), &report).await {
                Ok(()) => {
                    ledger.stored(task, batch.len());
                    tally.said(batch.len(), sent.elapsed());
                }
                Err(trouble) => {
                    self.error("messages", &trouble);
                    if !trouble.is_final() {
                        ledger.doubtful(task, batch.len());
                    }
                }
            }
        }
    }

    async fn create_issue(&self) {
        let agent = self.shared.hub.with_token(Secret::new(&self.task.auth_token));
        let issue = json!({
            "title": format!("Simulated issue {}", &self.task.id[..8.min(self.task.id.len())]),
            "origin_type": "quick_create",
            "origin_id": self.task.id,
            "allow_duplicate": true,
        });
        if let Err(trouble) = agent.tell("/api/issues", &issue).await {
            self.error("quick-created issue", &trouble);
        }
    }

    async fn finish(&self, ending: Ending, session: &Value) -> End {
        self.progress("Finishing task", 2).await;
        if self.is_over().await {
            return End::Told(self.over.reason().unwrap_or_default().to_owned());
        }
        let (id, dir) = (&session["session_id"], &session["work_dir"]);
        match ending {
            Ending::Done(output) => {
                self.end("completed", &json!({ "output": output, "session_id": id, "work_dir": dir })).await
            }
            Ending::Failed(error, reason) => {
                self.end("failed", &json!({ "error": error, "failure_reason": reason, "session_id": id })).await
            }
        }
    }

    /// Reports an end until it is answered or there is no more to be hoped for.
    async fn end(&self, mut said: &'static str, body: &Value) -> End {
        let mut body = body.clone();
        let mut waits = RETRIES.into_iter();
        loop {
            let call = if said == "completed" { "complete" } else { "fail" };
            match self.shared.hub.post::<Status>(&self.path(call), &body).await {
                Ok(answer) => return End::Said(said, Some(answer.status)),
                Err(trouble) => {
                    self.error(call, &trouble);
                    if !trouble.is_final() {
                        let Some(wait) = waits.next() else { return End::Said(said, None) };
                        sleep(Duration::from_secs(wait)).await;
                    } else if said == "completed" {
                        said = "failed";
                        body = json!({ "error": format!("complete task failed: {trouble}") });
                    } else {
                        return End::Said(said, None);
                    }
                }
            }
        }
    }

    async fn progress(&self, summary: &str, step: u32) {
        self.note("progress", &json!({ "summary": summary, "step": step, "total": 2 })).await;
    }

    /// Says something that is not worth a second try.
    async fn note(&self, call: &'static str, body: &impl Serialize) {
        if let Err(trouble) = self.shared.hub.tell_within(REPORT, &self.path(call), body).await {
            self.error(call, &trouble);
        }
    }

    fn path(&self, call: &str) -> String {
        format!("/api/daemon/tasks/{}/{call}", self.task.id)
    }

    /// Refusals are no errors once somebody has called the task off.
    fn error(&self, step: &str, trouble: &Trouble) {
        let stopped = self.over.reason().is_some() || self.tasks.ledger.is_called_off(&self.task.id);
        if !(stopped && trouble.is_final()) {
            self.shared.report.error(format!("{step}: {trouble}"));
        }
    }
}
