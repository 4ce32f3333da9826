//! Errors as the API tells them: a status, a code, and a message that the official client reads too.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

/// What a handler refuses with.
#[derive(Debug)]
pub(super) struct BlobError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl BlobError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "The requested blob does not exist")
    }

    pub(super) fn not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "not_allowed", "Method not allowed")
    }

    pub(super) fn store_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "store_not_found", "Store not found")
    }

    pub(super) fn store_suspended() -> Self {
        Self::new(StatusCode::FORBIDDEN, "store_suspended", "This store has been suspended.")
    }

    pub(super) fn precondition_failed() -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", "ETag mismatch")
    }

    pub(super) fn unknown(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "unknown_error", message)
    }

    pub(super) fn client_token_not_allowed() -> Self {
        let message = "This operation is not available when using a client token.";
        Self::new(StatusCode::FORBIDDEN, "client_token_not_allowed", message)
    }

    // The service tells these four by their message: older clients know no code for them.

    pub(super) fn file_too_large(bytes_max: u64) -> Self {
        Self::forbidden(format!("the file length cannot be greater than {bytes_max} bytes"))
    }

    pub(super) fn content_type_not_allowed(found: &str) -> Self {
        Self::forbidden(format!("\"contentType\" {found} is not allowed"))
    }

    pub(super) fn pathname_mismatch(pathname: &str) -> Self {
        Self::forbidden(format!("\"pathname\" {pathname} does not match the token payload"))
    }

    pub(super) fn token_expired() -> Self {
        Self::forbidden("Token expired")
    }
}

/// The disk that blobs are kept on failed, or a client went away: nobody but the test's log reads it.
impl From<std::io::Error> for BlobError {
    fn from(error: std::io::Error) -> Self {
        Self::unknown(error.to_string())
    }
}

impl IntoResponse for BlobError {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.code, "message": self.message } });
        (self.status, Json(body)).into_response()
    }
}
