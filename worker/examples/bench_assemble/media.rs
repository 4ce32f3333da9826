//! Makes the media that is measured: a short clip that FFmpeg encodes (VP8 at 1.2 Mb/s, Opus), looped with rewritten times,
//! as one file and as blobs of a second that end one byte inside an element, as Chromium's do.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Length of the clip that is looped: long enough that its keyframes weigh as in a recording.
const CLIP_SECONDS: u64 = 10;

/// The blob of this second in the folder.
pub(crate) fn blob(folder: &Path, second: u64) -> PathBuf {
    folder.join(format!("{second:06}.bin"))
}

/// The whole recording as one file.
pub(crate) fn whole(folder: &Path) -> PathBuf {
    folder.join("whole.webm")
}

/// Makes `seconds` of recording as `NNNNNN.bin` and as `whole.webm`; returns its size in bytes.
pub(crate) fn generate(folder: &Path, seconds: u64) -> io::Result<u64> {
    let clip = std::fs::read(encode_clip(folder)?)?;
    let (head, blocks) = parse(&clip);
    let mut file = BufWriter::new(File::create(whole(folder))?);
    let (mut next, mut carried, mut total, mut index) = (head, Vec::new(), 0u64, 0u64);
    for second in 0..seconds {
        let (turn, within) = (second / CLIP_SECONDS, second % CLIP_SECONDS);
        next.extend_from_slice(&[
            0x1F, 0x43, 0xB6, 0x75, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xE7, 0x84,
        ]);
        let base = (turn * CLIP_SECONDS + within) * 1_000;
        next.extend_from_slice(&u32::try_from(base).unwrap_or(u32::MAX).to_be_bytes());
        for block in blocks.iter().filter(|block| block.ms / 1_000 == within) {
            let relative = i16::try_from(block.ms % 1_000).unwrap_or(0);
            let size = u32::try_from(block.data.len() + 4).unwrap_or(0) | 0x1000_0000;
            next.push(0xA3);
            next.extend_from_slice(&size.to_be_bytes());
            next.push(block.track);
            next.extend_from_slice(&relative.to_be_bytes());
            next.push(block.flags);
            next.extend_from_slice(&block.data);
        }
        file.write_all(&next)?;
        total += next.len() as u64;
        let mut bytes = std::mem::take(&mut carried);
        bytes.append(&mut next);
        if second + 1 < seconds {
            bytes.push(0x1F); // the next blob's first byte comes early
            carried = Vec::new();
        }
        let skip = usize::from(index > 0);
        std::fs::write(blob(folder, index), bytes.get(skip..).unwrap_or_default())?;
        index += 1;
    }
    file.flush()?;
    Ok(total)
}

#[expect(clippy::disallowed_methods, reason = "a bench encodes its clip with FFmpeg")]
fn encode_clip(folder: &Path) -> io::Result<PathBuf> {
    let clip = folder.join("clip.webm");
    let length = CLIP_SECONDS.to_string();
    let status = Command::new("ffmpeg")
        .args([
            "-y",
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=1280x720:rate=30,noise=alls=12:allf=t",
        ])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", &length, "-c:v", "libvpx"])
        .args([
            "-deadline",
            "realtime",
            "-cpu-used",
            "16",
            "-b:v",
            "1200k",
            "-minrate",
            "1200k",
            "-maxrate",
            "1200k",
        ])
        .args(["-g", "30", "-c:a", "libopus", "-b:a", "64k"])
        .arg(&clip)
        .status()?;
    if status.success() { Ok(clip) } else { Err(io::Error::other("ffmpeg could not encode the clip")) }
}

/// A block of the clip.
struct ClipBlock {
    ms: u64,
    track: u8,
    flags: u8,
    data: Vec<u8>,
}

/// The clip's head, up to its first cluster with the segment's size made unknown, and its blocks. Trusts FFmpeg's file.
fn parse(clip: &[u8]) -> (Vec<u8>, Vec<ClipBlock>) {
    const MASTERS: [u32; 3] = [0x1853_8067, 0x1F43_B675, 0xA0];
    let (mut at, mut base, mut head, mut blocks) = (0, 0, Vec::new(), Vec::new());
    while let Some((id, id_len)) = number(clip, at, Marker::Kept) {
        let Some((size, size_len)) = number(clip, at + id_len, Marker::Cut) else { break };
        let (begin, size) = (at + id_len + size_len, size as usize);
        let id = id as u32;
        let payload = clip.get(begin..begin + size).unwrap_or_default();
        match id {
            0x1A45_DFA3 | 0x1549_A966 | 0x1654_AE6B => head.extend_from_slice(&clip[at..begin + size]),
            0x1853_8067 => {
                head.extend_from_slice(&[0x18, 0x53, 0x80, 0x67, 1, 255, 255, 255, 255, 255, 255, 255]);
            }
            0xE7 => base = payload.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte)),
            0xA3 | 0xA1 => {
                let relative = i64::from(i16::from_be_bytes([payload[1], payload[2]]));
                blocks.push(ClipBlock {
                    ms: base.saturating_add_signed(relative),
                    track: payload[0],
                    flags: payload[3] | u8::from(id == 0xA1) << 7,
                    data: payload[4..].to_vec(),
                });
            }
            _ => {}
        }
        at = if MASTERS.contains(&id) { begin } else { begin + size };
    }
    (head, blocks)
}

#[derive(Clone, Copy, PartialEq)]
enum Marker {
    Kept,
    Cut,
}

fn number(bytes: &[u8], at: usize, marker: Marker) -> Option<(u64, usize)> {
    let len = bytes.get(at)?.leading_zeros() as usize + 1;
    let raw = bytes.get(at..at + len)?.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    Some((if marker == Marker::Kept { raw } else { raw & ((1 << (7 * len)) - 1) }, len))
}
