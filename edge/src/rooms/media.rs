//! What the media threads tell: descriptions for clients, who speaks, who is lost.

use sfu::Event;
use shared::id::{CallId, UserId};
use tokio::sync::mpsc;
use tracing::info;

use super::Rooms;
use crate::error::Code;
use crate::signal::frame::{BadFrame, LeaveReason, Outgoing};

/// Passes on what happens until the media threads end.
pub(super) async fn listen(rooms: Rooms, mut happened: mpsc::Receiver<Event>) {
    while let Some(event) = happened.recv().await {
        rooms.on(event);
    }
}

impl Rooms {
    fn on(&self, event: Event) {
        match event {
            Event::Answer { peer, sdp } => self.tell_peer(peer, &Outgoing::Answer(sdp)),
            Event::Offer { peer, sdp } => self.tell_peer(peer, &Outgoing::Offer(sdp)),
            Event::Refused { peer, error } => {
                let bad =
                    BadFrame { code: Code::InvalidDescription, detail: error.to_string(), request: None };
                self.tell_peer(peer, &Outgoing::Error(bad));
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
            Event::Connected { peer } => info!("media of session {peer} are connected"),
            Event::Lost { peer } => info!("media of session {peer} are silent"),
            Event::Published { .. } | Event::Unpublished { .. } => {}
        }
    }

    fn tell_peer(&self, peer: sfu::PeerId, what: &Outgoing) {
        let state = self.0.state();
        if let Some((call, user)) = state.peers.get(&peer)
            && let Some(room) = state.rooms.get(call)
        {
            room.tell_peer(user, peer, what);
        }
    }

    /// A connection that is over takes its person along, when their socket is gone as well; a client that is there begins anew.
    fn failed(&self, peer: sfu::PeerId) {
        let inner = &*self.0;
        let mut state = inner.state();
        let Some((call, user)) = state.peers.get(&peer).cloned() else { return };
        let Some(room) = state.rooms.get_mut(&call) else { return };
        if room.is_away(&user) {
            room.remove(&user, LeaveReason::Disconnected, inner);
        }
    }
}
