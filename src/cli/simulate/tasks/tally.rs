//! What is counted of simulated work, and how long its parts took.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Serialize;

use super::{
    super::report::{Figures, Latency},
    cancels::CancelFigures,
    verify::Verdict,
};
use crate::error::Result;

/// Wishes and claims that wait for each other at most; others' are among them.
const WAITING: usize = 20_000;

/// One half of a wish's way.
#[derive(Debug, Clone, Copy)]
enum Half {
    Wished(Instant),
    Claimed(Instant),
}

/// The counters.
pub struct Tally {
    wishes: Mutex<BTreeMap<&'static str, u64>>,
    claims: Mutex<BTreeMap<String, u64>>,
    halves: Mutex<HashMap<String, Half>>,
    /// From sending a wish to having its task.
    wish_to_claim: Latency,
    /// Of claims that got something.
    claim: Latency,
    /// Of claims that got nothing.
    nothing: Latency,
    /// Of reports of messages.
    report: Latency,
    /// Messages that the hub took.
    messages: AtomicU64,
    /// Tasks by how they ended.
    ended: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    /// All at zero.
    pub fn new() -> Result<Self> {
        Ok(Self {
            wishes: Mutex::default(),
            claims: Mutex::default(),
            halves: Mutex::default(),
            wish_to_claim: Latency::new()?,
            claim: Latency::new()?,
            nothing: Latency::new()?,
            report: Latency::new()?,
            messages: AtomicU64::new(0),
            ended: Mutex::default(),
        })
    }

    /// A wish was sent then; the answer named what its task will name, too.
    pub fn wished(&self, kind: &'static str, key: String, sent: Instant) {
        *self.wishes.lock().entry(kind).or_default() += 1;
        self.meet(key, Half::Wished(sent));
    }

    /// A task was claimed; `key` is what it names of its wish.
    pub fn claimed(&self, kind: &str, key: String, took: Duration) {
        *self.claims.lock().entry(kind.to_owned()).or_default() += 1;
        self.claim.note(took);
        self.meet(key, Half::Claimed(Instant::now()));
    }

    /// There was nothing to claim.
    pub fn nothing(&self, took: Duration) {
        self.nothing.note(took);
    }

    /// The hub took so many messages.
    pub fn said(&self, count: usize, took: Duration) {
        self.messages.fetch_add(count as u64, Ordering::Relaxed);
        self.report.note(took);
    }

    /// A task is over.
    pub fn ended(&self, how: &str) {
        *self.ended.lock().entry(how.to_owned()).or_default() += 1;
    }

    /// Which of the two is told first is a race: the daemon is woken before the wish is answered.
    fn meet(&self, key: String, half: Half) {
        let mut halves = self.halves.lock();
        match (halves.get(&key).copied(), half) {
            (Some(Half::Claimed(claimed)), Half::Wished(sent)) | (Some(Half::Wished(sent)), Half::Claimed(claimed)) => {
                halves.remove(&key);
                self.wish_to_claim.note(claimed.saturating_duration_since(sent));
            }
            // One task for two wishes: the first has waited longer.
            (Some(_), _) => {}
            (None, half) => {
                if halves.len() < WAITING {
                    halves.insert(key, half);
                }
            }
        }
    }

    /// The figures so far, those of `cancels` among them.
    pub fn figures(&self, seconds: f64, cancels: CancelFigures) -> TaskFigures {
        let (claims, seconds) = (self.claims.lock().clone(), seconds.max(0.001));
        let messages = self.messages.load(Ordering::Relaxed);
        TaskFigures {
            wishes: self.wishes.lock().clone(),
            claims_per_second: claims.values().sum::<u64>() as f64 / seconds,
            claims,
            ended: self.ended.lock().clone(),
            messages,
            messages_per_second: messages as f64 / seconds,
            report_ms: self.report.figures(),
            cancels,
            verdict: None,
            wish_to_claim_ms: self.wish_to_claim.figures(),
            claim_ms: self.claim.figures(),
            nothing_ms: self.nothing.figures(),
        }
    }
}

/// What a simulation says of its work.
#[derive(Debug, Serialize)]
pub struct TaskFigures {
    wishes: BTreeMap<&'static str, u64>,
    claims: BTreeMap<String, u64>,
    claims_per_second: f64,
    ended: BTreeMap<String, u64>,
    messages: u64,
    messages_per_second: f64,
    report_ms: Figures,
    cancels: CancelFigures,
    /// What came of asking the hub.
    pub verdict: Option<Verdict>,
    wish_to_claim_ms: Figures,
    claim_ms: Figures,
    nothing_ms: Figures,
}

impl fmt::Display for TaskFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: Vec<String>| if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
        let wishes = list(self.wishes.iter().map(|(kind, count)| format!("{kind} {count}")).collect());
        let claims = list(self.claims.iter().map(|(kind, count)| format!("{kind} {count}")).collect());
        writeln!(f, "wishes           {wishes}")?;
        writeln!(f, "tasks claimed    {claims}; {:.1} a second", self.claims_per_second)?;
        let ended = list(self.ended.iter().map(|(how, count)| format!("{how} {count}")).collect());
        writeln!(f, "tasks ended      {ended}")?;
        writeln!(
            f,
            "messages         {}, {:.1} a second, {}",
            self.messages, self.messages_per_second, self.report_ms
        )?;
        writeln!(f, "wish to claim    {}", self.wish_to_claim_ms)?;
        writeln!(f, "claim            {}", self.claim_ms)?;
        writeln!(f, "claim of nothing {}", self.nothing_ms)?;
        let CancelFigures { asked, unheard, frame_ms, asking_ms } = &self.cancels;
        writeln!(f, "cancels          {asked}; {unheard} of which no daemon knows")?;
        writeln!(f, "cancel to daemon {}; by a frame", frame_ms)?;
        write!(f, "                 {}; by asking", asking_ms)?;
        if let Some(Verdict { tasks, messages, different, texts }) = &self.verdict {
            write!(f, "\ncompared         {tasks} tasks, {messages} messages; {different} different")?;
            texts.iter().try_for_each(|what| write!(f, "\n  {what}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_meets_its_claim_whichever_is_told_first() {
        let tally = Tally::new().expect("counters");
        let sent = Instant::now();
        tally.wished("chat", "a".into(), sent);
        tally.claimed("chat", "a".into(), Duration::from_millis(1));
        tally.claimed("chat", "b".into(), Duration::from_millis(1));
        tally.wished("chat", "b".into(), sent);
        assert_eq!(tally.wish_to_claim.figures().count(), 2);
        assert!(tally.halves.lock().is_empty());
    }
}
