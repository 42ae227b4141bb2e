//! What the fleet counts. Names begin with `heartwire_fleet_`; units are in the names.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// A label of one kind.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Transport {
    transport: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Cause {
    cause: &'static str,
}

/// The counters.
pub struct Metrics {
    beats: Family<Transport, Counter>,
    /// Touches that the lease store did not answer.
    pub touch_failures: Counter,
    /// Round trips to Redis for touches.
    pub touch_round_trips: Gauge,
    /// Rows written by flushes.
    pub flushed_rows: Counter,
    /// Statements of flushes that failed; their rows were put back.
    pub flush_failures: Counter,
    /// Rows that wait for the next flush.
    pub flush_waiting: Gauge,
    /// Age of the oldest beat that waits for the next flush, in seconds.
    pub flush_lag: Gauge,
    /// Runtimes that became suspects.
    pub suspects: Counter,
    offline: Family<Cause, Counter>,
    /// Times that the brake was pulled.
    pub brakes: Counter,
    /// 1 while verdicts are held.
    pub braked: Gauge,
    /// How long a sweep took.
    pub sweep_seconds: Histogram,
    /// Runtimes registered, each time.
    pub registered: Counter,
    /// Runtimes that were there for the first time.
    pub ready: Counter,
    /// Registrations that were refused or failed.
    pub registrations_failed: Counter,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let fleet = registry.sub_registry_with_prefix("heartwire_fleet");
        let metrics = Self {
            beats: Family::default(),
            touch_failures: Counter::default(),
            touch_round_trips: Gauge::default(),
            flushed_rows: Counter::default(),
            flush_failures: Counter::default(),
            flush_waiting: Gauge::default(),
            flush_lag: Gauge::default(),
            suspects: Counter::default(),
            offline: Family::default(),
            brakes: Counter::default(),
            braked: Gauge::default(),
            sweep_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            registered: Counter::default(),
            ready: Counter::default(),
            registrations_failed: Counter::default(),
        };
        fleet.register("beats", "Beats taken, by transport", metrics.beats.clone());
        fleet.register("touch_failures", "Leases that could not be touched", metrics.touch_failures.clone());
        fleet.register("touch_round_trips", "Round trips for touching leases", metrics.touch_round_trips.clone());
        fleet.register("flushed_rows", "Rows written for beats", metrics.flushed_rows.clone());
        fleet.register("flush_failures", "Failed bulk writes of beats", metrics.flush_failures.clone());
        fleet.register("flush_waiting_rows", "Rows due for the next bulk write", metrics.flush_waiting.clone());
        fleet.register("flush_lag_seconds", "Age of the oldest beat that waits", metrics.flush_lag.clone());
        fleet.register("suspects", "Runtimes whose socket's end was seen", metrics.suspects.clone());
        fleet.register("offline", "Runtimes taken offline, by cause", metrics.offline.clone());
        fleet.register("brakes", "Times that verdicts were held", metrics.brakes.clone());
        fleet.register("braked", "1 while verdicts are held", metrics.braked.clone());
        fleet.register("sweep_seconds", "Duration of sweeps", metrics.sweep_seconds.clone());
        fleet.register("registered_runtimes", "Runtimes registered, each time", metrics.registered.clone());
        fleet.register("ready_runtimes", "Runtimes registered for the first time", metrics.ready.clone());
        fleet.register("registrations_failed", "Registrations refused or failed", metrics.registrations_failed.clone());
        metrics
    }

    /// A beat was taken.
    pub fn beat(&self, transport: &'static str) {
        self.beats.get_or_create(&Transport { transport }).inc();
    }

    /// Runtimes were taken offline.
    pub fn offline(&self, cause: &'static str, count: u64) {
        self.offline.get_or_create(&Cause { cause }).inc_by(count);
    }
}
