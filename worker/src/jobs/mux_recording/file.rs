//! A participant's assembled tracks become one finished file: planned, muxed, probed, and staged in the spool.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use shared::db::artifacts::{Artifact, ArtifactKind};
use shared::id::{ArtifactId, UserId};
use shared::recording::{Format, Recording};
use shared::storage::{Fingerprint, KeyTemplate, StoredFile};
use thiserror::Error;
use tracing::warn;

use super::super::stage::{StageError, hopeless};
use super::track::AssembledTrack;
use crate::ctx::Ctx;
use crate::ffmpeg::{self, MuxInput};
use crate::ffprobe::{self, Expected, Pictures, Probed};
use crate::fingerprint;
use crate::media::{self, Demuxer, MuxPlan, NoPlan, Turn};
use crate::process::{self, Limits, ProcessError};
use crate::queue::Attempt;

/// FFmpeg says how far it is twice a second, except while it moves an MP4's index to the front of a file of any size.
const LIMITS: Limits =
    Limits { wall: Duration::from_secs(24 * 3600), stall: Some(Duration::from_secs(15 * 60)) };

/// What a file is among a recording's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The recording itself.
    Recording,
    /// One participant's of several, by their order.
    Participant(usize),
}

/// A file that was made, probed and fingerprinted.
#[derive(Debug)]
pub(super) struct Finished {
    path: PathBuf,
    participant: UserId,
    place: Place,
    format: Format,
    probed: Probed,
    print: Fingerprint,
    /// Its pictures could not be turned upright.
    pub(super) lies_sideways: bool,
}

/// A file was made, and is not what it should be.
#[derive(Debug, Error)]
#[error("the output is not as planned")]
struct NotAsPlanned;

/// What one file is made of and for.
pub(super) struct Making<'a> {
    pub(super) ctx: &'a Ctx,
    pub(super) recording: &'a Recording,
    pub(super) participant: &'a UserId,
    pub(super) tracks: &'a [&'a AssembledTrack],
    pub(super) place: Place,
    /// The attempt's.
    pub(super) folder: &'a Path,
    pub(super) attempt: &'a Attempt,
    /// Is told how much of it is done, 0 to 1.
    pub(super) report: &'a (dyn Fn(f64) + Send + Sync),
}

impl Making<'_> {
    /// Makes the file. Where pictures are encoded because they must be turned, and no attempt can, they are left as they came: what
    /// a participant's browser says of its camera costs nobody a file.
    ///
    /// # Errors
    /// When what was asked for cannot be, or FFmpeg fails, or its output is not what it should be.
    pub(super) async fn finish(&self) -> Result<Finished, StageError> {
        let upright = inputs(self.tracks);
        let plan = self.plan(&upright)?;
        let error = match self.make(&upright, &plan).await {
            Ok(finished) => return Ok(finished),
            Err(error) => error,
        };
        let as_they_came: Vec<_> =
            upright.into_iter().map(|input| MuxInput { turn: Turn::None, ..input }).collect();
        let plain = self.plan(&as_they_came)?;
        if plain == plan || !self.attempt.is_last() || !is_of_the_media(&error) {
            return Err(error.into());
        }
        let (id, participant) = (&self.recording.id, self.participant);
        warn!(recording.id = %id, "pictures of {participant} in recording {id} cannot be turned and stay as they came: {error:#}");
        Ok(Finished { lies_sideways: true, ..self.make(&as_they_came, &plain).await? })
    }

    fn plan(&self, inputs: &[MuxInput]) -> Result<MuxPlan, StageError> {
        let streams: Vec<_> = self.tracks.iter().map(|track| track.streams.clone()).collect();
        let turns: Vec<_> = inputs.iter().map(|input| &input.turn).collect();
        let plan = media::plan(&streams, &turns, &self.recording.options, &self.ctx.media);
        plan.map_err(|error| no_plan(&error))
    }

    async fn make(&self, inputs: &[MuxInput], plan: &MuxPlan) -> anyhow::Result<Finished> {
        let duration_ms = inputs.iter().map(MuxInput::end_ms).max().unwrap_or(0);
        let name = match self.place {
            Place::Recording => format!("recording.{}", plan.format.as_str()),
            Place::Participant(n) => format!("participant-{n}.{}", plan.format.as_str()),
        };
        let path = self.folder.join(&name);
        self.run_ffmpeg(inputs, plan, &name, duration_ms).await?;
        let began = Instant::now();
        let (streams, pictures) = (plan.streams.len(), pictures(self.tracks));
        let lasts = inputs.iter().zip(self.tracks).map(|(input, track)| input.offset_ms + track.last_ms);
        let last_ms = lasts.max().unwrap_or(0);
        let expected = Expected { last_ms, duration_ms, streams, encoded: plan.encodes(), pictures };
        let cancel = &self.attempt.cancel;
        let verified = ffprobe::verify(&path, Demuxer::of(plan.format), expected, cancel).await;
        let probed = verified.map_err(|error| match error.downcast::<ProcessError>() {
            Ok(error) => error.into(),
            Err(error) => error.context(NotAsPlanned),
        })?;
        self.ctx.metrics.ffmpeg("verify").inc_by(began.elapsed().as_secs_f64());
        let made = path.clone();
        let print = self.ctx.blocking(move || Ok(fingerprint::of(&made)?)).await?;
        let (participant, place, format) = (self.participant.clone(), self.place, plan.format);
        Ok(Finished { path, participant, place, format, probed, print, lies_sideways: false })
    }

    async fn run_ffmpeg(
        &self,
        inputs: &[MuxInput],
        plan: &MuxPlan,
        name: &str,
        duration_ms: u64,
    ) -> anyhow::Result<()> {
        let command = ffmpeg::mux(inputs, plan, self.ctx.ffmpeg_threads, name);
        let began = Instant::now();
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more than a float has")]
        let ran = process::run(command, self.folder, LIMITS, &self.attempt.cancel, |line| {
            if let Some(at) = ffmpeg::progress_ms(line) {
                (self.report)((at as f64 / duration_ms.max(1) as f64).min(1.0));
            }
        })
        .await;
        self.ctx.metrics.ffmpeg("mux").inc_by(began.elapsed().as_secs_f64());
        ran?;
        Ok(())
    }
}

