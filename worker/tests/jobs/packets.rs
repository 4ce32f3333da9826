//! What of a fixture is in a finished file: packets by their payload, stream and time, and what the loss of a blob takes away.

use std::ops::Range;
use std::path::Path;
use std::process::Command;

use crate::rtp_sender;

/// Containers round times to a millisecond, each for itself.
const SAME_MS: f64 = 1.01;
/// How far beside a lost blob a packet may begin and yet have been touched: its block's head, and that of the cluster that times it.
const HEADS: usize = 64;

/// One packet.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    /// `v:0` or `a:0`.
    pub(crate) stream: &'static str,
    pub(crate) ms: f64,
    lasts_ms: f64,
    at: usize,
    size: usize,
    pub(crate) hash: String,
}

/// The packets of a file's first video and first audio stream.
pub(crate) fn of(file: &Path) -> Vec<Packet> {
    ["v:0", "a:0"].into_iter().flat_map(|stream| of_stream(file, stream)).collect()
}

/// When the last packet of a stream of a file is, milliseconds.
pub(crate) fn last_ms(file: &Path, stream: &'static str) -> f64 {
    of_stream(file, stream).last().unwrap().ms
}

/// When the packets of a stream of a file are, milliseconds.
pub(crate) fn times_ms(file: &Path, stream: &'static str) -> Vec<f64> {
    of_stream(file, stream).into_iter().map(|packet| packet.ms).collect()
}

/// What a stream of a file holds, by payload.
pub(crate) fn hashes(file: &Path, stream: &'static str) -> Vec<String> {
    of_stream(file, stream).into_iter().map(|packet| packet.hash).collect()
}

#[expect(clippy::disallowed_methods, reason = "a test looks at files with FFmpeg's own tools")]
fn of_stream(file: &Path, stream: &'static str) -> Vec<Packet> {
    let entries = "packet=pts_time,duration_time,size,pos,data_hash";
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error", "-f", demuxer(file), "-select_streams", stream, "-show_packets"]);
    ffprobe.args(["-show_data_hash", "md5", "-show_entries", entries, "-of", "compact=p=0:nk=1"]);
    let told = String::from_utf8(ffprobe.arg(file).output().unwrap().stdout).unwrap();
    let mut packets: Vec<Packet> = told.lines().filter_map(|line| packet(stream, line)).collect();
    // A packet whose container does not say how long it lasts lasts until the next one.
    for n in 1..packets.len() {
        if packets[n - 1].lasts_ms == 0.0 {
            packets[n - 1].lasts_ms = packets[n].ms - packets[n - 1].ms;
        }
    }
    packets
}

fn demuxer(file: &Path) -> &'static str {
    if file.extension().is_some_and(|ending| ending == "mp4") { "mov" } else { "matroska" }
}

fn packet(stream: &'static str, line: &str) -> Option<Packet> {
    let [ms, lasts_ms, size, at, hash] = line.split('|').take(5).collect::<Vec<_>>().try_into().ok()?;
    let in_ms = |seconds: &str| seconds.parse::<f64>().map(|seconds| seconds * 1_000.0);
    Some(Packet {
        stream,
        ms: in_ms(ms).ok()?,
        lasts_ms: in_ms(lasts_ms).unwrap_or(0.0),
        at: at.parse().ok()?,
        size: size.parse().ok()?,
        hash: hash.to_owned(),
    })
}

/// The packets of a browser's own Matroska file with payloads as any remuxer packs them: H.264 without Annex B's start codes,
/// AV1 without temporal delimiters. Places are those in the browser's file.
#[expect(clippy::disallowed_methods, reason = "a test remuxes with FFmpeg as the product does")]
pub(crate) fn as_remuxed(file: &Path) -> Vec<Packet> {
    let copy = file.with_extension("copy.mkv");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-f", "matroska", "-i"]).arg(file).args(["-c", "copy", "-copyts"]).arg(&copy);
    assert!(ffmpeg.status().unwrap().success(), "{}", file.display());
    let mut packets = of(file);
    for (packet, copied) in packets.iter_mut().zip(of(&copy)) {
        packet.hash = copied.hash;
    }
    packets
}

/// Asserts that a file has every packet that the lost bytes did not touch, in its own stream and at its time, and no other.
/// Returns the span of what is missing, milliseconds.
pub(crate) fn assert_only_lost(
    what: &str,
    wanted: &[Packet],
    mut found: Vec<Packet>,
    lost: &Range<usize>,
) -> (f64, f64) {
    let mut span = (f64::INFINITY, 0.0_f64);
    for packet in wanted {
        let same = |other: &Packet| {
            other.stream == packet.stream
                && other.hash == packet.hash
                && (other.ms - packet.ms).abs() <= SAME_MS
        };
        if let Some(n) = found.iter().position(same) {
            found.swap_remove(n);
            continue;
        }
        let touched = packet.at < lost.end + HEADS && packet.at + packet.size + HEADS > lost.start;
        assert!(touched, "{what}: {packet:?} is missing, which was not lost");
        span = (span.0.min(packet.ms), span.1.max(packet.ms + packet.lasts_ms));
    }
    assert!(found.is_empty(), "{what}: {found:?} were not recorded, or not then");
    span
}

/// The codecs of a stored file's streams, in their order.
#[expect(clippy::disallowed_methods, reason = "a test looks at files with FFmpeg's own tools")]
pub(crate) fn codecs(file: &Path) -> Vec<String> {
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error", "-f", "matroska", "-show_entries", "stream=codec_name", "-of", "csv=p=0"]);
    let told = String::from_utf8(ffprobe.arg(file).output().unwrap().stdout).unwrap();
    told.lines().map(str::to_owned).collect()
}

/// How like a picture of one file, filtered, is to the one that an edge has had of it by then, all of it: decibels (PSNR). They must be
/// of one size.
#[expect(clippy::disallowed_methods, reason = "a test looks at files with FFmpeg's own tools")]
pub(crate) fn likeness(file: &Path, filter: &str, captured: &Path, at: u32) -> f64 {
    let mut ffmpeg = Command::new("ffmpeg");
    // A millisecond less, to which times are rounded.
    let under_way_ms = u32::try_from(rtp_sender::DELAY_US / 1_000).unwrap() - 1;
    for (file, ms) in [(file, at * 1_000), (captured, at * 1_000 + under_way_ms)] {
        ffmpeg.args(["-seek_timestamp", "1", "-ss", &format!("{ms}ms"), "-f", demuxer(file), "-i"]).arg(file);
    }
    let same = "format=yuv420p,setpts=PTS-STARTPTS";
    let graph = format!("[0:v:0]{filter},{same}[a];[1:v:0]{same}[b];[a][b]psnr");
    ffmpeg.args(["-filter_complex", &graph, "-frames:v", "1", "-f", "null", "-"]);
    let told = String::from_utf8(ffmpeg.output().unwrap().stderr).unwrap();
    let average = told.split("average:").nth(1).unwrap_or_else(|| panic!("{told}"));
    average.split_whitespace().next().unwrap().parse().unwrap()
}
