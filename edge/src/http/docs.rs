//! The OpenAPI document, made from the handlers, and a page that shows it.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::routing::get;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::problem::Problem;
use crate::app::App;

/// The viewer brings scripts and styles of its own, some of them inline.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self' 'unsafe-inline'; \
     style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";
/// The name of the security scheme.
const BEARER: &str = "bearer";
/// What every route may answer, beside its own.
const ALWAYS: [(&str, &str); 3] = [
    ("400", "The request does not have its form"),
    ("429", "Too many requests: `retry-after` says how long to wait"),
    ("503", "The database does not answer: `retry-after` says how long to wait"),
];
/// What a route with limits may answer in addition.
const TOO_LONG: (&str, &str) = ("504", "`timeout`: the request took longer than it may");
/// What it may answer when it takes a body.
const OF_BODIES: [(&str, &str); 2] = [
    ("413", "`body-too-large`: more than 64 KiB"),
    ("415", "`unsupported-media-type`: the body is not JSON"),
];
/// What every route answers to somebody without a valid token.
const NOT_RECOGNISED: (&str, &str) = ("401", "No token, or one that is not valid");

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Callreel",
        description = "Self-hosted call recording.\n\nThe same routes also answer under `/api/video-calls`. \
            Every response has `x-request-id`. Every error is a problem (RFC 9457) with a stable `code`."
    ),
    components(schemas(Problem, crate::error::Code))
)]
struct Document;

/// The document's head, to which routers add their routes.
pub(super) fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// `/openapi.json` and `/docs`.
pub(super) fn router(openapi: utoipa::openapi::OpenApi) -> Router<App> {
    let document = complete(openapi);
    let viewer = SwaggerUi::new("/docs").config(Config::from("/openapi.json"));
    let policy = SetResponseHeaderLayer::overriding(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_SECURITY_POLICY),
    );
    let viewer = Router::<App>::from(viewer).layer(policy);
    viewer.route("/openapi.json", get(move || async move { axum::Json(document) }))
}

/// Adds what the limits of control routes answer.
pub(super) fn tell_limits(openapi: &mut utoipa::openapi::OpenApi) {
    for operation in openapi.paths.paths.values_mut().flat_map(operations) {
        add_problem(operation, TOO_LONG);
        if operation.request_body.is_some() {
            OF_BODIES.into_iter().for_each(|problem| add_problem(operation, problem));
        }
    }
}

/// Adds what all routes have in common.
fn complete(mut openapi: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    let components = openapi.components.get_or_insert_default();
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    for (path, item) in &mut openapi.paths.paths {
        for operation in operations(item) {
            describe(path, operation);
        }
    }
    openapi
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, patch, delete, .. } = item;
    [get, put, post, patch, delete].into_iter().flatten()
}

fn describe(path: &str, operation: &mut Operation) {
    let gated = path.starts_with("/video-calls") || path.starts_with("/admin");
    if gated {
        operation.security = Some(vec![SecurityRequirement::new::<_, _, String>(BEARER, [])]);
        add_problem(operation, NOT_RECOGNISED);
        ALWAYS.into_iter().for_each(|problem| add_problem(operation, problem));
    }
    for (status, response) in &mut operation.responses.responses {
        if let (true, RefOr::T(response)) = (status.starts_with(['4', '5']), response) {
            response.content.entry("application/problem+json".to_owned()).or_insert_with(problem_content);
        }
    }
}

fn add_problem(operation: &mut Operation, (status, description): (&str, &str)) {
    let response = ResponseBuilder::new().description(description).build();
    operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(response));
}

fn problem_content() -> RefOr<utoipa::openapi::Content> {
    RefOr::T(ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build())
}
