//! Runs one claimed job and turns whatever happens into an outcome. Knows handlers and time limits; knows no SQL.
//!
//! Decision: the handler runs in a task of its own. A panic ends that task alone, a handler that blocks its thread does not
//! stop its neighbours, and the handle aborts it when the process gives up on it.

use std::{fmt::Write as _, pin::Pin, sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinError, time::Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument as _;

use super::{
    attempt::{Attempt, Running, StopReason},
    fetch::Claimed,
    ledger::{Outcome, Settled},
    metrics,
};
use crate::failure::Failure;

/// An error's text is kept to this many bytes: enough for a chain of causes with the tail of a program's stderr (4 KiB), and
/// small enough that a job's attempts fit on a page.
const ERROR_MAX_BYTES: usize = 8 * 1024;

pub(super) type HandlerFuture = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;
/// Decodes a payload and starts the handler.
pub(super) type Handler =
    Box<dyn Fn(&[u8], Attempt) -> Result<HandlerFuture, serde_json::Error> + Send + Sync>;

/// Runs the jobs of one queue.
pub(super) struct Executor {
    pub(super) queue: &'static str,
    pub(super) timeout: Duration,
    pub(super) cancel_patience: Duration,
    pub(super) handler: Handler,
    pub(super) shutdown: CancellationToken,
    pub(super) outcomes: mpsc::Sender<Settled>,
}

impl Executor {
    /// Runs the job and hands its outcome to the settler. The job's slot is free again when this returns.
    pub(super) async fn execute(&self, claimed: Claimed) {
        let started = Instant::now();
        let (id, running) = (claimed.id, Arc::clone(&claimed.running));
        let (outcome, error) = if self.shutdown.is_cancelled() {
            running.end();
            (Outcome::Returned, None)
        } else {
            metrics::METRICS.started(self.queue, claimed.waited);
            let ended = self.run(&claimed.payload, &running).await;
            running.end();
            metrics::METRICS.ended(self.queue, started.elapsed());
            judge(running.stop_reason(), ended, self.timeout)
        };
        let settled = Settled { id, worker: Arc::clone(&running.worker), outcome, error };
        // The settler outlives every executor; if it is gone the process is ending and the lease runs out by itself.
        let _ = self.outcomes.send(settled).await;
    }

    async fn run(&self, payload: &[u8], running: &Running) -> Ended {
        let attempt = running.attempt.clone();
        let span = tracing::info_span!("job", job.id = %attempt.job, job.queue = self.queue, job.attempt = attempt.number);
        let future = match (self.handler)(payload, attempt) {
            Ok(future) => future,
            Err(error) => return Ended::Undecodable(error),
        };
        let mut task = AbortOnDropHandle::new(tokio::spawn(future.instrument(span)));
        tokio::select! {
            ended = &mut task => return ended.into(),
            () = running.attempt.cancel.cancelled() => {}
            () = tokio::time::sleep(self.timeout) => running.stop(StopReason::TimedOut),
        }
        match tokio::time::timeout(self.cancel_patience, &mut task).await {
            Ok(ended) => ended.into(),
            Err(_) => Ended::Aborted,
        }
    }
}

/// How a handler's task came to its end.
enum Ended {
    Finished(Result<(), Failure>),
    Undecodable(serde_json::Error),
    Panicked(String),
    /// It ignored its cancel token and was dropped.
    Aborted,
}

impl From<Result<Result<(), Failure>, JoinError>> for Ended {
    fn from(joined: Result<Result<(), Failure>, JoinError>) -> Self {
        match joined {
            Ok(result) => Self::Finished(result),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => Self::Panicked(panic_text(panic.as_ref())),
                Err(_) => Self::Aborted,
            },
        }
    }
}

/// Success counts even when it came after the order to stop; any other end is explained by that order first.
fn judge(stop: Option<StopReason>, ended: Ended, timeout: Duration) -> (Outcome, Option<String>) {
    let failed = |error: String| (Outcome::Failed { retry_in: None }, Some(shorten(&error)));
    match (stop, ended) {
        (_, Ended::Finished(Ok(()))) => (Outcome::Done, None),
        (Some(StopReason::Operator), _) => (Outcome::Cancelled, Some("cancelled by an operator".to_owned())),
        // After a lost lease this write is refused; it only tells the log.
        (Some(StopReason::Shutdown | StopReason::LeaseLost), _) => (Outcome::Returned, None),
        (Some(StopReason::TimedOut), _) => failed(format!("timed out after {} s", timeout.as_secs_f64())),
        (None, Ended::Undecodable(error)) => failed(format!("payload does not decode: {error}")),
        (None, Ended::Panicked(text)) => failed(format!("panicked: {text}")),
        (None, Ended::Aborted) => failed("aborted".to_owned()),
        (None, Ended::Finished(Err(failure))) => match failure {
            Failure::Retry(error) => failed(chain(&error)),
            Failure::RetryIn(wait, error) => {
                (Outcome::Failed { retry_in: Some(wait) }, Some(shorten(&chain(&error))))
            }
            Failure::GiveUp(error) => (Outcome::GaveUp, Some(shorten(&chain(&error)))),
        },
    }
}

fn chain(error: &anyhow::Error) -> String {
    format!("{error:#}")
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// Postgres text holds no NUL, and a page of attempts holds no megabytes.
fn shorten(error: &str) -> String {
    let mut error = error.replace('\0', "\u{fffd}");
    if error.len() > ERROR_MAX_BYTES {
        let left_out = error.len() - error.floor_char_boundary(ERROR_MAX_BYTES);
        error.truncate(error.floor_char_boundary(ERROR_MAX_BYTES));
        let _ = write!(error, "… ({left_out} more bytes)");
    }
    error
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(3);

    #[test]
    fn success_counts_even_after_the_order_to_stop() {
        let (outcome, _) = judge(Some(StopReason::Shutdown), Ended::Finished(Ok(())), LIMIT);
        assert_eq!(outcome, Outcome::Done);
    }

    #[test]
    fn an_error_after_the_order_to_stop_is_explained_by_the_order() {
        let error = || Ended::Finished(Err(Failure::GiveUp(anyhow!("killed"))));
        assert_eq!(judge(Some(StopReason::Operator), error(), LIMIT).0, Outcome::Cancelled);
        assert_eq!(judge(Some(StopReason::Shutdown), error(), LIMIT).0, Outcome::Returned);
        assert_eq!(
            judge(Some(StopReason::TimedOut), Ended::Aborted, LIMIT).1.unwrap(),
            "timed out after 3 s"
        );
        assert_eq!(judge(None, error(), LIMIT).0, Outcome::GaveUp);
    }

    #[test]
    fn a_long_error_is_cut_on_a_character_and_has_no_nul() {
        let text = shorten(&format!("a\0{}", "é".repeat(ERROR_MAX_BYTES)));
        assert!(text.len() < ERROR_MAX_BYTES + 40 && !text.contains('\0'), "{}", text.len());
        assert!(text.ends_with("more bytes)"));
    }
}
