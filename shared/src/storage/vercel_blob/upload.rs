//! Objects on their way into the store: in one request, or in parts.
//!
//! There is no abort and no list of parts, so an upload that has failed begins anew; its parts outlast an outage. Parts are read from the file for each
//! attempt; memory is a piece for each part in flight.

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{Attributes, PutFile, StorageError, UploadWatch};
use super::VercelBlobStorage;
use super::api::{Api, Call};
use super::body::Payload;
use super::retry::OUTAGE;

/// A part's size unless the file is so large that there would be too many: the service wants 5 MiB at least, and an attempt
/// that fails repeats so much.
const PART: u64 = 16 * 1024 * 1024;
/// How many parts there may be.
const PARTS_MAX: u64 = 10_000;
/// How many parts are sent at once; more gain nothing where one connection fills a quarter of the uplink.
const PARTS_IN_FLIGHT: usize = 4;
/// The largest file that goes in one request.
pub(super) const SINGLE_MAX: u64 = PART;
/// The least that the service may be told to cache an object, in seconds.
const CACHE_MIN: u64 = 60;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    upload_id: String,
    key: String,
}

#[derive(Debug, Deserialize)]
struct Uploaded {
    etag: String,
}

/// Puts bytes.
pub(super) async fn bytes(
    api: &Api,
    key: &str,
    bytes: Bytes,
    attributes: &Attributes,
) -> Result<(), StorageError> {
    let call = write(Method::PUT, "/", key, attributes).body(Payload::Bytes(bytes));
    api.send::<Value>(&call).await.map(|_| ())
}

/// Puts a file in one request.
pub(super) async fn in_one(api: &Api, put: &PutFile<'_>, size: u64) -> Result<(), StorageError> {
    let body = part_of(put.file, 0..size);
    api.send::<Value>(&write(Method::PUT, "/", put.key, put.attributes).body(body)).await.map(|_| ())
}

/// Puts a file in parts.
pub(super) async fn in_parts(
    storage: &VercelBlobStorage,
    put: &PutFile<'_>,
    size: u64,
    watch: &dyn UploadWatch,
) -> Result<(), StorageError> {
    let before = storage.look(put.key).await?.and_then(|blob| blob.etag);
    let create = write(Method::POST, "/mpu", put.key, put.attributes).header("x-mpu-action", "create");
    let created: Created = storage.api.send(&create).await?;
    let upload = Upload { api: &storage.api, put, created };
    let parts = upload.parts(size, watch).await?;
    let Err(error) = upload.complete(&parts).await else { return Ok(()) };
    // The answer of a `complete` that was carried out may be lost; then its upload is gone, and the object is a new one.
    let now = storage.look(put.key).await.ok().flatten();
    match now.filter(|now| now.size == size && now.etag.is_some() && now.etag != before) {
        Some(_) => Ok(()),
        None => Err(error),
    }
}

struct Upload<'a> {
    api: &'a Api,
    put: &'a PutFile<'a>,
    created: Created,
}

impl Upload<'_> {
    /// Sends all parts; returns the list that completes the upload.
    async fn parts(&self, size: u64, watch: &dyn UploadWatch) -> Result<Vec<Value>, StorageError> {
        let mut sending = stream::iter(ranges(size).map(|(number, range)| self.part(number, range)))
            .buffer_unordered(PARTS_IN_FLIGHT);
        let (mut sent, mut parts) = (0, Vec::new());
        while let Some((number, size, etag)) = sending.try_next().await? {
            sent += size;
            watch.sent(sent);
            parts.push((number, json!({ "partNumber": number, "etag": etag })));
        }
        parts.sort_by_key(|(number, _)| *number);
        Ok(parts.into_iter().map(|(_, part)| part).collect())
    }

    async fn part(&self, number: u64, range: Range<u64>) -> Result<(u64, u64, String), StorageError> {
        let size = range.end - range.start;
        let call = self.call("upload").header("x-mpu-part-number", number.to_string());
        let call = call.body(part_of(self.put.file, range));
        let uploaded: Uploaded = self.api.send_through(OUTAGE, &call).await.map_err(lost)?;
        Ok((number, size, uploaded.etag))
    }

    async fn complete(&self, parts: &[Value]) -> Result<(), StorageError> {
        let call = self.call("complete").json(&json!(parts));
        self.api.send_through::<Value>(OUTAGE, &call).await.map(|_| ()).map_err(lost)
    }

    fn call(&self, action: &'static str) -> Call {
        let key = utf8_percent_encode(&self.created.key, NON_ALPHANUMERIC).to_string();
        write(Method::POST, "/mpu", self.put.key, self.put.attributes)
            .header("x-mpu-action", action)
            .header("x-mpu-upload-id", self.created.upload_id.clone())
            .header("x-mpu-key", key)
    }
}

/// An upload that the service has forgotten: another begins anew.
fn lost(error: StorageError) -> StorageError {
    match error {
        StorageError::NotFound(key) => StorageError::unavailable(format!("the upload of {key} is gone")),
        error => error,
    }
}

fn write(method: Method, path: &'static str, key: &str, attributes: &Attributes) -> Call {
    let call = Call::new(method, path, key)
        .query("pathname", key)
        .header("x-vercel-blob-access", "private")
        .header("x-add-random-suffix", "0")
        .header("x-allow-overwrite", "1");
    let call = match attributes.content_type.as_str() {
        "" => call,
        content_type => call.header("x-content-type", content_type),
    };
    match attributes.cache_control.as_deref().and_then(max_age) {
        Some(seconds) => call.header("x-cache-control-max-age", seconds.to_string()),
        None => call,
    }
}

/// The one directive that the service keeps; it refuses less than [`CACHE_MIN`].
fn max_age(cache_control: &str) -> Option<u64> {
    let directive = |part: &str| part.trim().strip_prefix("max-age=")?.parse::<u64>().ok();
    cache_control.split(',').find_map(directive).map(|seconds| seconds.max(CACHE_MIN))
}

fn part_of(file: &Path, range: Range<u64>) -> Payload {
    Payload::File { path: file.to_owned(), range }
}

/// The parts of a file, numbered from 1.
fn ranges(size: u64) -> impl Iterator<Item = (u64, Range<u64>)> {
    let part = PART.max(size.div_ceil(PARTS_MAX));
    (0..size.div_ceil(part)).map(move |n| (n + 1, n * part..size.min((n + 1) * part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_a_file_and_are_not_too_many() {
        for size in [PART + 1, 2 * PART, 3 * PART - 1, 5_000_000_000_000] {
            let all: Vec<_> = ranges(size).collect();
            assert!(all.len() as u64 <= PARTS_MAX);
            assert_eq!((all[0].0, all[0].1.start, all[all.len() - 1].1.end), (1, 0, size));
            assert!(all.windows(2).all(|two| two[0].1.end == two[1].1.start && two[0].0 + 1 == two[1].0));
            assert!(all.iter().rev().skip(1).all(|(_, part)| part.end - part.start >= PART));
        }
    }

    #[test]
    fn of_cache_control_the_age_is_kept() {
        assert_eq!(max_age("private, max-age=3600"), Some(3600));
        assert_eq!(max_age("max-age=0"), Some(CACHE_MIN));
        assert_eq!(max_age("no-store"), None);
    }
}
