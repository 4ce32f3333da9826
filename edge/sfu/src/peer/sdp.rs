//! What we read from session descriptions. The negotiation itself is the library's.
//!
//! | file | holds |
//! |---|---|
//! | `theirs` | the client's descriptions as the library shall see them |
//! | `ours` | ours as the client shall see them |
//!
//! Reading by ourselves is needed because the library tells neither which payload types one side accepts on one section, nor
//! which SSRC repairs which in simulcast. It must not judge: what cannot be read is left out.

pub(super) mod ours;
pub(super) mod theirs;

use std::sync::Arc;

use crate::format::{Codec, Extensions};
use crate::ids::Mid;

/// Sections read from one description; a client has a handful of its own and one per track of the others.
const MAX_SECTIONS: usize = 512;
/// Largest description taken: a frame of the signaling is not larger.
pub(crate) const MAX_LENGTH: usize = 256 * 1024;
/// Longest candidate taken by itself: browsers' have some 200 bytes, with all their extensions.
pub(crate) const MAX_CANDIDATE_LENGTH: usize = 1024;

/// One `m=` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) mid: Mid,
    pub(crate) kind: Kind,
    pub(crate) port: Port,
    /// Whether the writer of the description sends on it.
    pub(crate) sends: bool,
    /// Whether it receives.
    pub(crate) receives: bool,
    pub(crate) codecs: Vec<Codec>,
    /// Payload types of retransmissions, and of what they repair (RFC 4588, section 8.1).
    pub(crate) repairs: Vec<(u8, u8)>,
    /// Payload types whose lost packets may be asked for again (RFC 4585, section 4.2).
    pub(crate) nacks: Vec<u8>,
    /// Whether those are all of the section's, as `*` says; [`sections`] then writes them out.
    pub(crate) nacks_of_all: bool,
    pub(crate) extensions: Extensions,
    pub(crate) ssrcs: Vec<u32>,
    /// SSRCs and what repairs them (RFC 5576, section 4.2).
    pub(crate) groups: Vec<(u32, u32)>,
    /// Layers that the writer sends (RFC 8853).
    pub(crate) rids: Vec<Arc<str>>,
}

/// Whether a section is in use: port 0 says that it is not (RFC 3264, section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    Open,
    Closed,
}

/// What flows on a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Audio,
    Video,
    /// Data channels and whatever else: not forwarded.
    Other,
}

/// The sections of a description, without those that have no mid.
pub(crate) fn sections(sdp: &str) -> Vec<Section> {
    let mut found: Vec<Section> = Vec::new();
    for line in sdp.lines().map(str::trim_end) {
        if let Some(media) = line.strip_prefix("m=") {
            if found.len() == MAX_SECTIONS {
                break;
            }
            found.push(begin(media));
        } else if let (Some(section), Some(attribute)) = (found.last_mut(), line.strip_prefix("a=")) {
            read_attribute(section, attribute);
        }
    }
    found.retain(|section| !section.mid.as_str().is_empty());
    for section in &mut found {
        if section.port == Port::Closed {
            (section.sends, section.receives) = (false, false);
        }
        if section.nacks_of_all {
            section.nacks = section.codecs.iter().map(|codec| codec.payload_type).collect();
        }
        let repaired: Vec<u32> = section.groups.iter().map(|(_, repair)| *repair).collect();
        section.ssrcs.retain(|ssrc| !repaired.contains(ssrc));
    }
    found
}

fn begin(media: &str) -> Section {
    let mut words = media.split(' ');
    let kind = match words.next() {
        Some("audio") => Kind::Audio,
        Some("video") => Kind::Video,
        _ => Kind::Other,
    };
    let port = if words.next() == Some("0") { Port::Closed } else { Port::Open };
    Section {
        mid: Mid::new(""),
        kind,
        port,
        sends: true,
        receives: true,
        codecs: Vec::new(),
        repairs: Vec::new(),
        nacks: Vec::new(),
        nacks_of_all: false,
        extensions: Extensions::default(),
        ssrcs: Vec::new(),
        groups: Vec::new(),
        rids: Vec::new(),
    }
}

