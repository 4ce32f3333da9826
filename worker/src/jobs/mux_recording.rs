//! Assembles a sealed recording's capture into finished files, one per participant; of a single participant, that is the
//! recording.
//!
//! Everything is made in a folder of the attempt, probed there, and moved to the spool under the stage's token. Then one
//! transaction moves the stage on, writes the artifacts and what the tracks have shown, and enqueues the next job. Of two
//! attempts that get this far, the fence lets one through; the other deletes what it staged.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use shared::db::artifacts;
use shared::db::recordings::{self, Step};
use shared::db::tracks;
use shared::id::UserId;
use shared::jobs::{MakeThumbnails, MuxRecording, enqueue};
use shared::recording::{Recording, RecordingError, Stage};
use shared::track::{Track, TrackKind, TrackSource};
use tracing::info;

use super::stage::{self, Progress, StageError, hopeless};
use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::queue::Attempt;

mod file;
mod pauses;
mod server;
mod sources;
mod track;

use file::{Finished, Making, Place};
use server::Logs;
use track::AssembledTrack;

/// The share of the whole processing that is done when every track is assembled.
const PROGRESS_ASSEMBLED: f64 = 0.3;
/// The share of the whole processing that is done when this stage ends.
const PROGRESS_TO: f64 = 0.6;

/// Runs the job.
///
/// # Errors
/// When the capture holds no media, or a file, FFmpeg or the database fails.
pub async fn run(ctx: Ctx, job: MuxRecording, attempt: Attempt) -> Result<(), Failure> {
    let step = Step { stage: Stage::Mux, token: job.token };
    let Some(recording) = stage::hold(&ctx, &job.recording, &step).await? else {
        return Ok(());
    };
    let result = mux(&ctx, &recording, &step, &attempt).await;
    stage::settle(&ctx, &recording, &step, &attempt, result).await
}

async fn mux(ctx: &Ctx, recording: &Recording, step: &Step, attempt: &Attempt) -> Result<(), StageError> {
    let captured = tracks::of_recording(&ctx.db, &recording.id).await?;
    let paused = pauses::of(ctx, recording).await?;
    let mut logs = Logs::new(recording, &captured, &paused);
    let sources::Choice { first, spare } = sources::choose(recording.options.sources.as_deref(), captured);
    let progress = Progress::report(ctx, &recording.id, step);
    let scratch = ctx.scratch.attempt()?;
    let report = |done: f64| progress.set(PROGRESS_ASSEMBLED * done);
    let assembling = Assembling { ctx, recording, paused: &paused, folder: scratch.path(), attempt };
    let mut assembled = assembling.all(first, &mut logs, &report).await?;
    let spare = sources::still_needed(spare, &assembled);
    let spare = assembling.all(spare, &mut logs, &|_| ()).await?;
    sources::add_spare(&mut assembled, spare);
    sources::bound_by_the_edge(&mut assembled);
    pauses::move_up(&mut assembled, &paused);
    let participants = by_participant(&assembled);
    if participants.is_empty() {
        return Err(nothing_usable(&assembled));
    }
    let mut files = Vec::new();
    for (n, (user, tracks)) in participants.iter().enumerate() {
        let (from, span) = (part(n, participants.len()), part(1, participants.len()));
        let report = |done: f64| {
            progress.set(PROGRESS_ASSEMBLED + (from + done * span) * (PROGRESS_TO - PROGRESS_ASSEMBLED));
        };
        let place = if participants.len() == 1 { Place::Recording } else { Place::Participant(n) };
        let folder = scratch.path();
        let making =
            Making { ctx, recording, participant: user, tracks, place, folder, attempt, report: &report };
        files.push(making.finish().await?);
    }
    Ok(publish(ctx, recording, step, &assembled, files).await?)
}

#[expect(clippy::cast_precision_loss, reason = "a handful of tracks")]
fn part(n: usize, of: usize) -> f64 {
    n as f64 / of.max(1) as f64
}

/// What tracks are assembled for and with.
struct Assembling<'a> {
    ctx: &'a Ctx,
    recording: &'a Recording,
    paused: &'a [crate::assemble::Span],
    folder: &'a Path,
    attempt: &'a Attempt,
}

