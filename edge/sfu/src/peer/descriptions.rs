//! What both sides tell each other of a connection: offers, answers and addresses; and what of them is agreed.
//!
//! It must not know whose turn it is, nor how a description is written (`sdp`).

use std::time::Instant;

use rtc::peer_connection::sdp::{RTCSdpType, RTCSessionDescription};

use super::candidates::{self, Verdict};
use super::script::Step;
use super::sdp::ours::{self, Words};
use super::sdp::theirs::{self, Families};
use super::sdp::{self, Kind, Section};
use super::{Peer, Publishing, Refusal};

impl Peer {
    /// Makes an offer of ours.
    pub(crate) fn offer(&mut self, now: Instant) -> Result<String, Refusal> {
        self.apply(now, Step::Offer)?;
        self.local()
    }

    /// Takes the client's offer and makes our answer.
    pub(crate) fn answer_to(&mut self, now: Instant, offer: &str) -> Result<String, Refusal> {
        let offer = &theirs::open_bundled(offer);
        let clean = self.clean(offer)?;
        self.apply(now, Step::Remote(RTCSessionDescription::offer(clean)?))?;
        match self.apply(now, Step::Answer).and_then(|()| self.local()) {
            Ok(answer) => {
                self.agree(offer, &answer);
                Ok(answer)
            }
            Err(error) => {
                self.apply(now, Step::Remote(RTCSessionDescription::rollback(None)?))?;
                Err(error)
            }
        }
    }

    /// Takes the client's answer to our offer.
    pub(crate) fn accept(&mut self, now: Instant, answer: &str) -> Result<(), Refusal> {
        let offer = self.local()?;
        let clean = self.clean(answer)?;
        let clean = self.hear_answer(&clean, &offer);
        self.apply(now, Step::Remote(RTCSessionDescription::answer(clean)?))?;
        self.agree(answer, &offer);
        Ok(())
    }

    /// Takes our offer back.
    pub(crate) fn roll_back(&mut self, now: Instant) -> Result<(), Refusal> {
        self.apply(now, Step::RollBack)
    }

    fn clean(&mut self, sdp: &str) -> Result<String, Refusal> {
        if sdp.len() > sdp::MAX_LENGTH {
            return Err(Refusal("description too long".to_owned()));
        }
        self.candidates.of_session(sdp::ufrag(sdp).unwrap_or_default());
        let (now, candidates) = (self.clock, &mut self.candidates);
        let mut checked = |candidate: &str| {
            candidates::address(candidate)
                .is_some_and(|address| candidates.named(now, address) == Verdict::Checked)
        };
        Ok(theirs::sanitize(sdp, Families::of(&self.factory.config.candidates), &mut checked))
    }

    fn local(&mut self) -> Result<String, Refusal> {
        let description =
            self.connection.local_description().ok_or_else(|| Refusal("no description".to_owned()))?;
        let ufrag = sdp::ufrag(&description.sdp).unwrap_or_default();
        if self.ufrag != ufrag {
            ufrag.clone_into(&mut self.ufrag);
            sdp::password(&description.sdp).unwrap_or_default().clone_into(&mut self.password);
            self.route.forget();
        }
        let words = match description.sdp_type {
            RTCSdpType::Offer => Words::Offer,
            _ => Words::Answer,
        };
        let config = &self.factory.config;
        let dressed = ours::dress(words, &description.sdp, &config.candidates, config.limits);
        Ok(match self.publishing {
            Publishing::Allowed => dressed,
            Publishing::Refused => ours::taking_nothing(&dressed),
        })
    }

    /// Whether a description of the client has media that it may not send.
    pub(crate) fn refuses_media_of(&self, sdp: &str) -> bool {
        let sends = |section: &Section| section.sends && section.kind != Kind::Other;
        self.publishing == Publishing::Refused && sdp::sections(sdp).iter().any(sends)
    }

    /// Both sides have agreed: what the client sends is numbered as our description says, what we send as the client's.
    fn agree(&mut self, theirs: &str, ours: &str) {
        self.agreed_with = sdp::identity(theirs);
        let (theirs, ours) = (sdp::sections(theirs), sdp::sections(ours));
        let inbound = theirs.iter().filter_map(|section| {
            let mine = ours.iter().find(|mine| mine.mid == section.mid)?;
            let codecs =
                mine.codecs.iter().map(|codec| codec.clone().with_sets_of(&section.codecs)).collect();
            let (repairs, extensions) = (mine.repairs.clone(), mine.extensions.clone());
            let nacks = mine.nacks.iter().copied().filter(|known| section.nacks.contains(known)).collect();
            Some(Section {
                codecs,
                nacks,
                repairs,
                extensions,
                sends: section.sends && mine.receives,
                ..section.clone()
            })
        });
        let inbound: Vec<Section> = inbound.filter(|section| section.kind != Kind::Other).collect();
        self.sending = inbound
            .iter()
            .filter(|section| section.sends)
            .map(|section| (section.mid.clone(), section.kind))
            .collect();
        self.layered = inbound
            .iter()
            .filter(|section| section.rids.len() > 1)
            .map(|section| section.mid.clone())
            .collect();
        self.exchange.agree(inbound);
        for at in 0..self.senders.len() {
            let mid = self
                .connection
                .rtp_transceiver(self.senders[at].transceiver)
                .and_then(|transceiver| transceiver.mid().clone());
            let section = theirs
                .iter()
                .find(|section| section.receives && Some(section.mid.as_str()) == mid.as_deref());
            self.senders[at].agreed =
                section.map(|section| (section.codecs.clone(), section.extensions.clone()));
        }
    }

    /// One of the client's addresses.
    pub(crate) fn candidate(&mut self, candidate: &str) -> Result<(), Refusal> {
        if candidate.len() > sdp::MAX_CANDIDATE_LENGTH {
            return Err(Refusal("address too long".to_owned()));
        }
        let candidate = candidate.strip_prefix("a=").unwrap_or(candidate);
        if !theirs::usable(candidate, Families::of(&self.factory.config.candidates)) {
            return Ok(());
        }
        let address = candidates::address(candidate);
        if address.is_some_and(|address| self.candidates.named(self.clock, address) == Verdict::Beyond) {
            return Err(Refusal("more addresses than are checked".to_owned()));
        }
        self.apply(self.clock, Step::Candidate(candidate.to_owned()))
    }
}
