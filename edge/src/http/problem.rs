//! Errors as RFC 9457 problems: every response with an error status becomes one, whoever made it.

use std::any::Any;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::error::{ApiError, Code, Raised};

/// An error as a client reads it (`application/problem+json`).
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Problem {
    /// Always `false`.
    success: bool,
    /// `/problems/` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// The same for every occurrence.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// This occurrence, for people.
    detail: String,
    /// Stable.
    code: Code,
    /// To quote to an operator.
    request_id: String,
}

/// Rewrites an error response as a problem; its headers stay.
pub(super) fn render(response: Response, request_id: &str) -> Response {
    if !(response.status().is_client_error() || response.status().is_server_error()) {
        return response;
    }
    let raised = response.extensions().get::<Raised>().cloned();
    let code = raised.as_ref().map_or_else(|| Code::of_status(response.status()), |raised| raised.0.code());
    let detail = raised.map_or_else(|| code.title().to_lowercase(), |raised| raised.0.detail().to_owned());
    let problem = Problem {
        success: false,
        kind: format!("/problems/{}", code.as_str()),
        title: code.title(),
        status: response.status().as_u16(),
        detail,
        code,
        request_id: request_id.to_owned(),
    };
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    let body = serde_json::to_vec(&problem).expect("text and numbers serialise");
    Response::from_parts(parts, Body::from(body))
}

/// A handler that panicked is a fault of ours like any other.
#[expect(clippy::needless_pass_by_value, reason = "the layer hands the panic over")]
pub(super) fn of_panic(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let text = text.unwrap_or_else(|| "no message".to_owned());
    ApiError::internal(anyhow::anyhow!("a handler panicked: {text}")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use http_body_util::BodyExt;

    async fn rendered(response: Response) -> (StatusCode, serde_json::Value) {
        let response = render(response, "r1");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn an_error_of_a_library_becomes_a_problem() {
        let (status, problem) =
            rendered((StatusCode::PAYLOAD_TOO_LARGE, "length limit").into_response()).await;
        assert_eq!((status, &problem["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &"body-too-large".into()));
        assert_eq!(problem["requestId"], "r1");
    }

    #[tokio::test]
    async fn the_cause_of_an_error_is_not_told() {
        let error = ApiError::internal(anyhow::anyhow!("relation \"secret\" does not exist"));
        let (status, problem) = rendered(error.into_response()).await;
        assert_eq!(
            (status, &problem["type"]),
            (StatusCode::INTERNAL_SERVER_ERROR, &"/problems/internal".into())
        );
        assert!(!problem.to_string().contains("secret"));
    }

    #[tokio::test]
    async fn a_panic_becomes_a_problem_without_its_message() {
        let (status, problem) = rendered(of_panic(Box::new("secret"))).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!problem.to_string().contains("secret"));
    }
}
