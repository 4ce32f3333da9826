//! Takes pictures from the finished file, evenly spread over it between its first keyframe and its last; of sound alone, its waveform.
//! A recording does not fail for want of a picture: when the last attempt fails, it goes on without.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use shared::db::artifacts::{self, Artifact, ArtifactKind};
use shared::db::events::{self, EventType};
use shared::db::recordings::{self, Step};
use shared::id::ArtifactId;
use shared::jobs::{MakeThumbnails, UploadRecording, enqueue};
use shared::recording::{Format, Recording, Stage, THUMBNAILS_DEFAULT};
use shared::storage::StoredFile;
use tracing::warn;

use super::stage::{self, StageError, hopeless};
use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::ffmpeg::{self, THUMBNAIL_WIDTH};
use crate::ffprobe::{self, Keyframes};
use crate::fingerprint;
use crate::media::Demuxer;
use crate::process::{self, Limits};
use crate::queue::Attempt;

/// A few seeks and decodes of single frames, on a volume that may be slow.
const LIMITS: Limits = Limits { wall: Duration::from_secs(10 * 60), stall: None };

/// Runs the job.
///
/// # Errors
/// When FFmpeg, the spool or the database fails, except on the last attempt, which goes on without pictures.
pub async fn run(ctx: Ctx, job: MakeThumbnails, attempt: Attempt) -> Result<(), Failure> {
    let step = Step { stage: Stage::Thumbnails, token: job.token };
    let Some(recording) = stage::hold(&ctx, &job.recording, &step).await? else {
        return Ok(());
    };
    let result = make(&ctx, &recording, &step, &attempt).await;
    let result = match result {
        Err(StageError::Again(error)) if attempt.is_last() && !attempt.cancel.is_cancelled() => {
            warn!(recording.id = %recording.id, "going on without thumbnails: {error:#}");
            publish(&ctx, &recording, &step, &Pictures::default()).await.map_err(StageError::from)
        }
        other => other,
    };
    stage::settle(&ctx, &recording, &step, &attempt, result).await
}

async fn make(ctx: &Ctx, recording: &Recording, step: &Step, attempt: &Attempt) -> Result<(), StageError> {
    let files = artifacts::of_revision(&ctx.db, &recording.id, recording.revision).await?;
    let Some(main) = files.iter().find(|file| file.kind != ArtifactKind::Thumbnail) else {
        return Err(hopeless("no-media", "there is no file to take pictures from"));
    };
    let scratch = ctx.scratch.attempt()?;
    let media = stage::fetch(ctx, main, scratch.path()).await?.context("the file is not staged any more")?;
    let began = Instant::now();
    let pictures = draw(recording, main, &media, scratch.path(), attempt).await?;
    ctx.metrics.ffmpeg("thumbnails").inc_by(began.elapsed().as_secs_f64());
    let staged = stage_all(ctx, recording, &pictures).await?;
    Ok(publish(ctx, recording, step, &staged).await?)
}

/// Makes the pictures in `folder`, in order.
async fn draw(
    recording: &Recording,
    main: &Artifact,
    media: &Path,
    folder: &Path,
    attempt: &Attempt,
) -> anyhow::Result<Vec<PathBuf>> {
    let ending = main.storage_key.rsplit('.').next().unwrap_or_default();
    let demuxer = Demuxer::of(ending.parse::<Format>()?);
    let count = recording.options.thumbnails.unwrap_or(THUMBNAILS_DEFAULT);
    if count == 0 {
        return Ok(Vec::new());
    }
    let (command, names) = if main.width.is_some() {
        let duration = main.duration_ms.unwrap_or(0);
        // Without a keyframe there is no picture: the beginning was lost, and the end came before the next.
        let Some(keyframes) = ffprobe::keyframes(media, demuxer, duration, &attempt.cancel).await? else {
            return Ok(Vec::new());
        };
        let at = spread(count, duration, keyframes);
        let names: Vec<String> = (0..at.len()).map(picture_name).collect();
        (ffmpeg::thumbnails(media, demuxer, &at, &names), names)
    } else {
        let name = picture_name(0);
        (ffmpeg::waveform(media, demuxer, &name), vec![name])
    };
    process::run(command, folder, LIMITS, &attempt.cancel, |_| {}).await?;
    let pictures: Vec<PathBuf> = names.into_iter().map(|name| folder.join(name)).collect();
    for picture in &pictures {
        // FFmpeg returns 0 for a seek beyond the last frame and writes nothing.
        let size = std::fs::metadata(picture).map_or(0, |metadata| metadata.len());
        ensure!(size > 0, "FFmpeg wrote no picture");
    }
    Ok(pictures)
}

fn picture_name(n: usize) -> String {
    format!("thumbnail-{n:02}.jpg")
}

