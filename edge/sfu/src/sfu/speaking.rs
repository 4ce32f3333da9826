//! Who speaks in a room, by the levels that packets of microphones carry (RFC 6464); and a room's own timer, which ticks for it.

use std::time::Instant;

use crate::command::Muting;
use crate::event::Event;
use crate::format::AUDIO_LEVEL;
use crate::ids::{Medium, PeerId, RoomId};
use crate::packet::Packet;
use crate::room::Room;
use crate::sfu::Sfu;
use crate::speaker::Microphone;
use crate::track::Track;

impl Sfu {
    /// A room's time has come.
    pub(super) fn room_timeout(&mut self, now: Instant, room: &RoomId) {
        let Some(there) = self.rooms.get_mut(room) else { return };
        if let Some(speaker) = there.speakers.timeout(now) {
            self.tell_speaker(room, Some(speaker));
        }
        self.share_room(now, room);
        self.schedule_room(room);
    }

    pub(super) fn schedule_room(&mut self, room: &RoomId) {
        if let Some(at) = self.rooms.get(room).and_then(Room::next) {
            self.room_timers.wake(room, at);
        }
    }

    /// A session's microphone was switched.
    pub(super) fn switch_microphone(&mut self, now: Instant, id: PeerId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let room = session.room.clone();
        let microphone = match session.muting(Medium::Audio) {
            Muting::Muted => Microphone::Muted,
            Muting::Unmuted => Microphone::On,
        };
        if let Some(there) = self.rooms.get_mut(&room) {
            there.speakers.switch(now, &id, microphone);
        }
        self.schedule_room(&room);
    }

    /// A session has left, and its voice with it.
    pub(super) fn forget_voice(&mut self, id: PeerId, room: &RoomId) {
        let active = self.rooms.get_mut(room).and_then(|there| there.speakers.left(&id));
        if let Some(active) = active {
            self.tell_speaker(room, active);
        }
    }

    fn tell_speaker(&mut self, room: &RoomId, speaker: Option<PeerId>) {
        let user = speaker.and_then(|id| self.sessions.get(&id)).map(|session| session.user.clone());
        self.events.push_back(Event::ActiveSpeaker { room: room.clone(), user });
    }
}

/// The level of a microphone's packet, when it tells one.
pub(super) fn level(track: &Track, packet: &Packet) -> Option<u8> {
    if track.medium != Medium::Audio {
        return None;
    }
    let id = track.extensions.id(AUDIO_LEVEL)?;
    let (_, value) = packet.extensions.iter().find(|(known, _)| *known == id)?;
    value.first().copied()
}
