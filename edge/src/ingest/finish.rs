//! The end of a recording on this edge: wait for late chunks, refuse further ones, ship the capture, and hand over to the
//! workers in one transaction.
//!
//! This file must not know HTTP.
//!
//! Decisions:
//! - Everything after the wait may be done twice: closing a closed capture finds it shipped, rows are upserts, and the state
//!   changes by compare-and-set. So a crash at any point is answered by doing it again at the next start.
//! - An edge that was given up for lost finds its recording ended without its share. The share is shipped all the same, and the
//!   recording processed again with it, from the first stage and as a new revision: what the revision before has stored is
//!   replaced when the new one is complete.
//! - A recording without any track waits the whole timeout: somebody's first chunk may be on its way, and there is nothing
//!   whose completeness could tell.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use shared::db::events::{self, EventType};
use shared::db::{recordings, tracks};
use shared::id::RecordingId;
use shared::jobs::{self, MuxRecording};
use shared::recording::{Recording, STAGE_DEADLINE, Stage};
use shared::track::Track;
use sqlx::PgConnection;
use tokio::time::Instant;
use tracing::{info, warn};
use ulid::Ulid;

use super::Inner;
use super::coverage::is_complete;
use super::registry::{Live, Phase, Progress};
use crate::backoff::Backoff;
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
    close(&inner, &live.id).await;
}

/// Ships the capture of a recording that takes no more chunks, and writes its rows; again and again until it succeeds.
pub(super) async fn close(inner: &Inner, id: &RecordingId) {
    let mut backoff = Backoff::default();
    while let Err(error) = hand_over(inner, id).await {
        let wait = backoff.next();
        warn!(recording.id = %id, "cannot hand {id} over yet, trying again in {wait:?}: {error:#}");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = inner.tasks.stop.cancelled() => return,
        }
    }
    // In this order: while the registry has the recording, the capture has its tracks; afterwards the rows do.
    inner.forget(id);
    inner.log.forget(id).await;
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

/// What a share that was shipped did to its recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HandedOver {
    /// It was the last one: the workers go on.
    Sealed,
    /// The recording had been ended without it, and is processed again with it.
    ProcessedAgain,
    /// Nothing: other edges have not shipped theirs, or nothing was missing.
    Noted,
}

/// Ships what this edge holds of a recording and says so in its rows. Safe to repeat.
async fn hand_over(inner: &Inner, id: &RecordingId) -> anyhow::Result<()> {
    let tracks = inner.log.close(id).await.context("cannot ship the capture")?;
    if recordings::find(&inner.db, id).await?.is_none() {
        info!(recording.id = %id, "shipped what was left of {id}, which is deleted or unknown");
        return Ok(());
    }
    let mut tx = inner.db.begin().await?;
    for track in &tracks {
        tracks::upsert(&mut *tx, track).await?;
    }
    let Some(recording) = recordings::lock(&mut tx, id).await? else { return Ok(()) };
    let handed_over = enter(&mut tx, inner, &recording, &tracks).await?;
    tx.commit().await?;
    let call = &recording.call;
    match handed_over {
        HandedOver::Sealed => {
            info!(recording.id = %id, call.id = %call, "sealed recording {id} with {} tracks", tracks.len());
        }
        HandedOver::ProcessedAgain => {
            info!(recording.id = %id, call.id = %call, "recording {id} was ended without this edge, and is processed again");
        }
        HandedOver::Noted => {
            info!(recording.id = %id, "shipped this edge's share of {id}; it is not ours to seal");
        }
    }
    Ok(())
}

/// Notes the share, and moves the recording on with its job when the share was what it waits for, or what it lacks.
async fn enter(
    tx: &mut PgConnection,
    inner: &Inner,
    recording: &Recording,
    tracks: &[Track],
) -> sqlx::Result<HandedOver> {
    let (id, edge, at) = (&recording.id, &inner.edge_id, inner.clock.now());
    let job = MuxRecording { recording: id.clone(), token: Ulid::generate().to_string() };
    let first = recordings::Step { stage: Stage::Mux, token: job.token.clone() };
    let deadline = at + STAGE_DEADLINE;
    let again =
        !tracks.is_empty() && recordings::process_again(tx, id, edge, &first, at, deadline).await?.is_some();
    let others = recordings::flushed(tx, id, edge, at).await?;
    let sealed = others == 0 && recordings::begin_processing(tx, id, &first, at, deadline).await?.is_some();
    if !again && !sealed {
        return Ok(HandedOver::Noted);
    }
    jobs::enqueue(tx, &job).await?;
    let data = json!({ "stage": "mux", "tracks": tracks.len(), "again": again });
    events::about_recording(tx, EventType::RecordingProcessing, &recording.call, id, data, at).await?;
    Ok(if again { HandedOver::ProcessedAgain } else { HandedOver::Sealed })
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
