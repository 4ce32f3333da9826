//! What the worker tells Prometheus about media and storage; the queue adds its own.

use prometheus::{Counter, CounterVec, IntCounter, Opts, Registry};

/// The worker's counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    ffmpeg_seconds: CounterVec,
    assembled_bytes: IntCounter,
    upload_bytes: IntCounter,
    upload_failures: IntCounter,
    recordings: CounterVec,
}

impl Metrics {
    /// Makes them and registers them.
    ///
    /// # Errors
    /// When the registry holds one of the names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            ffmpeg_seconds: CounterVec::new(
                Opts::new("callreel_ffmpeg_seconds_total", "Wall-clock seconds that FFmpeg ran, by what for"),
                &["task"],
            )?,
            assembled_bytes: IntCounter::new(
                "callreel_assembled_bytes_total",
                "Bytes of capture that were assembled",
            )?,
            upload_bytes: IntCounter::new(
                "callreel_upload_bytes_total",
                "Bytes put into storage and read back",
            )?,
            upload_failures: IntCounter::new(
                "callreel_upload_failures_total",
                "Attempts to store a file that failed",
            )?,
            recordings: CounterVec::new(
                Opts::new("callreel_recordings_finished_total", "Recordings that came to an end, by outcome"),
                &["outcome"],
            )?,
        };
        registry.register(Box::new(metrics.ffmpeg_seconds.clone()))?;
        registry.register(Box::new(metrics.assembled_bytes.clone()))?;
        registry.register(Box::new(metrics.upload_bytes.clone()))?;
        registry.register(Box::new(metrics.upload_failures.clone()))?;
        registry.register(Box::new(metrics.recordings.clone()))?;
        // Known label values show up from the start, so that a rate is right from the first event.
        for task in ["mux", "verify", "thumbnails"] {
            let _ = metrics.ffmpeg(task);
        }
        for outcome in ["completed", "failed"] {
            metrics.recordings.with_label_values(&[outcome]);
        }
        Ok(metrics)
    }

    /// Seconds of FFmpeg for a task: `mux`, `verify` or `thumbnails`.
    #[must_use]
    pub fn ffmpeg(&self, task: &str) -> Counter {
        self.ffmpeg_seconds.with_label_values(&[task])
    }

    /// Capture was assembled.
    pub fn assembled(&self, bytes: u64) {
        self.assembled_bytes.inc_by(bytes);
    }

    /// A file was stored and read back.
    pub fn uploaded(&self, bytes: u64) {
        self.upload_bytes.inc_by(bytes);
    }

    /// A file could not be stored this time.
    pub fn upload_failed(&self) {
        self.upload_failures.inc();
    }

    /// A recording was completed.
    pub fn completed(&self) {
        self.recordings.with_label_values(&["completed"]).inc();
    }

    /// A recording was given up.
    pub fn failed(&self) {
        self.recordings.with_label_values(&["failed"]).inc();
    }
}
