//! The end of a recording on this edge: wait for late chunks, refuse further ones, ship the capture, and hand over to the
//! workers in one transaction.
//!
//! This file must not know HTTP.
//!
//! Decisions:
//! - Everything after the wait may be done twice: closing a closed capture finds it shipped, rows are upserts, and the state
//!   changes by compare-and-set. So a crash at any point is answered by doing it again at the next start.
//! - A recording without any track waits the whole timeout: somebody's first chunk may be on its way, and there is nothing
//!   whose completeness could tell.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use shared::db::events::{self, EventType};
use shared::db::{recordings, tracks};
use shared::jobs::{self, MuxRecording};
use shared::recording::{STAGE_DEADLINE, Stage};
use shared::track::Track;
use tokio::time::Instant;
use tracing::{info, warn};
use ulid::Ulid;

use super::Inner;
use super::backoff::Backoff;
use super::coverage::is_complete;
use super::registry::{Live, Phase, Progress};
use crate::recordings::FINISH_MAX;

/// How long after a stop a recording is not sealed even when every track is complete: time for the first chunk of a
/// participant whose browser learns of the stop as late as this, beside one who was told at once.
const SETTLE: Duration = Duration::from_millis(300);

/// What the wait for late chunks comes to at a moment.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing more is to come.
    Seal,
    /// Ask again at this time, or when something changes.
    WaitUntil(Instant),
}

/// Waits for late chunks of a stopped recording, then seals it. Ends early when the process is asked to stop; the next start
/// goes on.
pub(super) async fn run(inner: Arc<Inner>, live: Arc<Live>) {
    // An earlier process may have come as far as closing the capture.
    if !inner.log.is_closed(&live.id) {
        tokio::select! {
            () = wait(&inner, &live) => {}
            () = inner.tasks.stop.cancelled() => return,
        }
    }
    live.shut().await;
    close(&inner, &live).await;
}

/// Ships the capture of a recording that takes no more chunks, and writes its rows; again and again until it succeeds.
pub(super) async fn close(inner: &Inner, live: &Live) {
    let mut backoff = Backoff::default();
    while let Err(error) = seal(inner, live).await {
        let wait = backoff.next();
        warn!(recording.id = %live.id, "cannot seal {} yet, trying again in {wait:?}: {error:#}", live.id);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = inner.tasks.stop.cancelled() => return,
        }
    }
    // In this order: while the registry has the recording, the capture has its tracks; afterwards the rows do.
    inner.forget(&live.id);
    inner.log.forget(&live.id).await;
}

async fn wait(inner: &Inner, live: &Live) {
    loop {
        let changed = live.changed();
        let tracks = inner.log.tracks(&live.id);
        match verdict(live.progress(), &tracks, inner.settings.finish_timeout, Instant::now()) {
            Verdict::Seal => return,
            Verdict::WaitUntil(until) => tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until) => {}
            },
        }
    }
}

fn verdict(progress: Progress, tracks: &[Track], timeout: Duration, now: Instant) -> Verdict {
    let since = match progress.phase {
        Phase::Finishing { since } => since,
        Phase::On | Phase::Sealing => return Verdict::Seal,
    };
    let quiet_since = progress.last_chunk.map_or(since, |last| last.max(since));
    let latest = (quiet_since + timeout.max(SETTLE)).min(since + FINISH_MAX);
    let all_complete = !tracks.is_empty() && progress.in_flight == 0 && tracks.iter().all(is_complete);
    let until = if all_complete { latest.min(since + SETTLE) } else { latest };
    if until <= now { Verdict::Seal } else { Verdict::WaitUntil(until) }
}

async fn seal(inner: &Inner, live: &Live) -> anyhow::Result<()> {
    let tracks = inner.log.close(&live.id).await.context("cannot ship the capture")?;
    let at = inner.clock.now();
    let mut tx = inner.db.begin().await?;
    for track in &tracks {
        tracks::upsert(&mut *tx, track).await?;
    }
    let others = recordings::flushed(&mut tx, &live.id, &inner.edge_id, at).await?;
    let job = MuxRecording { recording: live.id.clone(), token: Ulid::generate().to_string() };
    let first = recordings::Step { stage: Stage::Mux, token: job.token.clone() };
    let sealed = others == 0
        && recordings::begin_processing(&mut tx, &live.id, &first, at, at + STAGE_DEADLINE).await?.is_some();
    if sealed {
        jobs::enqueue(&mut tx, &job).await?;
        let data = json!({ "stage": "mux", "tracks": tracks.len() });
        events::about_recording(&mut tx, EventType::RecordingProcessing, &live.call, &live.id, data, at)
            .await?;
    }
    tx.commit().await?;
    if sealed {
        info!(recording.id = %live.id, call.id = %live.call, "sealed recording {} with {} tracks", live.id, tracks.len());
    } else {
        info!(recording.id = %live.id, "shipped this edge's share of {}; it is not ours to seal", live.id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::coverage::track;
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(15);

    fn stopped(since: Instant) -> Progress {
        Progress { phase: Phase::Finishing { since }, in_flight: 0, last_chunk: None }
    }

    #[test]
    fn complete_tracks_are_sealed_after_the_settle_time() {
        let since = Instant::now();
        let tracks = [track(&[(0, 4)], Some(4))];
        assert_eq!(verdict(stopped(since), &tracks, TIMEOUT, since), Verdict::WaitUntil(since + SETTLE));
        assert_eq!(verdict(stopped(since), &tracks, TIMEOUT, since + SETTLE), Verdict::Seal);
    }

    #[test]
    fn an_upload_in_flight_is_waited_for_until_the_timeout() {
        let since = Instant::now();
        let progress = Progress { in_flight: 1, ..stopped(since) };
        let tracks = [track(&[(0, 4)], Some(4))];
        assert_eq!(verdict(progress, &tracks, TIMEOUT, since + SETTLE), Verdict::WaitUntil(since + TIMEOUT));
        assert_eq!(verdict(progress, &tracks, TIMEOUT, since + TIMEOUT), Verdict::Seal);
    }

    #[test]
    fn each_late_chunk_begins_the_timeout_anew_up_to_a_limit() {
        let since = Instant::now();
        let late = |after| Progress { last_chunk: Some(since + after), ..stopped(since) };
        let tracks = [track(&[(0, 1)], None)];
        let ten = Duration::from_secs(10);
        assert_eq!(
            verdict(late(ten), &tracks, TIMEOUT, since + TIMEOUT),
            Verdict::WaitUntil(since + ten + TIMEOUT)
        );
        assert_eq!(verdict(late(FINISH_MAX), &tracks, TIMEOUT, since + FINISH_MAX), Verdict::Seal);
    }

    #[test]
    fn a_chunk_from_before_the_stop_does_not_shorten_the_wait() {
        let since = Instant::now();
        let progress = Progress { last_chunk: Some(since), ..stopped(since + TIMEOUT) };
        let tracks = [track(&[(0, 1)], None)];
        assert_eq!(
            verdict(progress, &tracks, TIMEOUT, since + TIMEOUT),
            Verdict::WaitUntil(since + 2 * TIMEOUT)
        );
    }

    #[test]
    fn a_recording_without_tracks_waits_the_whole_timeout() {
        let since = Instant::now();
        assert_eq!(
            verdict(stopped(since), &[], TIMEOUT, since + SETTLE),
            Verdict::WaitUntil(since + TIMEOUT)
        );
        assert_eq!(
            verdict(stopped(since), &[], Duration::ZERO, since),
            Verdict::WaitUntil(since + SETTLE),
            "a timeout of nothing still settles"
        );
    }
}
