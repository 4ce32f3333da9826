//! How a process ends: a first signal asks its tasks to finish, a second or the deadline ends it anyway.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// SIGTERM and SIGINT, waited for as one.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
}

/// Begins to listen for SIGTERM and SIGINT.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn signals() -> std::io::Result<Signals> {
    Ok(Signals { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
}

impl Signals {
    /// Resolves at the next signal.
    pub async fn recv(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// The tasks of a process and the token on which they stop.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    /// Every task of the process.
    pub tracker: TaskTracker,
    /// Cancelled when the process is asked to end.
    pub stop: CancellationToken,
    failed: Arc<AtomicBool>,
}

impl Tasks {
    /// Runs a task until it ends by itself; it is expected to watch [`Tasks::stop`].
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(task);
    }

    /// Asks the process to end, in good order and as failed: something that it cannot work without is no more, and whoever looks
    /// after it shall start it anew.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
        self.stop.cancel();
    }

    /// Waits for a signal (or for [`Tasks::stop`] being cancelled from inside), then gives the tasks `grace` to finish.
    pub async fn run_until(&self, mut signals: Signals, grace: Duration) -> ExitCode {
        tokio::select! {
            () = signals.recv() => info!("asked to stop: finishing what runs, {} s at most", grace.as_secs()),
            () = self.stop.cancelled() => {}
        }
        self.stop.cancel();
        self.tracker.close();
        tokio::select! {
            () = self.tracker.wait() => match self.failed.load(Ordering::Relaxed) {
                true => ExitCode::FAILURE,
                false => ExitCode::SUCCESS,
            },
            () = tokio::time::sleep(grace) => {
                warn!("{} tasks did not finish within {} s", self.tracker.len(), grace.as_secs());
                ExitCode::FAILURE
            }
            () = signals.recv() => {
                warn!("second signal: ending at once");
                ExitCode::FAILURE
            }
        }
    }
}
