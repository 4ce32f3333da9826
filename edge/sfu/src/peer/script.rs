//! What was done to a connection before it stood, so that it can be done again: for a client that turns out to have only the slow
//! cipher, which the library must know when the connection is made.

use std::time::Instant;

use bytes::Bytes;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::rtp_transceiver::{
    RTCRtpSenderId, RTCRtpTransceiverDirection, RTCRtpTransceiverId, RTCRtpTransceiverInit,
};
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::Message;

use crate::format::Codec;
use crate::path::Path;

use super::cipher::Cipher;
use super::outlet::Role;
use super::sockets::gather;
use super::{Peer, PeerEvent, Refusal, Touched, candidates, cipher, engine, route, sdp};

/// Descriptions and what became of them that are kept of a connection that does not stand yet: a client exchanges a few, each of 256 KiB
/// at most. One with more has been told a lot and has never answered a handshake: it is not set up again.
const MAX_DESCRIPTIONS: usize = 16;

/// What was done to a connection.
#[derive(Clone)]
pub(super) enum Step {
    Offer,
    RollBack,
    Remote(RTCSessionDescription),
    Answer,
    Candidate(String),
    AddSender(MediaStreamTrack),
    OfferAll(RTCRtpTransceiverId, Codec),
    Direct(RTCRtpTransceiverId, RTCRtpTransceiverDirection),
    Replace(RTCRtpTransceiverId, MediaStreamTrack),
}

/// Everything that was done to a connection, as far as it counts. It is bounded by the descriptions and, between two of them, by what
/// there is: tracks to send and addresses of the client.
#[derive(Default)]
pub(super) struct Script {
    steps: Vec<Step>,
    descriptions: usize,
}

impl Step {
    fn describes(&self) -> bool {
        matches!(self, Self::Offer | Self::RollBack | Self::Remote(_) | Self::Answer)
    }

    /// Whether nothing is left of an earlier step after this one.
    fn undoes(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Direct(one, _), Self::Direct(other, _))
            | (Self::Replace(one, _), Self::Replace(other, _)) => one == other,
            (Self::Candidate(one), Self::Candidate(other)) => {
                candidates::address(one) == candidates::address(other)
            }
            _ => false,
        }
    }
}

impl Script {
    fn note(&mut self, step: Step) {
        self.descriptions += usize::from(step.describes());
        if !self.is_whole() {
            self.steps = Vec::new();
            return;
        }
        let since = self.steps.iter().rposition(Step::describes).map_or(0, |at| at + 1);
        if let Some(at) = self.steps[since..].iter().position(|earlier| step.undoes(earlier)) {
            self.steps.remove(since + at);
        }
        self.steps.push(step);
    }

    /// Whether the connection can be set up again by it.
    fn is_whole(&self) -> bool {
        self.descriptions <= MAX_DESCRIPTIONS
    }
}

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Read,
    Drop,
}

impl Peer {
    /// Does something to the connection, and remembers it while the connection does not stand.
    pub(super) fn apply(&mut self, now: Instant, step: Step) -> Result<(), Refusal> {
        self.clock = now;
        self.touched = Touched::Yes;
        self.perform(now, step.clone())?;
        if !self.stands {
            self.script.note(step);
        }
        Ok(())
    }

    fn perform(&mut self, now: Instant, step: Step) -> Result<(), Refusal> {
        let connection = &mut self.connection;
        match step {
            Step::Offer => {
                let offer = connection.create_offer(None)?;
                connection.set_local_description(now, offer)?;
            }
            Step::RollBack => {
                connection.set_local_description(now, RTCSessionDescription::rollback(None)?)?;
            }
            Step::Remote(description) => connection.set_remote_description(now, description)?,
            Step::Answer => {
                let answer = connection.create_answer(None)?;
                connection.set_local_description(now, answer)?;
            }
            Step::Candidate(candidate) => {
                connection.add_remote_candidate(RTCIceCandidateInit { candidate, ..Default::default() })?;
            }
            Step::AddSender(track) => {
                let direction = RTCRtpTransceiverDirection::Sendonly;
                let init =
                    RTCRtpTransceiverInit { direction, streams: Vec::new(), send_encodings: Vec::new() };
                let transceiver = connection.add_transceiver_from_track(track, Some(init))?;
                self.added = transceiver;
            }
            Step::OfferAll(transceiver, first) => {
                if let Some(mut transceiver) = connection.rtp_transceiver(transceiver) {
                    transceiver.set_codec_preferences(engine::pictures(&first))?;
                }
            }
            Step::Direct(transceiver, direction) => {
                if let Some(mut transceiver) = connection.rtp_transceiver(transceiver) {
                    transceiver.set_direction(direction);
                }
            }
            Step::Replace(transceiver, track) => {
                if let Some(mut sender) = connection.rtp_sender(RTCRtpSenderId::from(transceiver)) {
                    sender.replace_track(track)?;
                }
            }
        }
        Ok(())
    }

