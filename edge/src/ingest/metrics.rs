//! What operators see of the ingest. Labels are of small fixed sets only: never a recording, a call or a user.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets,
};

/// The first bucket of the histograms: 0.5 ms, below one fdatasync of an NVMe disk.
const FIRST_BUCKET_SECONDS: f64 = 0.000_5;
/// Buckets double from there: sixteen reach 16 s, beyond which a client has given up.
const BUCKETS: usize = 16;

/// The metrics of the ingest.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    /// Recordings that take chunks or are being sealed here.
    pub(super) live: IntGauge,
    chunks: IntCounterVec,
    /// Bytes of chunks stored.
    pub(super) bytes: IntCounter,
    /// From a chunk's first byte to its answer.
    pub(super) ack_seconds: Histogram,
    /// Free on the capture's disk.
    pub(super) disk_free: IntGauge,
}

/// How a chunk's upload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkResult {
    /// 201.
    Stored,
    /// 200.
    Duplicate,
    /// 409 `chunk-conflict`.
    Conflict,
    /// Any other error of the client's.
    Refused,
    /// An error of ours.
    Failed,
}

impl ChunkResult {
    const ALL: [Self; 5] = [Self::Stored, Self::Duplicate, Self::Conflict, Self::Refused, Self::Failed];

    fn label(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Metrics {
    /// Makes and registers them.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            live: IntGauge::new("callreel_recordings_live", "Recordings that take chunks on this edge")?,
            chunks: IntCounterVec::new(
                Opts::new("callreel_chunks_total", "Chunk uploads by result"),
                &["result"],
            )?,
            bytes: IntCounter::new("callreel_chunk_bytes_total", "Bytes of chunks stored")?,
            ack_seconds: histogram(
                "callreel_chunk_ack_seconds",
                "Seconds from a chunk's request to its durable answer",
            )?,
            disk_free: IntGauge::new("callreel_disk_free_bytes", "Bytes free on the disk of the capture")?,
        };
        // Every result is there from the start, so that a rate over it is never absent.
        for result in ChunkResult::ALL {
            metrics.chunks.with_label_values(&[result.label()]);
        }
        registry.register(Box::new(metrics.live.clone()))?;
        registry.register(Box::new(metrics.chunks.clone()))?;
        registry.register(Box::new(metrics.bytes.clone()))?;
        registry.register(Box::new(metrics.ack_seconds.clone()))?;
        registry.register(Box::new(metrics.disk_free.clone()))?;
        Ok(metrics)
    }

    /// Counts an upload.
    pub(super) fn count(&self, result: ChunkResult) {
        self.chunks.with_label_values(&[result.label()]).inc();
    }
}

/// A histogram of seconds with this crate's buckets.
pub(super) fn histogram(name: &str, help: &str) -> prometheus::Result<Histogram> {
    let buckets = exponential_buckets(FIRST_BUCKET_SECONDS, 2.0, BUCKETS)?;
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))
}
