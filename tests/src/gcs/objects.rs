//! Objects: put in one request, told, read, listed, deleted.

#![expect(clippy::result_large_err, reason = "an answer either way, as axum has it")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock, Timestamp};
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use tokio_util::io::ReaderStream;
use ulid::Ulid;

use super::account::WrongUrl;
use super::{BUCKET, Fault, Server, answers, sessions};

/// Objects on a page at most, as Google has it.
const PAGE_MAX: usize = 1_000;

pub(super) type Shared = State<Arc<Server>>;
pub(super) type Parameters = Query<BTreeMap<String, String>>;

/// What is told of an object by whoever puts it.
#[derive(Deserialize, Clone, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Told {
    content_type: Option<String>,
    cache_control: Option<String>,
    metadata: BTreeMap<String, String>,
    pub(super) crc32c: Option<String>,
}

/// An object.
#[derive(Clone)]
pub(super) struct Stored {
    told: Told,
    file: PathBuf,
    size: u64,
    crc32c: String,
    generation: u64,
    created: Timestamp,
}

impl Stored {
    fn json(&self, key: &str) -> Value {
        let mut json = json!({
            "kind": "storage#object", "name": key, "bucket": BUCKET, "size": self.size.to_string(),
            "generation": self.generation.to_string(), "metageneration": "1", "etag": format!("e{}", self.generation),
            "crc32c": self.crc32c, "timeCreated": self.created.to_rfc3339(), "updated": self.created.to_rfc3339(),
            "contentType": self.told.content_type, "cacheControl": self.told.cache_control,
            "metadata": self.told.metadata, "storageClass": "STANDARD",
        });
        // What nobody has told is left out.
        json.as_object_mut().expect("it is one").retain(|_, value| !value.is_null());
        json
    }

    fn headers(&self) -> HeaderMap {
        let text = |text: &str| HeaderValue::from_str(text).expect("a header of the tests' own");
        let name = HeaderName::from_static;
        let mut headers = HeaderMap::from_iter([
            (name("x-goog-generation"), self.generation.into()),
            (name("x-goog-metageneration"), 1.into()),
            (name("x-goog-stored-content-length"), self.size.into()),
            (name("x-goog-stored-content-encoding"), text("identity")),
            (name("x-goog-storage-class"), text("STANDARD")),
            (name("x-goog-hash"), text(&format!("crc32c={}", self.crc32c))),
        ]);
        let told = [
            (name("content-type"), &self.told.content_type),
            (name("cache-control"), &self.told.cache_control),
        ];
        headers.extend(told.into_iter().filter_map(|(name, value)| Some((name, text(value.as_ref()?)))));
        headers
    }
}

/// As Google writes it: four bytes, most significant first, in Base64.
pub(super) fn crc32c_text(crc: u32) -> String {
    BASE64.encode(crc.to_be_bytes())
}

impl Server {
    /// Makes an object of a file.
    pub(super) fn store(&self, key: &str, told: &Told, file: PathBuf, size: u64, crc32c: String) -> Response {
        let mut state = self.state();
        state.generation += 1;
        let (generation, created) = (state.generation, SystemClock.now());
        let stored = Stored { told: told.clone(), file, size, crc32c, generation, created };
        let answer = Json(stored.json(key)).into_response();
        state.objects.insert(key.to_owned(), stored);
        answer
    }

    /// Whether a request may be answered: by who asks, and by what bucket it is about.
    fn admits(&self, bucket: &str, headers: &HeaderMap) -> Result<(), Response> {
        match (self.account.sends(headers), bucket == BUCKET) {
            (false, _) => Err(answers::unauthorized()),
            (true, false) => Err(answers::no_bucket()),
            (true, true) => Ok(()),
        }
    }

    fn find(&self, bucket: &str, key: &str) -> Result<Stored, Response> {
        let found = self.state().objects.get(key).cloned();
        found.ok_or_else(|| answers::no_object(bucket, key))
    }
}

pub(super) async fn list(
    State(server): Shared,
    Path(bucket): Path<String>,
    Query(query): Parameters,
    headers: HeaderMap,
) -> Result<Response, Response> {
    server.admits(&bucket, &headers)?;
    let text = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let (prefix, after) = (text("prefix"), text("pageToken"));
    let most = text("maxResults").parse().unwrap_or(PAGE_MAX).min(PAGE_MAX);
    let state = server.state();
    let mut found = state.objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after);
    let page: Vec<_> = found.by_ref().take(most).collect();
    let items: Vec<Value> = page.iter().map(|(key, stored)| stored.json(key)).collect();
    let mut answer = json!({ "kind": "storage#objects" });
    if !items.is_empty() {
        answer["items"] = items.into();
    }
    if let (Some(_), Some((last, _))) = (found.next(), page.last()) {
        answer["nextPageToken"] = last.as_str().into();
    }
    Ok(Json(answer).into_response())
}

pub(super) async fn get(
    State(server): Shared,
    Path((bucket, key)): Path<(String, String)>,
    Query(query): Parameters,
    headers: HeaderMap,
) -> Result<Response, Response> {
    server.admits(&bucket, &headers)?;
    let stored = server.find(&bucket, &key)?;
    match query.get("alt").map(String::as_str) {
        Some("media") => {
            let pinned =
                query.get("generation").is_none_or(|wanted| *wanted == stored.generation.to_string());
            if !pinned {
                return Err(answers::no_object(&bucket, &key));
            }
            Ok(bytes(&server, &stored, &headers).await)
        }
        _ => Ok(Json(stored.json(&key)).into_response()),
    }
}

