//! How long a provider is waited for, told apart by what is waited for: a line that is slow moves, one that stands is given up.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// The longest pause between two attempts. Who asks to wait longer is left to the job.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(20);
/// For a connection to be made, across the world and over a bad line.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(10);
/// For one attempt at a call that sends and gets a few kilobytes. Completing an upload of 10,000 parts takes S3 minutes.
pub(super) const CALL_MAX: Duration = Duration::from_secs(10 * 60);
/// The slowest that a part may go, in bytes per second: a tenth of a telephone modem.
const RATE_MIN: u64 = 512;
/// A download of which no byte comes for so long is broken.
pub(super) const DOWNLOAD_STALL_MAX: Duration = Duration::from_secs(60);

/// The time that an attempt at sending `bytes` may take, however it moves.
pub(super) fn attempt_max(bytes: u64) -> Duration {
    CALL_MAX + Duration::from_secs(bytes / RATE_MIN)
}

/// How long a provider is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Attempts at one call.
    pub(super) attempts: u32,
    /// The longest between two pieces of a body that the network takes.
    pub(super) standing_max: Duration,
    /// The longest from the end of a request's body to the beginning of the answer.
    pub(super) answer_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            // With pauses that double from a second to [`PAUSE_MAX`], they outlast an outage of a minute; the job outlasts more.
            attempts: 8,
            // A piece is 128 KiB, which the slowest line that is waited for, of 512 bytes per second, takes 256 s for.
            standing_max: Duration::from_secs(300),
            // A provider that completes an upload joins up to 10,000 parts.
            answer_max: Duration::from_secs(300),
        }
    }
}

/// Returns when a request stands still: when no piece of its body was taken for too long, or no answer came since its end. `moved` is
/// told of each piece, and its sender goes with the body.
pub(super) async fn stalled(mut moved: watch::Receiver<()>, patience: Patience) {
    loop {
        match timeout(patience.standing_max, moved.changed()).await {
            Ok(Ok(())) => {}
            // The body is through; what is waited for is the answer.
            Ok(Err(_)) => return sleep(patience.answer_max).await,
            Err(_) => return,
        }
    }
}
