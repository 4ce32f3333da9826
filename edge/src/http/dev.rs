//! The development login. The router holds it only with `DEV_LOGIN`; the edge then listens on the loopback address alone, so
//! that this route needs no rate: whoever reaches it sits at the machine. A foreign page in that machine's browser reaches it
//! as well, once its owner lets its name point here (DNS rebinding); so the host that was asked for must be this machine's.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::extract::State;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};
use serde::{Deserialize, Serialize};
use shared::id::UserId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Json;
use crate::app::App;
use crate::auth::{self, Grants, Identity, Role};
use crate::error::ApiError;

/// The route.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(token))
}

/// Who to be.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Login {
    /// `sub` of the token.
    #[schema(value_type = String)]
    user_id: UserId,
    /// `name` of the token.
    name: Option<String>,
    /// `role` of the token.
    #[serde(default)]
    role: Role,
    /// `grants` of the token.
    grants: Option<Grants>,
}

/// A token; in `data` as everywhere, and beside it for scripts.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct LoggedIn {
    /// Always `true`.
    success: bool,
    /// The token.
    token: String,
    /// The token again.
    data: TokenData,
}

/// A token.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct TokenData {
    /// The token.
    token: String,
}

/// Hands out a token for any name. Exists only with `DEV_LOGIN=1`.
#[utoipa::path(
    post,
    path = "/dev/token",
    tag = "development",
    request_body = Login,
    responses(
        (status = 200, description = "A token", body = LoggedIn),
        (status = 400, description = "Not a user id"),
        (status = 403, description = "`forbidden`: asked for under a name that is not this machine's own")
    )
)]
async fn token(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
    Json(login): Json<Login>,
) -> Result<axum::Json<LoggedIn>, ApiError> {
    if !asked_for(&uri, &headers).is_some_and(|asked| is_this_machine(asked.host())) {
        return Err(ApiError::forbidden("the development login is for localhost, 127.0.0.1 and [::1]"));
    }
    let Login { user_id, name, role, grants } = login;
    let identity = Identity { user: user_id, name, role, grants };
    let token =
        auth::dev::token(&app.settings.auth, identity, app.clock.now()).map_err(ApiError::internal)?;
    Ok(axum::Json(LoggedIn { success: true, data: TokenData { token: token.clone() }, token }))
}

/// The host that the client believes it talks to.
fn asked_for(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    match headers.get(header::HOST) {
        Some(host) => host.to_str().ok()?.parse().ok(),
        // HTTP/2 says it in the request's target.
        None => uri.authority().cloned(),
    }
}

fn is_this_machine(host: &str) -> bool {
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback())
        || v6.and_then(|host| host.parse().ok()).is_some_and(|address: Ipv6Addr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_own_names_are_let_in() {
        let is_let_in = |host: &str| {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            asked_for(&Uri::from_static("/dev/token"), &headers)
                .is_some_and(|asked| is_this_machine(asked.host()))
        };
        for ours in ["localhost", "LocalHost:8080", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:8080"] {
            assert!(is_let_in(ours), "{ours}");
        }
        for foreign in [
            "",
            "evil.example.org",
            "localhost@evil.example.org",
            "127.0.0.1.evil.example.org",
            "10.0.0.1",
            "[::2]:1",
        ] {
            assert!(!is_let_in(foreign), "{foreign}");
        }
    }
}
