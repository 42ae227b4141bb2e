//! The hub's word on every task, compared with what daemons and people know of it.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::{
    super::{Shared, client::Trouble},
    Tasks,
    ledger::{Entry, Seen},
    run::Status,
    script::SECRET,
};

/// Questions at once.
const ASKING: usize = 8;
/// Differences that are told in words; the rest are only counted.
const TOLD: usize = 20;

/// What came of the comparison.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Tasks that were compared.
    pub tasks: usize,
    /// Messages that the hub has of them.
    pub messages: u64,
    /// Those that differ.
    pub different: usize,
    /// Some of them, in words.
    pub texts: Vec<String>,
}

/// Asks for every task that this simulation's daemons had.
pub async fn verify(shared: &Shared, tasks: &Tasks) -> Verdict {
    let entries = tasks.ledger.entries();
    let hub = Witness { shared, tasks };
    let listed = hub.listed(&entries).await;
    let (hub, listed) = (&hub, &listed);
    let seen = stream::iter(&entries).map(|(task, entry)| async move {
        let seen = hub.seen(task, listed.get(task)).await;
        match seen {
            Ok(seen) => (seen.messages, entry.difference(&seen).map(|what| format!("task {task} {what}"))),
            Err(trouble) => (0, Some(format!("task {task} could not be asked for: {trouble}"))),
        }
    });
    let seen: Vec<(u64, Option<String>)> = seen.buffer_unordered(ASKING).collect().await;
    let messages = seen.iter().map(|(messages, _)| messages).sum();
    let mut texts: Vec<String> = seen.into_iter().filter_map(|(_, difference)| difference).collect();
    texts.iter().for_each(|what| tracing::error!(what, "the hub says otherwise"));
    let different = texts.len();
    texts.truncate(TOLD);
    Verdict { tasks: entries.len(), messages, different, texts }
}

struct Witness<'s> {
    shared: &'s Shared,
    tasks: &'s Tasks,
}

impl Witness<'_> {
    /// Tasks as the lists of their agents have them; long ones do not have all.
    async fn listed(&self, entries: &[(String, Entry)]) -> HashMap<String, Value> {
        let agents: HashSet<&str> = entries.iter().map(|(_, entry)| entry.agent.as_str()).collect();
        let lists = stream::iter(agents).map(|agent| async move {
            let path = format!("/api/agents/{agent}/tasks?workspace_id={}", self.shared.workspace);
            self.tasks.people.get::<Vec<Value>>(&path).await.unwrap_or_default()
        });
        let lists: Vec<Vec<Value>> = lists.buffer_unordered(ASKING).collect().await;
        let named = |task: Value| Some((task["id"].as_str()?.to_owned(), task));
        lists.into_iter().flatten().filter_map(named).collect()
    }

    async fn seen(&self, task: &str, listed: Option<&Value>) -> Result<Seen, Trouble> {
        let mut seen = Seen::default();
        seen.status = match listed {
            Some(listed) => listed["status"].as_str().map(str::to_owned),
            None => match self.shared.hub.get::<Status>(&format!("/api/daemon/tasks/{task}/status")).await {
                Ok(status) => Some(status.status),
                Err(trouble) if trouble.says_task_gone() => return Ok(seen),
                Err(trouble) => return Err(trouble),
            },
        };
        if listed.is_some_and(|listed| listed.to_string().contains(SECRET)) {
            seen.fault = Some("shows a secret".to_owned());
        }
        let mut transcript = Transcript::default();
        let mut since = 0;
        loop {
            let path = format!("/api/tasks/{task}/messages?workspace_id={}&since_pos={since}", self.shared.workspace);
            let (page, next): (Vec<Box<RawValue>>, _) = self.tasks.people.page(&path).await?;
            page.iter().for_each(|message| transcript.read(message.get()));
            match next {
                Some(next) if next > since => since = next,
                _ => break,
            }
        }
        seen.messages = transcript.messages;
        seen.fault = seen.fault.or(transcript.fault);
        Ok(seen)
    }
}

/// What is read of a task's messages: positions without a hole, numbers that are given once, no secret.
#[derive(Default)]
struct Transcript {
    messages: u64,
    numbers: HashSet<i64>,
    fault: Option<String>,
}

impl Transcript {
    fn read(&mut self, message: &str) {
        #[derive(Deserialize)]
        struct Place {
            pos: u64,
            seq: i64,
        }
        self.messages += 1;
        let fault = match serde_json::from_str::<Place>(message) {
            Err(_) => Some("has an unreadable message".to_owned()),
            Ok(place) if place.pos != self.messages => {
                Some(format!("has {} where {} is due", place.pos, self.messages))
            }
            Ok(place) if !self.numbers.insert(place.seq) => Some(format!("has the number {} twice", place.seq)),
            Ok(_) if message.contains(SECRET) => Some("shows a secret".to_owned()),
            Ok(_) => None,
        };
        self.fault = self.fault.take().or(fault);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(messages: &[&str]) -> Option<String> {
        let mut transcript = Transcript::default();
        messages.iter().for_each(|message| transcript.read(message));
        transcript.fault
    }

    #[test]
    fn a_transcript_is_whole_and_shows_no_secret() {
        assert_eq!(fault(&[r#"{"pos":1,"seq":1}"#, r#"{"pos":2,"seq":7}"#]), None);
        for bad in
            [r#"{"pos":3,"seq":2}"#, r#"{"pos":2,"seq":1}"#, r#"{"pos":2,"seq":2,"content":"simulated-secret"}"#, "{}"]
        {
            assert!(fault(&[r#"{"pos":1,"seq":1}"#, bad]).is_some(), "{bad}");
        }
    }
}
