//! FFmpeg's arguments, as pure functions of what is wanted. Running them is [`crate::process`]'s business.
//!
//! Measured, and so held to:
//! - **Every input's demuxer is forced.** A file named `.webm` that holds `ffconcat version 1.0` reads other files otherwise, even
//!   under a protocol whitelist.
//! - `-copyts`: without it FFmpeg moves the first packet to 0, and a recording whose first chunk was lost is mistimed as a whole.
//! - `-copyinkf`: without it the pictures between a hole and the next keyframe at the beginning of a file are dropped.
//! - Reading Matroska takes `CodecDelay` off the times of audio, writing it does not put it back (5.1): copied Opus with a
//!   pre-skip, which Firefox records, would be 7 ms early. `setts` puts it back.
//! - `-fflags +bitexact`: without it Matroska files get random ids, and the same input gives other bytes each time.
//! - Without a time base of their own (`-enc_time_base`, `-fps_mode vfr`) encoded pictures are moved to the rate of the first ones, and
//!   what comes faster is dropped.
//! - `-cues_to_front` alone writes the file and then moves all of it to make room for the index. `-reserve_index_space` keeps
//!   the room from the beginning; where it was too little, FFmpeg moves the file after all, and the result is to the byte what
//!   it is without.
//! - Copying 1 h (572 MB) to WebM with the index moved to the front costs 1.4 CPU seconds; to MP4 with `+faststart` 1.3.

mod pictures;

use std::path::Path;
use std::process::Command;

use ffmpeg_sidecar::command::FfmpegCommand;

use crate::media::{AudioPlan, Demuxer, MuxPlan, Turn};
use shared::recording::Format;

/// The program; found on the fixed `PATH` that [`crate::process`] gives.
pub const FFMPEG: &str = "ffmpeg";

/// Room for the index of a Matroska file, per second of media: an entry is 21 bytes within the first hour and 25 at most, and
/// there is one for each keyframe, which clients are asked to send once a second.
const INDEX_BYTES_PER_SECOND: u64 = 24;

/// Room for what the index holds besides, and for the short recording whose keyframes come faster.
const INDEX_BYTES_AT_LEAST: u64 = 1024;

/// Room for the index at most, a day's: offsets come from clients' clocks, and one that is years off must not fill the disk.
const INDEX_BYTES_AT_MOST: u64 = INDEX_BYTES_PER_SECOND * 24 * 3600;

/// An assembled track, as an input of the mux.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MuxInput {
    /// File name within the job's folder.
    pub file: String,
    /// How much later than the participant's first track it begins, in milliseconds.
    pub offset_ms: u64,
    /// Its length, in milliseconds.
    pub duration_ms: u64,
    /// For each of its streams, how much of its beginning a decoder throws away, in milliseconds (`CodecDelay`).
    pub delays_ms: Vec<u64>,
    /// For each of its streams, width and height that hold all of its pictures; 0 where none tells its size.
    pub sizes: Vec<(u32, u32)>,
    /// How its pictures must be turned.
    pub turn: Turn,
}

impl MuxInput {
    /// When it ends, in milliseconds after the participant's first track begins.
    #[must_use]
    pub fn end_ms(&self) -> u64 {
        self.offset_ms.saturating_add(self.duration_ms)
    }
}

/// Muxes a participant's assembled tracks into one finished file.
#[must_use]
pub fn mux(inputs: &[MuxInput], plan: &MuxPlan, threads: usize, output: &str) -> Command {
    let mut ffmpeg = quiet();
    ffmpeg.arg("-copyts");
    for input in inputs {
        if input.offset_ms > 0 {
            ffmpeg.args(["-itsoffset", &format!("{}ms", input.offset_ms)]);
        }
        ffmpeg.args(["-protocol_whitelist", "file"]).format(Demuxer::Matroska.as_str()).input(&input.file);
    }
    for (input, stream) in &plan.streams {
        ffmpeg.map(format!("{input}:{stream}"));
    }
    pictures::encode(&mut ffmpeg, inputs, plan, threads);
    audio(&mut ffmpeg, &plan.audio);
    restore_delays(&mut ffmpeg, inputs, plan);
    let exact = ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact"];
    ffmpeg.args(["-copyinkf", "-map_metadata", "-1"]).args(exact);
    ffmpeg.args(["-max_muxing_queue_size", "4096", "-avoid_negative_ts", "disabled"]);
    match plan.format {
        Format::Webm => index_in_front(&mut ffmpeg, inputs).format("webm"),
        Format::Mkv => index_in_front(&mut ffmpeg, inputs).format("matroska"),
        Format::Mp4 => ffmpeg.args(["-movflags", "+faststart"]).format("mp4"),
    };
    ffmpeg.overwrite().output(output);
    ffmpeg.into()
}

