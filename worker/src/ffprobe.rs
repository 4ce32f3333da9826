//! What a finished file really is. FFmpeg's exit code 0 is no proof: an output is probed and its ends are decoded before anyone
//! hears that it is there.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use ffmpeg_sidecar::command::FfmpegCommand;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::ffmpeg;
use crate::media::Demuxer;
use crate::process::{self, Limits};

/// The program; found on the fixed `PATH` that [`crate::process`] gives.
pub const FFPROBE: &str = "ffprobe";

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
/// How much of the beginning and of the end is decoded.
const DECODED_MS: u64 = 1_000;
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
    for from in [0, probed.duration_ms.saturating_sub(DECODED_MS)] {
        let folder = file.parent().unwrap_or(Path::new("/"));
        let command = ffmpeg::decode(file, demuxer, from, DECODED_MS);
        process::run(command, folder, DECODE, cancel, |_| {}).await.context("the output does not decode")?;
    }
    Ok(probed)
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
    let mut ffprobe = FfmpegCommand::new_with_path(FFPROBE);
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
