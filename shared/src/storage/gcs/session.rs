//! The protocol of resumable uploads: a session is begun, chunks are put to its URI, it tells how far it has got, and it ends with
//! the object or without. Its URI is all that it takes to go on, for whoever has it, for a week.

use std::ops::Range;

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Body, Method, Url};
use tokio::sync::watch;

use super::client::{Answer, Client, Target, request_to};
use super::failure::{Refusal, mismatch};
use super::object::{NewObject, Object, crc32c_text};
use crate::storage::patience::attempt_max;
use crate::storage::{Attributes, StorageError};

/// What the server compares a finished object with.
const HASH: HeaderName = HeaderName::from_static("x-goog-hash");
/// What the object will be like.
const SIZE: HeaderName = HeaderName::from_static("x-upload-content-length");
const KIND: HeaderName = HeaderName::from_static("x-upload-content-type");

/// A session that was begun. Its URI stands in no log.
pub(super) struct Session {
    pub(super) uri: Url,
    /// Of the whole object.
    pub(super) size: u64,
}

/// What a session says of itself.
#[derive(Debug)]
pub(super) enum Standing {
    /// It has so many bytes.
    Arrived(u64),
    /// It has become an object.
    Done(Box<Object>),
    /// It has ended, and there is no object of it.
    Gone,
}

impl Client {
    /// Begins a session.
    pub(super) async fn begin_session(
        &self,
        key: &str,
        size: u64,
        attributes: &Attributes,
    ) -> Result<Session, StorageError> {
        let refused = |what: &str| StorageError::Refused(format!("{key}: {what}"));
        let query = [("uploadType", "resumable"), ("name", key)];
        let mut begin = self.request(Method::POST, Target::Upload, &query);
        let kind = HeaderValue::from_str(&attributes.content_type);
        begin.headers_mut().extend([
            (CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8")),
            (KIND, kind.map_err(|_| refused("its content type is none"))?),
            (SIZE, size.into()),
        ]);
        let object = serde_json::to_vec(&NewObject::from(attributes));
        *begin.body_mut() = Some(object.map_err(|error| refused(&error.to_string()))?.into());
        let begun = self.call(begin).await?.ok().map_err(|refusal| refusal.about(key))?;
        let uri = begun.headers.get("location").and_then(|uri| uri.to_str().ok()?.parse().ok());
        let uri =
            uri.ok_or_else(|| StorageError::unavailable("an upload was begun without a place to go"))?;
        Ok(Session { uri, size })
    }

    /// Puts a range of the file. With the last one goes the checksum of the whole.
    pub(super) async fn put_chunk(
        &self,
        session: &Session,
        range: &Range<u64>,
        (body, moved): (Body, watch::Receiver<()>),
        whole_crc: Option<u32>,
        key: &str,
    ) -> Result<Standing, StorageError> {
        let length = range.end - range.start;
        let mut put = request_to(Method::PUT, session.uri.clone());
        *put.timeout_mut() = Some(attempt_max(length));
        put.headers_mut().extend([
            (CONTENT_LENGTH, length.into()),
            (CONTENT_RANGE, header(&content_range(range, session.size))?),
        ]);
        if let Some(crc) = whole_crc {
            put.headers_mut().insert(HASH, header(&format!("crc32c={}", crc32c_text(crc)))?);
        }
        *put.body_mut() = Some(body);
        standing(self.send(put, moved).await?, key)
    }

    /// How far a session has got.
    pub(super) async fn ask_session(&self, session: &Session, key: &str) -> Result<Standing, StorageError> {
        let mut ask = request_to(Method::PUT, session.uri.clone());
        let question = content_range(&(session.size..session.size), session.size);
        ask.headers_mut().extend([(CONTENT_LENGTH, 0_u64.into()), (CONTENT_RANGE, header(&question)?)]);
        standing(self.call_anonymously(ask).await?, key)
    }

    /// Ends a session; one that has ended is no error.
    pub(super) async fn end_session(&self, session: &Session) -> Result<(), StorageError> {
        let mut end = request_to(Method::DELETE, session.uri.clone());
        end.headers_mut().insert(CONTENT_LENGTH, 0_u64.into());
        let ended = self.call_anonymously(end).await?;
        match ended.status.as_u16() {
            // 499 is how Google says that it has ended it.
            200..300 | 404 | 410 | 499 => Ok(()),
            _ => Err(Refusal::of(&ended).about("")),
        }
    }
}

fn standing(answer: Answer, key: &str) -> Result<Standing, StorageError> {
    match answer.status.as_u16() {
        308 => match arrived(&answer.headers) {
            Some(bytes) => Ok(Standing::Arrived(bytes)),
            None => {
                Err(mismatch(key, "a session that has something else than the file's beginning".to_owned()))
            }
        },
        404 | 410 | 499 => Ok(Standing::Gone),
        _ => {
            answer.json().map(|object| Standing::Done(Box::new(object))).map_err(|refusal| refusal.about(key))
        }
    }
}

/// Without the header, nothing has arrived.
fn arrived(headers: &HeaderMap) -> Option<u64> {
    let Some(range) = headers.get("range") else { return Some(0) };
    let last = range.to_str().ok()?.strip_prefix("bytes=0-")?.parse::<u64>().ok()?;
    Some(last + 1)
}

/// With nothing to send, a question: how far is it? If that is all of it, it is an object.
fn content_range(range: &Range<u64>, size: u64) -> String {
    match range.is_empty() {
        true => format!("bytes */{size}"),
        false => format!("bytes {}-{}/{size}", range.start, range.end - 1),
    }
}

fn header(text: &str) -> Result<HeaderValue, StorageError> {
    HeaderValue::from_str(text).map_err(|error| StorageError::Refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_and_read() {
        assert_eq!(content_range(&(0..10), 20), "bytes 0-9/20");
        assert_eq!(content_range(&(20..20), 20), "bytes */20");
        let of = |text: &'static str| {
            arrived(&HeaderMap::from_iter([("range".parse().unwrap(), HeaderValue::from_static(text))]))
        };
        assert_eq!(of("bytes=0-42"), Some(43));
        assert_eq!(of("bytes=0-0"), Some(1));
        assert_eq!((of("bytes=7-42"), of("x")), (None, None));
        assert_eq!(arrived(&HeaderMap::new()), Some(0));
    }
}
