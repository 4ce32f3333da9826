//! What real browsers recorded: the blobs that `MediaRecorder` gave, in order.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;

/// Every fixture.
pub const FIXTURES: [&str; 11] = [
    "chrome-mp4-audio",
    "chrome-mp4-avc1-kf1",
    "chrome-mp4-avc3-opus-resize",
    "chrome-webm-audio",
    "chrome-webm-av1",
    "chrome-webm-h264",
    "chrome-webm-vp8",
    "chrome-webm-vp8-pause",
    "chrome-webm-vp8-resize",
    "chrome-webm-vp9",
    "ff-webm-vp8",
];

/// The mime type of a fixture without a note of it: Firefox's own word.
const FIREFOX_MIME: &str = "video/webm;codecs=vp8,opus";

/// A recording by a browser.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// Its name.
    pub name: String,
    /// What the browser said that it is.
    pub mime: String,
    /// The blobs, in order; none is empty.
    pub blobs: Vec<Bytes>,
}

impl Fixture {
    /// Reads one.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn load(name: &str) -> Self {
        let folder = folder(name);
        let blob = |n: usize| std::fs::read(folder.join(format!("{n:04}.bin"))).ok().map(Bytes::from);
        let blobs: Vec<Bytes> = (0..).map_while(blob).collect();
        assert!(blobs.len() > 1, "there is no fixture {name} in {}", folder.display());
        let meta = std::fs::read(folder.join("meta.json")).unwrap_or_default();
        let meta: Value = serde_json::from_slice(&meta).unwrap_or_default();
        let mime = meta["mime"].as_str().unwrap_or(FIREFOX_MIME).to_owned();
        Self { name: name.to_owned(), mime, blobs }
    }

    /// The sequence of its last blob.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.blobs.len() as u64 - 1
    }

    /// All blobs one after another: what the browser would have saved.
    #[must_use]
    pub fn whole(&self) -> Vec<u8> {
        self.blobs.concat()
    }

    /// Where a blob's bytes are among all of them.
    #[must_use]
    pub fn span(&self, blob: usize) -> std::ops::Range<usize> {
        let from: usize = self.blobs.iter().take(blob).map(Bytes::len).sum();
        from..from + self.blobs.get(blob).map_or(0, Bytes::len)
    }

    /// Its first blobs: a shorter recording.
    #[must_use]
    pub fn first(mut self, blobs: usize) -> Self {
        self.blobs.truncate(blobs);
        self
    }

    /// FFmpeg's name of its container.
    #[must_use]
    pub fn demuxer(&self) -> &'static str {
        if self.name.contains("mp4") { "mov" } else { "matroska" }
    }

    /// Whether there is a picture.
    #[must_use]
    pub fn has_video(&self) -> bool {
        !self.name.ends_with("audio")
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/mediarecorder").join(name)
}
