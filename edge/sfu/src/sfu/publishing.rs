//! Tracks that appear and go, and the legs that carry them to everybody who wants them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::{Event, TrackInfo};
use crate::forward::Leg;
use crate::ids::{Medium, PeerId, RoomId};
use crate::peer::Stream;
use crate::sfu::Sfu;
use crate::tap::TapMark;
use crate::track::{Track, TrackId};

/// How long a track that took another's place because of its codec keeps it. Each change is told to everybody, and a publisher could
/// make one with every packet; no client changes its mind within a second.
const REPLACED_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// SSRCs of one publisher whose tracks are remembered; of more, those that no layer has any more are forgotten. As many as a
/// connection knows.
const MAX_SOURCES: usize = 128;

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
        let known = self.rooms.get(&room)?.tracks.values().find(same);
        let track = match known.map(|track| (track.id, track.codec == stream.codec, track.replaced_at)) {
            Some((track, true, _)) => track,
            Some((_, false, Some(at))) if now < at + REPLACED_AGAIN_AFTER => return None,
            other => {
                if let Some((former, ..)) = other {
                    self.unpublish(&room, former);
                }
                let session = self.sessions.get(&id)?;
                let number = TrackId(self.next_track + 1);
                let mut track =
                    Track::new(number, (id, session.user.clone()), medium, stream, session.muting(medium));
                track.replaced_at = other.map(|_| now);
                self.publish(now, id, &room, track);
                number
            }
        };
        let tracks = &mut self.rooms.get_mut(&room)?.tracks;
        tracks.get_mut(&track)?.add_layer(now, stream);
        let sources = &mut self.sessions.get_mut(&id)?.sources;
        if sources.len() >= MAX_SOURCES {
            let sends = |ssrc: u32, track: &Track| track.layers.iter().any(|layer| layer.stream.ssrc == ssrc);
            sources.retain(|ssrc, track| tracks.get(track).is_some_and(|track| sends(*ssrc, track)));
        }
        sources.insert(stream.ssrc, track);
        let track = tracks.get_mut(&track)?;
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
        let session = self.sessions.get(&id);
        let simulcast = session.is_some_and(|session| session.peer.has_layers(&track.mid));
        let muted = session.and_then(|session| session.muted_mark(medium));
        there.tracks.insert(number, track);
        let members = there.members.clone();
        self.mark_track(now, id, medium, TapMark::Joined);
        if let Some(mark) = muted {
            self.mark_track(now, id, medium, mark);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Reception, Role};
    use crate::config::{Candidate, CandidateKind, Config, Limits};
    use crate::format::{Codec, Extensions};
    use crate::ids::{Mid, User};
    use crate::path::{Arrival, Transport};

    const ANN: PeerId = PeerId(1);

    fn shard(now: Instant) -> Sfu {
        let address = ([192, 0, 2, 1], 40_000).into();
        let (transport, kind) = (Transport::Udp, CandidateKind::Host);
        let candidates = vec![Candidate { address, local: address, transport, kind }];
        let config = Config { candidates, relay: None, limits: Limits::default(), max_sessions: 10 };
        let mut sfu = Sfu::new(config, now, Arrival { unix_us: 0 }).unwrap();
        let (room, user) = (RoomId::new("room"), User::new("ann"));
        let role = Role::Member(Reception::Everything);
        sfu.command(now, Command::Join { room, peer: ANN, user, role });
        sfu
    }

    fn stream(ssrc: u32, payload_type: u8) -> Arc<Stream> {
        let mime = if payload_type == 96 { "video/VP8" } else { "video/VP9" }.to_owned();
        let codec = Codec { payload_type, mime, clock_rate: 90_000, channels: 0, fmtp: String::new() };
        let (mid, extensions) = (Mid::new("1"), Extensions::default());
        Arc::new(Stream { ssrc, mid, rid: "".into(), codec, extensions, nack: true })
    }

    #[test]
    fn a_publisher_that_changes_its_codec_with_every_packet_is_followed_once_a_second() {
        let start = Instant::now();
        let mut sfu = shard(start);
        for millisecond in 0..2_500 {
            let now = start + Duration::from_millis(millisecond);
            let payload_type = [96, 98][millisecond as usize % 2];
            let track = sfu.track_of(now, ANN, &stream(7, payload_type));
            assert!(millisecond > 1 || track.is_some(), "the first change is made at once");
        }
        let replaced = std::iter::from_fn(|| sfu.poll_event())
            .filter(|event| matches!(event, Event::Unpublished { .. }))
            .count();
        assert_eq!(replaced, 3);
    }

    #[test]
    fn made_up_ssrcs_are_not_remembered_for_ever() {
        let now = Instant::now();
        let mut sfu = shard(now);
        for ssrc in 0..1_000 {
            assert!(sfu.track_of(now, ANN, &stream(ssrc, 96)).is_some());
        }
        let sources = &sfu.sessions[&ANN].sources;
        assert!(sources.len() <= MAX_SOURCES && sources.contains_key(&999), "{}", sources.len());
    }
}