pub(super) async fn delete(
    State(server): Shared,
    Path((bucket, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Response> {
    server.admits(&bucket, &headers)?;
    let gone = server.state().objects.remove(&key);
    let gone = gone.ok_or_else(|| answers::no_object(&bucket, &key))?;
    let _ = std::fs::remove_file(gone.file);
    Ok(StatusCode::NO_CONTENT)
}

/// By a signed URL.
pub(super) async fn open(
    State(server): Shared,
    Path((bucket, key)): Path<(String, String)>,
    Query(query): Parameters,
    request: Request,
) -> Result<Response, Response> {
    let (parts, _) = request.into_parts();
    server.account.has_signed_url(&parts).map_err(|wrong| match wrong {
        WrongUrl::NotSigned => answers::of_link(403, "AccessDenied"),
        WrongUrl::Signature => answers::of_link(403, "SignatureDoesNotMatch"),
        WrongUrl::Expired => answers::of_link(400, "ExpiredToken"),
    })?;
    let stored = server.find(&bucket, &key)?;
    let mut answer = bytes(&server, &stored, &parts.headers).await;
    if let Some(disposition) = query.get("response-content-disposition") {
        let disposition =
            HeaderValue::from_str(disposition).map_err(|_| answers::of_link(400, "InvalidArgument"))?;
        answer.headers_mut().insert("content-disposition", disposition);
    }
    Ok(answer)
}

/// A new object: its bytes at once, or a session for them.
pub(super) async fn post(
    State(server): Shared,
    Path(bucket): Path<String>,
    Query(query): Parameters,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Response> {
    server.admits(&bucket, &headers)?;
    let key = query.get("name").ok_or_else(|| answers::wrong("Required parameter: name"))?;
    match query.get("uploadType").map(String::as_str) {
        Some("resumable") => sessions::begin(&server, key, &headers, &body),
        Some("multipart") => at_once(&server, key, &headers, &body),
        _ => Err(answers::wrong("uploadType")),
    }
}

fn at_once(server: &Server, key: &str, headers: &HeaderMap, body: &[u8]) -> Result<Response, Response> {
    let garbled = || answers::wrong("Malformed multipart body.");
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let boundary = kind.strip_prefix("multipart/related; boundary=").ok_or_else(garbled)?;
    let [told, media] = &parts(body, boundary)[..] else { return Err(garbled()) };
    let told: Told = serde_json::from_slice(told).map_err(|_| garbled())?;
    let mut media = media.to_vec();
    if server.fault(|fault| (fault == Fault::Damages).then_some(())).is_some() {
        media[0] ^= 1;
    }
    let calculated = crc32c_text(crc32c::crc32c(&media));
    if let Some(given) = told.crc32c.as_ref().filter(|given| **given != calculated) {
        return Err(answers::wrong_checksum(given, &calculated));
    }
    let file = server.file(&Ulid::generate().to_string());
    std::fs::write(&file, &media).expect("the disk has room");
    Ok(server.store(key, &told, file, media.len() as u64, calculated))
}

/// The bodies of the parts between the boundaries (RFC 2046), none where it is malformed.
fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let (line, mut found, mut rest) = (format!("--{boundary}"), Vec::new(), body);
    while let Some(after) = rest.strip_prefix(line.as_bytes()).and_then(|rest| rest.strip_prefix(b"\r\n")) {
        let Some(head) = position(after, b"\r\n\r\n") else { return Vec::new() };
        let content = &after[head + 4..];
        let Some(end) = position(content, format!("\r\n{line}").as_bytes()) else { return Vec::new() };
        found.push(&content[..end]);
        rest = &content[end + 2..];
    }
    if rest.starts_with(format!("{line}--").as_bytes()) { found } else { Vec::new() }
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|found| found == wanted)
}

/// An object's bytes, or those of a range.
async fn bytes(server: &Server, stored: &Stored, asked: &HeaderMap) -> Response {
    let range =
        asked.get("range").and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let range =
        range.and_then(|(first, last)| Some((first.parse::<u64>().ok()?, last.parse().unwrap_or(u64::MAX))));
    let (status, first, end) = match range {
        None => (StatusCode::OK, 0, stored.size),
        Some((first, _)) if first >= stored.size => return answers::of_session(416),
        Some((first, last)) => (StatusCode::PARTIAL_CONTENT, first, stored.size.min(last.saturating_add(1))),
    };
    let mut file = tokio::fs::File::open(&stored.file).await.expect("every object has its file");
    file.seek(SeekFrom::Start(first)).await.expect("a file can be sought in");
    let breaks_off = server.fault(|fault| (fault == Fault::BreaksOff).then_some(())).is_some();
    let sent = if breaks_off { (end - first) / 2 } else { end - first };
    let broken = breaks_off.then(|| Err(std::io::Error::other("as the test wants it")));
    let stream = ReaderStream::new(file.take(sent)).chain(futures::stream::iter(broken));
    let mut headers = stored.headers();
    headers.insert("content-length", (end - first).into());
    if status == StatusCode::PARTIAL_CONTENT {
        let told = format!("bytes {first}-{}/{}", end - 1, stored.size);
        headers.insert("content-range", HeaderValue::from_str(&told).expect("numbers"));
    }
    (status, headers, Body::from_stream(stream)).into_response()
}