impl Assembling<'_> {
    /// Assembles tracks, each from what it was captured as. `report` is told how much is done, 0 to 1.
    async fn all(
        &self,
        tracks: Vec<Track>,
        logs: &mut Logs,
        report: &(dyn Fn(f64) + Send + Sync),
    ) -> anyhow::Result<Vec<AssembledTrack>> {
        let Self { ctx, recording, paused, folder, attempt } = *self;
        let mut assembled = Vec::new();
        for track in &tracks {
            anyhow::ensure!(!attempt.cancel.is_cancelled(), "cancelled");
            assembled.push(match track.source {
                TrackSource::Client => {
                    track::assemble(ctx, recording, track, paused, folder, &attempt.cancel).await?
                }
                TrackSource::Server => logs.assemble(ctx, track, folder, &attempt.cancel).await?,
            });
            report(part(assembled.len(), tracks.len()));
        }
        Ok(assembled)
    }
}

/// The tracks that have media, by whose they are. Players show the first picture of a file and play its first sound: so screens
/// are last, and what the browser captured comes behind what the edge did, beside which it is taken for what the edge lacks.
fn by_participant(assembled: &[AssembledTrack]) -> BTreeMap<&UserId, Vec<&AssembledTrack>> {
    let mut participants: BTreeMap<&UserId, Vec<&AssembledTrack>> = BTreeMap::new();
    for track in assembled.iter().filter(|track| track.file.is_some()) {
        participants.entry(&track.participant).or_default().push(track);
    }
    let rank =
        |track: &&AssembledTrack| (track.kind == TrackKind::Screen, track.source == TrackSource::Client);
    participants.values_mut().for_each(|tracks| tracks.sort_by_key(rank));
    participants
}

/// Why there is nothing to make a file from; the tracks keep what was found out about them.
fn nothing_usable(assembled: &[AssembledTrack]) -> StageError {
    if assembled.is_empty() {
        return hopeless("no-media", "nothing was recorded");
    }
    let (code, detail) = if assembled.iter().all(AssembledTrack::is_all_paused) {
        ("all-paused", "all that was recorded lay in pauses")
    } else {
        ("unusable-media", "nothing that was uploaded is media that can be played")
    };
    let error = RecordingError { code: code.to_owned(), detail: detail.to_owned() };
    StageError::Hopeless(error, assembled.iter().map(AssembledTrack::shown).collect())
}

async fn publish(
    ctx: &Ctx,
    recording: &Recording,
    step: &Step,
    assembled: &[AssembledTrack],
    files: Vec<Finished>,
) -> anyhow::Result<()> {
    // A folder of this attempt's own: a second attempt under the same stage must not replace what the first has published.
    let folder = stage::folder(recording);
    let sideways = files.iter().any(|file| file.lies_sideways);
    let staged = file::stage_all(ctx, recording, &folder, files).await?;
    let next = stage::next(Stage::Thumbnails);
    let (id, at) = (&recording.id, ctx.now());
    let mut tx = ctx.db.begin().await?;
    if recordings::advance(&mut tx, id, step, &next, stage::deadline(ctx)).await?.is_none() {
        drop(tx);
        let (spool, id) = (ctx.spool.clone(), id.clone());
        return ctx.blocking(move || Ok(spool.delete_staged(&id, &folder)?)).await;
    }
    for artifact in &staged {
        artifacts::stage(&mut tx, artifact, at).await?;
    }
    if sideways {
        let detail =
            "pictures of a participant could not be turned upright, and stay as the camera sent them"
                .to_owned();
        let odd = RecordingError { code: "pictures-not-upright".to_owned(), detail };
        recordings::note(&mut tx, id, &odd).await?;
    }
    for track in assembled {
        tracks::assembled(&mut tx, &track.shown()).await?;
    }
    enqueue(&mut tx, &MakeThumbnails { recording: id.clone(), token: next.token }).await?;
    tx.commit().await?;
    let gaps: usize = assembled.iter().map(|track| track.gaps.len()).sum();
    info!(recording.id = %id, files = staged.len(), gaps, "assembled recording {id}: {}", json!(summary(&staged)));
    Ok(())
}

fn summary(staged: &[artifacts::Artifact]) -> Vec<String> {
    let one =
        |file: &artifacts::Artifact| format!("{} ms, {} bytes", file.duration_ms.unwrap_or(0), file.size);
    staged.iter().map(one).collect()
}
