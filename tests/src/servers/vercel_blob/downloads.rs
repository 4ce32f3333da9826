//! The host that blobs are downloaded from, with the cache in front of it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query as FromQuery, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH,
    LAST_MODIFIED, RANGE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;
use tower_http::services::ServeFile;

use super::api::{cache_control, disposition};
use super::auth::{Operation, Query, header, is_owner};
use super::error::BlobError;
use super::objects::Blob;
use super::{Access, DOWNLOAD_DOMAIN, Store, signed};

/// Every path is a blob's.
pub(super) fn routes(store: &Arc<Store>) -> Router {
    Router::new().fallback_service(get(serve).fallback(super::api::not_allowed).with_state(Arc::clone(store)))
}

/// The name below [`DOWNLOAD_DOMAIN`] that a request is for.
pub(super) fn host(headers: &HeaderMap) -> Option<&str> {
    let host = header(headers, HOST.as_str())?;
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    host.strip_suffix(DOWNLOAD_DOMAIN)?.strip_suffix('.')
}

async fn serve(
    State(store): State<Arc<Store>>,
    FromQuery(query): FromQuery<Query>,
    request: Request,
) -> Result<Response, BlobError> {
    // Without its body, which could not be looked at by two threads.
    let (request, _) = request.into_parts();
    let pathname = percent_decode_str(request.uri.path().trim_start_matches('/')).decode_utf8();
    let pathname = pathname.map_err(|_| BlobError::not_found())?.into_owned();
    check_host(&store, &request.headers)?;
    check_access(&store, &request, &query, &pathname)?;
    // Only private blobs have a way round the cache.
    let uncached =
        store.settings.access == Access::Private && query.get("cache").is_some_and(|cache| cache == "0");
    let blob = if uncached { store.objects.find(&pathname) } else { store.objects.find_cached(&pathname) };
    let blob = blob.ok_or_else(BlobError::not_found)?;
    let download = query.get("download").is_some_and(|download| download == "1");
    let mut answer = body(&blob, &request).await?;
    let uploaded = blob.uploaded_at.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    for (name, value) in [
        (ETAG, blob.etag.clone()),
        (CONTENT_TYPE, blob.content_type.clone()),
        (CACHE_CONTROL, cache_control(&blob)),
        (CONTENT_DISPOSITION, disposition(&pathname, &blob, download)),
        (LAST_MODIFIED, uploaded),
    ] {
        set(answer.headers_mut(), name, &value);
    }
    Ok(answer)
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A name of another store, or of this one with another access, is nobody's.
fn check_host(store: &Store, headers: &HeaderMap) -> Result<(), BlobError> {
    let own = format!("{}.{}", store.settings.id, store.settings.access.as_str());
    match host(headers) {
        Some(name) if !name.eq_ignore_ascii_case(&own) => Err(BlobError::store_not_found()),
        _ => Ok(()),
    }
}

fn check_access(store: &Store, request: &Parts, query: &Query, pathname: &str) -> Result<(), BlobError> {
    if store.settings.access == Access::Public || is_owner(store, &request.headers)? {
        return Ok(());
    }
    if !signed::is_signed(query) {
        return Err(BlobError::forbidden("Forbidden"));
    }
    let head = request.method == Method::HEAD;
    let operation = if head { Operation::Head } else { Operation::Get };
    signed::check(store, query, operation, pathname).map(|_| ())
}

async fn body(blob: &Blob, request: &Parts) -> Result<Response, BlobError> {
    if header(&request.headers, IF_NONE_MATCH.as_str()) == Some(blob.etag.as_str()) {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    // Nothing has no first byte (RFC 9110, 14.1.2).
    if blob.size == 0 && request.headers.contains_key(RANGE) {
        return Ok((StatusCode::RANGE_NOT_SATISFIABLE, [(CONTENT_RANGE, "bytes */0")]).into_response());
    }
    let mut wanted = http::Request::builder()
        .method(request.method.clone())
        .body(Body::empty())
        .map_err(|error| BlobError::unknown(error.to_string()))?;
    if let Some(range) = request.headers.get(RANGE) {
        wanted.headers_mut().insert(RANGE, range.clone());
    }
    let answer = ServeFile::new(&*blob.body).try_call(wanted).await?;
    Ok(answer.map(Body::new).into_response())
}
