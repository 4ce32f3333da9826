//! Every code that the API answers with. The words are the contract: none is ever changed or derived.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:ident, $title:literal;)*) => {
        /// What went wrong, as a stable word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $word)] $name,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word in `code` and at the end of `type`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The HTTP status that it comes with.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// A few words that are the same for every occurrence.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The request does not have its form.
    InvalidRequest = "invalid-request", BAD_REQUEST, "Invalid request";
    /// The body is not JSON.
    MalformedJson = "malformed-json", BAD_REQUEST, "Malformed JSON";
    /// The cursor is none that a list gave.
    InvalidCursor = "invalid-cursor", BAD_REQUEST, "Invalid cursor";
    /// A chunk is empty, not base64, or lacks what it must come with.
    InvalidChunk = "invalid-chunk", BAD_REQUEST, "Invalid chunk";
    /// No sequence, or one out of bounds.
    InvalidSequence = "invalid-sequence", BAD_REQUEST, "Invalid sequence";
    /// The mime type is neither audio nor video.
    InvalidMimeType = "invalid-mime-type", BAD_REQUEST, "Invalid mime type";
    /// The digest does not have its form.
    InvalidDigest = "invalid-digest", BAD_REQUEST, "Invalid digest";
    /// The bytes that arrived are not those that the digest was made of.
    DigestMismatch = "digest-mismatch", BAD_REQUEST, "Digest mismatch";
    /// A session description or candidate that cannot be worked with.
    InvalidDescription = "invalid-description", BAD_REQUEST, "Invalid session description";
    /// No token came.
    Unauthenticated = "unauthenticated", UNAUTHORIZED, "Not authenticated";
    /// The token is malformed, expired, not yet valid, or signed by somebody else.
    InvalidToken = "invalid-token", UNAUTHORIZED, "Invalid token";
    /// The caller may not do this.
    Forbidden = "forbidden", FORBIDDEN, "Forbidden";
    /// The token does not grant this.
    NotGranted = "not-granted", FORBIDDEN, "Not granted by the token";
    /// The track belongs to somebody else, or its participant has no part in the call.
    NotThisParticipant = "not-this-participant", FORBIDDEN, "Not this participant";
    /// `x-user-id` is not the token's subject.
    UserMismatch = "user-mismatch", FORBIDDEN, "User mismatch";
    /// Nothing answers under this path.
    NotFound = "not-found", NOT_FOUND, "Not found";
    /// There is no such call.
    NoSuchCall = "no-such-call", NOT_FOUND, "No such call";
    /// There is no such recording.
    NoSuchRecording = "no-such-recording", NOT_FOUND, "No such recording";
    /// The recording has no such file.
    NoSuchArtifact = "no-such-artifact", NOT_FOUND, "No such artifact";
    /// Nobody of this name is in the call.
    NoSuchParticipant = "no-such-participant", NOT_FOUND, "No such participant";
    /// There is no such session of media.
    NoSuchSession = "no-such-session", NOT_FOUND, "No such session";
    /// There is no such job.
    NoSuchJob = "no-such-job", NOT_FOUND, "No such job";
    /// The path answers to other methods.
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "Method not allowed";
    /// The body did not arrive in time.
    RequestTimeout = "request-timeout", REQUEST_TIMEOUT, "Request timeout";
    /// The frame is for people who have joined.
    NotJoined = "not-joined", CONFLICT, "Not joined";
    /// As many people as the call takes are in it.
    RoomFull = "room-full", CONFLICT, "Room full";
    /// The call's id is taken.
    CallExists = "call-exists", CONFLICT, "Call exists";
    /// The call is over.
    CallEnded = "call-ended", CONFLICT, "Call ended";
    /// The call has a recording that is on.
    RecordingAlreadyLive = "recording-already-live", CONFLICT, "Recording already live";
    /// The recording is not on.
    RecordingNotLive = "recording-not-live", CONFLICT, "Recording not live";
    /// The recording is paused already.
    RecordingPaused = "recording-paused", CONFLICT, "Recording paused";
    /// The recording is not paused.
    RecordingNotPaused = "recording-not-paused", CONFLICT, "Recording not paused";
    /// The recording is not yet in a final state.
    RecordingLive = "recording-live", CONFLICT, "Recording not finished";
    /// The recording has no file yet, or never will.
    RecordingNotReady = "recording-not-ready", CONFLICT, "Recording not ready";
    /// Another chunk is held under the same sequence.
    ChunkConflict = "chunk-conflict", CONFLICT, "Chunk conflict";
    /// The job is running.
    JobRunning = "job-running", CONFLICT, "Job running";
    /// Nothing comes of this person that could be played.
    NotPublishing = "not-publishing", CONFLICT, "Not publishing";
    /// A condition of the request's headers does not hold.
    PreconditionFailed = "precondition-failed", PRECONDITION_FAILED, "Precondition failed";
    /// The body is larger than the route takes.
    BodyTooLarge = "body-too-large", PAYLOAD_TOO_LARGE, "Body too large";
    /// The body is not of the type that the route takes.
    UnsupportedMediaType = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "Unsupported media type";
    /// The file is shorter than the range.
    RangeNotSatisfiable = "range-not-satisfiable", RANGE_NOT_SATISFIABLE, "Range not satisfiable";
    /// Options that no output can meet.
    InvalidOptions = "invalid-options", UNPROCESSABLE_ENTITY, "Invalid recording options";
    /// Another edge carries the call.
    WrongEdge = "wrong-edge", MISDIRECTED_REQUEST, "Wrong edge";
    /// The request needs `if-match`.
    PreconditionRequired = "precondition-required", PRECONDITION_REQUIRED, "Precondition required";
    /// Too many requests.
    RateLimited = "rate-limited", TOO_MANY_REQUESTS, "Too many requests";
    /// A fault of the server.
    Internal = "internal", INTERNAL_SERVER_ERROR, "Internal error";
    /// The database does not answer.
    DatabaseUnavailable = "database-unavailable", SERVICE_UNAVAILABLE, "Database unavailable";
    /// The keys that tokens are checked with have not been fetched.
    KeysUnavailable = "keys-unavailable", SERVICE_UNAVAILABLE, "Keys unavailable";
    /// The server cannot take work.
    NotReady = "not-ready", SERVICE_UNAVAILABLE, "Not ready";
    /// The media threads have too much to do.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "Overloaded";
    /// The server ends.
    Draining = "draining", SERVICE_UNAVAILABLE, "Draining";
    /// The request took longer than the route allows.
    Timeout = "timeout", GATEWAY_TIMEOUT, "Timeout";
    /// The disk is below its reserve.
    DiskFull = "disk-full", INSUFFICIENT_STORAGE, "Disk full";
}

impl utoipa::PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let words = Self::ALL.iter().map(|code| code.as_str());
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).into()
    }
}

impl utoipa::ToSchema for Code {}

impl Code {
    /// The code of a status that a library answered with.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthenticated,
            StatusCode::FORBIDDEN => Self::Forbidden,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::PRECONDITION_FAILED => Self::PreconditionFailed,
            StatusCode::PAYLOAD_TOO_LARGE => Self::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            StatusCode::RANGE_NOT_SATISFIABLE => Self::RangeNotSatisfiable,
            StatusCode::TOO_MANY_REQUESTS => Self::RateLimited,
            StatusCode::GATEWAY_TIMEOUT => Self::Timeout,
            status if status.is_client_error() => Self::InvalidRequest,
            _ => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_kebab_case() {
        let words: std::collections::BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
    }

    #[test]
    fn the_word_in_json_is_the_word_in_code() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
