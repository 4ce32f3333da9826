//! Files as FFmpeg sees them, always with a forced demuxer.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use crate::fixtures::Fixture;
use crate::program::{Output, command, output};

/// One packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Packet {
    /// `video` or `audio`.
    pub kind: String,
    /// Presentation time, milliseconds.
    pub ms: f64,
    /// How long it lasts, milliseconds; 0 when the container does not say.
    pub lasts_ms: f64,
    /// MD5 of the payload.
    pub hash: String,
    /// Whether it can be decoded alone.
    pub key: bool,
    /// Bytes of payload.
    pub size: usize,
    /// Where its payload begins in the file, as exact as the demuxer tells: Matroska's tells the block's.
    pub at: usize,
}

/// FFmpeg's name of the container that a file's ending means.
#[must_use]
pub fn demuxer(path: &Path) -> &'static str {
    if path.extension().is_some_and(|ending| ending == "mp4") { "mov" } else { "matroska" }
}

fn ffprobe(path: &Path, demuxer: &str, args: &[&str]) -> Output {
    let mut ffprobe = command("ffprobe");
    output(ffprobe.args(["-v", "error", "-f", demuxer]).args(args).arg(path))
}

/// The packets of a file, in the file's order.
///
/// # Panics
/// When `ffprobe` does not run.
#[must_use]
pub fn packets(path: &Path, demuxer: &str) -> Vec<Packet> {
    let entries = "packet=codec_type,pts_time,duration_time,flags,size,pos,data_hash";
    let args = ["-show_packets", "-show_data_hash", "md5", "-show_entries", entries, "-of", "compact=p=0"];
    let out = ffprobe(path, demuxer, &args).stdout;
    out.replace("\n|", "|").lines().filter_map(packet).collect() // side data breaks the line
}

fn packet(line: &str) -> Option<Packet> {
    let fields: HashMap<&str, &str> = line.split('|').filter_map(|field| field.split_once('=')).collect();
    let ms = |name: &str| Some(fields.get(name)?.parse::<f64>().ok()? * 1_000.0);
    Some(Packet {
        kind: (*fields.get("codec_type")?).to_owned(),
        ms: ms("pts_time")?,
        lasts_ms: ms("duration_time").unwrap_or(0.0),
        hash: (*fields.get("data_hash")?).to_owned(),
        key: fields.get("flags")?.starts_with('K'),
        size: fields.get("size")?.parse().ok()?,
        at: fields.get("pos")?.parse().ok()?,
    })
}

/// Streams and format of a file, as `ffprobe -show_streams -show_format` tells them in JSON.
///
/// # Panics
/// When it is no media.
#[must_use]
pub fn facts(path: &Path) -> Value {
    let told = ffprobe(path, demuxer(path), &["-show_streams", "-show_format", "-of", "json"]);
    let facts: Value = serde_json::from_str(&told.stdout).unwrap_or_default();
    assert!(told.ok && facts["streams"].is_array(), "{} is no media: {}", path.display(), told.stderr);
    facts
}

/// The codecs of a file's streams, sorted.
///
/// # Panics
/// When it is no media.
#[must_use]
pub fn codecs(path: &Path) -> Vec<String> {
    let facts = facts(path);
    let streams = facts["streams"].as_array().cloned().unwrap_or_default();
    let name = |stream: Value| stream["codec_name"].as_str().unwrap_or_default().to_owned();
    let mut codecs: Vec<String> = streams.into_iter().map(name).collect();
    codecs.sort();
    codecs
}

/// What FFmpeg complains of when it decodes all of a file, without the addresses in its messages.
///
/// # Panics
/// When `ffmpeg` does not run.
#[must_use]
pub fn decode_complaints(path: &Path, demuxer: &str) -> String {
    let mut ffmpeg = command("ffmpeg");
    ffmpeg.args(["-v", "error", "-f", demuxer, "-i"]).arg(path).args(["-f", "null", "-"]);
    let decoded = output(&mut ffmpeg);
    let lines = decoded.stderr.lines().map(|line| line.split_once("] ").map_or(line, |(_, text)| text));
    // The null muxer's own, from rounding to a frame rate that such files do not have.
    let lines = lines.filter(|line| !line.contains("non monotonically increasing dts to muxer"));
    let complaints = lines.collect::<Vec<_>>().join("\n");
    if decoded.ok { complaints } else { format!("failed: {complaints}") }
}

