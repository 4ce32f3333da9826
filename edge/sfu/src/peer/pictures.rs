//! Which pictures a client decodes.
//!
//! The library settles the codecs of a connection with the first section of pictures that the client describes. A sender of ours whose
//! codec is not among them makes every further offer fail, and a sender cannot be taken back. So:
//! - there are no senders before the client has described itself, or has had its time to;
//! - our first pictures to a client that has named no codecs are offered in every codec, so that its answer names what it has;
//! - a client gets no section for a track that it cannot decode;
//! - a section of pictures that a client rejects says nothing of codecs (RFC 3264, section 6), and the library is told ours.

use rtc::rtp_transceiver::RTCRtpTransceiverId;

use crate::format::Codec;

use super::script::Step;
use super::sdp::Kind;
use super::sdp::theirs::name_rejected;
use super::{Peer, Refusal, sdp};

/// What is known of a client's decoders.
#[derive(Debug, Default)]
pub(super) enum Pictures {
    /// It has described nothing yet.
    #[default]
    Unheard,
    /// It has described itself without pictures.
    Unnamed,
    /// The codecs of its first section of pictures.
    Named(Vec<Codec>),
}

impl Pictures {
    fn read(&mut self, description: &str) {
        if matches!(self, Self::Named(_)) {
            return;
        }
        let first = sdp::sections(description).into_iter().find(|section| section.kind == Kind::Video);
        *self = first.map_or(Self::Unnamed, |section| Self::Named(section.codecs));
    }
}

impl Peer {
    /// Whether nothing is known yet of what the client decodes, so that no sender can be added.
    pub(crate) fn is_unheard(&self) -> bool {
        matches!(self.pictures, Pictures::Unheard)
    }

    /// Reads what the client is about to offer, before that is answered.
    pub(crate) fn hear(&mut self, offer: &str) {
        self.pictures.read(offer);
    }

    /// The client leaves the first offer to us.
    pub(crate) fn hear_nothing(&mut self) {
        self.pictures.read("");
    }

    /// Whether a track of this codec can be sent. What the client has of it is agreed later: profiles may differ.
    pub(crate) fn takes(&self, codec: &Codec) -> bool {
        let same = |named: &Codec| named.mime.eq_ignore_ascii_case(&codec.mime);
        match &self.pictures {
            Pictures::Named(named) if codec.mime.starts_with("video/") => named.iter().any(same),
            _ => true,
        }
    }

    /// The client's answer to our offer as the library shall see it.
    pub(super) fn hear_answer(&mut self, answer: &str, offer: &str) -> String {
        let told = name_rejected(answer, offer);
        self.pictures.read(&told);
        told
    }

    /// Offers a new sender of pictures in every codec, its own first, if that is how the client's codecs are found out.
    pub(super) fn offer_all(
        &mut self,
        transceiver: RTCRtpTransceiverId,
        codec: &Codec,
    ) -> Result<(), Refusal> {
        if !codec.mime.starts_with("video/") || !matches!(self.pictures, Pictures::Unnamed) {
            return Ok(());
        }
        self.apply(self.clock, Step::OfferAll(transceiver, codec.clone()))
    }
}
