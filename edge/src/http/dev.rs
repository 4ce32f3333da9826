//! The development login. The router holds it only with `DEV_LOGIN`; the edge then listens on the loopback address alone, so
//! that this route needs no rate: whoever reaches it sits at the machine.

use axum::extract::State;
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
    responses((status = 200, description = "A token", body = LoggedIn), (status = 400, description = "Not a user id"))
)]
async fn token(State(app): State<App>, Json(login): Json<Login>) -> Result<axum::Json<LoggedIn>, ApiError> {
    let Login { user_id, name, role, grants } = login;
    let identity = Identity { user: user_id, name, role, grants };
    let token =
        auth::dev::token(&app.settings.auth, identity, app.clock.now()).map_err(ApiError::internal)?;
    Ok(axum::Json(LoggedIn { success: true, data: TokenData { token: token.clone() }, token }))
}