fn read_attribute(section: &mut Section, attribute: &str) {
    let (key, value) = attribute.split_once(':').unwrap_or((attribute, ""));
    match key {
        "mid" => section.mid = Mid::new(value),
        // Port 0 then means the bundle's port (RFC 9143, section 6). Firefox adds every later section like this.
        "bundle-only" => section.port = Port::Open,
        "inactive" => (section.sends, section.receives) = (false, false),
        "recvonly" => section.sends = false,
        "sendonly" => section.receives = false,
        "rtpmap" => drop(read_rtpmap(section, value)),
        "fmtp" => drop(read_fmtp(section, value)),
        "extmap" => drop(read_extmap(section, value)),
        "rtcp-fb" => drop(read_feedback(section, value)),
        "ssrc" => drop(read_ssrc(section, value)),
        "ssrc-group" => drop(read_group(section, value)),
        "rid" => drop(read_rid(section, value)),
        _ => {}
    }
}

fn read_rtpmap(section: &mut Section, value: &str) -> Option<()> {
    let (payload_type, encoding) = value.split_once(' ')?;
    let mut parts = encoding.split('/');
    let name = parts.next()?;
    let kind = if section.kind == Kind::Audio { "audio" } else { "video" };
    section.codecs.push(Codec {
        payload_type: payload_type.parse().ok()?,
        mime: format!("{kind}/{name}"),
        clock_rate: parts.next()?.parse().ok()?,
        channels: parts
            .next()
            .and_then(|channels| channels.parse().ok())
            .unwrap_or(u16::from(section.kind == Kind::Audio)),
        fmtp: String::new(),
    });
    Some(())
}

fn read_feedback(section: &mut Section, value: &str) -> Option<()> {
    let (payload_type, wish) = value.split_once(' ')?;
    match payload_type {
        _ if wish != "nack" => {}
        "*" => section.nacks_of_all = true,
        payload_type => section.nacks.push(payload_type.parse().ok()?),
    }
    Some(())
}

fn read_fmtp(section: &mut Section, value: &str) -> Option<()> {
    let (payload_type, parameters) = value.split_once(' ')?;
    let payload_type: u8 = payload_type.parse().ok()?;
    if let Some(apt) = crate::format::parameter(parameters, "apt") {
        section.repairs.push((payload_type, apt.parse().ok()?));
    }
    let codec = section.codecs.iter_mut().find(|codec| codec.payload_type == payload_type)?;
    parameters.clone_into(&mut codec.fmtp);
    Some(())
}

fn read_extmap(section: &mut Section, value: &str) -> Option<()> {
    let mut words = value.split(' ');
    let id = words.next()?.split('/').next()?.parse().ok()?;
    section.extensions.0.push((id, words.next()?.into()));
    Some(())
}

fn read_ssrc(section: &mut Section, value: &str) -> Option<()> {
    let ssrc = value.split(' ').next()?.parse().ok()?;
    if !section.ssrcs.contains(&ssrc) {
        section.ssrcs.push(ssrc);
    }
    Some(())
}

fn read_group(section: &mut Section, value: &str) -> Option<()> {
    let mut words = value.split(' ');
    if words.next()? == "FID" {
        section.groups.push((words.next()?.parse().ok()?, words.next()?.parse().ok()?));
    }
    Some(())
}

fn read_rid(section: &mut Section, value: &str) -> Option<()> {
    let mut words = value.split(' ');
    let rid = words.next()?;
    if words.next()? == "send" {
        section.rids.push(rid.into());
    }
    Some(())
}

/// Which of a client's connections a description is of: who it says it is from (RFC 8866, section 5.2), and its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    origin: String,
    fingerprint: String,
}

/// Whose description it is; `None` if it does not say.
pub(crate) fn identity(sdp: &str) -> Option<Identity> {
    let line = |start| sdp.lines().find_map(|line| line.trim_end().strip_prefix(start));
    // User name and number stay, a version follows that counts on.
    let origin: Vec<&str> = line("o=")?.split(' ').take(2).collect();
    Some(Identity { origin: origin.join(" "), fingerprint: line("a=fingerprint:")?.to_owned() })
}

