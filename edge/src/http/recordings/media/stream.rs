//! A file from storage through the edge, where storage hands out no addresses: whole or in parts, under conditions
//! (RFC 9110, sections 13 and 14).
//!
//! The tag is the file's SHA-256, which its row knows: storage is asked only for what is sent. There is no `Last-Modified`, so
//! conditions by date count as not there, and `If-Range` with a date is another file.

use std::ops::Range;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_range::HttpRange;
use shared::db::artifacts::Artifact;
use shared::storage::{Storage, StorageError};

use super::{lost, range};
use crate::error::ApiError;

/// What the headers of a request ask for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    Part(Range<u64>),
    NotModified,
    Failed,
    Beyond,
}

/// Serves a file.
pub(super) async fn serve(
    storage: &dyn Storage,
    file: &Artifact,
    headers: &HeaderMap,
    method: &Method,
) -> Result<Response, ApiError> {
    let tag = format!("\"{}\"", file.sha256);
    let (status, part) = match asked(headers, &tag, file.size) {
        Asked::Whole => (StatusCode::OK, 0..file.size),
        Asked::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Asked::NotModified => (StatusCode::NOT_MODIFIED, 0..0),
        Asked::Failed => (StatusCode::PRECONDITION_FAILED, 0..0),
        Asked::Beyond => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0),
    };
    let mut response = match status.is_success() && method != Method::HEAD {
        true => match storage.get_range(&file.storage_key, part.clone()).await {
            Ok(blocks) => Body::from_stream(blocks).into_response(),
            Err(StorageError::NotFound(_)) => return Err(lost(file)),
            Err(error) => return Err(error.into()),
        },
        false => Response::default(),
    };
    *response.status_mut() = status;
    let mut set = |name, value: String| {
        HeaderValue::try_from(value).map(|value| response.headers_mut().insert(name, value))
    };
    set(header::ETAG, tag).map_err(ApiError::internal)?;
    set(header::ACCEPT_RANGES, "bytes".to_owned()).map_err(ApiError::internal)?;
    if status.is_success() {
        set(header::CONTENT_LENGTH, (part.end - part.start).to_string()).map_err(ApiError::internal)?;
    }
    let content_range = match status {
        StatusCode::PARTIAL_CONTENT => format!("bytes {}-{}/{}", part.start, part.end - 1, file.size),
        StatusCode::RANGE_NOT_SATISFIABLE => format!("bytes */{}", file.size),
        _ => return Ok(response),
    };
    set(header::CONTENT_RANGE, content_range).map_err(ApiError::internal)?;
    Ok(response)
}

/// In the order of RFC 9110, section 13.2.2.
fn asked(headers: &HeaderMap, tag: &str, size: u64) -> Asked {
    if headers.contains_key(header::IF_MATCH) && !names(headers, header::IF_MATCH, tag) {
        return Asked::Failed;
    }
    if names(headers, header::IF_NONE_MATCH, tag) {
        return Asked::NotModified;
    }
    let same = headers.get(header::IF_RANGE).is_none_or(|held| held.as_bytes() == tag.as_bytes());
    let part = headers.get(header::RANGE).filter(|_| same).and_then(|asked| range::of(asked, size));
    let Some(part) = part else { return Asked::Whole };
    match HttpRange::parse_bytes(part.as_bytes(), size).as_deref() {
        Ok([HttpRange { start, length }]) => Asked::Part(*start..start + length),
        _ => Asked::Beyond,
    }
}

/// Whether a list of tags has this one, or any will do. A weak tag (`W/`) names the same file too: ours are of its bytes.
fn names(headers: &HeaderMap, name: header::HeaderName, tag: &str) -> bool {
    let lists = headers.get_all(name).into_iter().filter_map(|list| list.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|held| held == "*" || held.strip_prefix("W/").unwrap_or(held) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "\"abc\"";

    fn of(pairs: &[(header::HeaderName, &'static str)]) -> Asked {
        let headers = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        asked(&headers.collect(), TAG, 16)
    }

    #[test]
    fn a_request_is_answered_by_its_conditions_and_its_range() {
        use header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
        for (pairs, wanted) in [
            (vec![], Asked::Whole),
            (vec![(RANGE, "bytes=4-7")], Asked::Part(4..8)),
            (vec![(RANGE, "bytes=-99")], Asked::Part(0..16)),
            (vec![(RANGE, "bytes=16-")], Asked::Beyond),
            (vec![(RANGE, "items=0-5")], Asked::Whole),
            (vec![(RANGE, "bytes=0-0,10-12")], Asked::Whole),
            (vec![(RANGE, "bytes=8-"), (IF_RANGE, TAG)], Asked::Part(8..16)),
            (vec![(RANGE, "bytes=8-"), (IF_RANGE, "\"x\"")], Asked::Whole),
            (vec![(RANGE, "bytes=8-"), (IF_RANGE, "Sat, 29 Oct 1994 19:43:31 GMT")], Asked::Whole),
            (vec![(IF_NONE_MATCH, "\"x\", W/\"abc\"")], Asked::NotModified),
            (vec![(IF_NONE_MATCH, "\"x\"")], Asked::Whole),
            (vec![(IF_MATCH, "\"x\"")], Asked::Failed),
            (vec![(IF_MATCH, "*"), (RANGE, "bytes=0-0")], Asked::Part(0..1)),
            (vec![(IF_MATCH, TAG), (IF_NONE_MATCH, TAG)], Asked::NotModified),
        ] {
            assert_eq!(of(&pairs), wanted, "{pairs:?}");
        }
    }
}
