//! Which stream a received packet belongs to: by its SSRC, by what the description says about the SSRC, by the mid and rid that it
//! carries (RFC 8852). Found once, it stays found.
//!
//! The library does the same and forgets it at every renegotiation, after which a browser no longer sends mid and rid: a
//! simulcast publisher would fall silent when a third person joins. It also drops the retransmissions of simulcast layers.
//! It must not know connections: it maps numbers.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::format::{Codec, Extensions, MID, REPAIRED_RID, RID};
use crate::ids::Mid;
use crate::packet::Packet;

use super::sdp::{Kind, Section};
use super::window::{Came, Window};

/// SSRCs known of one peer. Three tracks of three layers with their retransmissions are 18. Of more, the one that has been silent
/// for longest makes room.
const MAX_STREAMS: usize = 128;
/// Packets of the peer's others after which an SSRC counts as silent: ten seconds of a large screen. Each new one costs everybody in
/// the room a look, and a peer that makes them up is listened to no more often than this lets it.
const SILENT_AFTER: u64 = 8_192;

/// A stream, as everybody above needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) ssrc: u32,
    pub(crate) mid: Mid,
    /// The simulcast layer; empty without.
    pub(crate) rid: Arc<str>,
    pub(crate) codec: Codec,
    pub(crate) extensions: Extensions,
    /// Whether its lost packets may be asked for again.
    pub(crate) nack: bool,
}

/// What a packet is.
#[derive(Debug)]
pub(super) enum Found {
    /// Of this stream; retransmissions are unwrapped.
    Media(Arc<Stream>, Packet, Came),
    /// Padding that fills the path of this stream: a retransmission of nothing.
    Padding(Arc<Stream>, Packet),
    /// Of nobody.
    Nothing,
}

/// What one SSRC is for.
#[derive(Debug)]
enum Use {
    Media(Arc<Stream>, Window),
    /// Repairs another.
    Repair(u32),
}

/// The SSRCs of one peer.
#[derive(Debug, Default)]
pub(super) struct Streams {
    sections: Vec<Section>,
    uses: HashMap<u32, Known>,
    /// Packets so far.
    packets: u64,
    /// Streams that are no more, for whoever keeps something of them.
    pub(super) gone: Vec<u32>,
}

/// An SSRC, and which packet was its last.
#[derive(Debug)]
struct Known {
    used: Use,
    heard: u64,
}

impl Streams {
    /// Both sides have agreed. `sections` are the client's, with the codecs and extensions of ours: packets to us are numbered as
    /// our description says. Streams that are no more are [`Self::gone`].
    pub(super) fn agree(&mut self, sections: Vec<Section>) {
        self.sections = sections;
        let stays = |ssrc: u32, stream: &Stream| {
            let named = self.sections.iter().find(|section| section.sends && section.ssrcs.contains(&ssrc));
            let same = |section: &&Section| section.sends && section.mid == stream.mid;
            named.or_else(|| self.sections.iter().find(same)).is_some_and(|section| same(&section))
        };
        let gone = |ssrc: u32, used: &Use| matches!(used, Use::Media(stream, _) if !stays(ssrc, stream));
        let all = self.uses.iter();
        let lost: Vec<u32> =
            all.filter(|(ssrc, known)| gone(**ssrc, &known.used)).map(|(ssrc, _)| *ssrc).collect();
        self.uses.retain(|ssrc, known| match known.used {
            Use::Media(..) => !lost.contains(ssrc),
            Use::Repair(of) => !lost.contains(&of),
        });
        self.gone.extend(lost);
    }

    /// What a packet is.
    pub(super) fn find(&mut self, packet: Packet) -> Found {
        self.packets += 1;
        let heard = self.packets;
        let known = self.uses.get_mut(&packet.ssrc).map(|known| {
            known.heard = heard;
            &mut known.used
        });
        match known {
            Some(Use::Media(stream, window)) if stream.codec.payload_type == packet.payload_type => {
                let came = window.take(packet.sequence);
                Found::Media(Arc::clone(stream), packet, came)
            }
            Some(Use::Repair(of)) => {
                let of = *of;
                self.unwrap(of, packet)
            }
            _ => self.learn(packet),
        }
    }

