//! The envelope of every answer that is no error.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// `{"success": true, "data": …, "message": "…"}`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Success<T> {
    #[serde(skip)]
    status: StatusCodeOf,
    /// Always `true`.
    success: bool,
    /// What was asked for.
    data: T,
    /// For people, where there is something to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// Of a list with more to come: what to send as `cursor` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Debug)]
struct StatusCodeOf(StatusCode);

impl<T> Success<T> {
    /// 200.
    pub fn ok(data: T) -> Self {
        Self::with(StatusCode::OK, data)
    }

    /// 201.
    pub fn created(data: T) -> Self {
        Self::with(StatusCode::CREATED, data)
    }

    /// 202: work goes on in a job.
    pub fn accepted(data: T) -> Self {
        Self::with(StatusCode::ACCEPTED, data)
    }

    /// Adds a sentence for people.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Adds where the list goes on.
    #[must_use]
    pub fn next_cursor(mut self, cursor: Option<String>) -> Self {
        self.next_cursor = cursor;
        self
    }

    fn with(status: StatusCode, data: T) -> Self {
        Self { status: StatusCodeOf(status), success: true, data, message: None, next_cursor: None }
    }
}

impl<T: Serialize> IntoResponse for Success<T> {
    fn into_response(self) -> Response {
        (self.status.0, axum::Json(self)).into_response()
    }
}
