//! The page: files of `edge/web`, built into the program, so that the program is all there is to deploy.

use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::error::{ApiError, Code};

/// What the page may load and reach: itself. Media and pictures also from memory, where recordings wait for their upload.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; media-src 'self' blob:; img-src 'self' blob: data:; \
     style-src 'self'; connect-src 'self'; frame-ancestors 'none'";

/// The folder holds sources alone; what tools leave there is not for visitors.
#[derive(RustEmbed)]
#[folder = "web/"]
#[exclude = "*.json"]
#[exclude = "*.ts"]
#[exclude = "*.md"]
#[exclude = "node_modules/*"]
#[exclude = "test/*"]
#[exclude = "tests/*"]
#[exclude = ".*"]
struct Files;

/// What answers wherever no route does: a file of the page, or 404.
pub(super) async fn fallback(method: Method, uri: Uri, headers: HeaderMap) -> Result<Response, ApiError> {
    let name = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        name => name,
    };
    match method {
        Method::GET | Method::HEAD => serve(name, &headers),
        _ => Err(nothing_here()),
    }
}

fn nothing_here() -> ApiError {
    ApiError::new(Code::NotFound, "nothing answers under this path")
}

fn serve(name: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let file = Files::get(name).ok_or_else(nothing_here)?;
    let etag = etag(&file);
    // `no-cache` lets browsers keep the file but ask each time: a new version is seen at once.
    let always = [
        (header::ETAG, etag.clone()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY.to_owned()),
    ];
    if is_held(headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, always).into_response());
    }
    Ok((always, [(header::CONTENT_TYPE, content_type(&file))], file.data).into_response())
}

fn etag(file: &EmbeddedFile) -> String {
    let hash: String =
        file.metadata.sha256_hash().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hash}\"")
}

fn is_held(headers: &HeaderMap, etag: &str) -> bool {
    let held = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    held.split(',').map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag == etag || tag == "*")
}

fn content_type(file: &EmbeddedFile) -> String {
    let kind = file.metadata.mimetype();
    let text = kind.starts_with("text/") || kind == "application/javascript";
    if text { format!("{kind}; charset=utf-8") } else { kind.to_owned() }
}
