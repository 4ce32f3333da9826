//! A room's tap follows its recording: on while one is live here, at rest while that is paused, off when it stops or another begins.

use std::time::Duration;

use sfu::Pausing;
use shared::db::recordings;
use shared::id::{CallId, RecordingId};
use shared::recording::RecordingState;
use tokio::time::MissedTickBehavior;
use tracing::warn;

use super::room::Room;
use super::{Inner, Rooms};
use crate::control;
use crate::driver::Overloaded;
use crate::signal::frame::{Outgoing, RecordingTold};

/// How many stopped recordings of one room are followed to their end; a host who starts and stops more often learns the rest
/// from the list.
const AWAITED_MAX: usize = 16;
/// How often their rows are read.
const OUTCOMES_EVERY: Duration = Duration::from_secs(2);
/// How long a media thread with too much to do is left alone before a tap is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Tells people how their stopped recordings ended, as long as they are there.
pub(super) async fn tell_outcomes(rooms: Rooms) {
    let mut ticks = tokio::time::interval(OUTCOMES_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let awaited: Vec<(CallId, RecordingId)> = {
            let state = rooms.0.state();
            let all = state.rooms.iter();
            all.flat_map(|(call, room)| room.awaited.iter().map(|one| (call.clone(), one.clone()))).collect()
        };
        for (call, recording) in awaited {
            // A database that is away is asked again.
            let Ok(row) = recordings::find(&rooms.0.db, &recording).await else { break };
            let told = match row.map(|row| row.state) {
                Some(RecordingState::Completed) => Some(RecordingTold::Completed),
                Some(RecordingState::Failed) => Some(RecordingTold::Failed),
                Some(RecordingState::Deleted) | None => None,
                Some(_) => continue,
            };
            rooms.0.tell_outcome(&call, recording, told);
        }
    }
}

impl Inner {
    fn tell_outcome(&self, call: &CallId, recording: RecordingId, told: Option<RecordingTold>) {
        let mut state = self.state();
        let Some(room) = state.rooms.get_mut(call) else { return };
        room.awaited.retain(|awaited| *awaited != recording);
        if let Some(told) = told {
            room.tell_all(&Outgoing::Recording(told, recording));
        }
    }
}

/// Brings every room in step whenever a recording begins or stops, and soon again when one could not be, or could not be closed.
pub(super) async fn follow(rooms: Rooms) {
    let mut changes = rooms.0.starter.ingest.changes();
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = rooms.0.behind.notified() => tokio::time::sleep(AGAIN_AFTER).await,
        }
        rooms.0.close_again();
        let calls: Vec<CallId> = rooms.0.state().rooms.keys().cloned().collect();
        calls.iter().for_each(|call| reconcile(&rooms, call));
    }
}

/// Brings one room in step. What is wanted is read under the rooms' lock: who reads it before another may act on it after them, and
/// then nothing puts it right until the next change.
pub(super) fn reconcile(rooms: &Rooms, call: &CallId) {
    let inner = &*rooms.0;
    let mut state = inner.state();
    let Some(room) = state.rooms.get_mut(call) else { return };
    let wanted = inner.starter.ingest.captured_in(call);
    let pausing = wanted
        .as_ref()
        .and_then(|(_, since)| *since)
        .map_or(Pausing::Running, |since| Pausing::Paused { since_us: since.timestamp_micros() });
    let wanted = wanted.map(|(recording, _)| recording);
    let followed = inner.record(room, wanted).and_then(|()| inner.pause(room, pausing));
    if followed.is_err() {
        warn!(call.id = %call, "the media thread of call {call} is overloaded: its recording is followed later");
        inner.behind.notify_one();
    }
}

impl Inner {
    fn record(&self, room: &mut Room, wanted: Option<RecordingId>) -> Result<(), Overloaded> {
        if room.recording == wanted {
            return Ok(());
        }
        let capture = wanted.as_ref().and_then(|recording| self.starter.ingest.server_capture(recording));
        let tap = capture.map(|capture| control::begin(capture, &self.tasks));
        let on = tap.is_some();
        self.media
            .command(room.shard, sfu::Command::Record { room: sfu::RoomId::new(room.call.as_str()), tap })?;
        room.pausing = Pausing::Running;
        if let Some(stopped) = room.recording.take() {
            room.tell_all(&Outgoing::Recording(RecordingTold::Stopped, stopped.clone()));
            room.awaited.truncate(AWAITED_MAX - 1);
            room.awaited.push(stopped);
        }
        if let Some(recording) = wanted.filter(|_| on) {
            room.tell_all(&Outgoing::Recording(RecordingTold::Started, recording.clone()));
            room.recording = Some(recording);
        }
        Ok(())
    }

    /// A pause that ended while another began is told as ended first.
    fn pause(&self, room: &mut Room, pausing: Pausing) -> Result<(), Overloaded> {
        let Some(recording) = room.recording.clone() else { return Ok(()) };
        for pausing in between(room.pausing, pausing) {
            self.media.command(
                room.shard,
                sfu::Command::Pause { room: sfu::RoomId::new(room.call.as_str()), pausing },
            )?;
            room.pausing = pausing;
            let told = match pausing {
                Pausing::Paused { .. } => RecordingTold::Paused,
                Pausing::Running => RecordingTold::Resumed,
            };
            room.tell_all(&Outgoing::Recording(told, recording.clone()));
        }
        Ok(())
    }
}

/// What happened between two looks at a recording.
fn between(before: Pausing, now: Pausing) -> Vec<Pausing> {
    match (before, now) {
        _ if before == now => Vec::new(),
        (Pausing::Paused { .. }, Pausing::Paused { .. }) => vec![Pausing::Running, now],
        _ => vec![now],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_that_ended_while_another_began_is_told_as_ended() {
        let paused = |since_us| Pausing::Paused { since_us };
        assert_eq!(between(paused(1), paused(5)), [Pausing::Running, paused(5)]);
        assert_eq!(between(paused(1), paused(1)), []);
        assert_eq!(between(Pausing::Running, paused(5)), [paused(5)]);
        assert_eq!(between(paused(5), Pausing::Running), [Pausing::Running]);
        assert_eq!(between(Pausing::Running, Pausing::Running), []);
    }
}
