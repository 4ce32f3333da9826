//! What a finished file really is. FFmpeg's exit code 0 is no proof: an output is probed and its ends are decoded before anyone
//! hears that it is there. Decoding, too, ends with 0 when not one picture came out, so pictures and errors are counted. Errors
//! are expected behind a gap alone, where pictures refer to lost ones: such packets are kept where they are. FFmpeg's other lines
//! are no verdict: hidden pictures of alpha make it complain of files that play.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use ffmpeg_sidecar::command::FfmpegCommand;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::ffmpeg::{self, DecodeSpan};
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
/// How many pictures of the beginning and of the end are decoded: a second's at the usual rate.
const DECODED_PICTURES: u32 = 30;
/// How much sound is decoded at the beginning, and from the last keyframe on, which may be 7.5 s before the end.
const DECODED_SOUND_MS: u64 = 10_000;
/// How FFmpeg (5.1; 7) begins what it says of a packet that did not decode.
const NOT_DECODED: [&str; 3] =
    ["Error while decoding stream", "Error submitting packet to decoder", "Decoding error"];
/// How far from either end a keyframe is looked for. Keyframes of browsers are a second to 7.5 s apart.
const KEYFRAME_WINDOW_MS: u64 = 20_000;

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
    /// When its last packet begins: no container must say how long that lasts.
    pub last_ms: u64,
    /// Its length in milliseconds.
    pub duration_ms: u64,
    /// Number of streams.
    pub streams: usize,
    /// Whether a stream was encoded anew.
    pub encoded: Encoded,
    /// What of its pictures must decode.
    pub pictures: Pictures,
}

/// What of a file's pictures must decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pictures {
    /// All: nothing is missing from the recording.
    Whole,
    /// Some: those behind a gap may refer to lost ones.
    WithGaps,
    /// None: not one keyframe was received. Sound must, and the packets are kept.
    None,
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
    let least_ms = expected.last_ms.min(expected.duration_ms).saturating_sub(tolerance);
    ensure!(
        (least_ms..=expected.duration_ms.saturating_add(tolerance)).contains(&probed.duration_ms),
        "the output lasts {} ms where {} ms were planned",
        probed.duration_ms,
        expected.duration_ms
    );
    let shown = probed.video_streams > 0 && expected.pictures != Pictures::None;
    let last = if shown {
        let keyframes = keyframes(file, demuxer, probed.duration_ms, cancel).await?;
        keyframes.context("no picture of the output decodes")?.last_ms
    } else {
        probed.duration_ms.saturating_sub(DECODED_SOUND_MS)
    };
    let span = DecodeSpan {
        pictures: if shown { DECODED_PICTURES } else { 0 },
        sound_ms: if probed.audio_streams > 0 { DECODED_SOUND_MS } else { 0 },
    };
    if span.pictures > 0 || span.sound_ms > 0 {
        for from_ms in [None, Some(last)] {
            let decoded = decode(file, demuxer, from_ms, span, cancel).await?;
            decoded.judge(expected.pictures, from_ms)?;
        }
    }
    Ok(probed)
}

/// What came of decoding one end of a file.
struct Decoded {
    /// Pictures that came out or, where there are none, milliseconds of sound.
    came_out: u64,
    /// What FFmpeg said of the packets that did not decode.
    errors: Vec<String>,
}

impl Decoded {
    fn judge(&self, pictures: Pictures, from_ms: Option<u64>) -> anyhow::Result<()> {
        let place = from_ms.map_or_else(|| "its beginning".to_owned(), |ms| format!("{ms} ms"));
        let first = self.errors.first().map_or("no error was told", String::as_str);
        ensure!(self.came_out > 0, "nothing of the output decodes from {place} on: {first}");
        let count = self.errors.len();
        ensure!(
            count == 0 || pictures != Pictures::Whole,
            "{count} packets of the output do not decode from {place} on, and nothing is missing: {first}"
        );
        if count > 0 {
            info!("{count} packets of an output with gaps do not decode from {place} on: {first}");
        }
        Ok(())
    }
}

/// Decodes one end of a file; from the beginning without a time.
async fn decode(
    file: &Path,
    demuxer: Demuxer,
    from_ms: Option<u64>,
    span: DecodeSpan,
    cancel: &CancellationToken,
) -> anyhow::Result<Decoded> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let command = ffmpeg::decode(file, demuxer, from_ms, span);
    let (mut pictures, mut heard_ms) = (0, 0);
    let ran = process::run(command, folder, DECODE, cancel, |line| {
        pictures = ffmpeg::pictures(line).unwrap_or(pictures);
        heard_ms = ffmpeg::progress_ms(line).unwrap_or(heard_ms);
    })
    .await
    .context("the output does not decode")?;
    let did_not_decode = |line: &&str| NOT_DECODED.iter().any(|text| line.contains(text));
    let errors = ran.stderr.lines().filter(did_not_decode).map(str::to_owned).collect();
    Ok(Decoded { came_out: if span.pictures > 0 { pictures } else { heard_ms }, errors })
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

/// Where a finished file's video can be seeked to. `-ss` beyond the last keyframe, and `-sseof`, return 0 and write nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyframes {
    /// When the first is shown, in milliseconds: late where the beginning was lost.
    pub first_ms: u64,
    /// When the last is shown, in milliseconds.
    pub last_ms: u64,
}

/// Looks for the first and the last keyframe; `None` when there is none at all.
///
/// # Errors
/// When ffprobe cannot read the file.
pub async fn keyframes(
    file: &Path,
    demuxer: Demuxer,
    duration_ms: u64,
    cancel: &CancellationToken,
) -> anyhow::Result<Option<Keyframes>> {
    let seconds = |ms| Duration::from_millis(ms).as_secs_f64();
    let window = seconds(KEYFRAME_WINDOW_MS);
    let early = keyframe_times(file, demuxer, &format!("%+{window}"), cancel).await?;
    // The interval begins at the keyframe before it, wherever there is one.
    let from = seconds(duration_ms.saturating_sub(KEYFRAME_WINDOW_MS));
    let late = keyframe_times(file, demuxer, &format!("{from}%"), cancel).await?;
    let all = || early.iter().chain(&late).copied();
    Ok(all().min().zip(all().max()).map(|(first_ms, last_ms)| Keyframes { first_ms, last_ms }))
}

/// The times of an interval's video keyframes in milliseconds.
async fn keyframe_times(
    file: &Path,
    demuxer: Demuxer,
    interval: &str,
    cancel: &CancellationToken,
) -> anyhow::Result<Vec<u64>> {
    let args =
        ["-select_streams", "v:0", "-read_intervals", interval, "-show_entries", "packet=pts_time,flags"];
    let answer = ask(file, demuxer, &[&args[..], &["-of", "csv=p=0"]].concat(), cancel).await?;
    let time_ms = |line: &str| {
        let (time, flags) = line.split_once(',')?;
        let time = Duration::try_from_secs_f64(time.parse().ok()?).ok()?;
        flags.starts_with('K').then(|| time.as_millis().try_into().ok()).flatten()
    };
    Ok(answer.lines().filter_map(time_ms).collect())
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
