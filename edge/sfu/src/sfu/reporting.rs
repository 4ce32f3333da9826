//! Figures of quality.

use crate::event::{Event, LegReport, PeerReport, TrackReport};
use crate::ids::{PeerId, RoomId};
use crate::room::Room;
use crate::session::Session;
use crate::sfu::Sfu;

impl Sfu {
    pub(super) fn report(&mut self, room: Option<&RoomId>, token: u64) {
        let mut peers = Vec::new();
        for (name, there) in self.rooms.iter().filter(|(name, _)| room.is_none_or(|only| only == *name)) {
            let sessions = there.members.iter().filter_map(|id| Some((*id, self.sessions.get(id)?)));
            peers.extend(sessions.map(|(id, session)| report_of(name, there, id, session)));
        }
        self.events.push_back(Event::Report { token, peers });
    }
}

fn report_of(name: &RoomId, room: &Room, id: PeerId, session: &Session) -> PeerReport {
    let (mut published, mut received) = (Vec::new(), Vec::new());
    for track in room.track_ids().iter().filter_map(|track| room.tracks.get(track)) {
        for layer in track.layers.iter().filter(|_| track.owner == id) {
            let (packets, bytes, keyframe_requests) = (layer.packets, layer.bytes, layer.keyframes.count());
            published.push(TrackReport {
                medium: track.medium,
                rid: layer.rid().to_string(),
                packets,
                bytes,
                keyframe_requests,
            });
        }
        for leg in track.legs.iter().filter(|leg| leg.peer == id) {
            let (packets, bytes, quality) = leg.figures();
            let rid = track
                .layers
                .iter()
                .find(|layer| Some(layer.stream.ssrc) == leg.source())
                .map(|layer| layer.rid().to_string());
            received.push(LegReport {
                of: track.user.clone(),
                medium: track.medium,
                rid: rid.unwrap_or_default(),
                packets,
                bytes,
                loss: quality.loss,
                jitter: quality.jitter,
                round_trip: quality.round_trip,
            });
        }
    }
    PeerReport { room: name.clone(), peer: id, user: session.user.clone(), published, received }
}