/// The index of a Matroska file before its media, where a player finds it at once.
fn index_in_front<'a>(ffmpeg: &'a mut FfmpegCommand, inputs: &[MuxInput]) -> &'a mut FfmpegCommand {
    let seconds = inputs.iter().map(MuxInput::end_ms).max().unwrap_or(0) / 1000;
    let room = seconds.saturating_mul(INDEX_BYTES_PER_SECOND).saturating_add(INDEX_BYTES_AT_LEAST);
    let room = room.min(INDEX_BYTES_AT_MOST).to_string();
    ffmpeg.args(["-reserve_index_space", &room, "-cues_to_front", "1"])
}

fn restore_delays(ffmpeg: &mut FfmpegCommand, inputs: &[MuxInput], plan: &MuxPlan) {
    if plan.audio != AudioPlan::Copy || plan.format == Format::Mp4 {
        return;
    }
    for (n, (input, stream)) in plan.streams.iter().enumerate() {
        let delay = inputs.get(*input).and_then(|input| input.delays_ms.get(*stream)).copied().unwrap_or(0);
        if delay > 0 {
            ffmpeg.args([format!("-bsf:{n}"), format!("setts=ts=TS+{delay}")]);
        }
    }
}

fn audio(ffmpeg: &mut FfmpegCommand, plan: &AudioPlan) {
    match plan {
        AudioPlan::Copy => ffmpeg.codec_audio("copy"),
        // Without async a gap vanishes and everything after it is early.
        AudioPlan::Encode { encoder, bitrate } => ffmpeg.codec_audio(encoder.as_str()).args([
            "-b:a",
            &bitrate.to_string(),
            "-filter:a",
            "aresample=48000:async=1",
        ]),
    };
}

/// Without it, `-ss` counts from the file's first packet: where the first chunk was lost, every picture is that much late and the
/// last one is beyond the end, where FFmpeg returns 0 and writes nothing.
const BY_TIMESTAMP: [&str; 2] = ["-seek_timestamp", "1"];

/// Width of a thumbnail in pixels; the height follows the picture and is even.
pub const THUMBNAIL_WIDTH: u32 = 320;

/// Takes one picture at each of `at_ms` from a finished file: one process, one input each with its own seek in front, because
/// seeking in a finished file costs 0.7 s for five pictures of an hour, and decoding up to them 213 s.
#[must_use]
pub fn thumbnails(file: &Path, demuxer: Demuxer, at_ms: &[u64], names: &[String]) -> Command {
    let mut ffmpeg = quiet();
    for at in at_ms {
        ffmpeg
            .args(BY_TIMESTAMP)
            .seek(seconds(*at))
            .args(["-protocol_whitelist", "file"])
            .format(demuxer.as_str())
            .input(path(file));
    }
    for (n, name) in names.iter().enumerate() {
        ffmpeg.map(format!("{n}:v:0")).frames(1);
        ffmpeg.args([
            "-filter:v",
            &format!("scale={THUMBNAIL_WIDTH}:-2"),
            "-q:v",
            "3",
            "-pix_fmt",
            "yuvj420p",
        ]);
        ffmpeg.args(["-threads", "1", "-fflags", "+bitexact"]).format("image2").args(["-update", "1"]);
        ffmpeg.overwrite().output(name);
    }
    ffmpeg.into()
}

