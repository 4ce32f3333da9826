//! What a finished file really is. FFmpeg's exit code 0 is no proof: an output is probed and its ends are decoded before anyone
//! hears that it is there. Decoding, too, ends with 0 when not one picture came out, so pictures and complaints are counted. A
//! few complaints among pictures are no failure: hidden pictures of alpha and H.264 behind a hole make FFmpeg complain of files
//! that play, and the browser's own files are no better.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use ffmpeg_sidecar::command::FfmpegCommand;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::ffmpeg::{self, DecodeSpan};
use crate::media::Demuxer;
use crate::process::{self, Limits};

/// Reading a file's header and its cues; a file on a slow volume gets a minute.
const PROBE: Limits = Limits { wall: Duration::from_secs(60), stall: None };
/// Decoding two short spans.
const DECODE: Limits = Limits { wall: Duration::from_secs(120), stall: None };
/// A probe's answer for a handful of streams is a few kilobytes; a list of ten seconds of packets, a few hundred.
const ANSWER_MAX: usize = 8 << 20;
/// How far an output's length may be from the plan, in milliseconds: one video frame at 10 frames per second, or the last
/// packet's unknown length.
const DURATION_TOLERANCE_MS: u64 = 100;
/// The same for a file that was encoded: an encoder fills the last frame and delays the first.
const ENCODED_TOLERANCE_MS: u64 = 500;
/// How many pictures of the beginning and of the end are decoded: a second's at the usual rate.
const DECODED_PICTURES: u32 = 30;
/// How much sound is decoded at the beginning, and from the last keyframe on, which may be 7.5 s before the end.
const DECODED_SOUND_MS: u64 = 10_000;
/// How FFmpeg (5.1; 7) begins what it says of a packet that did not decode. Its other lines are no verdict: opening a file, it
/// also tries the pictures kept apart, and the null muxer rounds times.
const NOT_DECODED: [&str; 3] =
    ["Error while decoding stream", "Error submitting packet to decoder", "Decoding error"];
/// How far back the last keyframe is looked for first. Keyframes of browsers are a second to 7.5 s apart.
const LAST_KEYFRAME_WINDOW_MS: u64 = 20_000;

/// A file as ffprobe sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// Its length in milliseconds.
    pub duration_ms: u64,
    /// Number of video streams.
    pub video_streams: usize,
    /// Number of audio streams.
    pub audio_streams: usize,
    /// Pixels across of the first video stream.
    pub width: Option<u32>,
    /// Pixels down of the first video stream.
    pub height: Option<u32>,
}

/// What an output must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Its length in milliseconds.
    pub duration_ms: u64,
    /// Number of streams.
    pub streams: usize,
    /// Whether a stream was encoded anew.
    pub encoded: Encoded,
}

/// Whether a file's packets are those that came, or an encoder's, which rounds to its own frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoded {
    /// Every stream was copied.
    No,
    /// At least one stream was encoded.
    Yes,
}

/// Probes a finished file, compares it with the plan and decodes both of its ends.
///
/// # Errors
/// When the file is not what it should be.
pub async fn verify(
    file: &Path,
    demuxer: Demuxer,
    expected: Expected,
    cancel: &CancellationToken,
) -> anyhow::Result<Probed> {
    let probed = probe(file, demuxer, cancel).await?;
    let streams = probed.video_streams + probed.audio_streams;
    ensure!(
        streams == expected.streams,
        "the output has {streams} streams where {} went in",
        expected.streams
    );
    let tolerance = match expected.encoded {
        Encoded::No => DURATION_TOLERANCE_MS,
        Encoded::Yes => ENCODED_TOLERANCE_MS,
    };
    let off = probed.duration_ms.abs_diff(expected.duration_ms);
    ensure!(
        off <= tolerance,
        "the output lasts {} ms where {} ms were planned",
        probed.duration_ms,
        expected.duration_ms
    );
    let last = if probed.video_streams > 0 {
        last_keyframe_ms(file, demuxer, probed.duration_ms, cancel).await?
    } else {
        probed.duration_ms.saturating_sub(DECODED_SOUND_MS)
    };
    decodes(file, demuxer, &probed, None, cancel).await?;
    // FFmpeg may seek by the pictures kept apart, which have no keyframe, and then finds nothing: no verdict on what is shown.
    if probed.video_streams <= 1 {
        decodes(file, demuxer, &probed, Some(last), cancel).await?;
    }
    Ok(probed)
}

