//! The hot path: packets and reports of one session on their way to the others and to the recorder.

use std::time::Instant;

use crate::ids::PeerId;
use crate::packet::Packet;
use crate::path::Arrival;
use crate::peer::{Inbound, Receipt};
use crate::sfu::Sfu;
use crate::track::TrackId;

impl Sfu {
    pub(super) fn take_inbound(&mut self, now: Instant, arrival: Arrival, id: PeerId) {
        while let Some(inbound) = self.sessions.get_mut(&id).and_then(|session| session.peer.poll_inbound()) {
            match inbound {
                Inbound::Media(stream, packet) => {
                    if let Some(track) = self.track_of(now, id, &stream) {
                        self.forward(now, arrival, id, track, &packet);
                    }
                }
                Inbound::SenderReport { ssrc, ntp, rtp } => {
                    self.forward_report(now, arrival, id, ssrc, (ntp, rtp));
                }
                Inbound::Receipt(receipt) => self.note_receipt(now, id, &receipt),
                Inbound::KeyframeWanted { ssrc } => self.want_keyframe(id, ssrc),
            }
        }
    }

    fn forward(&mut self, now: Instant, arrival: Arrival, id: PeerId, track: TrackId, packet: &Packet) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(room) = self.rooms.get_mut(&session.room) else { return };
        let Some(track) = room.tracks.get_mut(&track) else { return };
        if let Some(tap) = &mut room.tap {
            track.tap(now, arrival.unix_us, packet, tap.as_mut(), &mut self.wire);
        }
        let mut outs = std::mem::take(&mut self.outs);
        track.forward(now, packet, &mut outs);
        for out in outs.drain(..) {
            let Some(subscriber) = self.sessions.get_mut(&out.peer) else { continue };
            if let Some(report) = out.report {
                subscriber.peer.send_report(now, report);
            }
            subscriber.peer.send(now, out.packet);
            self.mark(out.peer);
        }
        self.outs = outs;
    }

    fn forward_report(
        &mut self,
        now: Instant,
        arrival: Arrival,
        id: PeerId,
        ssrc: u32,
        (ntp, rtp): (u64, u32),
    ) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(track) = session.sources.get(&ssrc) else { return };
        let Some(room) = self.rooms.get_mut(&session.room) else { return };
        let Some(track) = room.tracks.get_mut(track) else { return };
        if let Some(tap) = &mut room.tap {
            tap.sender_report(&track.user, track.medium, arrival.unix_us, ssrc, ntp, rtp);
        }
        for (peer, report) in track.report(now, ssrc, ntp, rtp) {
            if let Some(subscriber) = self.sessions.get_mut(&peer) {
                subscriber.peer.send_report(now, report);
                self.mark(peer);
            }
        }
    }

    fn note_receipt(&mut self, now: Instant, id: PeerId, receipt: &Receipt) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(track) = session.legs.get(&receipt.ssrc) else { return };
        let Some(track) = self.rooms.get_mut(&session.room).and_then(|room| room.tracks.get_mut(track))
        else {
            return;
        };
        let clock_rate = track.codec.clock_rate;
        if let Some(leg) = track.legs.iter_mut().find(|leg| leg.ssrc == receipt.ssrc) {
            leg.on_receipt(now, receipt, clock_rate);
        }
    }

    /// A subscriber has lost its picture.
    fn want_keyframe(&mut self, id: PeerId, ssrc: u32) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(track) = session.legs.get(&ssrc) else { return };
        let Some(track) = self.rooms.get_mut(&session.room).and_then(|room| room.tracks.get_mut(track))
        else {
            return;
        };
        track.want_keyframe_for(ssrc);
        let owner = track.owner;
        self.mark(owner);
    }

    /// A subscriber needs a keyframe of everything that it gets.
    pub(super) fn want_keyframes_for(&mut self, _now: Instant, id: PeerId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(room) = self.rooms.get_mut(&session.room) else { return };
        let mut owners = Vec::new();
        for track in session.legs.values() {
            if let Some(track) = room.tracks.get_mut(track) {
                track.want_keyframes();
                owners.push(track.owner);
            }
        }
        for owner in owners {
            self.mark(owner);
        }
    }

    /// Asks a session for the keyframes that are due.
    pub(super) fn ask_keyframes(&mut self, now: Instant, id: PeerId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(room) = self.rooms.get_mut(&session.room) else { return };
        for (ssrc, track) in &session.sources {
            let layers = room.tracks.get_mut(track).map(|track| track.layers.iter_mut());
            for layer in layers.into_iter().flatten().filter(|layer| layer.stream.ssrc == *ssrc) {
                if layer.keyframes.due(now) {
                    session.peer.ask_keyframe(now, *ssrc);
                }
            }
        }
    }
}
