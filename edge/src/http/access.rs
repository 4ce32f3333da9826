//! What a person is to a call, and what that lets them do (API, section 2).
//!
//! Decision: a stranger's reads are 404, so that nobody learns of a call by asking; a stranger's changes are 403, as that a
//! call's id is taken is no secret from somebody who may create calls.

use shared::call::{Call, Standing};
use shared::db::{calls, recordings};
use shared::id::{CallId, RecordingId};
use shared::recording::Recording;
use sqlx::PgPool;

use crate::auth::{Caller, Right, Role};
use crate::error::ApiError;

/// The call, for somebody who may see it: host, participants, admins.
///
/// # Errors
/// 404 for everybody else; 403 when the token is narrowed to something else.
pub async fn viewed(db: &PgPool, caller: &Caller, id: &CallId) -> Result<Call, ApiError> {
    caller.may(Right::View, id)?;
    let standing = calls::standing(db, id, &caller.user).await?;
    match (standing, caller.role) {
        (Some(Standing::Stranger), Role::User) => Err(ApiError::no_such_call()),
        _ => calls::find(db, id).await?.ok_or_else(ApiError::no_such_call),
    }
}

/// The recording of a call, for somebody who may see the call.
///
/// # Errors
/// As [`viewed`]; 404 when the recording is another call's, or was deleted.
pub async fn viewed_recording(
    db: &PgPool,
    caller: &Caller,
    call: &CallId,
    id: &RecordingId,
) -> Result<(Call, Recording), ApiError> {
    let call = viewed(db, caller, call).await?;
    let recording = recordings::find(db, id).await?.filter(|recording| recording.call == call.id);
    Ok((call, recording.ok_or_else(ApiError::no_such_recording)?))
}

/// Lets the host and admins change something.
///
/// # Errors
/// 403 for everybody else, 404 when there is no such call.
pub async fn must_host(db: &PgPool, caller: &Caller, right: Right, id: &CallId) -> Result<(), ApiError> {
    caller.may(right, id)?;
    let standing = calls::standing(db, id, &caller.user).await?.ok_or_else(ApiError::no_such_call)?;
    match (standing, caller.role) {
        (Standing::Host, _) | (_, Role::Admin) => Ok(()),
        _ => Err(ApiError::forbidden("only the call's host may do this")),
    }
}
