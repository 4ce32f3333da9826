//! Extractors whose refusals are problems like all others.

use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequest, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use shared::id::{CallId, RecordingId};
use tracing::Span;

use crate::error::{ApiError, Code};

/// A JSON body.
#[derive(Debug, Default, FromRequest)]
#[from_request(via(axum::Json), rejection(ApiError))]
pub struct Json<T>(pub T);

/// Parameters of the query.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub struct Query<T>(pub T);

/// The call that the path names.
#[derive(Debug)]
pub struct CallPath(pub CallId);

/// The recording that the path names, with its call.
#[derive(Debug)]
pub struct RecordingPath {
    /// The call.
    pub call: CallId,
    /// The recording.
    pub recording: RecordingId,
}

impl<T, S> OptionalFromRequest<S> for Json<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = ApiError;

    /// An empty body is no body, whatever its content type says.
    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, ApiError> {
        let typed = request.headers().get(header::CONTENT_TYPE).cloned();
        let bytes = bytes::Bytes::from_request(request, state).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut request = Request::new(axum::body::Body::from(bytes));
        if let Some(typed) = typed {
            request.headers_mut().insert(header::CONTENT_TYPE, typed);
        }
        <Self as FromRequest<S>>::from_request(request, state).await.map(Some)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallParam {
    call_id: CallId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordingParams {
    call_id: CallId,
    recording_id: String,
}

impl<S: Send + Sync> FromRequestParts<S> for CallPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Path(CallParam { call_id }) =
            axum::extract::Path::from_request_parts(parts, state).await?;
        Span::current().record("call.id", call_id.as_str());
        Ok(Self(call_id))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RecordingPath {
    type Rejection = ApiError;

    /// Recording ids are ours: one that does not have their form names nothing, and that is 404, not 400.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Path(RecordingParams { call_id, recording_id }) =
            axum::extract::Path::from_request_parts(parts, state).await?;
        let recording = RecordingId::parse(&recording_id).map_err(|_| ApiError::no_such_recording())?;
        Span::current().record("call.id", call_id.as_str());
        Span::current().record("recording.id", recording.as_str());
        Ok(Self { call: call_id, recording })
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            JsonRejection::JsonDataError(error) => Self::invalid(innermost(&error)),
            JsonRejection::JsonSyntaxError(error) => Self::new(Code::MalformedJson, innermost(&error)),
            JsonRejection::MissingJsonContentType(_) => {
                Self::new(Code::UnsupportedMediaType, "the body is JSON, with content-type application/json")
            }
            other => of_body(other.status()),
        }
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        of_body(rejection.status())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(format!("the query does not have its form: {}", innermost(&rejection)))
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid(format!("the path does not have its form: {}", rejection.body_text()))
    }
}

fn of_body(status: StatusCode) -> ApiError {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(Code::BodyTooLarge, "the body is larger than this route takes")
        }
        _ => ApiError::invalid("the body could not be read"),
    }
}

/// What the parser itself says, without the layers around it.
fn innermost(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => innermost(source),
        None => error.to_string(),
    }
}