    /// A new SSRC, or a known one that has changed its codec.
    fn learn(&mut self, packet: Packet) -> Found {
        if !self.has_place_for(packet.ssrc) {
            return Found::Nothing;
        }
        let Some((section, rid, repairs)) = self.place(&packet) else { return Found::Nothing };
        if let Some(of) = repairs {
            self.note(packet.ssrc, Use::Repair(of));
            return self.unwrap(of, packet);
        }
        let section = &self.sections[section];
        let is_repair = section.repairs.iter().any(|(payload_type, _)| *payload_type == packet.payload_type);
        let Some(codec) =
            section.codecs.iter().find(|codec| codec.payload_type == packet.payload_type && !is_repair)
        else {
            return Found::Nothing;
        };
        let (mid, codec, extensions) = (section.mid.clone(), codec.clone(), section.extensions.clone());
        let nack = section.nacks.contains(&packet.payload_type);
        let stream = Arc::new(Stream { ssrc: packet.ssrc, mid, rid, codec, extensions, nack });
        let mut window = Window::new();
        let came = window.take(packet.sequence);
        self.note(packet.ssrc, Use::Media(Arc::clone(&stream), window));
        Found::Media(stream, packet, came)
    }

    /// Whether an SSRC can be noted, in place of one that is silent if need be.
    fn has_place_for(&mut self, ssrc: u32) -> bool {
        if self.uses.len() < MAX_STREAMS || self.uses.contains_key(&ssrc) {
            return true;
        }
        let Some((oldest, heard)) =
            self.uses.iter().map(|(ssrc, known)| (*ssrc, known.heard)).min_by_key(|(_, heard)| *heard)
        else {
            return true;
        };
        let silent = self.packets - heard >= SILENT_AFTER;
        if silent {
            self.uses.remove(&oldest);
            self.gone.push(oldest);
        }
        silent
    }

    fn note(&mut self, ssrc: u32, used: Use) {
        self.uses.insert(ssrc, Known { used, heard: self.packets });
    }

    /// The section of an unknown SSRC, its layer, and the SSRC that it repairs.
    fn place(&self, packet: &Packet) -> Option<(usize, Arc<str>, Option<u32>)> {
        let sending = || {
            self.sections
                .iter()
                .enumerate()
                .filter(|(_, section)| section.sends && section.kind != Kind::Other)
        };
        for (at, section) in sending() {
            if let Some((of, _)) = section.groups.iter().find(|(_, repair)| *repair == packet.ssrc) {
                return Some((at, "".into(), Some(*of)));
            }
            if section.ssrcs.contains(&packet.ssrc) && section.rids.is_empty() {
                return Some((at, "".into(), None));
            }
        }
        if let Some(Known { used: Use::Media(stream, _), .. }) = self.uses.get(&packet.ssrc) {
            let at = self.sections.iter().position(|section| section.mid == stream.mid)?;
            return Some((at, Arc::clone(&stream.rid), None));
        }
        let text = |section: &Section, uri| text(packet, &section.extensions, uri);
        let (at, section) = sending()
            .find(|(_, section)| text(section, MID) == Some(section.mid.as_str()))
            .or_else(|| self.only(packet))?;
        if let Some(repaired) = text(section, REPAIRED_RID) {
            return Some((at, "".into(), Some(self.layer(&section.mid, repaired)?)));
        }
        match text(section, RID) {
            Some(rid) => {
                section.rids.iter().find(|known| &***known == rid).map(|rid| (at, Arc::clone(rid), None))
            }
            None if section.rids.is_empty() => Some((at, "".into(), None)),
            None => None,
        }
    }

    /// The one section on which this payload type is sent, for clients that name no SSRC. Not for a packet that names another
    /// section, of which nothing is known yet.
    fn only(&self, packet: &Packet) -> Option<(usize, &Section)> {
        let takes = |section: &Section| {
            section.sends
                && section.codecs.iter().any(|codec| codec.payload_type == packet.payload_type)
                && text(packet, &section.extensions, MID).is_none_or(|mid| mid == section.mid.as_str())
        };
        let mut fitting = self.sections.iter().enumerate().filter(|(_, section)| takes(section));
        fitting.next().filter(|_| fitting.next().is_none())
    }

    fn layer(&self, mid: &Mid, rid: &str) -> Option<u32> {
        self.uses.values().find_map(|known| match &known.used {
            Use::Media(stream, _) if stream.mid == *mid && &*stream.rid == rid => Some(stream.ssrc),
            _ => None,
        })
    }

