//! What happened in rooms, on its way to the database: one task, in order, waiting while the database is away.
//!
//! Signaling and media never wait for it. What a fact changes is one transaction with its event.

use std::collections::HashMap;

use serde_json::json;
use shared::call::CallState;
use shared::clock::Timestamp;
use shared::db::events::{self, EventType};
use shared::db::{calls, is_unavailable};
use shared::id::{CallId, UserId};
use shared::recording::RecordingOptions;
use sqlx::PgConnection;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Rooms;
use crate::backoff::Backoff;
use crate::error::{ApiError, Code};
use crate::recordings::{Begun, Starter, StopReason};

/// Facts that wait at once: everybody of a thousand rooms coming and going while Postgres restarts.
const FACTS_MAX: usize = 65_536;

/// Something that rows have to tell.
#[derive(Debug)]
pub(super) enum Fact {
    /// Somebody came.
    Joined { call: CallId, user: UserId, at: Timestamp },
    /// Somebody went.
    Left { call: CallId, user: UserId, at: Timestamp },
    /// Nobody has been there for long enough.
    Empty { call: CallId },
}

/// The way in.
#[derive(Debug, Clone)]
pub(super) struct Facts(mpsc::Sender<Fact>);

pub(super) fn channel() -> (Facts, mpsc::Receiver<Fact>) {
    let (sender, receiver) = mpsc::channel(FACTS_MAX);
    (Facts(sender), receiver)
}

impl Facts {
    pub(super) fn tell(&self, fact: Fact) {
        if let Err(lost) = self.0.try_send(fact) {
            warn!("a fact of a call is not written down: {lost}");
        }
    }
}

/// Writes facts until the process stops.
pub(super) async fn write_all(rooms: Rooms, mut facts: mpsc::Receiver<Fact>) {
    while let Some(fact) = facts.recv().await {
        let mut backoff = Backoff::default();
        while let Err(error) = write(&rooms, &fact).await {
            if error.code() != Code::DatabaseUnavailable {
                warn!("cannot write down {fact:?}: {error}: {:?}", error.cause());
                break;
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }
}

async fn write(rooms: &Rooms, fact: &Fact) -> Result<(), ApiError> {
    let starter = &rooms.0.starter;
    match fact {
        Fact::Joined { call, user, at } => {
            if joined(starter, call, user, *at).await? == Came::TooLate {
                info!(call.id = %call, "call {call} ended while {user} came in: its room is closed");
                rooms.close(call);
            }
            Ok(())
        }
        Fact::Left { call, user, at } => {
            let mut tx = starter.db.begin().await?;
            if calls::left(&mut tx, call, user, *at).await? {
                let data = json!({ "userId": user });
                events::about_call(&mut tx, EventType::ParticipantLeft, call, data, *at).await?;
            }
            Ok(tx.commit().await?)
        }
        Fact::Empty { call } => {
            crate::recordings::end_call(starter, call, StopReason::CallEnded).await?;
            info!(call.id = %call, "ended call {call}: nobody has been there for a while");
            Ok(())
        }
    }
}

/// Whether somebody came while their call was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    InTime,
    /// It ended between their admission and their seat.
    TooLate,
}

/// The first one to come makes the call active, and begins its recording when that was asked for: together, so that neither a
/// crash nor a database that goes away between them leaves a call that nobody records.
async fn joined(starter: &Starter, call: &CallId, user: &UserId, at: Timestamp) -> Result<Came, ApiError> {
    let mut tx = starter.db.begin().await?;
    let found = calls::lock(&mut tx, call).await?.filter(|call| call.state != CallState::Ended);
    let Some(found) = found else { return Ok(Came::TooLate) };
    let first = calls::activate(&mut tx, call, at).await?;
    if first {
        events::about_call(&mut tx, EventType::CallStarted, call, json!({}), at).await?;
    }
    if calls::joined(&mut tx, call, user, at).await? {
        events::about_call(&mut tx, EventType::ParticipantJoined, call, json!({ "userId": user }), at)
            .await?;
    }
    let begun = match found.record_options.filter(|_| first) {
        Some(options) => record(starter, &mut tx, &found.host, call, &options).await?,
        None => None,
    };
    let people = calls::participants(&mut *tx, call).await?;
    tx.commit().await?;
    starter.ingest.participants_changed(call, people.into_iter().map(|person| person.user).collect());
    if let Some((recording, _)) = begun.map(|begun| starter.committed(begun)) {
        info!(recording.id = %recording, call.id = %call, "recording {recording} began by itself");
    }
    Ok(Came::InTime)
}

/// Begins a call's recording by itself; `None` when there can be none.
async fn record(
    starter: &Starter,
    tx: &mut PgConnection,
    host: &UserId,
    call: &CallId,
    options: &RecordingOptions,
) -> Result<Option<Begun>, ApiError> {
    match starter.begin(tx, host, call, options).await {
        Ok(begun) => Ok(Some(begun)),
        Err(error) if error.code() == Code::RecordingAlreadyLive => Ok(None),
        Err(error) if matches!(error.code(), Code::DiskFull | Code::CallEnded) => {
            warn!(call.id = %call, "call {call} cannot be recorded: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The calls that were active here when an earlier process ended: empty until somebody comes back.
pub(super) async fn calls_left_by_a_crash(rooms: &Rooms) -> HashMap<CallId, Instant> {
    let (db, edge) = (&rooms.0.db, rooms.0.starter.ingest.edge_id());
    let mut backoff = Backoff::default();
    loop {
        match calls::active_on(db, edge).await {
            Ok(calls) => return calls.into_iter().map(|call| (call, Instant::now())).collect(),
            Err(error) if is_unavailable(&error) => tokio::time::sleep(backoff.next()).await,
            Err(error) => {
                warn!("cannot read which calls were on: {error}");
                return HashMap::new();
            }
        }
    }
}
