//! Calls: create, list, look, change, end.

use std::collections::BTreeSet;

use axum::extract::State;
use serde::Deserialize;
use shared::call::{Call, CallState};
use shared::db::calls::{self, CallChange};
use shared::db::recordings;
use shared::id::UserId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::cursor::{self, PageQuery, Placed};
use super::extract::{CallPath, Query};
use super::{Json, Success, access};
use crate::app::App;
use crate::auth::{Caller, Right};
use crate::error::ApiError;

mod request;
mod steps;
mod view;

use request::{ChangeCall, CreateCall};
use view::{CallDetail, CallView};

/// The newest recordings that a call is shown with; the rest are in its list.
const RECORDINGS_SHOWN: i64 = 20;

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(get, update, end))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Which {
    /// In one state.
    status: Option<CallState>,
}

/// Creates a call; who creates it hosts it.
#[utoipa::path(
    post,
    path = "/video-calls",
    tag = "calls",
    request_body = Option<CreateCall>,
    responses(
        (status = 201, description = "Created", body = Success<CallDetail>),
        (status = 403, description = "`not-granted`: the token is narrowed to something else"),
        (status = 409, description = "`call-exists`: the id is taken"),
        (status = 422, description = "`invalid-options`: no output can meet `record`")
    )
)]
async fn create(
    State(app): State<App>,
    caller: Caller,
    body: Option<Json<CreateCall>>,
) -> Result<Success<CallDetail>, ApiError> {
    let Json(body) = body.unwrap_or_default();
    let new = body.parse(&caller, app.settings.max_participants)?;
    tracing::Span::current().record("call.id", new.id.as_str());
    caller.may(Right::Manage, &new.id)?;
    steps::create(&app, &new).await?;
    let call = calls::find(&app.db, &new.id).await?.ok_or_else(ApiError::no_such_call)?;
    Ok(Success::created(detail(&app, call).await?))
}

/// The calls that the caller hosts or takes part in, newest first.
#[utoipa::path(
    get,
    path = "/video-calls",
    tag = "calls",
    params(Which, PageQuery),
    responses((status = 200, description = "Calls", body = Success<Vec<CallView>>))
)]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(which): Query<Which>,
    Query(query): Query<PageQuery>,
) -> Result<Success<Vec<CallView>>, ApiError> {
    let (limit, after) = (query.limit()?, query.after()?);
    // A token for one call does not tell of the others.
    let only = caller.only_call();
    let rows =
        calls::of_user(&app.db, &caller.user, which.status, only, after.as_ref(), i64::from(limit) + 1)
            .await?;
    let (rows, next) = cursor::page(rows, limit);
    Ok(Success::ok(rows.iter().map(CallView::of).collect()).next_cursor(next))
}

/// A call, who is in it, and its newest recordings. 404 for whoever is not in it.
#[utoipa::path(
    get,
    path = "/video-calls/{callId}",
    tag = "calls",
    params(("callId" = String, Path)),
    responses(
        (status = 200, description = "The call", body = Success<CallDetail>),
        (status = 403, description = "`not-granted`: the token is for another call"),
        (status = 404, description = "`no-such-call`")
    )
)]
async fn get(
    State(app): State<App>,
    caller: Caller,
    CallPath(id): CallPath,
) -> Result<Success<CallDetail>, ApiError> {
    let call = access::viewed(&app.db, &caller, &id).await?;
    Ok(Success::ok(detail(&app, call).await?))
}

/// Changes a call. What is absent stays; `participants` is the whole list of who may come.
#[utoipa::path(
    put,
    path = "/video-calls/{callId}",
    tag = "calls",
    params(("callId" = String, Path)),
    request_body = ChangeCall,
    responses(
        (status = 200, description = "The call as it is now", body = Success<CallDetail>),
        (status = 403, description = "`forbidden`: not the host"),
        (status = 404, description = "`no-such-call`"),
        (status = 409, description = "`call-ended`")
    )
)]
async fn update(
    State(app): State<App>,
    caller: Caller,
    CallPath(id): CallPath,
    Json(body): Json<ChangeCall>,
) -> Result<Success<CallDetail>, ApiError> {
    access::must_host(&app.db, &caller, Right::Manage, &id).await?;
    let change: CallChange = body.parse()?;
    let changed = app.to_the_end(steps::change(app.clone(), id, change)).await?;
    Ok(Success::ok(detail(&app, changed).await?))
}

/// Ends a call: everyone leaves, a live recording stops and is processed. Ending it again changes nothing.
#[utoipa::path(
    delete,
    path = "/video-calls/{callId}",
    tag = "calls",
    params(("callId" = String, Path)),
    responses(
        (status = 200, description = "Ended", body = Success<CallDetail>),
        (status = 403, description = "`forbidden`: not the host"),
        (status = 404, description = "`no-such-call`")
    )
)]
async fn end(
    State(app): State<App>,
    caller: Caller,
    CallPath(id): CallPath,
) -> Result<Success<CallDetail>, ApiError> {
    access::must_host(&app.db, &caller, Right::Manage, &id).await?;
    let ended = app.to_the_end(steps::end(app.clone(), id)).await?;
    Ok(Success::ok(detail(&app, ended).await?).message("the call has ended"))
}

async fn detail(app: &App, call: Call) -> Result<CallDetail, ApiError> {
    let people = calls::participants(&app.db, &call.id).await?;
    let recordings = recordings::of_call(&app.db, &call.id, None, RECORDINGS_SHOWN).await?;
    Ok(CallDetail::of(&call, &people, &recordings, &app.links))
}

/// Who takes part in a call beside its host.
pub(super) async fn participants(
    db: impl sqlx::PgExecutor<'_>,
    call: &shared::id::CallId,
) -> sqlx::Result<BTreeSet<UserId>> {
    Ok(calls::participants(db, call).await?.into_iter().map(|participant| participant.user).collect())
}

impl Placed for Call {
    fn place(&self) -> (shared::clock::Timestamp, &str) {
        (self.created_at, self.id.as_str())
    }
}