/// Draws the sound of a finished file, in place of pictures that it does not have.
#[must_use]
pub fn waveform(file: &Path, demuxer: Demuxer, name: &str) -> Command {
    let mut ffmpeg = quiet();
    ffmpeg.args(["-protocol_whitelist", "file"]).format(demuxer.as_str()).input(path(file));
    let draw = format!(
        "[0:a:0]aformat=channel_layouts=mono,showwavespic=s={THUMBNAIL_WIDTH}x180:colors=0x3b82f6[p]"
    );
    ffmpeg.filter_complex(draw).map("[p]").frames(1).args(["-q:v", "3", "-pix_fmt", "yuvj420p"]);
    ffmpeg.format("image2").args(["-update", "1"]).overwrite().output(name);
    ffmpeg.into()
}

/// Decodes what a player shows of a finished file from a time on, and throws it away: the proof that it plays. Every complaint is
/// a line on stderr; how many pictures came out is in [`pictures`]. `from_ms` is `None` for the beginning, wherever that is.
#[must_use]
pub fn decode(file: &Path, demuxer: Demuxer, from_ms: Option<u64>, span: DecodeSpan) -> Command {
    let mut ffmpeg = quiet();
    ffmpeg.args(["-loglevel", "repeat+error"]);
    if let Some(from_ms) = from_ms {
        ffmpeg.args(BY_TIMESTAMP).seek(seconds(from_ms));
    }
    ffmpeg.args(["-protocol_whitelist", "file"]).format(demuxer.as_str()).input(path(file));
    if span.pictures > 0 {
        ffmpeg.map("0:v:0").frames(span.pictures).args(["-f", "null"]).output("-");
    }
    if span.sound_ms > 0 {
        ffmpeg.map("0:a").args(["-t", &seconds(span.sound_ms), "-f", "null"]).output("-");
    }
    ffmpeg.into()
}

/// What is decoded at either end of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeSpan {
    /// So many pictures of the first video stream at most; 0 for none.
    pub pictures: u32,
    /// So much of all sound at most, in milliseconds; 0 for none.
    pub sound_ms: u64,
}

/// How many pictures came out, from a line of `-progress`.
#[must_use]
pub fn pictures(line: &str) -> Option<u64> {
    line.strip_prefix("frame=")?.trim().parse().ok()
}

/// Progress on stdout, errors alone on stderr, no keyboard.
fn quiet() -> FfmpegCommand {
    let mut command = FfmpegCommand::new_with_path(FFMPEG);
    command.hide_banner().args(["-nostdin", "-loglevel", "error", "-nostats", "-progress", "pipe:1"]);
    command
}

/// How far FFmpeg is, from a line of `-progress`, in milliseconds of output.
#[must_use]
pub fn progress_ms(line: &str) -> Option<u64> {
    line.strip_prefix("out_time_us=")?.trim().parse::<u64>().ok().map(|us| us / 1000)
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

fn path(file: &Path) -> &str {
    // Paths are built from our own ids and settings; one that is no UTF-8 was refused when the settings were read.
    file.to_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::VideoPlan;

    fn room(offset_ms: u64, duration_ms: u64) -> String {
        let input = MuxInput {
            file: "a.mkv".into(),
            offset_ms,
            duration_ms,
            delays_ms: Vec::new(),
            sizes: Vec::new(),
            turn: Turn::None,
        };
        let (video, audio) = (vec![VideoPlan::Copy], AudioPlan::Copy);
        let plan = MuxPlan { format: Format::Webm, streams: vec![(0, 0)], video, audio };
        let command = mux(&[input], &plan, 1, "out.webm");
        let mut args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
        args.find(|arg| arg == "-reserve_index_space").unwrap();
        args.next().unwrap()
    }

    #[test]
    fn room_for_the_index_grows_with_the_file() {
        assert_eq!(room(0, 900), "1024");
        assert_eq!(room(600_000, 3_000_000), "87424");
    }

    #[test]
    fn a_clock_that_is_years_off_reserves_no_more_than_a_day() {
        assert_eq!(room(u64::MAX, 1), "2073600");
    }
}
