//! One span, one log line and one count for each request; the place where errors are written and logged, once.
//!
//! A route is named by its template. The path itself and the query never reach a log or a label: a query may hold a token.

use std::time::Duration;

use axum::Extension;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tracing::{Instrument, debug, error, field::Empty, info, info_span, warn};

use super::metrics::Metrics;
use super::problem;
use super::request_id::RequestId;
use crate::error::{Code, Raised};

/// Watches a request from its head to its response's head.
pub(super) async fn observe(
    State(metrics): State<Metrics>,
    Extension(RequestId(id)): Extension<RequestId>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    let route = route(&request);
    let span =
        info_span!("request", request.id = %id, call.id = Empty, recording.id = Empty, user.id = Empty);
    let _in_flight = metrics.begin();
    let begun = Instant::now();
    async {
        let response = next.run(request).await;
        let took = begun.elapsed();
        metrics.count(&route, method.as_str(), response.status(), took);
        log(method.as_str(), &route, &response, took);
        problem::render(response, &id)
    }
    .instrument(span)
    .await
}

fn route(request: &Request) -> String {
    request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned()
}

fn log(method: &str, route: &str, response: &Response, took: Duration) {
    let (status, ms) = (response.status(), took.as_secs_f64() * 1_000.0);
    let raised = response.extensions().get::<Raised>().map(|raised| &raised.0);
    let code = raised.map(|error| error.code().as_str());
    let cause = raised.and_then(|error| error.cause()).map(|cause| format!("{cause:#}"));
    // What the caller was told is all there is to know when nothing lies behind it.
    let cause =
        cause.or_else(|| raised.filter(|_| status.is_server_error()).map(|error| error.detail().to_owned()));
    // A level belongs to the place of a line, so each has its own; a field that is `None` is left out.
    macro_rules! line {
        ($level:ident, $($sentence:tt)+) => {
            $level!(
                http.method = method,
                http.route = route,
                http.status = status.as_u16(),
                ms,
                code,
                cause,
                $($sentence)+
            )
        };
    }
    let why = cause.as_deref().unwrap_or_default();
    match level(status, raised.map(|error| error.code()), route) {
        Level::Act => line!(error, "{method} {route} failed: {why}"),
        Level::Look => line!(warn, "{method} {route} answered {status}: {why}"),
        Level::Tell => line!(info, "{method} {route} answered {status}"),
        Level::Whisper => line!(debug, "{method} {route} answered {status}"),
    }
}

enum Level {
    Act,
    Look,
    Tell,
    Whisper,
}

fn level(status: StatusCode, code: Option<Code>, route: &str) -> Level {
    let probe = ["/healthz", "/readyz", "/metrics"].contains(&route);
    match (status, code) {
        (StatusCode::INTERNAL_SERVER_ERROR, _) => Level::Act,
        (_, Some(Code::Draining)) => Level::Tell,
        (status, _) if status.is_server_error() => Level::Look,
        _ if probe => Level::Whisper,
        _ => Level::Tell,
    }
}
