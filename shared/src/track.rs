//! A track: one captured medium of one participant, and what is missing from it.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{RecordingId, TrackId, UserId};

/// Who captured a track.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    sqlx::Type,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum TrackSource {
    /// The participant's own browser, by `MediaRecorder`.
    Client,
    /// The edge, from what it forwarded.
    Server,
}

/// What a track shows.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    sqlx::Type,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum TrackKind {
    /// A microphone alone.
    Audio,
    /// A camera, with its microphone when one container holds both.
    Video,
    /// A shared screen.
    Screen,
}

impl TrackKind {
    /// The word used in URLs, rows and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Screen => "screen",
        }
    }
}

impl std::str::FromStr for TrackKind {
    type Err = UnknownKind;
    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        match raw {
            "audio" => Ok(Self::Audio),
            "video" => Ok(Self::Video),
            "screen" => Ok(Self::Screen),
            _ => Err(UnknownKind),
        }
    }
}

/// A word that is no [`TrackKind`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a track's kind is video, audio or screen")]
pub struct UnknownKind;

/// Why a span of a track is not in the output (API, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GapReason {
    /// A chunk never arrived.
    MissingChunk,
    /// RTP packets were lost and not recovered.
    PacketLoss,
    /// The participant was muted.
    Muted,
    /// The participant, or their recorder, was gone.
    Disconnected,
    /// The recording was paused.
    Paused,
    /// The bytes that arrived hold no usable media.
    Corrupt,
    /// The edge could not write.
    Disk,
}

/// A span of a track, in milliseconds of the track, that is not in the output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Gap {
    /// Where it begins, in milliseconds.
    pub from: u64,
    /// Where it ends, in milliseconds.
    pub to: u64,
    /// Why.
    pub reason: GapReason,
}

/// A track as its row holds it.
#[derive(Debug, Clone)]
pub struct Track {
    /// Its id.
    pub id: TrackId,
    /// The recording it belongs to.
    pub recording: RecordingId,
    /// Whose medium it is.
    pub participant: UserId,
    /// Who captured it.
    pub source: TrackSource,
    /// What it shows.
    pub kind: TrackKind,
    /// What the client said its chunks are.
    pub mime_type: Option<String>,
    /// What was found in them, as `vp8,opus`.
    pub codec: Option<String>,
    /// When its first chunk arrived.
    pub started_at: Timestamp,
    /// How long the assembled track is, in milliseconds.
    pub duration_ms: Option<u64>,
    /// Chunks held.
    pub chunks: u64,
    /// Bytes held.
    pub bytes: u64,
    /// Ranges of sequences held, inclusive and ascending.
    pub received: Vec<(u64, u64)>,
    /// The last sequence, when the client declared it.
    pub last_sequence: Option<u64>,
    /// What is missing from the output; `None` until the capture has been assembled.
    pub gaps: Option<Vec<Gap>>,
}