/// Width and height of a picture, when it can be decoded.
///
/// # Panics
/// When it cannot.
#[must_use]
pub fn picture(path: &Path) -> (u64, u64) {
    let told = ffprobe(path, "image2", &["-count_frames", "-show_streams", "-of", "json"]);
    let facts: Value = serde_json::from_str(&told.stdout).unwrap_or_default();
    let stream = &facts["streams"][0];
    assert!(told.stderr.is_empty() && stream["nb_read_frames"] == "1", "no picture: {} {facts}", told.stderr);
    let side = |name: &str| stream[name].as_u64().unwrap_or(0);
    (side("width"), side("height"))
}

/// What the browser would have saved: its packets and what FFmpeg complains of in it.
#[derive(Debug, Clone)]
pub struct Reference {
    /// The packets, as any remuxer packs them: H.264 without Annex B's start codes, AV1 without temporal delimiters.
    pub packets: Vec<Packet>,
    /// See [`decode_complaints`].
    pub complaints: String,
}

impl Reference {
    /// Looks at a fixture.
    ///
    /// # Panics
    /// When FFmpeg cannot read it.
    #[must_use]
    pub fn of(fixture: &Fixture) -> Self {
        let folder = tempfile::tempdir().expect("a folder below /tmp");
        let whole = folder.path().join("whole");
        std::fs::write(&whole, fixture.whole()).expect("/tmp has room");
        let complaints = decode_complaints(&whole, fixture.demuxer());
        let mut packets = packets(&whole, fixture.demuxer());
        if fixture.name.contains("h264") || fixture.name.contains("av1") {
            repack(&mut packets, &whole, folder.path());
        }
        lengthen(&mut packets);
        Self { packets, complaints }
    }

    /// When the last of its packets ends, milliseconds.
    #[must_use]
    pub fn end_ms(&self) -> f64 {
        self.packets.iter().map(|packet| packet.ms + packet.lasts_ms).fold(0.0, f64::max)
    }
}

/// Takes payloads from a copy that FFmpeg made; places in the file stay those of the original.
fn repack(packets: &mut [Packet], file: &Path, folder: &Path) {
    let to = folder.join("packed.mkv");
    let mut ffmpeg = command("ffmpeg");
    ffmpeg.args(["-v", "error", "-f", "matroska", "-i"]).arg(file).args(["-c", "copy", "-copyts"]).arg(&to);
    let done = output(&mut ffmpeg);
    assert!(done.ok, "FFmpeg does not copy the fixture: {}", done.stderr);
    for kind in ["video", "audio"] {
        let copies = self::packets(&to, "matroska").into_iter().filter(|packet| packet.kind == kind);
        for (packet, copy) in packets.iter_mut().filter(|packet| packet.kind == kind).zip(copies) {
            packet.hash = copy.hash;
        }
    }
}

/// A packet whose container does not say how long it lasts lasts until the next one of its kind.
fn lengthen(packets: &mut [Packet]) {
    for kind in ["video", "audio"] {
        let mut of_kind: Vec<&mut Packet> = packets.iter_mut().filter(|packet| packet.kind == kind).collect();
        let next: Vec<f64> = of_kind.iter().skip(1).map(|packet| packet.ms).collect();
        for (packet, next) in of_kind.iter_mut().zip(next) {
            if packet.lasts_ms == 0.0 {
                packet.lasts_ms = next - packet.ms;
            }
        }
    }
}

