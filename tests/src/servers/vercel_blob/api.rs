//! Calls about one blob or a page of them: put, head, list, delete.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query as FromQuery, State};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::SecondsFormat;
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::{Operation, Query, authorise, header};
use super::error::BlobError;
use super::objects::Blob;
use super::writes::Write;
use super::{DOWNLOAD_DOMAIN, Store};

/// The most entries of a page, and how many there are when nothing is asked for.
const LIST_MAX: usize = 1000;

/// `PUT /?pathname=…`
pub(super) async fn put(
    State(store): State<Arc<Store>>,
    FromQuery(query): FromQuery<Query>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, BlobError> {
    let pathname = query.get("pathname").ok_or_else(|| BlobError::bad_request("pathname is missing"))?;
    let limits = authorise(&store, &headers, &query, Operation::Put, pathname)?;
    let write = Write::read(&store, pathname, &headers, limits.as_ref())?;
    store.objects.admit(&write)?;
    let (body, size) = store.objects.receive(body, write.bytes_max).await?;
    let blob = store.objects.publish(&write, body, size)?;
    Ok(Json(written(&store, &write.pathname, &blob)))
}

/// `GET /?url=…` tells of one blob, `GET /` without it lists.
pub(super) async fn look(
    State(store): State<Arc<Store>>,
    FromQuery(query): FromQuery<Query>,
    headers: HeaderMap,
) -> Result<Json<Value>, BlobError> {
    authorise(&store, &headers, &query, Operation::Manage, "")?;
    match query.get("url") {
        Some(url) => head(&store, url).map(Json),
        None => list(&store, &query).map(Json),
    }
}

fn head(store: &Store, url: &str) -> Result<Value, BlobError> {
    let pathname = pathname_of(store, url)?;
    let blob = store.objects.find(&pathname).ok_or_else(BlobError::not_found)?;
    let mut told = written(store, &pathname, &blob);
    told["size"] = json!(blob.size);
    told["uploadedAt"] = json!(blob.uploaded_at.to_rfc3339_opts(SecondsFormat::Millis, true));
    told["cacheControl"] = json!(cache_control(&blob));
    Ok(told)
}

fn list(store: &Store, query: &Query) -> Result<Value, BlobError> {
    let limit = match query.get("limit") {
        None => LIST_MAX,
        Some(limit) => limit
            .parse()
            .ok()
            .filter(|limit| (1..=LIST_MAX).contains(limit))
            .ok_or_else(|| BlobError::bad_request(format!("limit is a number from 1 to {LIST_MAX}")))?,
    };
    let folded = match query.get("mode").map(String::as_str) {
        None | Some("expanded") => false,
        Some("folded") => true,
        Some(_) => return Err(BlobError::bad_request("mode is expanded or folded")),
    };
    let after = query.get("cursor").map(|cursor| read_cursor(cursor)).transpose()?;
    let prefix = query.get("prefix").map(String::as_str).unwrap_or_default();
    let page = store.objects.list(prefix, after.as_deref(), limit, folded);
    let mut told = json!({
        "blobs": page.blobs.iter().map(|(pathname, blob)| listed(store, pathname, blob)).collect::<Vec<_>>(),
        "hasMore": page.next.is_some(),
    });
    if let Some(next) = page.next {
        told["cursor"] = json!(URL_SAFE_NO_PAD.encode(next));
    }
    if folded {
        told["folders"] = json!(page.folders);
    }
    Ok(told)
}

fn read_cursor(cursor: &str) -> Result<String, BlobError> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let name = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    name.ok_or_else(|| BlobError::bad_request("Invalid cursor"))
}

#[derive(Deserialize)]
pub(super) struct Deletion {
    urls: Vec<String>,
}

/// `POST /delete`
pub(super) async fn delete(
    State(store): State<Arc<Store>>,
    headers: HeaderMap,
    Json(deletion): Json<Deletion>,
) -> Result<Json<Value>, BlobError> {
    authorise(&store, &headers, &Query::new(), Operation::Manage, "")?;
    let if_match = header(&headers, "x-if-match");
    if if_match.is_some() && deletion.urls.len() != 1 {
        return Err(BlobError::bad_request("x-if-match goes with one URL"));
    }
    for url in &deletion.urls {
        store.objects.delete(&pathname_of(&store, url)?, if_match)?;
    }
    Ok(Json(Value::Null))
}

/// `DELETE /?pathname=…`, with a signed URL.
pub(super) async fn delete_signed(
    State(store): State<Arc<Store>>,
    FromQuery(query): FromQuery<Query>,
    headers: HeaderMap,
) -> Result<Json<Value>, BlobError> {
    let pathname = query.get("pathname").ok_or_else(|| BlobError::bad_request("pathname is missing"))?;
    let limits = authorise(&store, &headers, &query, Operation::Delete, pathname)?;
    let limits = limits.ok_or_else(BlobError::not_allowed)?;
    store.objects.delete(pathname, limits.if_match.as_deref())?;
    Ok(Json(Value::Null))
}

/// A method that a path does not have.
pub(super) async fn not_allowed() -> BlobError {
    BlobError::not_allowed()
}

/// What a write answers.
pub(super) fn written(store: &Store, pathname: &str, blob: &Blob) -> Value {
    let mut told = located(store, pathname, blob);
    told["contentType"] = json!(blob.content_type);
    told["contentDisposition"] = json!(disposition(pathname, blob, false));
    told
}

fn listed(store: &Store, pathname: &str, blob: &Blob) -> Value {
    let mut told = located(store, pathname, blob);
    told["size"] = json!(blob.size);
    told["uploadedAt"] = json!(blob.uploaded_at.to_rfc3339_opts(SecondsFormat::Millis, true));
    told
}

fn located(store: &Store, pathname: &str, blob: &Blob) -> Value {
    let url = store.url(pathname);
    json!({ "url": url.as_str(), "downloadUrl": format!("{url}?download=1"), "pathname": pathname, "etag": blob.etag })
}

/// Of a blob's bytes.
pub(super) fn cache_control(blob: &Blob) -> String {
    format!("public, max-age={}", blob.cache_max_age)
}

/// Media and text are shown; everything else, and what is asked for so, is saved.
pub(super) fn disposition(pathname: &str, blob: &Blob, download: bool) -> String {
    const SHOWN: [&str; 4] = ["text/plain", "text/xml", "application/json", "application/pdf"];
    const FAMILIES: [&str; 3] = ["image/", "audio/", "video/"];
    let kind = blob.content_type.as_str();
    let shown = SHOWN.contains(&kind) || FAMILIES.iter().any(|family| kind.starts_with(family));
    let how = if shown && !download { "inline" } else { "attachment" };
    let name = pathname.rsplit('/').next().unwrap_or(pathname);
    let plain: String =
        name.chars().map(|c| if c.is_ascii_graphic() && c != '"' { c } else { '_' }).collect();
    format!("{how}; filename=\"{plain}\"")
}

/// A pathname, or a URL of this store's.
fn pathname_of(store: &Store, url: &str) -> Result<String, BlobError> {
    let Ok(parsed) = url.parse::<reqwest::Url>() else { return Ok(url.to_owned()) };
    let (id, access) = (&store.settings.id, store.settings.access.as_str());
    if parsed.host_str() != Some(format!("{id}.{access}.{DOWNLOAD_DOMAIN}").to_lowercase().as_str()) {
        return Err(BlobError::not_found());
    }
    let path = percent_decode_str(parsed.path().trim_start_matches('/')).decode_utf8();
    Ok(path.map_err(|_| BlobError::not_found())?.into_owned())
}