    /// Sets the connection up again for a client that has only the other cipher. Descriptions, credentials and numbers stay.
    fn fall_back(&mut self, now: Instant) -> Result<(), Refusal> {
        if !self.script.is_whole() {
            return Err(Refusal("too many descriptions before the first handshake".to_owned()));
        }
        let local =
            self.connection.local_description().map(|description| description.sdp).unwrap_or_default();
        let credentials = sdp::ufrag(&local).zip(sdp::password(&local));
        let credentials = credentials.map(|(ufrag, password)| (ufrag.to_owned(), password.to_owned()));
        self.cipher = Cipher::CounterMode;
        let wanted = engine::Wanted { cipher: self.cipher, credentials, keys: self.keys.clone() };
        self.connection = engine::build(&self.factory, self.exchange.clone(), wanted, now)?;
        gather(&mut self.connection, &self.sockets)?;
        self.route.forget();
        self.way = None;
        for step in std::mem::take(&mut self.script).steps {
            self.perform(now, step)?;
        }
        Ok(())
    }

    /// Whether a check bears our password (RFC 8489, section 14.5).
    fn is_genuine(&self, datagram: &[u8]) -> bool {
        let mut message = Message { raw: datagram.to_vec(), ..Message::default() };
        let crypto = self.factory.provider.crypto();
        message
            .decode()
            .and_then(|()| MessageIntegrity::check(&mut message, self.password.as_bytes(), crypto))
            .is_ok()
    }

    /// Sees to the cipher while it can still be chosen.
    pub(super) fn before_standing(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Next {
        if cipher::is_hello(datagram) {
            self.role = Role::Server;
        }
        // Anybody may write a check; only the client knows the password.
        if route::nominates(datagram) && self.is_genuine(datagram) {
            self.nomination = Some((path, Bytes::copy_from_slice(datagram)));
        }
        if self.cipher == Cipher::CounterMode {
            // A client nominates once. What it told the former connection is told to this one as soon as the path is proven.
            if route::is_answer(datagram)
                && let Some((nominated, request)) = self.nomination.clone()
            {
                self.read(now, path, datagram);
                self.read(now, nominated, &request);
                self.pump();
                return Next::Drop;
            }
        } else if cipher::asked(datagram) == Some(Cipher::CounterMode) {
            if let Err(error) = self.fall_back(now) {
                tracing::warn!("could not fall back to the other cipher: {error}");
                self.events.push_back(PeerEvent::Failed);
            }
            if let Some((nominated, request)) = self.nomination.clone() {
                self.read(now, nominated, &request);
            }
            return Next::Drop;
        }
        Next::Read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(transceiver: RTCRtpTransceiverId) -> Step {
        Step::Direct(transceiver, RTCRtpTransceiverDirection::Sendonly)
    }

    #[test]
    fn what_comes_and_goes_before_a_description_is_kept_once() {
        let mut script = Script::default();
        (0..1_000).for_each(|at| script.note(direct(at % 2)));
        script.note(Step::Offer);
        (0..1_000).for_each(|at| script.note(direct(at % 3)));
        assert_eq!(script.steps.len(), 2 + 1 + 3);
        let candidate =
            |at: usize| Step::Candidate(format!("candidate:{at} 1 udp 1 192.0.2.1 {} typ host", at % 4));
        (0..1_000).for_each(|at| script.note(candidate(at)));
        assert_eq!(script.steps.len(), 2 + 1 + 3 + 4);
        (0..MAX_DESCRIPTIONS).for_each(|_| script.note(Step::RollBack));
        assert!(!script.is_whole() && script.steps.is_empty());
    }
}
