//! What a chunk's request says before its body, parsed: the path, the mime type, the digest, the client's time.

use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName};
use shared::capture::MAX_MIME_BYTES;
use shared::chunk::checked_sequence;
use shared::id::{RecordingId, UserId};
use shared::track::TrackKind;
use tracing::Span;

use super::digest;
use super::problem::Problem;

/// The client's time of a chunk, milliseconds since 1970.
const X_CHUNK_TIMESTAMP: HeaderName = HeaderName::from_static("x-chunk-timestamp");
/// Where times end: beyond it those in fractions have no milliseconds (2^53), and reckoning with them may overflow.
const MS_MAX: i64 = 1 << 53;
/// What clients send that do not know what their bytes are.
const UNKNOWN_MIME: &str = "application/octet-stream";

/// Whose medium a request is about.
#[derive(Debug)]
pub(super) struct Medium {
    pub(super) recording: RecordingId,
    pub(super) participant: UserId,
    pub(super) kind: TrackKind,
}

impl Medium {
    /// From the texts of a path or a body.
    pub(super) fn parse(recording: &str, participant: &str, kind: &str) -> Result<Self, Problem> {
        let medium = Self {
            participant: UserId::parse(participant).map_err(|error| Problem::Invalid(error.to_string()))?,
            kind: kind
                .parse()
                .map_err(|error: shared::track::UnknownKind| Problem::Invalid(error.to_string()))?,
            recording: RecordingId::parse(recording).map_err(|_| Problem::NoSuchRecording)?,
        };
        Span::current().record("recording.id", medium.recording.as_str());
        Ok(medium)
    }
}

/// A sequence number within its bounds.
pub(super) fn sequence(raw: &str) -> Result<u64, Problem> {
    let digits = !raw.is_empty() && raw.bytes().all(|byte| byte.is_ascii_digit());
    let number = raw.parse().ok().filter(|_| digits);
    let number = number.ok_or_else(|| Problem::Sequence("a sequence is a number from 0".to_owned()))?;
    checked_sequence(number).map_err(|error| Problem::Sequence(error.to_string()))?;
    Ok(number)
}

/// What the headers of a binary upload say.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) mime: Option<String>,
    pub(super) sha256: Option<[u8; 32]>,
    pub(super) client_timestamp_ms: Option<i64>,
}

impl Head {
    pub(super) fn parse(headers: &HeaderMap) -> Result<Self, Problem> {
        let mime = headers
            .get(CONTENT_TYPE)
            .map(|value| value.to_str().map_err(|_| Problem::MimeType))
            .transpose()?;
        Ok(Self {
            mime: mime_type(mime)?,
            sha256: digest::sha256(headers).map_err(|_| Problem::InvalidDigest)?,
            client_timestamp_ms: timestamp(headers)?,
        })
    }

    /// Whether these are the bytes that the client has digested, if it has.
    pub(super) fn verify(&self, sha256: &[u8; 32]) -> Result<(), Problem> {
        match &self.sha256 {
            Some(said) if said != sha256 => Err(Problem::DigestMismatch),
            _ => Ok(()),
        }
    }
}

/// The length that the client announces; `None` for a chunked body.
pub(super) fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A mime type of audio or video as `MediaRecorder` names it; `None` when the client does not know.
pub(super) fn mime_type(raw: Option<&str>) -> Result<Option<String>, Problem> {
    let Some(raw) = raw.map(str::trim).filter(|raw| !raw.is_empty()) else { return Ok(None) };
    let essence = raw.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == UNKNOWN_MIME {
        return Ok(None);
    }
    let subtype = essence.strip_prefix("video/").or_else(|| essence.strip_prefix("audio/"));
    let named = subtype.is_some_and(|subtype| !subtype.is_empty() && subtype.bytes().all(is_token));
    let printable = raw.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if named && printable && raw.len() <= MAX_MIME_BYTES {
        Ok(Some(raw.to_owned()))
    } else {
        Err(Problem::MimeType)
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn timestamp(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(raw) = headers.get(X_CHUNK_TIMESTAMP) else { return Ok(None) };
    let ms = raw.to_str().ok().and_then(|raw| raw.trim().parse::<serde_json::Number>().ok());
    ms.as_ref()
        .and_then(whole_ms)
        .map(Some)
        .ok_or_else(|| Problem::Invalid("x-chunk-timestamp is milliseconds since 1970".to_owned()))
}

/// Whole milliseconds: `performance.timeOrigin + performance.now()` has fractions.
pub(super) fn whole_ms(number: &serde_json::Number) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "a cast stays within the integer's bounds")]
    let truncated = |ms: f64| ms as i64;
    let ms = number.as_i64().or_else(|| number.as_f64().map(truncated))?;
    (-MS_MAX..=MS_MAX).contains(&ms).then_some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mime_type_is_audio_or_video() {
        for good in ["video/webm;codecs=\"vp8,opus\"", "audio/mp4", "video/x-matroska; codecs=avc1"] {
            assert_eq!(mime_type(Some(good)).unwrap().as_deref(), Some(good));
        }
        for unknown in ["application/octet-stream", "", " "] {
            assert!(mime_type(Some(unknown)).unwrap().is_none());
        }
        for bad in [
            "text/html",
            "video/",
            "video",
            "video/w ebm",
            "video/webm;a=\u{e9}",
            &format!("video/{}", "x".repeat(300)),
        ] {
            assert!(mime_type(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_sequence_is_digits_within_bounds() {
        assert_eq!(sequence("17").unwrap(), 17);
        for bad in ["", "-1", "+1", "1.0", "0x1", "99999999999999999999", "1048576"] {
            assert!(sequence(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_in_fractions_is_cut_to_whole_milliseconds() {
        let ms = |raw: &str| whole_ms(&raw.parse().unwrap());
        assert_eq!(ms("1700000000000"), Some(1_700_000_000_000));
        assert_eq!(ms("1700000000000.875"), Some(1_700_000_000_000));
        assert_eq!((ms("-1.5"), ms("1e300"), ms("18446744073709551615")), (Some(-1), None, None));
        assert_eq!((ms("-9223372036854775808"), ms("9223372036854775807")), (None, None));
        assert_eq!((ms("9007199254740992"), ms("9007199254740993")), (Some(1 << 53), None));
    }
}
