//! One run of a job, as its handler sees it and as the queue watches over it.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU8, Ordering},
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
    /// Whether the handler is through and the outcome is on its way: what closes the attempt then is this process itself.
    has_ended: AtomicBool,
}

impl Running {
    pub(super) fn new(worker: Arc<str>, job: JobId, number: u32, max: u32) -> Self {
        let attempt = Attempt::detached(job, number, max);
        Self { worker, attempt, stop: OnceLock::new(), has_ended: AtomicBool::new(false) }
    }

    /// Tells the handler to stop, unless it is through.
    pub(super) fn stop(&self, reason: StopReason) {
        if !self.has_ended.load(Ordering::Acquire) && self.stop.set(reason).is_ok() {
            tracing::warn!(job.id = %self.attempt.job, ?reason, "stopping job {}", self.attempt.job);
            self.attempt.cancel.cancel();
        }
    }

    /// Notes that the handler is through. Called before the outcome is handed on, so that nobody takes the attempt for lost
    /// when the database shows it closed by that outcome.
    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Running {
        Running::new("w".into(), "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(), 1, 3)
    }

    #[test]
    fn the_first_reason_to_stop_stays() {
        let running = running();
        running.stop(StopReason::Operator);
        running.stop(StopReason::LeaseLost);
        assert!(running.attempt.cancel.is_cancelled());
        assert_eq!(running.stop_reason(), Some(StopReason::Operator));
    }

    #[test]
    fn an_attempt_that_is_through_is_not_stopped() {
        let running = running();
        running.end();
        running.stop(StopReason::LeaseLost);
        assert!(!running.attempt.cancel.is_cancelled());
        assert_eq!(running.stop_reason(), None);
    }
}
