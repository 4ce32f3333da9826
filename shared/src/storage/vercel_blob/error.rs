//! The service's errors, told by what to do about them.

use std::error::Error;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use super::super::{StorageError, answer};

/// So much of a message goes into an error of ours: one that is longer is a page of HTML.
const MESSAGE_MAX: usize = 300;

#[derive(Debug, Deserialize)]
struct Told {
    error: Said,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    code: String,
    message: String,
}

/// No answer, or not all of it. The URL is left out: it may be signed.
pub(super) fn of_network(error: &reqwest::Error) -> StorageError {
    let mut reason = "the network failed".to_owned();
    let mut source = error.source();
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    StorageError::unavailable(reason)
}

/// An answer that is no success.
pub(super) async fn of_answer(answer: Response, store_id: &str, key: &str) -> StorageError {
    let status = answer.status();
    let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
    // A proxy in front of the service answers with no JSON; then the status is all there is.
    let body = answer::whole(answer).await.unwrap_or_default();
    let said = serde_json::from_slice::<Told>(&body).map(|told| told.error).unwrap_or_default();
    let text = text(status, &said);
    match kind(status, &said) {
        Kind::NotFound => StorageError::NotFound(key.to_owned()),
        Kind::Credentials => StorageError::Credentials(text),
        Kind::NoStore => StorageError::NoBucket(store_id.to_owned()),
        Kind::Full => StorageError::Full(text),
        Kind::Refused => StorageError::Refused(text),
        Kind::Unavailable => StorageError::Unavailable { reason: text, retry_after },
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    NotFound,
    Credentials,
    NoStore,
    Full,
    Refused,
    Unavailable,
}

fn kind(status: StatusCode, said: &Said) -> Kind {
    // The service tells these by their message, under the code of an older error.
    let refused = |part: &str| said.message.contains(part);
    if refused("is not allowed") || refused("the file length cannot be greater than") {
        return Kind::Refused;
    }
    match said.code.as_str() {
        "not_found" => Kind::NotFound,
        "forbidden"
        | "client_token_expired"
        | "client_token_not_allowed"
        | "oidc_environment_not_allowed" => Kind::Credentials,
        "store_not_found" => Kind::NoStore,
        // Suspended stores are those whose account is over its limits.
        "store_suspended" => Kind::Full,
        "bad_request"
        | "not_allowed"
        | "content_type_not_allowed"
        | "file_too_large"
        | "precondition_failed" => Kind::Refused,
        "rate_limited" | "service_unavailable" | "unknown_error" | "internal_server_error" => {
            Kind::Unavailable
        }
        _ => of_status(status),
    }
}

fn of_status(status: StatusCode) -> Kind {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Credentials,
        StatusCode::NOT_FOUND => Kind::NotFound,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Kind::Unavailable,
        status if status.is_client_error() => Kind::Refused,
        _ => Kind::Unavailable,
    }
}

fn text(status: StatusCode, said: &Said) -> String {
    let message: String = said.message.chars().take(MESSAGE_MAX).collect();
    match (said.code.as_str(), message.as_str()) {
        ("", _) => format!("Vercel Blob answers {status}"),
        (code, "") => format!("Vercel Blob answers {code}"),
        (code, message) => format!("Vercel Blob answers {code}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_by_code_and_message_and_else_by_status() {
        let cases = [
            (403, "forbidden", "Access denied", Kind::Credentials),
            (403, "forbidden", "\"contentType\" x is not allowed", Kind::Refused),
            (403, "forbidden", "the file length cannot be greater than 1 bytes", Kind::Refused),
            (403, "store_suspended", "", Kind::Full),
            (404, "not_found", "", Kind::NotFound),
            (404, "store_not_found", "", Kind::NoStore),
            (400, "bad_request", "This blob already exists", Kind::Refused),
            (412, "precondition_failed", "", Kind::Refused),
            (429, "rate_limited", "", Kind::Unavailable),
            (503, "service_unavailable", "", Kind::Unavailable),
            (400, "unknown_error", "", Kind::Unavailable),
            (403, "", "", Kind::Credentials),
            (404, "", "", Kind::NotFound),
            (413, "", "", Kind::Refused),
            (429, "", "", Kind::Unavailable),
            (502, "", "", Kind::Unavailable),
            (302, "", "", Kind::Unavailable),
        ];
        for (status, code, message, expected) in cases {
            let said = Said { code: code.to_owned(), message: message.to_owned() };
            assert_eq!(
                kind(StatusCode::from_u16(status).unwrap(), &said),
                expected,
                "{status} {code} {message}"
            );
        }
    }
}
