//! The routes, one file per group, and the order of what all of them pass through.
//!
//! From the outside in: request id, log and metrics (`observe`, which also writes every error as a problem) → CORS → panics →
//! per group: authentication and rates (`gate`), time limit, body limit → handler.

use axum::Router;
use axum::extract::{FromRef, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state, map_request};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::settings::DevLogin;

pub mod access;
pub mod admin;
pub mod calls;
pub mod chunks;
mod cors;
mod cursor;
pub mod dev;
pub mod docs;
pub mod extract;
mod gate;
pub mod health;
pub mod ice;
pub mod limits;
pub mod links;
pub mod metrics;
mod observe;
mod page;
mod problem;
pub mod recordings;
mod request_id;
pub mod signal;
pub mod stats;
pub mod success;
pub mod whip;

pub use extract::Json;
pub use success::Success;

/// The largest body of a control request: the longest list of people (1,000 ids of 128 bytes would be more, but nobody sends
/// that) and 16 KiB of metadata fit several times.
pub const CONTROL_BODY_MAX: usize = 64 * 1024;

/// All routes.
pub fn router(app: App) -> Router {
    let (api, openapi) = api(&app).split_for_parts();
    let router = api.merge(docs::router(openapi)).fallback(page::fallback);
    everywhere(router, &app).with_state(app)
}

/// Every route of the API with its description.
pub fn api(app: &App) -> OpenApiRouter<App> {
    let control = OpenApiRouter::new()
        .merge(calls::router())
        .merge(recordings::router())
        .merge(admin::router())
        .merge(ice::router())
        .merge(stats::router())
        .merge(whip::router());
    let control = control.route_layer(from_fn_with_state(gate::control(app), gate::pass));
    let control = within_limits(control, app);
    let media = recordings::media_router().route_layer(from_fn_with_state(gate::media(app), gate::pass));
    let signal = signal::router().route_layer(from_fn_with_state(gate::signal(app), gate::pass));
    let chunks = chunks::router().route_layer(from_fn_with_state(gate::chunks(app), gate::pass));
    // Outermost: what the gate refuses may have a body on its way, too.
    let chunks = chunks.layer(map_request(chunks::linger));
    let open =
        OpenApiRouter::with_openapi(docs::openapi()).merge(health::router()).merge(whip::open_router());
    let open = match app.settings.dev_login {
        DevLogin::On => open.merge(within_limits(dev::router(), app)),
        DevLogin::Off => open,
    };
    open.merge(control).merge(media).merge(signal).merge(chunks)
}

/// The paths under `/api/video-calls` are other names of those under `/video-calls`, and a slash at the end changes nothing: one
/// route, one template in the logs, one entry in the OpenAPI document.
pub fn canonical(mut request: Request) -> Request {
    if let Some(uri) = canonical_uri(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

fn canonical_uri(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let rest = path.strip_prefix("/api/video-calls").or_else(|| path.strip_prefix("/video-calls"))?;
    if !(rest.is_empty() || rest.starts_with('/')) {
        return None;
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("/video-calls{rest}{query}").parse().ok()
}

fn within_limits(mut router: OpenApiRouter<App>, app: &App) -> OpenApiRouter<App> {
    docs::tell_limits(router.get_openapi_mut());
    router
        .layer(RequestBodyLimitLayer::new(CONTROL_BODY_MAX))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, app.settings.patience.control))
}

fn everywhere(router: Router<App>, app: &App) -> Router<App> {
    let header = |name: HeaderName, value| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    let router = router
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(problem::of_panic))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(header::REFERRER_POLICY, "no-referrer"));
    let router = match cors::layer(&app.settings.allowed_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router
        .layer(from_fn(whip::say_acceptable))
        .layer(from_fn_with_state(metrics::Metrics::from_ref(app), observe::observe))
        .layer(from_fn(request_id::attach))
}

async fn wrong_method() -> ApiError {
    ApiError::new(Code::MethodNotAllowed, "the path answers to other methods")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_of(uri: &str) -> String {
        let request = Request::builder().uri(uri).body(axum::body::Body::empty()).unwrap();
        canonical(request).uri().to_string()
    }

    #[test]
    fn both_base_paths_are_one() {
        assert_eq!(path_of("/api/video-calls"), "/video-calls");
        assert_eq!(path_of("/api/video-calls?limit=1"), "/video-calls?limit=1");
        assert_eq!(path_of("/api/video-calls/a%20b/recordings"), "/video-calls/a%20b/recordings");
    }

    #[test]
    fn a_slash_at_the_end_changes_nothing() {
        for path in ["/video-calls/", "/api/video-calls/"] {
            assert_eq!(path_of(path), "/video-calls");
        }
        assert_eq!(path_of("/video-calls/a/?limit=1"), "/video-calls/a?limit=1");
    }

    #[test]
    fn other_paths_stay_as_they_are() {
        for path in ["/video-calls/a", "/video-calls/a?b=c/", "/api/video-callsx", "/docs/", "/api", "/"] {
            assert_eq!(path_of(path), path);
        }
    }
}
