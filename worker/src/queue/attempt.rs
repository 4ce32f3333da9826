//! One run of a job, as its handler sees it and as the queue watches over it.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, Ordering},
};

use shared::jobs::JobId;
use tokio_util::sync::CancellationToken;

/// Stands for "nothing reported yet": percents end at 100.
const NO_PROGRESS: u8 = u8::MAX;

/// What a handler knows about its run.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The job.
    pub job: JobId,
    /// Counted from 1. A requeued job begins at 1 again.
    pub number: u32,
    /// The attempt with this number is the last.
    pub max: u32,
    /// Fires when the work must stop: an operator cancelled the job, another worker took it over, it ran out of time, or the
    /// process is ending. Kill what runs, clean up, return any error; whoever is not back after
    /// [`QueueSettings::cancel_patience`](super::QueueSettings) is dropped where it stands.
    pub cancel: CancellationToken,
    progress: Arc<AtomicU8>,
}

impl Attempt {
    /// An attempt that no queue watches, to call a handler directly.
    pub fn detached(job: JobId, number: u32, max: u32) -> Self {
        let (cancel, progress) = (CancellationToken::new(), Arc::new(AtomicU8::new(NO_PROGRESS)));
        Self { job, number, max, cancel, progress }
    }

    /// No attempt follows when this one fails.
    pub fn is_last(&self) -> bool {
        self.number >= self.max
    }

    /// Tells operators how far the work is, in percent. Costs nothing here: it is written with the next heartbeat.
    pub fn report_progress(&self, percent: u8) {
        self.progress.store(percent.min(100), Ordering::Relaxed);
    }
}

/// Why a running attempt was told to stop. The first reason stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopReason {
    /// An operator asked for it.
    Operator,
    /// The attempt was closed by somebody else: nothing that it writes counts any more.
    LeaseLost,
    /// It ran longer than its queue allows.
    TimedOut,
    /// The process is ending.
    Shutdown,
}

/// A running attempt, as the heartbeat, the shutdown and the executor share it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) worker: Arc<str>,
    pub(super) attempt: Attempt,
    stop: OnceLock<StopReason>,
}

impl Running {
    pub(super) fn new(worker: Arc<str>, job: JobId, number: u32, max: u32) -> Self {
        Self { worker, attempt: Attempt::detached(job, number, max), stop: OnceLock::new() }
    }

    pub(super) fn stop(&self, reason: StopReason) {
        if self.stop.set(reason).is_ok() {
            tracing::warn!(job.id = %self.attempt.job, ?reason, "stopping job {}", self.attempt.job);
            self.attempt.cancel.cancel();
        }
    }

    pub(super) fn stop_reason(&self) -> Option<StopReason> {
        self.stop.get().copied()
    }

    /// Percent, once something was reported.
    pub(super) fn progress(&self) -> Option<i16> {
        let percent = self.attempt.progress.load(Ordering::Relaxed);
        (percent != NO_PROGRESS).then_some(i16::from(percent))
    }
}
