//! Tracks that appear and go, and the legs that carry them to everybody who wants them.

use std::sync::Arc;
use std::time::Instant;

use crate::event::{Event, TrackInfo};
use crate::forward::Leg;
use crate::ids::{Medium, PeerId, RoomId};
use crate::peer::Stream;
use crate::sfu::Sfu;
use crate::tap::TapMark;
use crate::track::{Track, TrackId};

impl Sfu {
    /// The track that a stream belongs to; a new one is made and offered to everybody.
    pub(super) fn track_of(&mut self, now: Instant, id: PeerId, stream: &Arc<Stream>) -> Option<TrackId> {
        let session = self.sessions.get_mut(&id)?;
        if let Some(known) = session.sources.get(&stream.ssrc) {
            let track = self.rooms.get(&session.room)?.tracks.get(known)?;
            if track.codec == stream.codec {
                return Some(*known);
            }
        }
        let medium = session.medium(&stream.mid);
        let room = session.room.clone();
        let same = |track: &&Track| track.owner == id && track.mid == stream.mid;
        let known =
            self.rooms.get(&room)?.tracks.values().find(same).map(|track| (track.id, track.codec.clone()));
        let track = match known {
            Some((track, codec)) if codec == stream.codec => track,
            other => {
                if let Some((former, _)) = other {
                    self.unpublish(&room, former);
                }
                let session = self.sessions.get(&id)?;
                let number = TrackId(self.next_track + 1);
                let track =
                    Track::new(number, (id, session.user.clone()), medium, stream, session.muting(medium));
                self.publish(now, id, &room, track);
                number
            }
        };
        self.sessions.get_mut(&id)?.sources.insert(stream.ssrc, track);
        let track = self.rooms.get_mut(&room)?.tracks.get_mut(&track)?;
        track.add_layer(now, stream);
        track.want_keyframes(now);
        let (number, members) = (track.id, track.legs.iter().map(|leg| leg.peer).collect::<Vec<PeerId>>());
        for member in members {
            self.share(now, member);
        }
        Some(number)
    }

    fn publish(&mut self, now: Instant, id: PeerId, room: &RoomId, track: Track) {
        let number = self.next_track();
        let (medium, mime) = (track.medium, track.codec.mime.clone());
        let Some(there) = self.rooms.get_mut(room) else { return };
        let simulcast = self.sessions.get(&id).is_some_and(|session| session.peer.has_layers(&track.mid));
        there.tracks.insert(number, track);
        let members = there.members.clone();
        self.mark_track(now, id, medium, TapMark::Joined);
        self.events.push_back(Event::Published { peer: id, track: TrackInfo { medium, mime, simulcast } });
        for member in members {
            self.subscribe(now, member, room, number);
        }
    }

    /// A track is no more: its legs end, and everybody is told.
    pub(super) fn unpublish(&mut self, room: &RoomId, track: TrackId) {
        let Some(track) = self.rooms.get_mut(room).and_then(|there| there.tracks.remove(&track)) else {
            return;
        };
        for leg in track.legs {
            self.drop_leg(leg);
        }
        if let Some(owner) = self.sessions.get_mut(&track.owner) {
            owner.sources.retain(|_, source| *source != track.id);
        }
        self.events.push_back(Event::Unpublished { peer: track.owner, medium: track.medium });
    }

    /// Tells a recording that a track comes or goes while its owner stays. A screen's sound stands in its pictures' log, and they tell.
    fn mark_track(&mut self, now: Instant, id: PeerId, medium: Medium, mark: TapMark) {
        if medium != Medium::ScreenAudio {
            self.mark_timeline(now, id, Some(medium), mark);
        }
    }

    /// Ends the tracks on whose sections the client sends no more.
    pub(super) fn unpublish_silent(&mut self, now: Instant, id: PeerId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let room = session.room.clone();
        let Some(there) = self.rooms.get(&room) else { return };
        let sending = session.peer.sending();
        let silent = |track: &&Track| track.owner == id && !sending.iter().any(|(mid, _)| *mid == track.mid);
        let silent = there.tracks.values().filter(silent).map(|track| (track.id, track.medium));
        let mut silent: Vec<(TrackId, Medium)> = silent.collect();
        silent.sort_unstable();
        for (track, medium) in silent {
            self.unpublish(&room, track);
            self.mark_track(now, id, medium, TapMark::Left);
        }
    }

    /// Brings the legs of a session into line with what it wants.
    pub(super) fn subscribe_all(&mut self, now: Instant, id: PeerId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let room = session.room.clone();
        for track in self.rooms.get(&room).map(crate::room::Room::track_ids).unwrap_or_default() {
            self.subscribe(now, id, &room, track);
        }
    }

    /// Brings one leg into line.
    fn subscribe(&mut self, now: Instant, id: PeerId, room: &RoomId, track: TrackId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(track) = self.rooms.get_mut(room).and_then(|there| there.tracks.get_mut(&track)) else {
            return;
        };
        if track.owner == id {
            return;
        }
        let wanted = session.wants(&track.user, track.medium);
        let present = track.legs.iter().position(|leg| leg.peer == id);
        match (wanted, present) {
            (Some(wanted), Some(at)) => track.legs[at].wanted = wanted,
            (Some(_), None) if session.peer.is_unheard() => {
                session.negotiation.want();
                self.mark(id);
            }
            (Some(_), None) if !session.peer.takes(&track.codec) => {}
            (Some(wanted), None) => {
                match session.peer.add_sender(&track.user, track.medium, &track.codec, track.id.0) {
                    Ok((sender, ssrc)) => {
                        let resting = session.resting.remove(&ssrc);
                        let leg = Leg::new(now, (id, sender, ssrc), &track.codec, wanted, resting);
                        track.legs.push(leg);
                        session.legs.insert(ssrc, track.id);
                        session.negotiation.want();
                        self.mark(id);
                    }
                    Err(error) => tracing::warn!(peer.id = %id, "could not add a track for {id}: {error}"),
                }
            }
            (None, Some(at)) => {
                let leg = track.legs.swap_remove(at);
                self.drop_leg(leg);
            }
            (None, None) => {}
        }
    }

    fn drop_leg(&mut self, leg: Leg) {
        let peer = leg.peer;
        if let Some(session) = self.sessions.get_mut(&peer) {
            session.peer.remove_sender(leg.sender);
            session.legs.remove(&leg.ssrc);
            session.resting.insert(leg.ssrc, leg.rest());
            session.negotiation.want();
            self.mark(peer);
        }
    }

    /// The session has agreed to something: its legs learn what.
    pub(super) fn agree_legs(&mut self, id: PeerId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(room) = self.rooms.get_mut(&session.room) else { return };
        for track in session.legs.values() {
            let Some(track) = room.tracks.get_mut(track) else { continue };
            for leg in track.legs.iter_mut().filter(|leg| leg.peer == id) {
                leg.agree(&track.codec, &track.extensions, session.peer.agreed(leg.sender));
            }
        }
    }
}
