//! Offers, answers and candidates: carries out what `negotiation` says, and brings tracks and legs into line with what was agreed.

use std::time::Instant;

use crate::event::{Event, SignalError};
use crate::ids::{Mid, PeerId};
use crate::negotiation::{Due, OnOffer};
use crate::session::Session;
use crate::sfu::Sfu;

impl Sfu {
    pub(super) fn on_offer(&mut self, now: Instant, id: PeerId, sdp: String, screens: Vec<Mid>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.is_of_former(&sdp) {
            let why = "this connection has failed: offer from a new one, or join again";
            return self.refuse(id, SignalError::BadDescription(why.to_owned()));
        }
        session.screens = screens;
        match session.negotiation.on_offer(now, sdp) {
            OnOffer::Answer(sdp) => self.answer(now, id, &sdp),
            OnOffer::RollBackAndAnswer(sdp) => self.roll_back_and_answer(now, id, &sdp),
            OnOffer::PutAside => {}
        }
        self.mark(id);
    }

    fn answer(&mut self, now: Instant, id: PeerId, sdp: &str) {
        self.hear(now, id, |session| session.peer.hear(sdp));
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match session.peer.answer_to(now, sdp) {
            Ok(answer) => {
                session.negotiation.completed();
                self.demux.add_ufrag(id, session.peer.ufrag());
                let refused = session.peer.refuses_media_of(sdp) && session.role.is_told();
                self.events.push_back(Event::Answer { peer: id, sdp: answer });
                if refused {
                    self.refuse(id, SignalError::MayNotPublish);
                }
                self.agreed(now, id);
            }
            Err(error) => self.refuse(id, SignalError::BadDescription(error.to_string())),
        }
    }

    /// Learns of the client what it decodes; as soon as anything is known, it is sent what it wants.
    fn hear(&mut self, now: Instant, id: PeerId, learn: impl FnOnce(&mut Session)) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let unheard = session.peer.is_unheard();
        learn(session);
        if unheard {
            self.subscribe_all(now, id);
        }
    }

    fn roll_back_and_answer(&mut self, now: Instant, id: PeerId, sdp: &str) {
        if self.roll_back(now, id) {
            self.answer(now, id, sdp);
        }
    }

    fn roll_back(&mut self, now: Instant, id: PeerId) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        match session.peer.roll_back(now) {
            Ok(()) => true,
            Err(error) => {
                self.refuse(id, SignalError::Internal(error.to_string()));
                false
            }
        }
    }

    pub(super) fn on_answer(&mut self, now: Instant, id: PeerId, sdp: &str) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if !session.negotiation.awaits_answer() {
            return self.refuse(id, SignalError::UnexpectedAnswer);
        }
        match session.peer.accept(now, sdp) {
            Ok(()) => {
                session.negotiation.completed();
                self.agreed(now, id);
            }
            Err(error) => self.refuse(id, SignalError::BadDescription(error.to_string())),
        }
        self.mark(id);
    }

    pub(super) fn on_candidate(&mut self, id: PeerId, candidate: Option<&str>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(candidate) = candidate.filter(|candidate| !candidate.is_empty()) else { return };
        if let Err(error) = session.peer.candidate(candidate) {
            self.refuse(id, SignalError::BadCandidate(error.to_string()));
        }
        self.mark(id);
    }

    /// Does what is due between the two sides.
    pub(super) fn negotiate(&mut self, now: Instant, id: PeerId) {
        while let Some(session) = self.sessions.get_mut(&id)
            && let Some(due) = session.negotiation.due(now, session.standing)
        {
            match due {
                Due::Offer => return self.offer(now, id),
                Due::RollBackAndAnswer(sdp) => self.roll_back_and_answer(now, id, &sdp),
                Due::RollBack => drop(self.roll_back(now, id)),
            }
        }
    }

    fn offer(&mut self, now: Instant, id: PeerId) {
        self.hear(now, id, |session| session.peer.hear_nothing());
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.negotiation.offered(now);
        match session.peer.offer(now) {
            Ok(sdp) => {
                self.demux.add_ufrag(id, session.peer.ufrag());
                self.events.push_back(Event::Offer { peer: id, sdp });
            }
            Err(error) => {
                session.negotiation.completed();
                self.refuse(id, SignalError::Internal(error.to_string()));
            }
        }
    }

    /// Brings tracks and legs into line with what both sides have agreed.
    fn agreed(&mut self, now: Instant, id: PeerId) {
        self.unpublish_silent(now, id);
        self.agree_legs(id);
        self.share(now, id);
        // The library forgets its streams at every renegotiation, and so may a decoder that was set up anew.
        self.want_keyframes_for(now, id);
    }
}
