//! Large blobs in parts: create, upload, complete. There is no abort and no list of parts.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Query as FromQuery, State};
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempPath;

use super::Store;
use super::api::written;
use super::auth::{Operation, Query, authorise, header};
use super::error::BlobError;
use super::objects::new_etag;
use super::writes::Write;

/// Every part but the last is at least so large.
const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// And at most so large.
const PART_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// How many parts there may be.
const PARTS_MAX: u32 = 10_000;
/// The list of [`PARTS_MAX`] parts, and some.
const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Uploads that were created and not completed.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<HashMap<String, Upload>>);

#[derive(Debug)]
struct Upload {
    write: Write,
    parts: BTreeMap<u32, Part>,
}

#[derive(Debug)]
struct Part {
    body: TempPath,
    size: u64,
    etag: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    etag: String,
    part_number: u32,
}

impl Uploads {
    pub(super) fn count(&self) -> usize {
        self.uploads().len()
    }

    fn uploads(&self) -> MutexGuard<'_, HashMap<String, Upload>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `POST /mpu?pathname=…`
pub(super) async fn act(
    State(store): State<Arc<Store>>,
    FromQuery(query): FromQuery<Query>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, BlobError> {
    let pathname = query.get("pathname").ok_or_else(|| BlobError::bad_request("pathname is missing"))?;
    let limits = authorise(&store, &headers, &query, Operation::Put, pathname)?;
    let write = Write::read(&store, pathname, &headers, limits.as_ref())?;
    match header(&headers, "x-mpu-action") {
        Some("create") => create(&store, write).map(Json),
        Some("upload") => upload(&store, &headers, body).await.map(Json),
        Some("complete") => complete(&store, &headers, body).await.map(Json),
        _ => Err(BlobError::bad_request("x-mpu-action is create, upload or complete")),
    }
}

fn create(store: &Store, write: Write) -> Result<Value, BlobError> {
    store.objects.admit(&write)?;
    let id = format!("{:032x}", rand::random::<u128>());
    let key = write.pathname.clone();
    store.uploads.uploads().insert(id.clone(), Upload { write, parts: BTreeMap::new() });
    Ok(json!({ "uploadId": id, "key": key }))
}

async fn upload(store: &Store, headers: &HeaderMap, body: Body) -> Result<Value, BlobError> {
    let id = upload_id(store, headers)?;
    let number = header(headers, "x-mpu-part-number").and_then(|number| number.parse::<u32>().ok());
    let number = number
        .filter(|number| (1..=PARTS_MAX).contains(number))
        .ok_or_else(|| BlobError::bad_request(format!("x-mpu-part-number is from 1 to {PARTS_MAX}")))?;
    let (body, size) = store.objects.receive(body, PART_BYTES_MAX).await?;
    let etag = new_etag();
    let mut uploads = store.uploads.uploads();
    let upload = uploads.get_mut(&id).ok_or_else(BlobError::not_found)?;
    upload.parts.insert(number, Part { body, size, etag: etag.clone() });
    Ok(json!({ "etag": etag }))
}

async fn complete(store: &Arc<Store>, headers: &HeaderMap, body: Body) -> Result<Value, BlobError> {
    let id = upload_id(store, headers)?;
    let body = to_bytes(body, LIST_BYTES_MAX).await.map_err(io::Error::other)?;
    let mut listed: Vec<Listed> =
        serde_json::from_slice(&body).map_err(|error| BlobError::bad_request(error.to_string()))?;
    listed.sort_by_key(|part| part.part_number);
    let upload = {
        let mut uploads = store.uploads.uploads();
        check(uploads.get(&id).ok_or_else(BlobError::not_found)?, &listed)?;
        uploads.remove(&id).ok_or_else(BlobError::not_found)?
    };
    let Upload { write, mut parts } = upload;
    let parts: Vec<Part> = listed.iter().filter_map(|part| parts.remove(&part.part_number)).collect();
    let size = parts.iter().map(|part| part.size).sum();
    if size > write.bytes_max {
        return Err(BlobError::file_too_large(write.bytes_max));
    }
    let joined = tokio::task::spawn_blocking(|| join(parts)).await.map_err(io::Error::other)??;
    let blob = store.objects.publish(&write, joined, size)?;
    Ok(written(store, &write.pathname, &blob))
}

/// The upload that the headers name, by its id and its key, which must belong together.
fn upload_id(store: &Store, headers: &HeaderMap) -> Result<String, BlobError> {
    let id = header(headers, "x-mpu-upload-id")
        .ok_or_else(|| BlobError::bad_request("x-mpu-upload-id is missing"))?;
    let key = header(headers, "x-mpu-key").map(|key| percent_decode_str(key).decode_utf8_lossy());
    let uploads = store.uploads.uploads();
    let upload = uploads.get(id).ok_or_else(BlobError::not_found)?;
    if key.as_deref() != Some(upload.write.pathname.as_str()) {
        return Err(BlobError::bad_request("x-mpu-key is not the upload's"));
    }
    Ok(id.to_owned())
}

/// The list names parts that were uploaded, each once, by their last etags; all but the last are large enough.
fn check(upload: &Upload, listed: &[Listed]) -> Result<(), BlobError> {
    let mut sizes = Vec::with_capacity(listed.len());
    for part in listed {
        let uploaded = upload.parts.get(&part.part_number).filter(|uploaded| uploaded.etag == part.etag);
        let uploaded = uploaded.ok_or_else(|| {
            BlobError::bad_request(format!("part {} was not uploaded, or has another etag", part.part_number))
        })?;
        sizes.push(uploaded.size);
    }
    let twice = listed.windows(2).any(|pair| pair[0].part_number == pair[1].part_number);
    let Some((_, but_last)) = sizes.split_last().filter(|_| !twice) else {
        return Err(BlobError::bad_request("the list of parts is empty, or names one twice"));
    };
    if but_last.iter().any(|size| *size < PART_BYTES_MIN) {
        return Err(BlobError::bad_request(format!(
            "parts but the last have at least {PART_BYTES_MIN} bytes"
        )));
    }
    Ok(())
}

/// Appends the other parts to the first.
fn join(parts: Vec<Part>) -> io::Result<TempPath> {
    let mut parts = parts.into_iter();
    let first = parts.next().ok_or(io::ErrorKind::InvalidInput)?.body;
    let mut whole = File::options().append(true).open(&first)?;
    for part in parts {
        io::copy(&mut File::open(&part.body)?, &mut whole)?;
    }
    Ok(first)
}
