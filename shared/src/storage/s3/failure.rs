//! S3's errors as ours.

use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use crate::storage::StorageError;

/// The status that the server answered with, if it did.
pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// Whether the object or the upload is not there. The bucket's absence has a name of its own where the answer has a body.
pub(super) fn is_absent<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    status(error) == Some(404) && error.code() != Some("NoSuchBucket")
}

/// An upload that the server no longer knows. Whoever goes on with it begins anew.
pub(super) fn gone(key: &str) -> StorageError {
    StorageError::unavailable(format!("the upload of {key} is gone; it has to begin anew"))
}

/// What an error means for whoever asked.
pub(super) fn failure<E>(error: &SdkError<E, HttpResponse>, bucket: &str, key: &str) -> StorageError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = status(error);
    let code = error.code().unwrap_or_default().to_owned();
    let message = error.message().map(|message| format!("{code}: {message}")).unwrap_or_default();
    let retry_after = error.raw_response().and_then(|response| response.headers().get("retry-after"));
    let retry_after = retry_after.and_then(|after| after.parse().ok()).map(Duration::from_secs);
    let reason = match (message.is_empty(), status) {
        (false, _) => message,
        (true, Some(status)) => format!("HTTP {status} {code}"),
        (true, None) => chain(error),
    };
    match (code.as_str(), status) {
        ("NoSuchBucket", _) => StorageError::NoBucket(bucket.to_owned()),
        // InvalidPart: a part that was listed has another checksum than the file's.
        (
            "BadDigest" | "InvalidDigest" | "InvalidPart" | "XAmzContentChecksumMismatch" | "IncompleteBody",
            _,
        ) => {
            let expected = "what the file holds".to_owned();
            StorageError::Mismatch { key: key.to_owned(), expected, found: reason }
        }
        ("QuotaExceeded" | "ServiceQuotaExceeded" | "XMinioStorageFull" | "TooManyBuckets", _)
        | (_, Some(507)) => StorageError::Full(reason),
        (
            // Named and not by their status alone: completing an upload may fail with 200 at the head of the answer.
            "InternalError"
            | "InternalFailure"
            | "ServiceUnavailable"
            | "SlowDown"
            | "RequestTimeout"
            | "Throttling"
            | "ThrottlingException"
            | "OperationAborted",
            _,
        )
        | (_, Some(408 | 409 | 425 | 429 | 500..)) => StorageError::Unavailable { reason, retry_after },
        ("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "AuthorizationHeaderMalformed", _)
        | (_, Some(401 | 403)) => StorageError::Credentials(reason),
        (_, Some(404)) => StorageError::NotFound(key.to_owned()),
        (_, Some(_)) => StorageError::Refused(reason),
        (_, None) if has_no_credentials(error) => StorageError::Credentials(reason),
        (_, None) => StorageError::Unavailable { reason, retry_after },
    }
}

/// The request was never made: nobody had credentials for it.
fn has_no_credentials(error: &dyn std::error::Error) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("credentials") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The whole chain of causes: the first says no more than "dispatch failure".
fn chain<E: std::error::Error>(error: &E) -> String {
    let text = DisplayErrorContext(error).to_string();
    // What follows is the same again as a debugger prints it.
    text.split(" (").next().unwrap_or_default().to_owned()
}
