//! What is counted of the requests of one FlowSchema in one level, and how Prometheus reads it: under upstream's names.
//! The numbers are atomics beside the schema, so that counting takes neither a lock nor a lookup.

use std::{
    fmt,
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use arc_swap::ArcSwap;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::snapshot::Snapshot;

/// Upper bounds of durations, in seconds.
const BUCKETS: [f64; 12] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0];

/// How a request's wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Executed,
    QueueFull,
    ConcurrencyLimit,
    TimeOut,
    Cancelled,
}

const REFUSALS: [(Outcome, &str); 4] = [
    (Outcome::QueueFull, "queue-full"),
    (Outcome::ConcurrencyLimit, "concurrency-limit"),
    (Outcome::TimeOut, "time-out"),
    (Outcome::Cancelled, "cancelled"),
];

#[derive(Debug, Default)]
struct Durations {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Durations {
    fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        if !took.is_zero() {
            self.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        }
    }

    fn encode(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        let bounds = BUCKETS.iter().copied().chain([f64::MAX]);
        let counts: Vec<(f64, u64)> = bounds.zip(self.buckets.iter().map(|bucket| bucket.load(Relaxed))).collect();
        let sum = Duration::from_nanos(self.nanoseconds.load(Relaxed)).as_secs_f64();
        let count = counts.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &counts, None)
    }
}

#[derive(Debug, Default)]
pub struct Counters {
    dispatched: AtomicU64,
    refused: [AtomicU64; REFUSALS.len()],
    queued: AtomicI64,
    executing: AtomicI64,
    seats: AtomicI64,
    waited: Durations,
    waited_in_vain: Durations,
    executed: Durations,
}

impl Counters {
    pub fn queued(&self, difference: i64) {
        self.queued.fetch_add(difference, Relaxed);
    }

    pub fn waited(&self, time: Duration, outcome: Outcome) {
        let durations = if outcome == Outcome::Executed { &self.waited } else { &self.waited_in_vain };
        durations.observe(time);
    }

    pub fn started(&self, width: u32) {
        self.dispatched.fetch_add(1, Relaxed);
        self.executing.fetch_add(1, Relaxed);
        self.seats.fetch_add(i64::from(width), Relaxed);
    }

    pub fn ended(&self, width: u32, took: Duration) {
        self.executing.fetch_sub(1, Relaxed);
        self.seats.fetch_sub(i64::from(width), Relaxed);
        self.executed.observe(took);
    }

    pub fn refused(&self, outcome: Outcome) -> Outcome {
        if let Some(place) = REFUSALS.iter().position(|(refusal, _)| *refusal == outcome) {
            self.refused[place].fetch_add(1, Relaxed);
        }
        outcome
    }
}

struct Labels<'a, const N: usize>([(&'static str, &'a str); N]);

impl<const N: usize> EncodeLabelSet for Labels<'_, N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|pair| EncodeLabelSet::encode(&[*pair], encoder))
    }
}

/// Reads the counters of all schemas there are whenever somebody asks.
pub struct Readings(pub std::sync::Arc<ArcSwap<Snapshot>>);

impl fmt::Debug for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readings")
    }
}

const PREFIX: &str = "apiserver_flowcontrol_";
/// A metric's name, what it is, and how it is read.
type Gauge<T, N> = (&'static str, &'static str, fn(&T) -> N);
const GAUGES: [Gauge<Counters, i64>; 4] = [
    ("current_inqueue_requests", "Requests that wait in queues", |counters| counters.queued.load(Relaxed)),
    ("current_executing_requests", "Requests that are worked on", |counters| counters.executing.load(Relaxed)),
    ("current_executing_seats", "Seats that are taken", |counters| counters.seats.load(Relaxed)),
    ("request_concurrency_in_use", "Seats that are taken", |counters| counters.seats.load(Relaxed)),
];

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.0.load();
        snapshot.encode_levels(&mut encoder)?;
        snapshot.encode_schemas(&mut encoder)
    }
}

impl Snapshot {
    fn encode_levels(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let rows: [Gauge<super::level::Level, u32>; 5] = [
            ("nominal_limit_seats", "Seats by shares", |level| level.bounds().nominal),
            ("lower_limit_seats", "Seats that are not lent", |level| level.bounds().lower),
            ("upper_limit_seats", "Seats with all that may be borrowed", |level| level.bounds().upper),
            ("current_limit_seats", "Seats of now", |level| level.current()),
            ("request_concurrency_limit", "Seats by shares", |level| level.bounds().nominal),
        ];
        for (name, help, read) in rows {
            let name = format!("{PREFIX}{name}");
            let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            for level in self.levels() {
                let labels = Labels([("priority_level", &level.name)]);
                family.encode_family(&labels)?.encode_gauge(&i64::from(read(level)))?;
            }
        }
        Ok(())
    }

    fn encode_schemas(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, read) in GAUGES {
            let name = format!("{PREFIX}{name}");
            let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            for schema in self.schemas() {
                family.encode_family(&Labels(schema.labels()))?.encode_gauge(&read(&schema.counters))?;
            }
        }
        // The encoder adds `_total` to counters.
        let name = format!("{PREFIX}dispatched_requests");
        let mut family = encoder.encode_descriptor(&name, "Requests that were worked on", None, MetricType::Counter)?;
        for schema in self.schemas() {
            let count = schema.counters.dispatched.load(Relaxed);
            family.encode_family(&Labels(schema.labels()))?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let name = format!("{PREFIX}rejected_requests");
        let mut family = encoder.encode_descriptor(&name, "Requests that were refused", None, MetricType::Counter)?;
        for schema in self.schemas() {
            for ((_, reason), count) in REFUSALS.iter().zip(&schema.counters.refused) {
                let count = count.load(Relaxed);
                if count > 0 {
                    let labels = Labels(schema.labels_and("reason", reason));
                    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        let name = format!("{PREFIX}request_wait_duration_seconds");
        let mut family = encoder.encode_descriptor(&name, "How long requests waited", None, MetricType::Histogram)?;
        for schema in self.schemas() {
            let rows = [("true", &schema.counters.waited), ("false", &schema.counters.waited_in_vain)];
            for (executed, durations) in rows {
                let labels = Labels(schema.labels_and("execute", executed));
                durations.encode(&mut family.encode_family(&labels)?)?;
            }
        }
        let name = format!("{PREFIX}request_execution_seconds");
        let mut family = encoder.encode_descriptor(&name, "How long work took", None, MetricType::Histogram)?;
        for schema in self.schemas() {
            schema.counters.executed.encode(&mut family.encode_family(&Labels(schema.labels()))?)?;
        }
        Ok(())
    }
}
