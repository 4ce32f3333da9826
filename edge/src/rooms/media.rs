//! What the media threads tell: descriptions for clients, who speaks, who is lost.

use sfu::{Event, SignalError};
use shared::id::{CallId, UserId};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::resources::Link;
use super::{Denied, Room, Rooms, State};
use crate::error::Code;
use crate::signal::frame::{BadFrame, LeaveReason, Outgoing};

/// Passes on what happens until the media threads end.
pub(super) async fn listen(rooms: Rooms, mut happened: mpsc::Receiver<Event>) {
    while let Some(event) = happened.recv().await {
        rooms.on(event);
    }
}

impl Rooms {
    pub(super) fn on(&self, event: Event) {
        match event {
            Event::Answer { peer, sdp } => {
                if let Some(Ok(sdp)) = self.answered(peer, Ok(sdp)) {
                    self.tell_peer(peer, &Outgoing::Answer(sdp));
                }
            }
            Event::Offer { peer, sdp } => self.tell_peer(peer, &Outgoing::Offer(sdp)),
            Event::Refused { peer, error: error @ SignalError::BadCandidate(_) } => {
                self.refused(peer, denied(&error));
            }
            Event::Refused { peer, error } => {
                if let Some(Err(denied)) = self.answered(peer, Err(denied(&error))) {
                    self.refused(peer, denied);
                }
                if !has_session(&error) {
                    self.turned_away(peer);
                }
            }
            Event::ActiveSpeaker { room, user } => {
                let user = user.and_then(|user| UserId::parse(user.as_str()).ok());
                if let Ok(call) = CallId::parse(room.as_str()) {
                    self.tell(&call, &Outgoing::ActiveSpeaker(user));
                }
            }
            Event::Failed { peer } => self.failed(peer),
            Event::Report { token, peers } => {
                if let Some(waiting) = self.0.state().reports.remove(&token) {
                    // Whoever asked may be gone.
                    let _ = waiting.send(peers);
                }
            }
            Event::Connected { peer } => {
                info!("media of session {peer} are connected");
                self.linked(peer, Link::Up);
            }
            Event::Lost { peer } => {
                info!("media of session {peer} are silent");
                self.linked(peer, Link::down());
            }
            Event::Published { peer, track } => {
                self.in_room_of(peer, |room, user| room.published(user, peer, track.medium, &self.0.media));
            }
            Event::OverLimit { peer, medium } => self.over_limit(peer, medium),
            Event::Unpublished { peer, medium } => {
                self.in_room_of(peer, |room, user| room.unpublished(user, peer, medium));
            }
        }
    }

    fn refused(&self, peer: sfu::PeerId, (code, detail): Denied) {
        self.tell_peer(peer, &Outgoing::Error(BadFrame { code, detail, request: None }));
    }

    /// What is lost of somebody here is lost on purpose, and looks like a bad line to everybody else.
    fn over_limit(&self, peer: sfu::PeerId, medium: sfu::Medium) {
        let Some((call, user)) = self.0.state().peers.get(&peer).cloned() else { return };
        let (medium, variable) = (medium.as_str(), limit_of(medium));
        warn!(
            call.id = %call, user.id = %user,
            "{user} sends more {medium} in call {call} than {variable} lets pass: what is too much is thrown away, in the recording too"
        );
    }

    /// Somebody whom the media threads cannot take gets no place: media would never flow, however often they offer.
    fn turned_away(&self, peer: sfu::PeerId) {
        self.in_room_of(peer, |room, user| room.turn_away(user, peer, &self.0));
    }

    pub(super) fn in_room_of(&self, peer: sfu::PeerId, what: impl FnOnce(&mut Room, &UserId)) {
        let mut state = self.0.state();
        let State { rooms, peers, .. } = &mut *state;
        if let Some((call, user)) = peers.get(&peer)
            && let Some(room) = rooms.get_mut(call)
        {
            what(room, user);
        }
    }

    pub(super) fn tell_peer(&self, peer: sfu::PeerId, what: &Outgoing) {
        let state = self.0.state();
        if let Some((call, user)) = state.peers.get(&peer)
            && let Some(room) = state.rooms.get(call)
        {
            room.tell_peer(user, peer, what);
        }
    }

    /// A connection that is over takes its person along, when their socket is gone as well; a client that is there opens a new
    /// one with its next offer.
    fn failed(&self, peer: sfu::PeerId) {
        let inner = &*self.0;
        let mut state = inner.state();
        let Some((call, user)) = state.peers.get(&peer).cloned() else { return };
        let fresh = state.next_peer();
        let Some(room) = state.rooms.get_mut(&call) else { return };
        if room.remove_player(peer, inner) || !room.has_peer(&user, peer) {
            return;
        }
        if room.is_away(&user) {
            return room.remove(&user, LeaveReason::Disconnected, inner);
        }
        if room.renew(&user, fresh, &inner.media).is_ok() {
            state.peers.remove(&peer);
            state.peers.insert(fresh, (call, user));
        }
    }
}

/// The variable that says how much of a medium one person may send.
fn limit_of(medium: sfu::Medium) -> &'static str {
    if medium.is_picture() { "WEBRTC_MAX_VIDEO_BITRATE" } else { "WEBRTC_MAX_AUDIO_BITRATE" }
}

fn denied(error: &SignalError) -> Denied {
    let code = match error {
        SignalError::BadDescription(_) | SignalError::UnexpectedAnswer | SignalError::BadCandidate(_) => {
            Code::InvalidDescription
        }
        SignalError::MayNotPublish => Code::NotGranted,
        SignalError::Full => Code::Overloaded,
        SignalError::AlreadyJoined | SignalError::NotMade(_) | SignalError::Internal(_) => Code::Internal,
    };
    (code, error.to_string())
}

/// Whether whoever was refused something still has a session on the media threads. A seat without one would be silent for good.
fn has_session(error: &SignalError) -> bool {
    !matches!(error, SignalError::Full | SignalError::NotMade(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_ends_when_no_session_was_made_and_stays_otherwise() {
        let why = String::new;
        assert!(!has_session(&SignalError::Full) && !has_session(&SignalError::NotMade(why())));
        for error in [
            SignalError::BadDescription(why()),
            SignalError::UnexpectedAnswer,
            SignalError::BadCandidate(why()),
            SignalError::AlreadyJoined,
            SignalError::Internal(why()),
        ] {
            assert!(has_session(&error), "{error}");
        }
    }
}
