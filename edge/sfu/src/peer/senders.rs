//! The streams that a connection sends. The library cannot remove a section of a description once it was offered: one whose track has
//! gone is kept idle, and the next track of the same kind and codec takes it over, so that a room where people come and go does not
//! grow its descriptions for ever.

use rtc::media_stream::MediaStreamTrack;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpRtxParameters, RtpCodecKind,
};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverId};

use crate::format::{Codec, Extensions};
use crate::ids::{Medium, User};

use super::script::Step;
use super::{Peer, Refusal};

/// One of the streams that we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct SenderId(usize);

#[derive(Debug)]
pub(super) struct Sender {
    pub(super) transceiver: RTCRtpTransceiverId,
    medium: Medium,
    codec: Codec,
    ssrc: u32,
    repair: u32,
    state: SenderState,
    pub(super) agreed: Option<(Vec<Codec>, Extensions)>,
}

/// Whether a track flows.
#[derive(Debug, PartialEq, Eq)]
enum SenderState {
    InUse,
    Idle,
}

impl Peer {
    /// Codecs and extension ids that the client has agreed to for a stream of ours.
    pub(crate) fn agreed(&self, id: SenderId) -> Option<(&[Codec], &Extensions)> {
        self.senders.get(id.0)?.agreed.as_ref().map(|(codecs, extensions)| (&codecs[..], extensions))
    }

    /// A stream to send; flows once both sides have agreed. `number` keeps its track id unique. Returns its SSRC too.
    pub(crate) fn add_sender(
        &mut self,
        user: &User,
        medium: Medium,
        codec: &Codec,
        number: u64,
    ) -> Result<(SenderId, u32), Refusal> {
        if let Some(idle) = self.reuse(user, medium, codec, number)? {
            return Ok(idle);
        }
        let (ssrc, repair) = (rand::random(), rand::random());
        let track = track(user, medium, codec, number, (ssrc, repair));
        self.apply(self.clock, Step::AddSender(track))?;
        let transceiver = self.added;
        self.offer_all(transceiver, codec)?;
        let (codec, state) = (codec.clone(), SenderState::InUse);
        self.senders.push(Sender { transceiver, medium, codec, ssrc, repair, state, agreed: None });
        Ok((SenderId(self.senders.len() - 1), ssrc))
    }

    fn reuse(
        &mut self,
        user: &User,
        medium: Medium,
        codec: &Codec,
        number: u64,
    ) -> Result<Option<(SenderId, u32)>, Refusal> {
        let fits = |sender: &Sender| {
            sender.state == SenderState::Idle && sender.medium == medium && sender.codec.accepts(codec)
        };
        let Some(at) = self.senders.iter().position(fits) else { return Ok(None) };
        let sender = &self.senders[at];
        let transceiver = sender.transceiver;
        let track = track(user, medium, &sender.codec, number, (sender.ssrc, sender.repair));
        self.apply(self.clock, Step::Direct(transceiver, RTCRtpTransceiverDirection::Sendonly))?;
        self.apply(self.clock, Step::Replace(transceiver, track))?;
        let sender = &mut self.senders[at];
        sender.state = SenderState::InUse;
        sender.agreed = None;
        Ok(Some((SenderId(at), sender.ssrc)))
    }

    /// The stream ends; the client learns of it by the next offer.
    pub(crate) fn remove_sender(&mut self, id: SenderId) {
        let Some(sender) = self.senders.get_mut(id.0) else { return };
        sender.state = SenderState::Idle;
        sender.agreed = None;
        let step = Step::Direct(sender.transceiver, RTCRtpTransceiverDirection::Inactive);
        if let Err(error) = self.apply(self.clock, step) {
            tracing::debug!("a sender stays: {error}");
        }
    }
}

fn track(
    user: &User,
    medium: Medium,
    codec: &Codec,
    number: u64,
    (ssrc, repair): (u32, u32),
) -> MediaStreamTrack {
    let picture = medium.is_picture();
    let kind = if picture { RtpCodecKind::Video } else { RtpCodecKind::Audio };
    let rtx = picture.then_some(RTCRtpRtxParameters { ssrc: repair });
    let coding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), rtx, ..Default::default() },
        codec: RTCRtpCodec {
            mime_type: codec.mime.clone(),
            clock_rate: codec.clock_rate,
            channels: codec.channels,
            sdp_fmtp_line: codec.fmtp.clone(),
            rtcp_feedback: Vec::new(),
        },
        ..Default::default()
    };
    let id = format!("{}-{number}", medium.as_str());
    MediaStreamTrack::new(user.to_string(), id.clone(), id, kind, vec![coding])
}
