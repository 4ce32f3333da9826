//! What happens to a call, each step one transaction.

use serde_json::json;
use shared::call::Call;
use shared::db::calls::{self, CallChange, NewCall};
use shared::db::events::{self, EventType};
use shared::db::recordings;
use shared::id::CallId;

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::recordings::{StopReason, stop};

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

/// Ends a call and stops what it records.
pub(super) async fn end(app: App, id: CallId) -> Result<Call, ApiError> {
    let at = app.clock.now();
    let mut tx = app.db.begin().await?;
    // Whoever starts a recording holds the same lock: a call never ends with one that just began.
    calls::lock(&mut tx, &id).await?.ok_or_else(ApiError::no_such_call)?;
    let live = recordings::live_of_call(&mut *tx, &id).await?;
    if let Some(live) = &live {
        stop(&mut tx, &id, &live.id, StopReason::CallEnded, at).await?;
    }
    if calls::end(&mut tx, &id, at).await? {
        events::about_call(&mut tx, EventType::CallEnded, &id, json!({}), at).await?;
    }
    let call = calls::find(&mut *tx, &id).await?.ok_or_else(ApiError::no_such_call)?;
    tx.commit().await?;
    if let Some(live) = live {
        app.ingest.stopped(&live.id);
    }
    Ok(call)
}
