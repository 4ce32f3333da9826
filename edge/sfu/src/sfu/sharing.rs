//! Which layers a session gets: its estimate is shared out among the pictures that it wants, sound first, and its legs change over.
//!
//! Done for one session when something about it changes, and for everybody in a room every [`SHARE_EVERY`], because bitrates
//! and estimates move.

use std::time::{Duration, Instant};

use crate::ids::{Medium, PeerId, RoomId};
use crate::layers::share::{least, share};
use crate::layers::{Choice, Layer, Rank};
use crate::negotiation::Standing;
use crate::room::Room;
use crate::session::Session;
use crate::sfu::Sfu;
use crate::track::TrackId;

/// How often layers are chosen anew: a layer that stopped is noticed, and a falling estimate obeyed, within a quarter of a second
/// more than it takes to measure them. For a hundred members who see each other this is 40,000 legs a second to look at.
pub(super) const SHARE_EVERY: Duration = Duration::from_millis(250);

impl Sfu {
    /// Chooses for one session. Before it is connected nothing flows to it: the keyframe that it would ask for is gone by
    /// then, and whoever comes soon after would wait for the throttle.
    pub(super) fn share(&mut self, now: Instant, id: PeerId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.standing == Standing::Apart {
            return;
        }
        let Some(room) = self.rooms.get_mut(&session.room) else { return };
        let mut legs: Vec<(TrackId, u32)> =
            session.legs.iter().map(|(ssrc, track)| (*track, *ssrc)).collect();
        if legs.is_empty() {
            return;
        }
        legs.sort_unstable();
        let owners = share_out(now, room, &legs, session);
        let at = *room.share_at.get_or_insert(now + SHARE_EVERY);
        self.room_timers.wake(&session.room, at);
        for owner in owners {
            self.mark(owner);
        }
    }

    /// Chooses for everybody in a room, if it is time.
    pub(super) fn share_room(&mut self, now: Instant, room: &RoomId) {
        let Some(there) = self.rooms.get_mut(room) else { return };
        if there.share_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        let has_pictures = there.tracks.values().any(|track| track.medium.is_picture());
        for member in there.members.clone().into_iter().filter(|_| has_pictures) {
            self.share(now, member);
        }
    }
}

/// Chooses for these legs of one session. Returns who may have to be asked for keyframes.
fn share_out(now: Instant, room: &mut Room, legs: &[(TrackId, u32)], session: &mut Session) -> Vec<PeerId> {
    let speaker = room.speakers.active().copied();
    let (mut audio_bps, mut pictures, mut chosen) = (0, Vec::new(), Vec::new());
    for (number, ssrc) in legs {
        let Some(track) = room.tracks.get_mut(number) else { continue };
        let Some(at) = track.legs.iter().position(|leg| leg.ssrc == *ssrc) else { continue };
        let rank = match track.medium {
            Medium::Screen => Rank::Screen,
            _ if speaker == Some(track.owner) => Rank::Speaker,
            _ => Rank::Other,
        };
        let mut subscription = track.legs[at].share;
        subscription.source = track.source(now, track.legs[at].wanted, rank);
        if track.medium.is_picture() {
            pictures.push(subscription);
            chosen.push((*number, at));
        } else {
            audio_bps += track.bitrate_bps(now);
            let flows = subscription.source.flows.iter().any(Option::is_some);
            track.aim(now, at, if flows { Choice::Send(Layer::F) } else { Choice::Pause });
        }
    }
    let (estimate_bps, least) = (session.peer.estimate_bps(now), least(audio_bps, &pictures));
    let budget = session.trials.budget(now, estimate_bps, least, session.peer.strain(now));
    let wanted_bps = share(now, budget, audio_bps, &mut pictures);
    session.peer.probe(now, wanted_bps);
    let mut owners = Vec::new();
    for ((number, at), subscription) in chosen.into_iter().zip(pictures) {
        let Some(track) = room.tracks.get_mut(&number) else { continue };
        track.legs[at].share = subscription;
        track.aim(now, at, subscription.choice());
        if track.next_keyframe().is_some() {
            owners.push(track.owner);
        }
    }
    owners
}