/// Whether a player can seek without reading the whole file: WebM and Matroska with their cues in front of the first cluster, MP4
/// with its index in front of the media.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn is_seekable(path: &Path) -> bool {
    let bytes = std::fs::read(path).expect("the file was just downloaded");
    let elements = if demuxer(path) == "mov" { boxes(&bytes) } else { segment(&bytes) };
    let (index, media) = if demuxer(path) == "mov" {
        (u32::from_be_bytes(*b"moov"), u32::from_be_bytes(*b"mdat"))
    } else {
        (CUES, CLUSTER)
    };
    let at = |wanted: u32| elements.iter().position(|found| *found == wanted);
    matches!((at(index), at(media)), (Some(index), Some(media)) if index < media)
}

/// RFC 9559, section 5.1.
const SEGMENT: u32 = 0x1853_8067;
/// RFC 9559, section 5.1.3.
const CLUSTER: u32 = 0x1F43_B675;
/// RFC 9559, section 5.1.5.
const CUES: u32 = 0x1C53_BB6B;

/// The kinds of an MP4's boxes, in order.
fn boxes(bytes: &[u8]) -> Vec<u32> {
    let (mut found, mut rest) = (Vec::new(), bytes);
    while let Some((head, _)) = rest.split_first_chunk::<8>() {
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        found.push(word(4));
        let length = match word(0) {
            0 => break,
            1 => rest.get(8..16).and_then(|long| long.try_into().ok()).map_or(u64::MAX, u64::from_be_bytes),
            length => length.into(),
        };
        let next = usize::try_from(length).ok().filter(|length| *length >= 8);
        rest = next.and_then(|length| rest.get(length..)).unwrap_or_default();
    }
    found
}

/// The ids of a Matroska segment's children, in order.
fn segment(bytes: &[u8]) -> Vec<u32> {
    let (mut found, mut rest) = (Vec::new(), bytes);
    while let Some((id, length, head)) = element(rest) {
        let skipped = if id == SEGMENT { Some(head) } else { head.checked_add(length) };
        found.push(id);
        rest = skipped.and_then(|skipped| rest.get(skipped..)).unwrap_or_default();
    }
    found
}

/// Id, length of the payload and length of the head of the element that begins here (RFC 8794, sections 4 to 6).
fn element(bytes: &[u8]) -> Option<(u32, usize, usize)> {
    let id_length = bytes.first()?.leading_zeros() as usize + 1;
    let id = bytes.get(..id_length).filter(|_| id_length <= 4)?;
    let id = id.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
    let first = *bytes.get(id_length)?;
    let size_length = first.leading_zeros() as usize + 1;
    let size = bytes.get(id_length..id_length + size_length).filter(|_| size_length <= 8)?;
    let size = size.iter().fold(0_u64, |size, byte| size << 8 | u64::from(*byte));
    let size = size & ((1 << (7 * size_length)) - 1);
    Some((id, usize::try_from(size).unwrap_or(usize::MAX), id_length + size_length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_from_a_line() {
        let line = "codec_type=audio|pts_time=0.060000|duration_time=0.020000|size=9|pos=7|flags=K__|data_hash=MD5:ab";
        let packet = packet(line).unwrap();
        assert_eq!(
            (packet.kind.as_str(), packet.ms, packet.lasts_ms, packet.key),
            ("audio", 60.0, 20.0, true)
        );
    }

    #[test]
    fn an_index_behind_the_media_is_not_seekable() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            std::fs::write(folder.path().join(name), bytes).unwrap();
            is_seekable(&folder.path().join(name))
        };
        assert!(file("a.mp4", b"\0\0\0\x08ftyp\0\0\0\x08moov\0\0\0\x08mdat"));
        assert!(!file("b.mp4", b"\0\0\0\x08ftyp\0\0\0\x08mdat\0\0\0\x08moov"));
        let head = [0x1A, 0x45, 0xDF, 0xA3, 0x80, 0x18, 0x53, 0x80, 0x67, 0x8A];
        let (cues, cluster) = ([0x1C, 0x53, 0xBB, 0x6B, 0x80], [0x1F, 0x43, 0xB6, 0x75, 0x80]);
        assert!(file("c.webm", &[&head[..], &cues, &cluster].concat()));
        assert!(!file("d.webm", &[&head[..], &cluster, &cues].concat()));
    }
}
