//! Upload of chunks.

use utoipa_axum::router::OpenApiRouter;

use crate::app::App;

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
}
