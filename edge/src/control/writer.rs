//! Writes what a recording's tap gathers into the capture, until the tap is gone and everything is written.
//!
//! This file must not know WebRTC. It is the only one that waits for the disk.

use std::time::Duration;

use futures::future::join_all;
use shared::capture::Batch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::queue::{Lost, Queue, Taken, TrackKey};
use crate::ingest::{Refused, ServerCapture};

/// How long packets are gathered before they are written: a killed edge loses at most this and what the disk is busy with, and
/// fifty cameras cost 2,500 writes a second at most instead of 10,000.
const GATHER: Duration = Duration::from_millis(20);

/// How often at most a disk that takes nothing is complained of.
const COMPLAIN_EVERY: Duration = Duration::from_secs(1);

/// Runs until the queue has ended; a process that stops does not wait for a disk that takes nothing.
pub(super) async fn run(queue: Queue, capture: ServerCapture, stop: CancellationToken) {
    let mut complained: Option<Instant> = None;
    loop {
        match queue.take() {
            Taken::Batches(batches) => {
                let writing = batches.into_iter().map(|(key, batch)| write(&queue, &capture, key, batch));
                if let Some(error) = join_all(writing).await.into_iter().find_map(Result::err) {
                    if complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
                        let recording = capture.recording();
                        warn!(recording.id = %recording, "cannot keep media of {recording}: {error}");
                        complained = Some(Instant::now());
                    }
                    if stop.is_cancelled() {
                        return;
                    }
                }
            }
            Taken::Nothing => queue.more().await,
            Taken::Ended => break,
        }
        tokio::time::sleep(GATHER).await;
    }
    info!(recording.id = %capture.recording(), "the edge's own capture of {} is written", capture.recording());
}

/// Writes a batch. What is left of one that cannot be written waits in the queue, unless the recording takes no more.
async fn write(queue: &Queue, capture: &ServerCapture, key: TrackKey, batch: Batch) -> Result<(), Refused> {
    let lost = Lost::of(&batch);
    match capture.append(&key.0, key.1, batch).await {
        Ok(()) | Err(Refused::NotLive) => Ok(()),
        Err(error) => {
            if !lost.is_empty() {
                queue.lost(&key, lost);
            }
            Err(error)
        }
    }
}
