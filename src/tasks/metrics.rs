//! What the queue counts. Names begin with `heartwire_tasks_`; units are in the names.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

/// Seconds that tasks wait and run: from a second to two hours.
const SPANS: [f64; 14] = [0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0, 7200.0];

/// Why tasks fail, in the words that are counted by themselves; none for other ends.
const REASONS: &[&str] = &[
    "",
    "queued_expired",
    "runtime_offline",
    "runtime_recovery",
    "timeout",
    "start_failed",
    "iteration_limit",
    "agent_blocked",
    "agent_error",
    "agent_fallback_message",
    "api_invalid_request",
    "codex_semantic_inactivity",
    "idle_watchdog",
    "local_directory_error",
    "cancelled",
];

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Source {
    source: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct End {
    status: &'static str,
    reason: &'static str,
}

/// The counters.
#[derive(Clone)]
pub struct Metrics {
    enqueued: Family<Source, Counter>,
    dispatched: Family<Source, Counter>,
    waited: Histogram,
    claims: Family<Outcome, Counter>,
    claim_seconds: Histogram,
    ended: Family<End, Counter>,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let tasks = registry.sub_registry_with_prefix("heartwire_tasks");
        let metrics = Self {
            enqueued: Family::default(),
            dispatched: Family::default(),
            waited: Histogram::new(SPANS),
            claims: Family::default(),
            claim_seconds: Histogram::new([0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0]),
            ended: Family::default(),
        };
        tasks.register("enqueued", "Tasks queued, by what they are for", metrics.enqueued.clone());
        tasks.register("dispatched", "Tasks claimed, by what they are for", metrics.dispatched.clone());
        tasks.register("waited_seconds", "From queueing to the claim", metrics.waited.clone());
        tasks.register("claims", "Calls for work, by outcome", metrics.claims.clone());
        tasks.register("claim_seconds", "Duration of calls that got work", metrics.claim_seconds.clone());
        tasks.register("ended", "Tasks that ended, by status and reason", metrics.ended.clone());
        metrics
    }

    pub(super) fn enqueued(&self, source: &'static str) {
        self.enqueued.get_or_create(&Source { source }).inc();
    }

    pub(super) fn dispatched(&self, source: &'static str, waited: Duration) {
        self.dispatched.get_or_create(&Source { source }).inc();
        self.waited.observe(waited.as_secs_f64());
    }

    pub(super) fn claim(&self, outcome: &'static str, took: Duration) {
        self.claims.get_or_create(&Outcome { outcome }).inc();
        if outcome != "nothing" {
            self.claim_seconds.observe(took.as_secs_f64());
        }
    }

    pub(super) fn ended(&self, status: &'static str, reason: &str) {
        // Daemons may say anything.
        let reason = REASONS.iter().find(|known| **known == reason).copied().unwrap_or("other");
        self.ended.get_or_create(&End { status, reason }).inc();
    }
}
