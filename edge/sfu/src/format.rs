//! How media are described: codecs and header extensions. It must not know SDP beyond their names.

use std::sync::Arc;

/// A codec as one side of a connection names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Codec {
    pub(crate) payload_type: u8,
    /// `audio/opus`, `video/VP8`, … as spelled by the client.
    pub(crate) mime: String,
    pub(crate) clock_rate: u32,
    pub(crate) channels: u16,
    pub(crate) fmtp: String,
}

impl Codec {
    /// What its payloads can be asked; `None` for one that is only carried.
    pub(crate) fn known(&self) -> Option<crate::codec::Codec> {
        use crate::codec::Codec as Known;
        let name = self.mime.split_once('/').map_or("", |(_, name)| name);
        let known = [
            ("opus", Known::Opus),
            ("VP8", Known::Vp8),
            ("VP9", Known::Vp9),
            ("H264", Known::H264),
            ("AV1", Known::Av1),
        ];
        known.into_iter().find(|(other, _)| name.eq_ignore_ascii_case(other)).map(|(_, known)| known)
    }

    /// Whether a stream of `other` can be decoded by somebody who accepts this.
    pub(crate) fn accepts(&self, other: &Self) -> bool {
        self.mime.eq_ignore_ascii_case(&other.mime)
            && match self.mime.to_ascii_lowercase().as_str() {
                "video/h264" => {
                    h264_mode(&self.fmtp) == h264_mode(&other.fmtp)
                        && h264_profile(&self.fmtp) == h264_profile(&other.fmtp)
                }
                "video/vp9" => {
                    parameter(&self.fmtp, "profile-id").unwrap_or("0")
                        == parameter(&other.fmtp, "profile-id").unwrap_or("0")
                }
                _ => true,
            }
    }
}

impl Codec {
    /// Adds the parameter sets that a sender's description has for this payload type: they may be told nowhere else (RFC 6184,
    /// section 8.1). Those of more than [`MAX_SETS_BYTES`] are left out.
    pub(crate) fn with_sets_of(mut self, theirs: &[Self]) -> Self {
        let told = theirs.iter().find(|other| other.payload_type == self.payload_type && self.accepts(other));
        let sets = told.and_then(|told| parameter(&told.fmtp, PARAMETER_SETS));
        let sets = sets.filter(|sets| sets.len() <= MAX_SETS_BYTES);
        if let Some(sets) = sets.filter(|_| parameter(&self.fmtp, PARAMETER_SETS).is_none()) {
            let separator = if self.fmtp.is_empty() { "" } else { ";" };
            self.fmtp.push_str(&format!("{separator}{PARAMETER_SETS}={sets}"));
        }
        self
    }
}

/// Packetization mode, 0 by default (RFC 6184, section 8.1).
fn h264_mode(fmtp: &str) -> &str {
    parameter(fmtp, "packetization-mode").unwrap_or("0")
}

/// The profile without its level, which may differ: levels are asymmetric in practice. Plain and constrained baseline are one.
fn h264_profile(fmtp: &str) -> String {
    let id = parameter(fmtp, "profile-level-id").unwrap_or("42001f");
    id.get(..2).unwrap_or_default().to_ascii_lowercase()
}

/// SPS and PPS in base64, with commas between them.
const PARAMETER_SETS: &str = "sprop-parameter-sets";
/// The longest sets that are kept: a dozen times those of cameras, which take some 100 bytes. Every recording's descriptions hold them.
const MAX_SETS_BYTES: usize = 2_048;

/// The value of `name` in a format parameter line.
pub(crate) fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// Header extensions by the id that one side of a connection gave them (RFC 8285).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Extensions(pub(crate) Vec<(u8, Arc<str>)>);

impl Extensions {
    /// The id of an extension.
    pub(crate) fn id(&self, uri: &str) -> Option<u8> {
        self.0.iter().find(|(_, known)| &**known == uri).map(|(id, _)| *id)
    }
}

/// RFC 6464.
pub(crate) const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
/// 3GPP TS 26.114: how a picture must be turned.
pub(crate) const VIDEO_ORIENTATION: &str = "urn:3gpp:video-orientation";
pub(crate) const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
pub(crate) const ABS_CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
pub(crate) const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
pub(crate) const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// RFC 8843, section 15.
pub(crate) const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
/// RFC 8852.
pub(crate) const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
/// RFC 8852.
pub(crate) const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";

/// What a subscriber gets to see of the publisher's extensions. The others belong to one connection (sequence numbers, send
/// times) or to the way the stream was found there (mid, rid).
pub(crate) const FORWARDED: [&str; 4] = [AUDIO_LEVEL, VIDEO_ORIENTATION, ABS_CAPTURE_TIME, PLAYOUT_DELAY];

#[cfg(test)]
mod tests {
    use super::*;

    fn codec(mime: &str, fmtp: &str) -> Codec {
        Codec { payload_type: 96, mime: mime.into(), clock_rate: 90_000, channels: 0, fmtp: fmtp.into() }
    }

    #[test]
    fn h264_levels_may_differ_and_modes_may_not() {
        let ours = codec("video/H264", "packetization-mode=1;profile-level-id=42e01f");
        assert!(ours.accepts(&codec("video/h264", "profile-level-id=42e034;packetization-mode=1")));
        assert!(!ours.accepts(&codec("video/h264", "profile-level-id=42e01f;packetization-mode=0")));
        assert!(!ours.accepts(&codec("video/h264", "profile-level-id=640032;packetization-mode=1")));
    }

    #[test]
    fn a_senders_parameter_sets_are_kept_beside_what_was_agreed() {
        let ours = codec("video/H264", "packetization-mode=1;profile-level-id=42e01f");
        let theirs = "profile-level-id=42e034; packetization-mode=1; sprop-parameter-sets=Z0LA,aM4=";
        let kept = ours.clone().with_sets_of(&[codec("video/H264", theirs)]);
        assert_eq!(kept.fmtp, format!("{};sprop-parameter-sets=Z0LA,aM4=", ours.fmtp));
        assert_eq!(kept.clone().with_sets_of(&[codec("video/H264", theirs)]), kept);
        let long = format!("{theirs}{}", "A".repeat(MAX_SETS_BYTES));
        assert_eq!(
            ours.clone().with_sets_of(&[codec("video/H264", &long)]),
            ours,
            "no real sets are so long"
        );
        let other = Codec { payload_type: 97, ..codec("video/H264", theirs) };
        assert_eq!(ours.clone().with_sets_of(&[other]), ours);
    }

    #[test]
    fn vp9_profiles_differ() {
        assert!(codec("video/VP9", "").accepts(&codec("video/VP9", "profile-id=0")));
        assert!(!codec("video/VP9", "profile-id=2").accepts(&codec("video/VP9", "profile-id=0")));
    }
}
