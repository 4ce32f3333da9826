//! Which other origins a browser may let in (`ALLOWED_ORIGINS`). No list: no header, and browsers let in our own page alone.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::CorsLayer;

use super::request_id::X_REQUEST_ID;

/// How long a browser may remember the answer to a preflight: an hour, so that a changed list is seen the same day.
const REMEMBER: Duration = Duration::from_secs(3600);

pub(super) fn layer(origins: &[HeaderValue]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let own = ["x-user-id", "x-chunk-timestamp", "content-digest"];
    let own = own.into_iter().map(HeaderName::from_static);
    let common = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::RANGE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        X_REQUEST_ID,
    ];
    let shown = [
        X_REQUEST_ID,
        header::RETRY_AFTER,
        header::ACCEPT_RANGES,
        header::CONTENT_RANGE,
        header::CONTENT_DISPOSITION,
        header::ETAG,
        header::LOCATION,
        header::LINK,
    ];
    Some(
        CorsLayer::new()
            .allow_origin(origins.to_vec())
            .allow_methods([
                Method::GET,
                Method::HEAD,
                Method::POST,
                Method::PUT,
                Method::PATCH,
                Method::DELETE,
            ])
            .allow_headers(common.into_iter().chain(own).collect::<Vec<_>>())
            .expose_headers(shown)
            .max_age(REMEMBER),
    )
}
