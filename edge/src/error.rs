//! What a handler answers when it cannot do what it was asked: one type, one mapping, a stable code.
//!
//! This file must not know how the answer is written (`http::problem`, which adds the request's id): it leaves itself in the
//! response's extensions, so that an error is rendered and logged once, at one place, with everything known about the request.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use shared::id::InvalidId;
use shared::recording::InvalidOptions;
use shared::storage::StorageError;

mod code;

pub use code::Code;

/// How long a caller is asked to wait while the database is away: about what Postgres needs to restart.
const DATABASE_RETRY: Duration = Duration::from_secs(2);

/// How long a caller is asked to wait for a room: a publisher's first packets, a burst of joins.
const ROOM_RETRY: Duration = Duration::from_secs(1);

/// An error as the API tells it.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct ApiError {
    code: Code,
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
    source: Option<anyhow::Error>,
}

/// The error that a response was made from; found in its extensions.
#[derive(Debug, Clone)]
pub(crate) struct Raised(pub(crate) Arc<ApiError>);

impl ApiError {
    /// An error with a sentence for the caller: no secret, no SQL, no path of the server.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), retry_after: None, source: None }
    }

    /// A fault of ours; `cause` is logged, and not told to the caller.
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        Self::new(Code::Internal, "something failed on the server").because(cause)
    }

    /// What the caller is told to wait before asking again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What lies behind the error: logged, and not told to the caller.
    #[must_use]
    pub fn because(mut self, cause: impl Into<anyhow::Error>) -> Self {
        self.source = Some(cause.into());
        self
    }

    /// The call does not exist, or the caller may not know of it.
    #[must_use]
    pub fn no_such_call() -> Self {
        Self::new(Code::NoSuchCall, "there is no such call")
    }

    /// The recording does not exist, was deleted, or the caller may not know of it.
    #[must_use]
    pub fn no_such_recording() -> Self {
        Self::new(Code::NoSuchRecording, "there is no such recording")
    }

    /// Another edge carries the call.
    #[must_use]
    pub fn wrong_edge(url: &str) -> Self {
        Self::new(Code::WrongEdge, format!("the call is carried by {url}"))
    }

    /// The caller may not do this.
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Forbidden, detail)
    }

    /// The request does not have its form.
    pub fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidRequest, detail)
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The sentence for the caller.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What lies behind it, for the log.
    #[must_use]
    pub fn cause(&self) -> Option<&anyhow::Error> {
        self.source.as_ref()
    }
}

impl From<(Code, String)> for ApiError {
    /// What a room refuses. Whoever finds it too busy, or nothing there yet, may try again in a moment.
    fn from((code, detail): (Code, String)) -> Self {
        let refused = Self::new(code, detail);
        match code {
            Code::Overloaded | Code::NotPublishing => refused.retry_after(ROOM_RETRY),
            _ => refused,
        }
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        if shared::db::is_unavailable(&error) {
            return Self::new(Code::DatabaseUnavailable, "the database does not answer; try again soon")
                .retry_after(DATABASE_RETRY)
                .because(error);
        }
        Self::internal(error)
    }
}

impl From<InvalidId> for ApiError {
    fn from(error: InvalidId) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<InvalidOptions> for ApiError {
    fn from(error: InvalidOptions) -> Self {
        Self::new(Code::InvalidOptions, error.to_string())
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        Self::internal(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up: a caller that waits them is not refused again for having come too early.
            let seconds = wait.as_millis().div_ceil(1_000).max(1);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::Unauthenticated || self.code == Code::InvalidToken {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(Raised(Arc::new(self)));
        response
    }
}
