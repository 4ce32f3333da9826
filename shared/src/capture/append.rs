//! What an append is asked and how it is answered.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use super::file::is_full;
use crate::chunk::SequenceTooHigh;

/// What a client says of a chunk.
#[derive(Debug, Clone)]
pub struct ChunkHeader {
    /// Its sequence, from 0.
    pub sequence: u64,
    /// The client's time, milliseconds since 1970, when it gave one.
    pub client_timestamp_ms: Option<i64>,
    /// Its mime type, when it gave one; kept up to [`MAX_MIME_BYTES`](super::MAX_MIME_BYTES).
    pub mime: Option<String>,
}

/// Whether a chunk was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was, and is on stable storage now.
    Stored,
    /// The same bytes were on stable storage already.
    Duplicate,
}

/// A chunk that is on stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Whether it was new.
    pub outcome: Outcome,
    /// Bytes of media.
    pub size: u64,
    /// SHA-256 of the media.
    pub sha256: [u8; 32],
}

/// A chunk that was not stored.
#[derive(Debug, Clone, Error)]
pub enum AppendError {
    /// Other bytes are held under its sequence.
    #[error("other bytes are held under sequence {0}")]
    Conflict(u64),
    /// The disk is below its reserve, or full.
    #[error("the disk is full")]
    DiskFull,
    /// Its sequence is beyond what is kept.
    #[error(transparent)]
    SequenceTooHigh(#[from] SequenceTooHigh),
    /// It is longer than a record may be.
    #[error("a chunk of {0} bytes is too large")]
    TooLarge(u64),
    /// The recording takes no more.
    #[error("the recording is closed")]
    Closed,
    /// The operating system failed; nothing was stored, and the client may try again.
    #[error("cannot store the chunk")]
    Io(#[source] Arc<io::Error>),
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> Self {
        if is_full(&error) { Self::DiskFull } else { Self::Io(Arc::new(error)) }
    }
}
