//! Writes what a recording's tap gathers into the capture, until the tap is gone and everything is written.
//!
//! This file must not know WebRTC. It is the only one that waits for the disk.

use std::time::Duration;

use futures::future::join_all;
use shared::capture::Batch;
use tracing::{info, warn};

use super::queue::{Dropped, Queue, Taken, TrackKey};
use crate::ingest::{Refused, ServerCapture};

/// How long packets are gathered before they are written: a killed edge loses at most this and what the disk is busy with, and
/// fifty cameras cost 2,500 writes a second at most instead of 10,000.
const GATHER: Duration = Duration::from_millis(20);

/// Runs until the queue has ended.
pub(super) async fn run(queue: Queue, capture: ServerCapture) {
    loop {
        match queue.take() {
            Taken::Batches(batches) => write(&queue, &capture, batches).await,
            Taken::Nothing => queue.more().await,
            Taken::Ended => break,
        }
        tokio::time::sleep(GATHER).await;
    }
    info!(recording.id = %capture.recording(), "the edge's own capture of {} is written", capture.recording());
}

async fn write(queue: &Queue, capture: &ServerCapture, batches: Vec<(TrackKey, Batch)>) {
    join_all(batches.into_iter().map(|(key, batch)| write_one(queue, capture, key, batch))).await;
}

async fn write_one(queue: &Queue, capture: &ServerCapture, key: TrackKey, batch: Batch) {
    let lost = Dropped::of(batch.arrivals_us(), batch.packets());
    let Err(error) = capture.append(&key.0, key.1, batch).await else { return };
    if matches!(error, Refused::NotLive) {
        return;
    }
    let recording = capture.recording();
    warn!(recording.id = %recording, "cannot keep media of {recording}: {error}");
    if let Some(lost) = lost {
        queue.lost(&key, lost);
    }
}
