//! Figures of quality.

use std::time::Instant;

use crate::event::{Event, LegReport, PeerReport, TrackReport};
use crate::ids::{Medium, PeerId, RoomId};
use crate::room::Room;
use crate::session::Session;
use crate::sfu::Sfu;
use crate::track::Track;
use crate::track::stream::Arrivals;

impl Sfu {
    pub(super) fn report(&mut self, now: Instant, room: Option<&RoomId>, token: u64) {
        let mut peers = Vec::new();
        for (name, there) in self.rooms.iter_mut().filter(|(name, _)| room.is_none_or(|only| only == *name)) {
            for id in there.members.clone() {
                if let Some(session) = self.sessions.get(&id) {
                    peers.push(report_of(now, (name, there), id, session));
                }
            }
        }
        self.events.push_back(Event::Report { token, peers });
    }
}

fn report_of(now: Instant, (name, room): (&RoomId, &mut Room), id: PeerId, session: &Session) -> PeerReport {
    let (mut published, mut received) = (Vec::new(), Vec::new());
    for number in room.track_ids() {
        let Some(track) = room.tracks.get_mut(&number) else { continue };
        if track.owner == id {
            published.extend(track.layers.iter_mut().map(|layer| incoming(now, track.medium, layer)));
        } else {
            received.extend(outgoing(now, track, id));
        }
    }
    let (room, user) = (name.clone(), session.user.clone());
    let (estimate_bps, asked_again) = (session.peer.estimate_bps(now), session.peer.asked_again());
    PeerReport { room, peer: id, user, published, received, estimate_bps, asked_again }
}

fn incoming(now: Instant, medium: Medium, layer: &mut Arrivals) -> TrackReport {
    let ((packets, bytes), quality) = layer.figures(now);
    TrackReport {
        medium,
        rid: layer.stream.rid.to_string(),
        packets,
        bytes,
        over_limit: layer.over_limit,
        bitrate_bps: quality.bitrate_bps,
        loss: quality.loss as f32,
        jitter: quality.jitter,
        keyframe_requests: layer.requests.count(),
    }
}

fn outgoing(now: Instant, track: &mut Track, id: PeerId) -> Option<LegReport> {
    let leg = track.legs.iter_mut().find(|leg| leg.peer == id)?;
    let ((packets, bytes), quality) = leg.figures(now);
    let flowing = track.layers.iter().find(|layer| Some(layer.stream.ssrc) == leg.source());
    Some(LegReport {
        of: track.user.clone(),
        medium: track.medium,
        rid: flowing.map(|layer| layer.stream.rid.to_string()).unwrap_or_default(),
        packets,
        bytes,
        bitrate_bps: quality.bitrate_bps,
        loss: quality.loss as f32,
        jitter: quality.jitter,
        round_trip: quality.round_trip,
    })
}
