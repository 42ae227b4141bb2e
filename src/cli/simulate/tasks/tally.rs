//! What is counted of simulated work, and how long it took from a wish to its claim.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Serialize;

use super::super::report::{Count, Figures, Latency};
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
    /// Tasks that were reported as done.
    pub completed: Count,
    /// Tasks that were reported as failed.
    pub failed: Count,
    /// Tasks that ended before their daemon said so.
    pub withdrawn: Count,
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
            completed: Count::default(),
            failed: Count::default(),
            withdrawn: Count::default(),
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

    /// The figures so far.
    pub fn figures(&self, seconds: f64) -> TaskFigures {
        let claims = self.claims.lock().clone();
        TaskFigures {
            wishes: self.wishes.lock().clone(),
            claims_per_second: claims.values().sum::<u64>() as f64 / seconds.max(0.001),
            claims,
            completed: self.completed.get(),
            failed: self.failed.get(),
            withdrawn: self.withdrawn.get(),
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
    completed: u64,
    failed: u64,
    withdrawn: u64,
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
        writeln!(
            f,
            "tasks ended      {} completed, {} failed, {} withdrawn",
            self.completed, self.failed, self.withdrawn
        )?;
        writeln!(f, "wish to claim    {}", self.wish_to_claim_ms)?;
        writeln!(f, "claim            {}", self.claim_ms)?;
        write!(f, "claim of nothing {}", self.nothing_ms)
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
        assert_eq!(tally.figures(1.0).wish_to_claim_ms.count(), 2);
        assert!(tally.halves.lock().is_empty());
    }
}
