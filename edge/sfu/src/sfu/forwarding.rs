//! The hot path: packets and reports of one session on their way to the others and to the recorder.

use std::time::Instant;

use crate::command::Pausing;
use crate::event::Event;
use crate::ids::PeerId;
use crate::keyframe::Due;
use crate::leg::timestamp::ClockMap;
use crate::packet::Packet;
use crate::path::{Arrival, Fate};
use crate::peer::Inbound;
use crate::quality::ReportBlock;
use crate::sfu::Sfu;
use crate::sfu::speaking::level;
use crate::track::TrackId;

impl Sfu {
    pub(super) fn take_inbound(&mut self, now: Instant, arrival: Arrival, id: PeerId) -> Fate {
        let mut fate = Fate::Taken;
        while let Some(inbound) = self.sessions.get_mut(&id).and_then(|session| session.peer.poll_inbound()) {
            match inbound {
                Inbound::Media(stream, packet) => {
                    if let Some(track) = self.track_of(now, id, &stream) {
                        self.forward(now, arrival, id, track, &packet);
                    }
                }
                Inbound::OverLimit { ssrc, sequence } => {
                    fate = Fate::OverLimit;
                    self.note_over_limit(now, id, ssrc, sequence);
                }
                Inbound::SenderReport { ssrc, ntp, rtp } => {
                    self.forward_report(now, arrival, id, ssrc, ClockMap { ntp, rtp });
                }
                Inbound::Receipt { ssrc, block } => self.note_receipt(now, id, ssrc, block),
                Inbound::KeyframeWanted { ssrc } => self.want_keyframe(now, id, ssrc),
            }
        }
        fate
    }

    /// The first of a track is told, the others are counted.
    fn note_over_limit(&mut self, now: Instant, id: PeerId, ssrc: u32, sequence: Option<u16>) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(track) = session.sources.get(&ssrc) else { return };
        let Some(track) = self.rooms.get_mut(&session.room).and_then(|room| room.tracks.get_mut(track))
        else {
            return;
        };
        if let Some(sequence) = sequence {
            track.withheld(now, ssrc, sequence);
        }
        if !std::mem::replace(&mut track.over_limit_told, true) {
            self.events.push_back(Event::OverLimit { peer: id, medium: track.medium });
        }
        if let Some(layer) = track.layers.iter_mut().find(|layer| layer.stream.ssrc == ssrc) {
            layer.over_limit += 1;
        }
    }

    fn forward(&mut self, now: Instant, arrival: Arrival, id: PeerId, track: TrackId, packet: &Packet) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(room) = self.rooms.get_mut(&session.room) else { return };
        let Some(track) = room.tracks.get_mut(&track) else { return };
        if let Some(level) = level(track, packet) {
            room.speakers.heard(now, &id, level);
            if let Some(at) = room.speakers.poll_timeout() {
                self.room_timers.wake(&session.room, at);
            }
        }
        let look = track.look(&packet.payload);
        if let Some(tap) = room.tap.as_mut().filter(|_| room.pausing == Pausing::Running) {
            track.tap((now, arrival.unix_us), packet, look, tap.as_mut(), &mut self.wire);
        }
        let mut outs = std::mem::take(&mut self.outs);
        track.forward(now, packet, look, &mut outs);
        for out in outs.drain(..) {
            let Some(subscriber) = self.sessions.get_mut(&out.peer) else { continue };
            if let Some(report) = out.taken.report {
                subscriber.peer.send_report(now, report);
            }
            let waiting = subscriber.peer.send(out.taken.packet, out.taken.patch);
            self.deepest = self.deepest.max(waiting);
            if !subscriber.dirty {
                subscriber.dirty = true;
                self.dirty.push_back(out.peer);
            }
        }
        self.outs = outs;
    }

    fn forward_report(&mut self, now: Instant, arrival: Arrival, id: PeerId, ssrc: u32, clock: ClockMap) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(track) = session.sources.get(&ssrc) else { return };
        let Some(room) = self.rooms.get_mut(&session.room) else { return };
        let Some(track) = room.tracks.get_mut(track) else { return };
        if let Some(tap) = room.tap.as_mut().filter(|_| room.pausing == Pausing::Running) {
            tap.sender_report(&track.user, track.medium, arrival.unix_us, ssrc, clock.ntp, clock.rtp);
        }
        for (peer, report) in track.report(now, ssrc, clock) {
            if let Some(subscriber) = self.sessions.get_mut(&peer) {
                subscriber.peer.send_report(now, report);
                self.mark(peer);
            }
        }
    }

    fn note_receipt(&mut self, now: Instant, id: PeerId, ssrc: u32, block: ReportBlock) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(track) = session.legs.get(&ssrc) else { return };
        let Some(track) = self.rooms.get_mut(&session.room).and_then(|room| room.tracks.get_mut(track))
        else {
            return;
        };
        if let Some(leg) = track.legs.iter_mut().find(|leg| leg.ssrc == ssrc) {
            session.peer.note_receipt(now, leg.on_receipt(now, block));
        }
    }

    /// A subscriber has lost its picture.
    fn want_keyframe(&mut self, now: Instant, id: PeerId, ssrc: u32) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(track) = session.legs.get(&ssrc) else { return };
        let Some(track) = self.rooms.get_mut(&session.room).and_then(|room| room.tracks.get_mut(track))
        else {
            return;
        };
        // What the throttle holds back has to be waited for: the owner is looked after, and its timer set, in any case.
        track.want_keyframe_for(now, ssrc);
        let owner = track.owner;
        self.mark(owner);
    }

    /// A subscriber needs a keyframe of everything that it gets.
    pub(super) fn want_keyframes_for(&mut self, now: Instant, id: PeerId) {
        let Some(session) = self.sessions.get(&id) else { return };
        for ssrc in session.legs.keys().copied().collect::<Vec<u32>>() {
            self.want_keyframe(now, id, ssrc);
        }
    }

    /// Asks a session for the keyframes that are due.
    pub(super) fn ask_keyframes(&mut self, now: Instant, id: PeerId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(room) = self.rooms.get_mut(&session.room) else { return };
        for track in session.sources.values() {
            if let Some(track) = room.tracks.get_mut(track) {
                track.mend(now);
            }
        }
        for (ssrc, track) in &session.sources {
            let layers = room.tracks.get_mut(track).map(|track| track.layers.iter_mut());
            for layer in layers.into_iter().flatten().filter(|layer| layer.stream.ssrc == *ssrc) {
                if layer.requests.take(now) == Due::Yes {
                    session.peer.ask_keyframe(now, *ssrc);
                }
            }
        }
    }
}
