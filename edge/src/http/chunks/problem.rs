//! What may be wrong with an upload, and which error of the API tells it.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use shared::capture::ReceiveError;

use crate::error::{ApiError, Code};
use crate::ingest::{ChunkResult, Refused};

/// How long a client is asked to wait while the database is away: about what Postgres needs to restart.
const DATABASE_RETRY: Duration = Duration::from_secs(2);
/// How long a client is asked to wait while the disk is full: nothing frees a disk faster.
const DISK_RETRY: Duration = Duration::from_secs(30);

/// Why an upload was not taken.
#[derive(Debug)]
pub(super) enum Problem {
    /// A part of the request does not have its form.
    Invalid(String),
    /// The body is not JSON.
    Json(String),
    /// The chunk is not base64.
    NotBase64,
    /// The chunk has no bytes.
    Empty,
    /// No sequence, or one out of bounds.
    Sequence(String),
    /// Neither audio nor video.
    MimeType,
    /// `content-digest` is none.
    InvalidDigest,
    /// Other bytes arrived than were digested.
    DigestMismatch,
    /// More bytes than the limit, which is told.
    TooLarge(u64),
    /// The client went away in the middle.
    BrokenOff,
    /// The body stalled.
    TooSlow,
    /// The participant is not the caller.
    NotThisParticipant,
    /// An error that has its answer already.
    Api(ApiError),
    /// No such recording.
    NoSuchRecording,
    /// Refused by the ingest.
    Refused(Refused),
    /// Ours.
    Internal(anyhow::Error),
}

impl Problem {
    /// How it is counted.
    pub(super) fn result(&self) -> ChunkResult {
        match self {
            Self::Refused(Refused::Conflict) => ChunkResult::Conflict,
            Self::Internal(_) | Self::Refused(Refused::Internal(_) | Refused::DatabaseAway) => {
                ChunkResult::Failed
            }
            _ => ChunkResult::Refused,
        }
    }

    /// The answer; `uri` is the request's, for a client that is sent to another edge.
    pub(super) fn answer(self, uri: &Uri) -> Response {
        match self {
            Self::Refused(Refused::Elsewhere(url)) => elsewhere(&url, uri),
            problem => problem.into_error().into_response(),
        }
    }

    fn into_error(self) -> ApiError {
        let (code, detail): (Code, Cow<'static, str>) = match self {
            Self::Invalid(detail) => (Code::InvalidRequest, detail.into()),
            Self::Json(detail) => (Code::MalformedJson, detail.into()),
            Self::NotBase64 => {
                (Code::InvalidChunk, "chunk is not base64 (RFC 4648, section 4, with padding)".into())
            }
            Self::Empty => (Code::InvalidChunk, "the chunk is empty".into()),
            Self::Sequence(detail) => (Code::InvalidSequence, detail.into()),
            Self::MimeType => (Code::InvalidMimeType, "the mime type is video/… or audio/…".into()),
            Self::InvalidDigest => {
                (Code::InvalidDigest, "content-digest is sha-256=:base64: (RFC 9530)".into())
            }
            Self::DigestMismatch => {
                (Code::DigestMismatch, "other bytes arrived than content-digest was made of".into())
            }
            Self::TooLarge(max) => (Code::BodyTooLarge, format!("at most {max} bytes are taken").into()),
            Self::BrokenOff => (Code::InvalidRequest, "the body broke off".into()),
            Self::TooSlow => (Code::RequestTimeout, "the body did not arrive in time".into()),
            Self::NotThisParticipant => {
                (Code::NotThisParticipant, "chunks are uploaded by their own participant".into())
            }
            Self::Api(error) => return error,
            Self::NoSuchRecording => return ApiError::no_such_recording(),
            Self::Refused(refused) => return refused_error(refused),
            Self::Internal(error) => return ApiError::internal(error),
        };
        ApiError::new(code, detail)
    }
}

fn refused_error(refused: Refused) -> ApiError {
    match refused {
        Refused::Unknown => ApiError::no_such_recording(),
        Refused::NotLive => ApiError::new(Code::RecordingNotLive, "the recording takes no more chunks"),
        Refused::Stranger => ApiError::new(
            Code::NotThisParticipant,
            "only the host and participants of the call upload to its recording",
        ),
        Refused::Conflict => ApiError::new(Code::ChunkConflict, "other bytes are held under this sequence"),
        Refused::Sequence(detail) => ApiError::new(Code::InvalidSequence, detail),
        Refused::DiskFull => {
            ApiError::new(Code::DiskFull, "the disk is full; keep the chunk and send it again later")
                .retry_after(DISK_RETRY)
        }
        Refused::DatabaseAway | Refused::Elsewhere(_) => {
            ApiError::new(Code::DatabaseUnavailable, "the database does not answer; try again soon")
                .retry_after(DATABASE_RETRY)
        }
        Refused::Internal(error) => ApiError::internal(error),
    }
}

/// 307: the same request, to the edge that holds the recording.
fn elsewhere(base: &str, uri: &Uri) -> Response {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    match HeaderValue::try_from(format!("{}{path}", base.trim_end_matches('/'))) {
        Ok(location) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]).into_response(),
        Err(error) => ApiError::internal(error).into_response(),
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<ReceiveError> for Problem {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::TooLarge(max) => Self::TooLarge(max),
            ReceiveError::DiskFull => Refused::DiskFull.into(),
            error @ ReceiveError::Io(_) => Self::Internal(error.into()),
        }
    }
}
