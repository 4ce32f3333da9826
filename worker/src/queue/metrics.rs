//! What Prometheus sees of the queue. No label ever names a job or a recording.

use std::{sync::LazyLock, time::Duration};

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use shared::db::jobs::QueueStats;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::backoff::limited;

/// How often depth and oldest wait are read: as often as a scrape needs them.
const GAUGES_EVERY: Duration = Duration::from_secs(15);

/// From a no-op to a recording of hours.
const DURATION_BUCKETS_S: [f64; 10] = [0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0];
/// From an idle worker's 2 ms to a backlog of an hour.
const LATENCY_BUCKETS_S: [f64; 10] = [0.002, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 300.0, 3_600.0];

/// The process counts once, whoever asks: two runners in one process (tests) share it.
pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// Shows the queue's metrics in `registry`.
///
/// # Errors
/// When they are registered there already.
pub fn register_metrics(registry: &Registry) -> Result<(), prometheus::Error> {
    registry.register(Box::new(METRICS.finished.clone()))?;
    registry.register(Box::new(METRICS.duration_s.clone()))?;
    registry.register(Box::new(METRICS.latency_s.clone()))?;
    registry.register(Box::new(METRICS.depth.clone()))?;
    registry.register(Box::new(METRICS.oldest_wait_s.clone()))
}

pub(super) struct Metrics {
    finished: IntCounterVec,
    duration_s: HistogramVec,
    latency_s: HistogramVec,
    depth: IntGaugeVec,
    oldest_wait_s: GaugeVec,
}

impl Metrics {
    fn new() -> Self {
        let fits = "the names and labels are constants that fit";
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            HistogramVec::new(options, &["queue"]).expect(fits)
        };
        let depth =
            Opts::new("callreel_queue_jobs", "Jobs by state: pending, scheduled, running, failed, dead.");
        let oldest = Opts::new(
            "callreel_queue_oldest_wait_seconds",
            "Age of the oldest job that is due and not started.",
        );
        let finished = Opts::new("callreel_jobs_total", "Ended attempts by outcome.");
        Self {
            finished: IntCounterVec::new(finished, &["queue", "outcome"]).expect(fits),
            duration_s: histogram(
                "callreel_job_duration_seconds",
                "How long attempts ran.",
                &DURATION_BUCKETS_S,
            ),
            latency_s: histogram(
                "callreel_job_start_latency_seconds",
                "From when a job could run to when it was claimed.",
                &LATENCY_BUCKETS_S,
            ),
            depth: IntGaugeVec::new(depth, &["queue", "state"]).expect(fits),
            oldest_wait_s: GaugeVec::new(oldest, &["queue"]).expect(fits),
        }
    }

    pub(super) fn started(&self, queue: &str, waited: Duration) {
        self.latency_s.with_label_values(&[queue]).observe(waited.as_secs_f64());
    }

    pub(super) fn ended(&self, queue: &str, ran: Duration) {
        self.duration_s.with_label_values(&[queue]).observe(ran.as_secs_f64());
    }

    pub(super) fn finished(&self, queue: &str, outcome: &str) {
        self.finished.with_label_values(&[queue, outcome]).inc();
    }

    fn show(&self, stats: &[QueueStats]) {
        // A queue whose last job is gone has no row any more, and must not keep its last figure.
        self.depth.reset();
        self.oldest_wait_s.reset();
        for queue in stats {
            let states = [
                ("pending", queue.pending),
                ("scheduled", queue.scheduled),
                ("running", queue.running),
                ("failed", queue.failed),
                ("dead", queue.dead),
            ];
            for (state, count) in states {
                self.depth.with_label_values(&[queue.queue.as_str(), state]).set(count);
            }
            self.oldest_wait_s.with_label_values(&[&queue.queue]).set(queue.oldest_wait_s);
        }
    }
}

/// Refreshes the gauges until `stop`.
pub(super) async fn watch(db: PgPool, stop: CancellationToken) {
    loop {
        match limited(shared::db::jobs::stats(&db)).await {
            Ok(stats) => METRICS.show(&stats),
            Err(error) => tracing::warn!(%error, "cannot count jobs for the metrics"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(GAUGES_EVERY)).await.is_none() {
            return;
        }
    }
}
