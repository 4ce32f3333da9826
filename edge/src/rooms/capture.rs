//! A room's tap follows its recording: on while one is live here, off when it stops or another begins.

use shared::id::CallId;
use tracing::warn;

use super::Rooms;
use crate::control;
use crate::signal::frame::{Outgoing, RecordingTold};

/// Brings every room in step whenever a recording begins or stops.
pub(super) async fn follow(rooms: Rooms) {
    let mut changes = rooms.0.starter.ingest.changes();
    while changes.changed().await.is_ok() {
        let calls: Vec<CallId> = rooms.0.state().rooms.keys().cloned().collect();
        calls.iter().for_each(|call| reconcile(&rooms, call));
    }
}

/// Brings one room in step.
pub(super) fn reconcile(rooms: &Rooms, call: &CallId) {
    let inner = &*rooms.0;
    let wanted = inner.starter.ingest.captured_in(call);
    let mut state = inner.state();
    let Some(room) = state.rooms.get_mut(call) else { return };
    if room.recording == wanted {
        return;
    }
    if let Some(stopped) = room.recording.take() {
        room.tell_all(&Outgoing::Recording(RecordingTold::Stopped, stopped));
    }
    let capture = wanted.as_ref().and_then(|recording| inner.starter.ingest.server_capture(recording));
    let tap = capture.map(|capture| control::begin(capture, &inner.tasks));
    let on = tap.is_some();
    let command = sfu::Command::Record { room: sfu::RoomId::new(call.as_str()), tap };
    if inner.media.command(room.shard, command).is_err() {
        warn!(call.id = %call, "the media thread of call {call} is overloaded: its tap is tried again with the next change");
        return;
    }
    if let Some(recording) = wanted.filter(|_| on) {
        room.tell_all(&Outgoing::Recording(RecordingTold::Started, recording.clone()));
        room.recording = Some(recording);
    }
}
