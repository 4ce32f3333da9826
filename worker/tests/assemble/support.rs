//! Fixtures, and assembling them in memory.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use worker::assemble::{AssembleError, Assembled, Chunk, Plan, assemble};

/// Every recording that a browser made for us.
pub(crate) const FIXTURES: [&str; 9] = [
    "chrome-mp4-avc1-kf1",
    "chrome-mp4-avc3-opus-resize",
    "chrome-webm-audio",
    "chrome-webm-h264",
    "chrome-webm-vp8",
    "chrome-webm-vp8-pause",
    "chrome-webm-vp8-resize",
    "chrome-webm-vp9",
    "ff-webm-vp8",
];

/// Where fixtures are.
pub(crate) fn fixture_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/mediarecorder").join(name)
}

/// The blobs of a fixture as chunks, a second (or what the recorder noted) apart by the client's clock.
pub(crate) fn chunks(name: &str) -> Vec<Chunk> {
    let dir = fixture_dir(name);
    let times = timecodes(&dir);
    let blob = |n: usize| std::fs::read(dir.join(format!("{n:04}.bin"))).ok();
    let blobs = (0..).map_while(blob).enumerate();
    let chunk = |(n, bytes): (usize, Vec<u8>)| {
        let ms = times.get(n).copied().unwrap_or(n as i64 * 1_000);
        Chunk {
            sequence: n as u64,
            timestamp_ms: Some(1_700_000_000_000 + ms),
            arrival_ms: 1_700_000_000_500 + ms,
            bytes: Bytes::from(bytes),
        }
    };
    blobs.map(chunk).collect()
}

/// The recorder's `timecode` of each blob, from `meta.json`, without a JSON parser: `"timecode":1020.7999`.
fn timecodes(dir: &Path) -> Vec<i64> {
    let meta = std::fs::read_to_string(dir.join("meta.json")).unwrap_or_default();
    let values = meta.split("\"timecode\":").skip(1);
    values.map(|rest| rest.split(['.', '}', ',']).next().unwrap().parse().unwrap()).collect()
}

/// Assembles chunks into memory.
pub(crate) fn run(chunks: Vec<Chunk>, plan: &Plan) -> Result<(Assembled, Vec<u8>), AssembleError> {
    let mut out = Cursor::new(Vec::new());
    let assembled = assemble(&mut chunks.into_iter().map(Ok), plan, &mut out)?;
    Ok((assembled, out.into_inner()))
}

/// A small generator of numbers that are the same in every run (SplitMix64).
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) % limit.max(1) as u64) as usize
    }
}
