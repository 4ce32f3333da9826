//! A recording: its states, its options, and the rules between them. Pure; SQL is in [`crate::db::recordings`].
//!
//! `recording ⇄ paused → stopping → processing(mux → thumbnails → upload) → completed | failed`, and `deleted` from a final
//! state. Every state that is not final has a deadline. A stage is fenced by a token that changes with each step: of two
//! workers that run the same stage, one publishes.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{CallId, RecordingId, UserId};

mod options;

pub(crate) use options::{AUDIO_BITRATE, VIDEO_BITRATE};
pub use options::{
    AfterLoss, AudioCodec, Format, InvalidOptions, Layout, RecordingOptions, Resolution, Source,
    THUMBNAILS_DEFAULT, THUMBNAILS_MAX, VideoCodec,
};

/// Where a recording stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum RecordingState {
    /// Chunks and packets are captured.
    Recording,
    /// Captured, but left out of the outputs.
    Paused,
    /// Over; late chunks are still taken.
    Stopping,
    /// Sealed; jobs make the outputs.
    Processing,
    /// Every artifact is in storage and was read back.
    Completed,
    /// Given up, with the reason.
    Failed,
    /// Removed by its owner or by age.
    Deleted,
}

impl RecordingState {
    /// Whether the state still takes chunks.
    #[must_use]
    pub fn takes_chunks(self) -> bool {
        matches!(self, Self::Recording | Self::Paused | Self::Stopping)
    }

    /// The word used in rows, JSON and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Deleted => "deleted",
        }
    }
}

impl std::str::FromStr for RecordingState {
    type Err = UnknownState;
    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        let all = [
            Self::Recording,
            Self::Paused,
            Self::Stopping,
            Self::Processing,
            Self::Completed,
            Self::Failed,
            Self::Deleted,
        ];
        all.into_iter().find(|state| state.as_str() == raw).ok_or(UnknownState)
    }
}

/// A word that is no [`RecordingState`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no such recording state")]
pub struct UnknownState;

/// What is being done to a recording that is `processing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Stage {
    /// Assembling the capture into files.
    Mux,
    /// Making pictures from the finished file.
    Thumbnails,
    /// Putting every artifact into storage and reading it back.
    Upload,
}

/// How long one stage may last before the sweeper ends it: longer than one attempt's timeout (24 h) and a retry's beginning.
pub const STAGE_DEADLINE: TimeDelta = TimeDelta::hours(36);

/// Whether a recording rests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pause {
    /// Since when it is paused; `None` while it is not.
    pub since: Option<Timestamp>,
    /// How often it was paused or went on. Of two readings the one with more is newer.
    pub turns: u32,
}

/// A recording as its row holds it.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Its id.
    pub id: RecordingId,
    /// The call it belongs to.
    pub call: CallId,
    /// Who started it.
    pub started_by: UserId,
    /// Where it stands.
    pub state: RecordingState,
    /// What is being done, while `processing`.
    pub stage: Option<Stage>,
    /// Fences the stage.
    pub stage_token: Option<String>,
    /// How much of the processing is done, 0 to 1.
    pub progress: f32,
    /// How often it was processed anew; the files of each time have names of their own.
    pub revision: u32,
    /// What was asked for.
    pub options: RecordingOptions,
    /// When it began.
    pub started_at: Timestamp,
    /// Whether it rests. One that was stopped while it was paused keeps that pause.
    pub pause: Pause,
    /// When it was stopped.
    pub stopped_at: Option<Timestamp>,
    /// When its capture was sealed.
    pub sealed_at: Option<Timestamp>,
    /// When it was completed.
    pub completed_at: Option<Timestamp>,
    /// When the sweeper may end it.
    pub deadline_at: Option<Timestamp>,
    /// When it is deleted by age.
    pub expires_at: Option<Timestamp>,
    /// The container of the outputs, once known.
    pub format: Option<Format>,
    /// Length of the main output in milliseconds.
    pub duration_ms: Option<u64>,
    /// Size of the main output in bytes.
    pub file_size: Option<u64>,
    /// Key of the main output in storage.
    pub output_key: Option<String>,
    /// Which storage holds it.
    pub storage_provider: Option<String>,
    /// Which bucket or folder of it.
    pub storage_bucket: Option<String>,
    /// Why it failed.
    pub error: Option<RecordingError>,
}

/// Why a recording failed, or what is odd about one that did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordingError {
    /// Stable, kebab-case. Of what was recorded: `no-media`, when there is nothing; `unusable-media`, when nothing of it can be
    /// played; `all-paused`, when all of it lay in pauses; `codec-not-in-format`, when the format that was asked for cannot hold it. Of a recording
    /// that is completed: `pictures-not-upright`, when a participant's could not be turned.
    pub code: String,
    /// For people.
    pub detail: String,
}