/// Whether a file could not be made for what is in it. A disk that is full, a program that was killed or took too long: the next
/// attempt may be luckier.
fn is_of_the_media(error: &anyhow::Error) -> bool {
    let exit = error.downcast_ref::<ProcessError>();
    let by_itself = matches!(exit, Some(ProcessError::Exit { status, .. }) if status.code().is_some());
    by_itself || error.is::<NotAsPlanned>()
}

/// What of a participant's pictures must decode.
fn pictures(tracks: &[&AssembledTrack]) -> Pictures {
    if tracks.iter().all(|track| track.keyframes == 0) {
        return Pictures::None;
    }
    if tracks.iter().all(|track| track.gaps.is_empty()) { Pictures::Whole } else { Pictures::WithGaps }
}

fn no_plan(error: &NoPlan) -> StageError {
    let code = match error {
        NoPlan::NoStreams => "no-media",
        NoPlan::CannotCopy { .. } => "codec-not-in-format",
    };
    hopeless(code, error.to_string())
}

/// The tracks of one person side by side: each begins as much later as its recorder did.
fn inputs(tracks: &[&AssembledTrack]) -> Vec<MuxInput> {
    let first = tracks.iter().map(|track| track.began_ms).min().unwrap_or(0);
    let input = |track: &&AssembledTrack| MuxInput {
        file: track.file.clone().unwrap_or_default(),
        offset_ms: track.began_ms.abs_diff(first),
        duration_ms: track.duration_ms,
        delays_ms: track.delays_ms.clone(),
        sizes: track.sizes.clone(),
        turn: track.turn.clone(),
    };
    tracks.iter().map(input).collect()
}

/// Moves the files to the spool and says what they are.
///
/// # Errors
/// When they cannot be moved.
pub(super) async fn stage_all(
    ctx: &Ctx,
    recording: &Recording,
    token: &str,
    files: Vec<Finished>,
) -> anyhow::Result<Vec<Artifact>> {
    let (spool, id, token) = (ctx.spool.clone(), recording.id.clone(), token.to_owned());
    let (keys, owner) = (ctx.keys.clone(), recording.clone());
    ctx.blocking(move || {
        let mut staged = Vec::new();
        for file in files {
            let name = file.path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            spool.stage(&id, &token, &name, &file.path)?;
            staged.push(artifact(&keys, &owner, format!("{token}/{name}"), file));
        }
        Ok(staged)
    })
    .await
}

fn artifact(keys: &KeyTemplate, recording: &Recording, staged_path: String, file: Finished) -> Artifact {
    let (kind, ordinal, name) = match file.place {
        Place::Recording => (ArtifactKind::Recording, 0, StoredFile::Media(file.format)),
        Place::Participant(n) => {
            let name = StoredFile::Participant(file.participant.clone(), file.format);
            (ArtifactKind::Participant, u32::try_from(n).unwrap_or(u32::MAX), name)
        }
    };
    let has_video = file.probed.video_streams > 0;
    Artifact {
        id: ArtifactId::generate(),
        recording: recording.id.clone(),
        revision: recording.revision,
        kind,
        participant: Some(file.participant),
        ordinal,
        content_type: if has_video { file.format.content_type() } else { file.format.audio_content_type() }
            .to_owned(),
        size: file.print.size,
        sha256: file.print.sha256,
        duration_ms: Some(file.probed.duration_ms),
        width: file.probed.width,
        height: file.probed.height,
        staged_path: Some(staged_path),
        storage_key: keys.key(recording, &name),
        stored_at: None,
        backup: None,
        place: None,
    }
}