/// Decodes one end of a file.
async fn decodes(
    file: &Path,
    demuxer: Demuxer,
    probed: &Probed,
    from_ms: Option<u64>,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let span = DecodeSpan {
        video_streams: probed.video_streams,
        audio_streams: probed.audio_streams,
        pictures: DECODED_PICTURES,
        sound_ms: DECODED_SOUND_MS,
    };
    let folder = file.parent().unwrap_or(Path::new("/"));
    let command = ffmpeg::decode(file, demuxer, from_ms, span);
    let (mut pictures, mut heard_ms) = (0, 0);
    let ran = process::run(command, folder, DECODE, cancel, |line| {
        pictures = ffmpeg::pictures(line).unwrap_or(pictures);
        heard_ms = ffmpeg::progress_ms(line).unwrap_or(heard_ms);
    })
    .await
    .context("the output does not decode")?;
    let complaints: Vec<&str> =
        ran.stderr.lines().filter(|line| NOT_DECODED.iter().any(|text| line.contains(text))).collect();
    let came_out = if probed.video_streams > 0 { pictures } else { heard_ms };
    let place = from_ms.map_or_else(|| "its beginning".to_owned(), |ms| format!("{ms} ms"));
    ensure!(came_out > 0, "nothing of the output decodes from {place} on: {}", complaints.join("; "));
    ensure!(
        complaints.len() as u64 <= came_out,
        "the output decodes badly from {place} on: {}",
        complaints.join("; ")
    );
    if let Some(first) = complaints.first() {
        warn!("{} complaints of the output from {place} on: {first}", complaints.len());
    }
    Ok(())
}

/// Probes a file.
///
/// # Errors
/// When ffprobe cannot read it.
pub async fn probe(file: &Path, demuxer: Demuxer, cancel: &CancellationToken) -> anyhow::Result<Probed> {
    let args = ["-show_entries", "format=duration:stream=codec_type,width,height", "-of", "json"];
    let answer = ask(file, demuxer, &args, cancel).await?;
    let answer: Answer = serde_json::from_str(&answer).context("ffprobe's answer is no JSON")?;
    let seconds: f64 = answer.format.duration.context("the file has no duration")?.parse()?;
    let of_kind = |kind: &str| answer.streams.iter().filter(|stream| stream.codec_type == kind).count();
    let picture = answer.streams.iter().find(|stream| stream.codec_type == "video");
    Ok(Probed {
        duration_ms: Duration::try_from_secs_f64(seconds)?.as_millis().try_into()?,
        video_streams: of_kind("video"),
        audio_streams: of_kind("audio"),
        width: picture.and_then(|stream| stream.width),
        height: picture.and_then(|stream| stream.height),
    })
}

/// When the last video keyframe of a finished file is shown, in milliseconds: the last place that can be seeked to for a picture.
/// `-ss` beyond it, and `-sseof`, return 0 and write nothing.
///
/// # Errors
/// When ffprobe cannot read the file.
pub async fn last_keyframe_ms(
    file: &Path,
    demuxer: Demuxer,
    duration_ms: u64,
    cancel: &CancellationToken,
) -> anyhow::Result<u64> {
    let from = duration_ms.saturating_sub(LAST_KEYFRAME_WINDOW_MS);
    let interval = format!("{}%", Duration::from_millis(from).as_secs_f64());
    let args =
        ["-select_streams", "v:0", "-read_intervals", &interval, "-show_entries", "packet=pts_time,flags"];
    let answer = ask(file, demuxer, &[&args[..], &["-of", "csv=p=0"]].concat(), cancel).await?;
    let keyframes = answer.lines().filter_map(|line| {
        let (time, flags) = line.split_once(',')?;
        flags.starts_with('K').then(|| time.parse::<f64>().ok()).flatten()
    });
    // The interval begins at the keyframe before it, so there is one whenever there is video at all.
    let last = keyframes.fold(0.0, f64::max);
    Ok(Duration::try_from_secs_f64(last).unwrap_or_default().as_millis().try_into().unwrap_or(0))
}

async fn ask(
    file: &Path,
    demuxer: Demuxer,
    args: &[&str],
    cancel: &CancellationToken,
) -> anyhow::Result<String> {
    let mut ffprobe = FfmpegCommand::new_with_path("ffprobe");
    ffprobe.hide_banner().args(["-loglevel", "error", "-protocol_whitelist", "file"]);
    ffprobe.args(args).format(demuxer.as_str()).input(file.to_str().context("a path that is no UTF-8")?);
    let folder = file.parent().unwrap_or(Path::new("/"));
    Ok(process::output(Command::from(ffprobe), folder, PROBE, cancel, ANSWER_MAX).await?)
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    streams: Vec<Stream>,
    format: Container,
}

#[derive(Deserialize)]
struct Stream {
    codec_type: String,
    width: Option<u32>,
    height: Option<u32>,
}

#[derive(Deserialize)]
struct Container {
    duration: Option<String>,
}
