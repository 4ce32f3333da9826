//! What happens to a call, each step one transaction.

use serde_json::json;
use shared::call::Call;
use shared::db::calls::{self, CallChange, NewCall};
use shared::db::events::{self, EventType};
use shared::id::CallId;

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::recordings::{StopReason, end_call};

pub(super) async fn create(app: &App, new: &NewCall) -> Result<(), ApiError> {
    let at = app.clock.now();
    let mut tx = app.db.begin().await?;
    let created = calls::create(&mut tx, new, at).await?;
    created.ok_or_else(|| ApiError::new(Code::CallExists, "a call with this id exists"))?;
    let data = json!({ "hostId": new.host });
    events::about_call(&mut tx, EventType::CallCreated, &new.id, data, at).await?;
    tx.commit().await?;
    Ok(())
}

/// Changes a call, and tells the capture who may upload now.
pub(super) async fn change(app: App, id: CallId, change: CallChange) -> Result<Call, ApiError> {
    let mut tx = app.db.begin().await?;
    let changed = calls::update(&mut tx, &id, &change, app.clock.now()).await?;
    changed.ok_or_else(|| ApiError::new(Code::CallEnded, "the call has ended"))?;
    let call = calls::find(&mut *tx, &id).await?.ok_or_else(ApiError::no_such_call)?;
    let people = super::participants(&mut *tx, &id).await?;
    tx.commit().await?;
    app.ingest.participants_changed(&id, people);
    Ok(call)
}

/// Ends a call, stops what it records and sends everybody away.
pub(super) async fn end(app: App, id: CallId) -> Result<Call, ApiError> {
    let call = end_call(&app.starter(), &id, StopReason::CallEnded).await?;
    app.rooms.close(&id);
    Ok(call)
}
