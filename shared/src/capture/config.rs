//! What a capture is told at its start, and what it tells of its work.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::DiskReserve;
use crate::spool::Spool;

/// How many tracks move segments to the spool at once: a rename takes well under a millisecond, a copy is limited by the spool's
/// disk, and of tokio's 512 threads for blocking work so few are hardly missed when the spool hangs.
pub(super) const SHIP_CONCURRENCY: usize = 16;

/// What the capture needs to know.
#[derive(Clone)]
pub struct CaptureConfig {
    /// The folder that this process alone writes to.
    pub capture_dir: PathBuf,
    /// Where closed segments go.
    pub spool: Spool,
    /// When the disk counts as full.
    pub reserve: DiskReserve,
    /// A segment is closed when it has this many bytes.
    pub segment_bytes: u64,
    /// A segment is closed when it is this old: at most so much is lost with the machine.
    pub segment_age: Duration,
    /// How many tracks write and sync at once.
    pub sync_concurrency: usize,
    /// How many tracks move segments to the spool at once. Each holds a thread for as long as the spool takes, which may be for
    /// ever; others wait without one.
    pub ship_concurrency: usize,
    /// Told of every sync and every segment, for metrics. It must not block.
    pub observe: Arc<dyn Fn(&CaptureFact) + Send + Sync>,
}

impl CaptureConfig {
    /// The settings of the architecture: 8 MiB or 10 s a segment; 16 syncs at once, where more gain little.
    #[must_use]
    pub fn new(capture_dir: impl Into<PathBuf>, spool: Spool) -> Self {
        Self {
            capture_dir: capture_dir.into(),
            spool,
            reserve: DiskReserve::default(),
            segment_bytes: 8 * 1024 * 1024,
            segment_age: Duration::from_secs(10),
            sync_concurrency: 16,
            ship_concurrency: SHIP_CONCURRENCY,
            observe: Arc::new(|_| {}),
        }
    }
}

/// Something to be counted.
#[derive(Debug, Clone)]
pub enum CaptureFact {
    /// Records were put on stable storage by one fdatasync.
    Synced {
        /// How long the fdatasync took.
        took: Duration,
        /// How many records it made durable.
        records: usize,
        /// Their bytes, with framing.
        bytes: u64,
    },
    /// An fdatasync failed; the chunks it was for were refused.
    SyncFailed,
    /// A segment reached the spool.
    Shipped {
        /// Its bytes.
        bytes: u64,
        /// How long the move took.
        took: Duration,
    },
    /// A segment could not be moved to the spool; it is tried again.
    ShipFailed,
}
