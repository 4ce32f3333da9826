//! What platforms ask: alive, able to work, and how much was done.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::metrics::Metrics;
use crate::app::App;
use crate::error::{ApiError, Code};

/// How long the database may take to answer a probe: platforms give up on a probe after a few seconds.
const PING_MAX: Duration = Duration::from_secs(2);

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(metrics))
}

/// Whether the edge can work, and what keeps it from that.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// Everything below is well.
    ready: bool,
    /// The database answers.
    database: bool,
    /// The capture's disk is above its reserve.
    disk: bool,
    /// The process ends and takes no new work.
    draining: bool,
}

/// Whether the process is alive.
#[utoipa::path(get, path = "/healthz", tag = "operators", responses((status = 200, description = "Alive")))]
async fn healthz() -> &'static str {
    "ok"
}

/// Whether the edge can work: the database answers, the disk is above its reserve, and the process does not end.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operators",
    responses(
        (status = 200, description = "Able to work", body = Readiness),
        (status = 503, description = "`not-ready`, naming what is missing, or `draining`")
    )
)]
async fn readyz(State(app): State<App>) -> Result<Response, ApiError> {
    let ping = tokio::time::timeout(PING_MAX, shared::db::ping(&app.db)).await;
    let database = matches!(ping, Ok(Ok(())));
    let (disk, draining) = (app.ingest.has_disk(), app.tasks.stop.is_cancelled());
    if draining {
        return Err(ApiError::new(Code::Draining, "draining: the process ends"));
    }
    match (database, disk) {
        (true, true) => Ok(axum::Json(Readiness { ready: true, database, disk, draining }).into_response()),
        (false, true) => Err(not_ready("database: does not answer")),
        (true, false) => Err(not_ready("disk: below its reserve")),
        (false, false) => Err(not_ready("database: does not answer; disk: below its reserve")),
    }
}

/// Metrics in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operators",
    responses((status = 200, description = "Prometheus text", content_type = "text/plain"))
)]
async fn metrics(State(metrics): State<Metrics>) -> Response {
    let kind = [(header::CONTENT_TYPE, shared::telemetry::METRICS_CONTENT_TYPE)];
    (StatusCode::OK, kind, metrics.render()).into_response()
}

fn not_ready(detail: &'static str) -> ApiError {
    ApiError::new(Code::NotReady, detail)
}