    /// The packet that a retransmission holds (RFC 4588, section 4): its number comes first in the payload.
    fn unwrap(&mut self, of: u32, mut packet: Packet) -> Found {
        let apt = |section: &Section| {
            section
                .repairs
                .iter()
                .find(|(payload_type, _)| *payload_type == packet.payload_type)
                .map(|(_, apt)| *apt)
        };
        let Some(payload_type) = self.sections.iter().filter(|section| section.sends).find_map(apt) else {
            return Found::Nothing;
        };
        packet.ssrc = of;
        packet.payload_type = payload_type;
        let &[high, low, _, ..] = &packet.payload[..] else {
            let Some(Known { used: Use::Media(stream, _), .. }) = self.uses.get(&of) else {
                return Found::Nothing;
            };
            return Found::Padding(Arc::clone(stream), packet);
        };
        packet.sequence = u16::from_be_bytes([high, low]);
        packet.payload = packet.payload.slice(2..);
        match self.uses.get(&of) {
            Some(Known { used: Use::Repair(_), .. }) => Found::Nothing,
            _ => self.find(packet),
        }
    }
}

fn text<'a>(packet: &'a Packet, extensions: &Extensions, uri: &str) -> Option<&'a str> {
    let id = extensions.id(uri)?;
    let value: &Bytes = &packet.extensions.iter().find(|(known, _)| *known == id)?.1;
    std::str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::sdp::sections;

    const SIMULCAST: &str = "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:1\r\na=sendonly\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\n\
        a=fmtp:97 apt=96\r\na=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
        a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\na=rid:q send\r\na=rid:f send\r\n";

    fn packet(
        ssrc: u32,
        payload_type: u8,
        extensions: &[(u8, &'static str)],
        payload: &'static [u8],
    ) -> Packet {
        let extensions =
            extensions.iter().map(|(id, value)| (*id, Bytes::from_static(value.as_bytes()))).collect();
        Packet {
            marker: false,
            payload_type,
            sequence: 9,
            timestamp: 0,
            ssrc,
            extensions,
            payload: Bytes::from_static(payload),
        }
    }

    fn media(found: Found) -> Option<(String, u16, Bytes)> {
        match found {
            Found::Media(stream, packet, _) => {
                Some((stream.rid.to_string(), packet.sequence, packet.payload))
            }
            Found::Padding(..) | Found::Nothing => None,
        }
    }

    #[test]
    fn a_layer_stays_known_without_its_names_and_through_renegotiation() {
        let mut streams = Streams::default();
        streams.agree(sections(SIMULCAST));
        assert!(media(streams.find(packet(5, 96, &[], b"x"))).is_none());
        assert_eq!(media(streams.find(packet(5, 96, &[(1, "1"), (2, "f")], b"x"))).unwrap().0, "f");
        streams.agree(sections(SIMULCAST));
        assert_eq!(streams.gone, [0; 0]);
        assert_eq!(media(streams.find(packet(5, 96, &[], b"x"))).unwrap().0, "f");
        streams.agree(sections(&SIMULCAST.replace("sendonly", "inactive")));
        assert_eq!(streams.gone, [5]);
        assert!(media(streams.find(packet(5, 96, &[], b"x"))).is_none());
    }

    #[test]
    fn a_retransmission_of_a_layer_becomes_what_it_repairs() {
        let mut streams = Streams::default();
        streams.agree(sections(SIMULCAST));
        assert!(media(streams.find(packet(6, 97, &[(1, "1"), (3, "f")], &[0, 7, 1]))).is_none());
        streams.find(packet(5, 96, &[(1, "1"), (2, "f")], b"x"));
        assert_eq!(
            media(streams.find(packet(6, 97, &[(1, "1"), (3, "f")], &[0, 7, 1]))),
            Some(("f".into(), 7, Bytes::from_static(&[1])))
        );
        assert_eq!(
            media(streams.find(packet(6, 97, &[], &[0, 8, 2]))),
            Some(("f".into(), 8, Bytes::from_static(&[2])))
        );
        let probe = streams.find(packet(6, 97, &[], &[0, 8]));
        assert!(matches!(probe, Found::Padding(_, Packet { ssrc: 5, .. })), "{probe:?}");
    }

    #[test]
    fn what_came_already_is_told_apart_however_it_comes_again() {
        let mut streams = Streams::default();
        streams.agree(sections(SIMULCAST));
        let mut came = |packet| match streams.find(packet) {
            Found::Media(_, _, came) => came,
            other => panic!("{other:?}"),
        };
        assert_eq!(came(packet(5, 96, &[(1, "1"), (2, "f")], b"x")), Came::First);
        assert_eq!(came(packet(6, 97, &[(1, "1"), (3, "f")], &[0, 9, 1])), Came::Again);
        assert_eq!(came(packet(6, 97, &[], &[0, 8, 1])), Came::Late);
        assert_eq!(came(packet(6, 97, &[], &[0, 8, 1])), Came::Again);
    }

    const TWO: &str = "m=video 9 UDP/TLS/RTP/SAVPF 120\r\na=mid:1\r\na=sendonly\r\na=rtpmap:120 VP8/90000\r\n\
        a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=ssrc:5 cname:x\r\n\
        m=video 0 UDP/TLS/RTP/SAVPF 120\r\na=bundle-only\r\na=mid:6\r\na=sendonly\r\na=rtpmap:120 VP8/90000\r\n\
        a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=ssrc:7 cname:x\r\n";

    fn mid(found: Found) -> Option<String> {
        match found {
            Found::Media(stream, ..) => Some(stream.mid.as_str().to_owned()),
            Found::Padding(..) | Found::Nothing => None,
        }
    }

    #[test]
    fn a_section_that_was_added_to_the_bundle_has_its_own_stream() {
        let mut streams = Streams::default();
        streams.agree(sections(TWO));
        assert_eq!(mid(streams.find(packet(5, 120, &[(3, "1")], b"x"))).as_deref(), Some("1"));
        assert_eq!(mid(streams.find(packet(7, 120, &[(3, "6")], b"x"))).as_deref(), Some("6"));
    }

    #[test]
    fn a_stream_of_a_section_that_is_not_known_yet_is_not_taken_for_the_only_one() {
        let mut streams = Streams::default();
        streams.agree(sections(&TWO[..TWO.find("m=video 0").unwrap()]));
        assert_eq!(mid(streams.find(packet(7, 120, &[(3, "6")], b"x"))), None);
        assert_eq!(mid(streams.find(packet(7, 120, &[], b"x"))).as_deref(), Some("1"), "it names none");
        streams.agree(sections(TWO));
        assert_eq!(streams.gone, [7]);
        assert_eq!(mid(streams.find(packet(7, 120, &[], b"x"))).as_deref(), Some("6"));
    }

    #[test]
    fn made_up_ssrcs_are_bounded() {
        let mut streams = Streams::default();
        streams.agree(sections(SIMULCAST));
        for ssrc in 0..10_000 {
            streams.find(packet(ssrc, 96, &[(1, "1"), (2, "f")], b"x"));
        }
        assert_eq!(streams.uses.len(), MAX_STREAMS);
    }

    #[test]
    fn a_publisher_that_has_begun_anew_often_is_heard_again_and_the_silent_are_forgotten() {
        let mut streams = Streams::default();
        streams.agree(sections(SIMULCAST));
        let names: &[(u8, &str)] = &[(1, "1"), (2, "f")];
        for ssrc in 0..MAX_STREAMS as u32 {
            assert!(media(streams.find(packet(ssrc, 96, names, b"x"))).is_some());
        }
        assert!(media(streams.find(packet(1_000, 96, names, b"x"))).is_none(), "they have just been heard");
        for _ in 0..SILENT_AFTER {
            streams.find(packet(0, 96, &[], b"x"));
        }
        assert!(media(streams.find(packet(1_000, 96, names, b"x"))).is_some());
        assert!(media(streams.find(packet(0, 96, &[], b"x"))).is_some(), "it was heard all the time");
        assert_eq!((streams.gone, streams.uses.len()), (vec![1], MAX_STREAMS));
    }

    #[test]
    fn a_known_ssrc_may_change_its_codec_when_all_places_are_taken() {
        let both =
            SIMULCAST.replace("96 97", "96 97 98").replace("a=rid:q", "a=rtpmap:98 VP9/90000\r\na=rid:q");
        let mut streams = Streams::default();
        streams.agree(sections(&both));
        for ssrc in 0..MAX_STREAMS as u32 {
            streams.find(packet(ssrc, 96, &[(1, "1"), (2, "f")], b"x"));
        }
        let Found::Media(stream, ..) = streams.find(packet(7, 98, &[], b"x")) else { panic!("it is known") };
        assert_eq!(stream.codec.mime, "video/VP9");
    }
}
