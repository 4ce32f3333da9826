//! Google's errors as ours.

use std::error::Error;
use std::time::Duration;

use google_cloud_gax::error::CredentialsError;
use google_cloud_storage::Error as SdkError;
use google_cloud_storage::error::WriteError;
use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::client::Answer;
use crate::storage::StorageError;

/// What an answer says that is no success.
#[derive(Debug)]
pub(super) struct Refusal {
    status: u16,
    /// One word, such as `rateLimitExceeded`.
    word: String,
    message: String,
    retry_after: Option<Duration>,
}

/// What the API answers with; some of its servers answer with plain text.
#[derive(Deserialize, Default)]
struct Body {
    #[serde(default)]
    error: Details,
}

#[derive(Deserialize, Default)]
struct Details {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    reason: String,
}

impl Refusal {
    pub(super) fn of(answer: &Answer) -> Self {
        Self::new(answer.status.as_u16(), &answer.headers, &answer.body)
    }

    fn new(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let error = serde_json::from_slice::<Body>(body).unwrap_or_default().error;
        let retry_after = headers.get("retry-after").and_then(|after| after.to_str().ok()?.parse().ok());
        Self {
            status,
            word: error.errors.into_iter().next().map(|first| first.reason).unwrap_or_default(),
            message: if error.message.is_empty() { format!("HTTP {status}") } else { error.message },
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    /// A success of which nothing can be understood.
    pub(super) fn garbled(error: &serde_json::Error) -> Self {
        let message = format!("the answer cannot be read: {error}");
        Self { status: 502, word: String::new(), message, retry_after: None }
    }

    /// Whether what the request was about is not there.
    pub(super) fn is_absent(&self) -> bool {
        self.status == 404
    }

    /// What it means for whoever asked for `key`.
    pub(super) fn about(self, key: &str) -> StorageError {
        let Self { status, word, message, retry_after } = self;
        match (status, word.as_str()) {
            (400, _) if is_about_checksums(&message) => mismatch(key, message),
            (_, "rateLimitExceeded" | "userRateLimitExceeded" | "backendError")
            | (408 | 425 | 429 | 500.., _)
                if status != 507 =>
            {
                StorageError::Unavailable { reason: message, retry_after }
            }
            (_, "quotaExceeded" | "storageQuotaExceeded") | (507, _) => StorageError::Full(message),
            (401 | 403, _) => StorageError::Credentials(message),
            (404, _) => StorageError::NotFound(key.to_owned()),
            _ => StorageError::Refused(message),
        }
    }
}

/// `Provided CRC32C "…" doesn't match calculated CRC32C "…".`
fn is_about_checksums(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["crc32c", "md5"].iter().any(|name| message.contains(name)) && message.contains("match")
}

pub(super) fn mismatch(key: &str, found: String) -> StorageError {
    StorageError::Mismatch { key: key.to_owned(), expected: "what the file holds".to_owned(), found }
}

/// The network's. A session's URI lets whoever reads it write, so no URL is told.
pub(super) fn of_transport(error: reqwest::Error) -> StorageError {
    StorageError::unavailable(chain(&error.without_url()))
}

pub(super) fn of_credentials(error: &CredentialsError) -> StorageError {
    match error.is_transient() {
        true => StorageError::unavailable(chain(error)),
        false => StorageError::Credentials(chain(error)),
    }
}

/// Those of Google's own client.
pub(super) fn of_sdk(error: &SdkError, key: &str) -> StorageError {
    if let Some(error) = cause::<CredentialsError>(error) {
        return of_credentials(error);
    }
    if let Some(WriteError::ChecksumMismatch { .. }) = cause::<WriteError>(error) {
        return mismatch(key, chain(error));
    }
    let status = error.http_status_code();
    let Some(status) = status else { return StorageError::unavailable(chain(error)) };
    let nothing = HeaderMap::new();
    let headers = error.http_headers().unwrap_or(&nothing);
    let mut refusal = Refusal::new(status, headers, error.http_payload().map_or(&[], |body| body));
    if let Some(told) = error.status().filter(|told| !told.message.is_empty()) {
        refusal.message.clone_from(&told.message);
    }
    refusal.about(key)
}

fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The whole chain of causes: the first says no more than "error sending request".
fn chain(error: &dyn Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str) -> StorageError {
        Refusal::new(status, &HeaderMap::new(), body.as_bytes()).about("a/b")
    }

    #[test]
    fn what_google_says_is_told_by_what_to_do_about_it() {
        let json = |reason: &str, message: &str| {
            let error = serde_json::json!({ "message": message, "errors": [{ "reason": reason }] });
            serde_json::json!({ "error": error }).to_string()
        };
        for (status, body, code) in [
            (
                400,
                json("invalid", "Provided CRC32C \"x\" doesn't match calculated CRC32C \"y\"."),
                "object-mismatch",
            ),
            (400, json("invalid", "Invalid argument."), "storage-refused"),
            (401, json("authError", "Invalid Credentials"), "storage-credentials"),
            (
                403,
                json("forbidden", "callreel does not have storage.objects.create access."),
                "storage-credentials",
            ),
            (403, json("rateLimitExceeded", "The object exceeded the rate limit."), "storage-unavailable"),
            (403, json("quotaExceeded", "The project has no quota left."), "storage-full"),
            (404, json("notFound", "No such object"), "object-not-found"),
            (408, String::new(), "storage-unavailable"),
            (413, "too large".to_owned(), "storage-refused"),
            (429, String::new(), "storage-unavailable"),
            (503, "<html>".to_owned(), "storage-unavailable"),
            (507, String::new(), "storage-full"),
        ] {
            assert_eq!(said(status, &body).code(), code, "{status} {body}");
        }
        assert_eq!(said(503, "<html>").to_string(), "storage is unavailable: HTTP 503");
    }

    #[tokio::test]
    async fn no_error_shows_the_uri_of_a_session() {
        let error = reqwest::get("http://127.0.0.1:1/upload?upload_id=hunter2").await.unwrap_err();
        let text = format!("{0} {0:?}", of_transport(error));
        assert!(text.contains("unavailable") && !text.contains("hunter2"), "{text}");
    }
}