/// The times of the pictures: evenly over the duration, none before the first keyframe or after the last.
fn spread(count: u32, duration_ms: u64, keyframes: Keyframes) -> Vec<u64> {
    let steps = u64::from(count.saturating_sub(1).max(1));
    let even = (0..u64::from(count)).map(|n| duration_ms * n / steps);
    even.map(|ms| ms.min(keyframes.last_ms).max(keyframes.first_ms)).collect()
}

/// Pictures that wait in the spool.
#[derive(Debug, Default)]
struct Pictures {
    /// A folder of this attempt's own: one that lost its place must neither replace nor leave anything.
    folder: Option<String>,
    staged: Vec<Artifact>,
}

async fn stage_all(ctx: &Ctx, recording: &Recording, pictures: &[PathBuf]) -> anyhow::Result<Pictures> {
    let folder = stage::folder(recording);
    let mut staged = Vec::new();
    for (ordinal, picture) in (0..).zip(pictures) {
        let revision = recording.revision;
        let key = ctx.keys.key(recording, &StoredFile::Thumbnail(ordinal));
        let (spool, id, token) = (ctx.spool.clone(), recording.id.clone(), folder.clone());
        let picture = picture.clone();
        let artifact = ctx
            .blocking(move || {
                let print = fingerprint::of(&picture)?;
                let (width, height) =
                    jpeg_size(&std::fs::read(&picture)?).context("a picture without a size")?;
                let name = picture.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                spool.stage(&id, &token, name, &picture)?;
                Ok(Artifact {
                    id: ArtifactId::generate(),
                    recording: id,
                    revision,
                    kind: ArtifactKind::Thumbnail,
                    participant: None,
                    ordinal,
                    content_type: "image/jpeg".to_owned(),
                    size: print.size,
                    sha256: print.sha256,
                    duration_ms: None,
                    width: Some(width),
                    height: Some(height),
                    staged_path: Some(format!("{token}/{name}")),
                    storage_key: key,
                    stored_at: None,
                    backup: None,
                    place: None,
                })
            })
            .await?;
        ensure!(artifact.width == Some(THUMBNAIL_WIDTH), "FFmpeg wrote a picture of another size");
        staged.push(artifact);
    }
    Ok(Pictures { folder: Some(folder), staged })
}

async fn publish(ctx: &Ctx, recording: &Recording, step: &Step, pictures: &Pictures) -> anyhow::Result<()> {
    let (id, at) = (&recording.id, ctx.now());
    let next = stage::next(Stage::Upload);
    let mut tx = ctx.db.begin().await?;
    if recordings::advance(&mut tx, id, step, &next, stage::deadline(ctx)).await?.is_none() {
        drop(tx);
        return throw_away(ctx, recording, pictures).await;
    }
    for picture in &pictures.staged {
        artifacts::stage(&mut tx, picture, at).await?;
    }
    enqueue(&mut tx, &UploadRecording { recording: id.clone(), token: next.token }).await?;
    let data = json!({ "count": pictures.staged.len() });
    events::about_recording(&mut tx, EventType::ThumbnailsGenerated, &recording.call, id, data, at).await?;
    Ok(tx.commit().await?)
}

async fn throw_away(ctx: &Ctx, recording: &Recording, pictures: &Pictures) -> anyhow::Result<()> {
    let Some(folder) = pictures.folder.clone() else { return Ok(()) };
    let (spool, id) = (ctx.spool.clone(), recording.id.clone());
    ctx.blocking(move || Ok(spool.delete_staged(&id, &folder)?)).await
}

/// Width and height from a JPEG's start of frame (ITU-T T.81, B.2.2).
fn jpeg_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
    loop {
        let [0xff, marker, high, low, ..] = *rest else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if matches!(marker, 0xc0..=0xc2) {
            let side = |at: usize| Some(u32::from(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?])));
            return Some((side(7)?, side(5)?));
        }
        rest = rest.get(2 + length..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_spread_from_the_first_frame_to_the_last_keyframe() {
        let between = |first_ms, last_ms| Keyframes { first_ms, last_ms };
        assert_eq!(spread(5, 10_000, between(0, 9_100)), [0, 2_500, 5_000, 7_500, 9_100]);
        assert_eq!(spread(5, 10_000, between(6_000, 9_100)), [6_000, 6_000, 6_000, 7_500, 9_100]);
        assert_eq!(spread(1, 10_000, between(0, 9_000)), [0]);
        assert_eq!(spread(3, 400, between(0, 0)), [0, 0, 0]);
    }

    #[test]
    fn a_jpeg_tells_its_size() {
        let frame = [0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xc0, 0, 17, 8, 0, 180, 1, 64, 3];
        assert_eq!(jpeg_size(&frame), Some((320, 180)));
        assert_eq!(jpeg_size(b"no jpeg"), None);
    }
}