/// The user name fragment of a description; all sections of a bundle have the same.
pub(crate) fn ufrag(sdp: &str) -> Option<&str> {
    sdp.lines().find_map(|line| line.trim_end().strip_prefix("a=ice-ufrag:"))
}

/// The password that goes with it.
pub(crate) fn password(sdp: &str) -> Option<&str> {
    sdp.lines().find_map(|line| line.trim_end().strip_prefix("a=ice-pwd:"))
}

/// The session part, then every section.
fn split_sections(sdp: &str) -> Vec<&str> {
    let mut cuts = vec![0];
    cuts.extend(sdp.match_indices("\nm=").map(|(at, _)| at + 1));
    cuts.push(sdp.len());
    cuts.windows(2).map(|cut| &sdp[cut[0]..cut[1]]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n\
        a=mid:0\r\na=sendrecv\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=ssrc:7 cname:x\r\n\
        a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\n\
        a=sendonly\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=ssrc-group:FID 8 9\r\na=ssrc:8 cname:x\r\n\
        a=ssrc:9 cname:x\r\na=rid:q send\r\na=rid:f send\r\na=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n\
        a=candidate:1 1 udp 1 0e.local 9 typ host\r\n";

    #[test]
    fn sections_are_read() {
        let [audio, video] = &sections(OFFER)[..] else { panic!("two sections") };
        assert_eq!((audio.kind, audio.sends, audio.receives), (Kind::Audio, true, true));
        assert_eq!(audio.codecs[0].mime, "audio/opus");
        assert_eq!(audio.codecs[0].channels, 2);
        assert_eq!(audio.extensions.id(crate::format::AUDIO_LEVEL), Some(1));
        assert_eq!((video.sends, video.receives), (true, false));
        assert_eq!((&video.ssrcs[..], &video.groups[..]), (&[8][..], &[(8, 9)][..]));
        assert_eq!(video.repairs, [(97, 96)]);
        assert_eq!(video.rids.iter().map(|rid| &**rid).collect::<Vec<_>>(), ["q", "f"]);
    }

    #[test]
    fn lost_packets_may_be_asked_for_of_one_codec_or_of_all() {
        let nacks = |lines: &str| {
            let codecs = "a=rtpmap:96 VP8/90000\r\na=rtpmap:98 VP9/90000\r\n";
            sections(&format!("m=video 9 X 96 98\r\na=mid:1\r\n{lines}{codecs}")).remove(0).nacks
        };
        assert_eq!(nacks("a=rtcp-fb:98 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:* ccm fir\r\n"), [98]);
        assert_eq!(nacks("a=rtcp-fb:* nack\r\n"), [96, 98]);
    }

    #[test]
    fn a_connection_is_told_by_its_origin_and_certificate_whatever_it_describes() {
        let of = |origin: &str, certificate: &str| {
            identity(&format!(
                "v=0\r\no=- {origin} IN IP4 0.0.0.0\r\na=fingerprint:sha-256 {certificate}\r\n"
            ))
        };
        assert_eq!(of("7 1", "AA"), of("7 2", "AA"));
        assert!(of("7 1", "AA") != of("8 1", "AA") && of("7 1", "AA") != of("7 1", "BB"));
        assert_eq!(identity("v=0\r\no=- 7 1 IN IP4 0.0.0.0\r\n"), None);
    }

    #[test]
    fn port_0_ends_a_section_unless_it_is_added_to_the_bundle() {
        let section = |lines: &str| {
            sections(&format!("m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n{lines}")).remove(0)
        };
        assert!(!section("a=sendonly\r\n").sends);
        assert!(section("a=sendonly\r\na=bundle-only\r\n").sends);
        assert!(section("a=bundle-only\r\na=sendrecv\r\n").receives);
        assert!(!section("a=bundle-only\r\na=inactive\r\n").sends);
    }
}
