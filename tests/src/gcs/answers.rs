//! Errors as Google words them.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

fn error(status: u16, reason: &str, message: &str) -> Response {
    let body = json!({ "error": {
        "code": status,
        "message": message,
        "errors": [{ "message": message, "domain": "global", "reason": reason }],
    }});
    let status = StatusCode::from_u16(status).expect("a status of the tests' own");
    (status, Json(body)).into_response()
}

pub(super) fn busy(status: u16, retry_after: u64) -> Response {
    let mut answer = error(status, "backendError", "We encountered an internal error. Please try again.");
    answer.headers_mut().insert("retry-after", retry_after.into());
    answer
}

pub(super) fn unauthorized() -> Response {
    error(401, "authError", "Invalid Credentials")
}

pub(super) fn no_bucket() -> Response {
    error(404, "notFound", "The specified bucket does not exist.")
}

pub(super) fn no_object(bucket: &str, key: &str) -> Response {
    error(404, "notFound", &format!("No such object: {bucket}/{key}"))
}

pub(super) fn wrong(message: &str) -> Response {
    error(400, "invalid", message)
}

pub(super) fn wrong_checksum(given: &str, calculated: &str) -> Response {
    wrong(&format!("Provided CRC32C \"{given}\" doesn't match calculated CRC32C \"{calculated}\"."))
}

/// Plain text, as answers about sessions are.
pub(super) fn of_session(status: u16) -> Response {
    StatusCode::from_u16(status).expect("a status of the tests' own").into_response()
}

/// Those of links are XML.
pub(super) fn of_link(status: u16, code: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status of the tests' own");
    (status, [("content-type", "application/xml")], format!("<Error><Code>{code}</Code></Error>"))
        .into_response()
}
