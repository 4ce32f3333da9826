//! Upload of chunks.

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::error::ApiError;

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(status))
}

/// What was received of a recording.
#[utoipa::path(
    get,
    path = "/video-calls/recording/{recordingId}/status",
    tag = "chunks",
    params(("recordingId" = String, Path)),
    responses((status = 404, description = "`no-such-recording`"))
)]
async fn status() -> ApiError {
    ApiError::no_such_recording()
}
