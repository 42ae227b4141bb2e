//! What daemons said about each of their tasks, and what people did to it: the hub has to say the same
//! at the end.

use std::collections::HashMap;

use parking_lot::Mutex;

/// How a task ended, as its daemon knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum End {
    /// Its daemon left before it did.
    #[default]
    Open,
    /// Its daemon said so, and what the hub answered, if it did: the task's status.
    Said(&'static str, Option<String>),
    /// Its daemon was told, in one word, that it is over.
    Told(String),
}

impl End {
    /// For counting.
    pub fn word(&self) -> &str {
        match self {
            Self::Open => "open",
            Self::Said(_, None) => "unheard",
            Self::Said(_, Some(answer)) => answer,
            Self::Told(reason) if ["cancelled", "completed"].contains(&reason.as_str()) => reason,
            Self::Told(_) => "failed by the hub",
        }
    }
}

/// Whether people called a task off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cancel {
    /// Nobody did.
    #[default]
    No,
    /// Somebody wished to; nobody knows whether it was in time.
    Asked,
    /// The hub answered that it is cancelled.
    Done,
}

/// What is known of a task outside the hub.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// Whose work.
    pub agent: String,
    /// Messages that the hub took.
    stored: u64,
    /// Messages of which nobody knows whether it did.
    doubtful: u64,
    end: End,
    cancel: Cancel,
}

/// What the hub says of it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Its status; none if there is no such task.
    pub status: Option<String>,
    /// Its messages.
    pub messages: u64,
    /// What is wrong with what it says, in itself.
    pub fault: Option<String>,
}

impl Entry {
    /// How the hub's word differs from it.
    pub fn difference(&self, seen: &Seen) -> Option<String> {
        let Some(status) = &seen.status else { return Some("is not there".to_owned()) };
        self.wrong_end(status).or_else(|| self.wrong_count(seen.messages)).or_else(|| seen.fault.clone())
    }

    fn wrong_end(&self, status: &str) -> Option<String> {
        let called_off = |status: &str| status == "cancelled" && self.cancel > Cancel::No;
        if self.cancel == Cancel::Done && status != "cancelled" {
            return Some(format!("was cancelled and is {status}"));
        }
        match &self.end {
            End::Open => None,
            End::Said(said, Some(answer)) if answer != said && !called_off(answer) => {
                Some(format!("was reported {said} and the answer was {answer}"))
            }
            End::Said(_, Some(answer)) => {
                (status != answer).then(|| format!("was answered to be {answer} and is {status}"))
            }
            End::Said(said, None) => {
                let over = ["completed", "failed", "cancelled"].contains(&status);
                (over && status != *said && !called_off(status))
                    .then(|| format!("was reported {said}, without an answer, and is {status}"))
            }
            End::Told(reason) => {
                let due = match reason.as_str() {
                    "cancelled" | "completed" => reason,
                    _ => "failed",
                };
                (status != due).then(|| format!("was told to be over ({reason}) and is {status}"))
            }
        }
    }

    fn wrong_count(&self, messages: u64) -> Option<String> {
        let due = self.stored..=self.stored + self.doubtful;
        (!due.contains(&messages))
            .then(|| format!("has {messages} messages; {} were taken, {} more perhaps", self.stored, self.doubtful))
    }
}

/// All tasks that this simulation's daemons had.
#[derive(Default)]
pub struct Ledger(Mutex<HashMap<String, Entry>>);

impl Ledger {
    fn note(&self, task: &str, what: impl FnOnce(&mut Entry)) {
        self.0.lock().entry(task.to_owned()).and_modify(what);
    }

    /// A daemon has it.
    pub fn claimed(&self, task: &str, agent: &str) {
        self.0.lock().entry(task.to_owned()).or_insert_with(|| Entry { agent: agent.to_owned(), ..Entry::default() });
    }

    /// The hub took messages.
    pub fn stored(&self, task: &str, count: usize) {
        self.note(task, |entry| entry.stored += count as u64);
    }

    /// Nobody knows whether it did.
    pub fn doubtful(&self, task: &str, count: usize) {
        self.note(task, |entry| entry.doubtful += count as u64);
    }

    /// It is over.
    pub fn ended(&self, task: &str, end: End) {
        self.note(task, |entry| entry.end = end);
    }

    /// Somebody called it off.
    pub fn cancel(&self, task: &str, how: Cancel) {
        self.note(task, |entry| entry.cancel = entry.cancel.max(how));
    }

    /// Whether somebody did.
    pub fn is_called_off(&self, task: &str) -> bool {
        self.0.lock().get(task).is_some_and(|entry| entry.cancel > Cancel::No)
    }

    /// Everything that is known.
    pub fn entries(&self) -> Vec<(String, Entry)> {
        self.0.lock().iter().map(|(task, entry)| (task.clone(), entry.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differs(end: End, cancel: Cancel, status: &str) -> bool {
        let entry = Entry { end, cancel, ..Entry::default() };
        entry.difference(&Seen { status: Some(status.to_owned()), ..Seen::default() }).is_some()
    }

    fn said(what: &'static str, answer: &str) -> End {
        End::Said(what, Some(answer.to_owned()))
    }

    #[test]
    fn an_end_is_what_its_daemon_said_unless_people_were_faster() {
        use Cancel::{Asked, Done, No};
        assert!(!differs(said("completed", "completed"), No, "completed"));
        assert!(differs(said("completed", "completed"), No, "failed"));
        assert!(differs(said("completed", "failed"), No, "failed"), "nobody but its daemon ends it");
        assert!(differs(said("completed", "cancelled"), No, "cancelled"));
        assert!(!differs(said("completed", "cancelled"), Asked, "cancelled"));
        assert!(differs(said("completed", "completed"), Done, "completed"), "the hub told people otherwise");
        assert!(!differs(said("completed", "completed"), Asked, "completed"));
        assert!(differs(End::Open, Done, "running"));
    }

    #[test]
    fn what_was_not_answered_may_be_so_or_still_open() {
        let unheard = || End::Said("failed", None);
        assert!(!differs(unheard(), Cancel::No, "failed"));
        assert!(!differs(unheard(), Cancel::No, "running"));
        assert!(differs(unheard(), Cancel::No, "completed"));
        assert!(!differs(unheard(), Cancel::Asked, "cancelled"));
        assert!(!differs(End::Open, Cancel::No, "running"));
    }

    #[test]
    fn what_a_daemon_was_told_is_so() {
        let told = |reason: &str| End::Told(reason.to_owned());
        assert!(!differs(told("cancelled"), Cancel::No, "cancelled"));
        assert!(differs(told("cancelled"), Cancel::No, "completed"));
        assert!(!differs(told("runtime_recovery"), Cancel::No, "failed"));
        assert!(differs(told("gone"), Cancel::No, "running"));
    }

    #[test]
    fn messages_are_counted_and_doubtful_ones_may_be_missing() {
        let ledger = Ledger::default();
        ledger.claimed("t", "a");
        ledger.stored("t", 3);
        ledger.doubtful("t", 2);
        let entry = ledger.entries().remove(0).1;
        let seen = |messages: u64| Seen { status: Some("running".to_owned()), messages, fault: None };
        assert!(entry.difference(&seen(3)).is_none() && entry.difference(&seen(5)).is_none());
        assert!(entry.difference(&seen(2)).is_some() && entry.difference(&seen(6)).is_some());
        assert!(entry.difference(&Seen::default()).is_some(), "it is gone");
        assert!(entry.difference(&Seen { fault: Some("has a hole".to_owned()), ..seen(3) }).is_some());
    }
}
