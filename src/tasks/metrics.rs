//! What the queue counts. Names begin with `heartwire_tasks_`; units are in the names.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use crate::protocol::transcript::ModelUsage;

/// Seconds that tasks wait and run: from a second to two hours.
const SPANS: [f64; 14] = [0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0, 7200.0];

/// Models that are counted by name; daemons may say anything.
const MODELS: usize = 200;

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

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Tokens {
    provider: String,
    model: String,
    kind: &'static str,
}

/// The counters.
#[derive(Clone)]
pub struct Metrics {
    enqueued: Family<Source, Counter>,
    dispatched: Family<Source, Counter>,
    waited: Histogram,
    ran: Histogram,
    tokens: Family<Tokens, Counter>,
    /// The models that are counted by name.
    models: Arc<Mutex<BTreeSet<(String, String)>>>,
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
            ran: Histogram::new(SPANS),
            tokens: Family::default(),
            models: Arc::default(),
            claims: Family::default(),
            claim_seconds: Histogram::new([0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0]),
            ended: Family::default(),
        };
        tasks.register("enqueued", "Tasks queued, by what they are for", metrics.enqueued.clone());
        tasks.register("dispatched", "Tasks claimed, by what they are for", metrics.dispatched.clone());
        tasks.register("waited_seconds", "From queueing to the claim", metrics.waited.clone());
        tasks.register("ran_seconds", "From the start to the end", metrics.ran.clone());
        tasks.register("tokens", "Tokens used, by model and kind", metrics.tokens.clone());
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

    /// A task ended; how long it ran, if it did. The reason is one of `reasons`.
    pub(super) fn ended(&self, status: &'static str, reason: &'static str, ran: Option<Duration>) {
        self.ended.get_or_create(&End { status, reason }).inc();
        if let Some(ran) = ran {
            self.ran.observe(ran.as_secs_f64());
        }
    }

    /// A task used a model.
    pub(super) fn tokens(&self, usage: &ModelUsage) {
        let named = (usage.provider.clone(), usage.model.clone());
        let mut models = self.models.lock();
        let (provider, model) = if models.contains(&named) || models.len() < MODELS {
            models.insert(named.clone());
            named
        } else {
            ("other".to_owned(), "other".to_owned())
        };
        drop(models);
        for (kind, count) in [
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cache_read", usage.cache_read_tokens),
            ("cache_write", usage.cache_write_tokens),
        ] {
            if count > 0 {
                let label = Tokens { provider: provider.clone(), model: model.clone(), kind };
                self.tokens.get_or_create(&label).inc_by(count as u64);
            }
        }
    }
}
