//! What we read from session descriptions, and what we add to ours. The negotiation itself is the library's.
//!
//! Reading by ourselves is needed because the library tells neither which payload types one side accepts on one section, nor
//! which SSRC repairs which in simulcast. It must not judge: what cannot be read is left out.

use std::fmt::Write;
use std::iter;
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{Candidate, CandidateKind, Limits};
use crate::format::{Codec, Extensions};
use crate::ids::Mid;
use crate::path::Transport;

/// Sections read from one description; a client has a handful of its own and one per track of the others.
const MAX_SECTIONS: usize = 512;
/// Largest description taken: a frame of the signaling is not larger.
pub(crate) const MAX_LENGTH: usize = 256 * 1024;

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
    if wish == "nack" {
        section.nacks.push(payload_type.parse().ok()?);
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

/// The user name fragment of a description; all sections of a bundle have the same.
pub(crate) fn ufrag(sdp: &str) -> Option<&str> {
    sdp.lines().find_map(|line| line.trim_end().strip_prefix("a=ice-ufrag:"))
}

/// The password that goes with it.
pub(crate) fn password(sdp: &str) -> Option<&str> {
    sdp.lines().find_map(|line| line.trim_end().strip_prefix("a=ice-pwd:"))
}

/// A client's offer with those sections open that are for the bundle alone: they have port 0 (RFC 9143, section 7.2.1), which otherwise
/// means that a section is not wanted. Port 9 is any (RFC 9429, section 5.2.1).
pub(crate) fn open_bundled(offer: &str) -> String {
    let mut opened = String::with_capacity(offer.len());
    for part in split_sections(offer) {
        let bundled = part.lines().any(|line| line.trim_end() == "a=bundle-only");
        match part.split_once(" 0 ") {
            Some((media, rest)) if bundled && !media.contains(char::is_whitespace) => {
                opened.extend([media, " 9 ", rest]);
            }
            _ => opened.push_str(part),
        }
    }
    opened
}

/// A client's description as the library shall see it: without addresses that we may not check, and with idle sections
/// receiving. The library stops a section for good that a client's offer calls inactive; to us it is one of ours without a
/// track at the moment, which the next track takes over.
/// `checked` says of each address whether it is one too many.
pub(crate) fn sanitize(sdp: &str, families: Families, checked: &mut dyn FnMut(&str) -> bool) -> String {
    let mut clean = String::with_capacity(sdp.len());
    for line in sdp.lines().map(str::trim_end) {
        let candidate = line.strip_prefix("a=").filter(|rest| rest.starts_with("candidate:"));
        if candidate.is_some_and(|candidate| !usable(candidate, families) || !checked(candidate)) {
            continue;
        }
        clean.push_str(if line == "a=inactive" { "a=recvonly" } else { line });
        clean.push_str("\r\n");
    }
    clean
}

/// A client's answer to our offer, with our codecs in the sections that it rejects: formats of those mean nothing (RFC 3264, section 6),
/// and may not even be explained.
pub(crate) fn name_rejected(answer: &str, offer: &str) -> String {
    let ours = split_sections(offer);
    let about_formats =
        |line: &&str| ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"].iter().any(|start| line.starts_with(start));
    let mut named = String::with_capacity(answer.len());
    for part in split_sections(answer) {
        let rejected = sections(part).pop().filter(|section| section.port == Port::Closed);
        let mine = rejected.and_then(|section| {
            ours.iter().find(|mine| sections(mine).pop().is_some_and(|mine| mine.mid == section.mid))
        });
        let formats = mine.and_then(|mine| mine.lines().next()?.splitn(4, ' ').nth(3));
        let (Some(mine), Some(formats)) = (mine, formats) else {
            named.push_str(part);
            continue;
        };
        let mut lines = part.lines();
        let media: Vec<&str> = lines.next().unwrap_or_default().splitn(4, ' ').take(3).collect();
        let rest = lines.filter(|line| !about_formats(line)).chain(mine.lines().filter(about_formats));
        for line in iter::once([&media.join(" "), " ", formats].concat().as_str()).chain(rest) {
            named.extend([line.trim_end(), "\r\n"]);
        }
    }
    named
}

/// Kinds of addresses that our own candidates can talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Families {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
    /// Whether we are on the loopback interface ourselves.
    pub(crate) loopback: bool,
}

impl Families {
    pub(crate) fn of(candidates: &[Candidate]) -> Self {
        let any = |test: fn(IpAddr) -> bool| candidates.iter().any(|candidate| test(candidate.address.ip()));
        Self { v4: any(|ip| ip.is_ipv4()), v6: any(|ip| ip.is_ipv6()), loopback: any(|ip| ip.is_loopback()) }
    }

    fn hold(self, ip: IpAddr) -> bool {
        let family = if ip.is_ipv4() { self.v4 } else { self.v6 };
        let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        family
            && !ip.is_unspecified()
            && !ip.is_multicast()
            && !broadcast
            && (self.loopback || !ip.is_loopback())
    }
}

/// Whether a client's candidate (RFC 8839, section 5.1) is worth a check: UDP, and an address that one of ours can reach. Names
/// (mDNS) are not resolved, and TCP is opened by the client.
pub(crate) fn usable(candidate: &str, families: Families) -> bool {
    let words: Vec<&str> = candidate.split_ascii_whitespace().collect();
    let [_, _, transport, _, address, port, ..] = words[..] else { return false };
    transport.eq_ignore_ascii_case("udp")
        && address.parse().is_ok_and(|ip| families.hold(ip))
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Whose turn a description is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    Offer,
    Answer,
}

/// Our description as the client shall see it: with all our addresses, the bandwidth that one user may send (RFC 3890, and
/// RFC 8866, section 5.8, for clients that know only that), and the wish for discontinuous transmission of silence. Our offers
/// tell that sound may be asked for again, whatever the client offered before: the library only repeats what that had.
pub(crate) fn dress(words: Words, sdp: &str, candidates: &[Candidate], limits: Limits) -> String {
    let mut dressed = String::with_capacity(sdp.len() + 512);
    let mut first = true;
    for part in split_sections(sdp) {
        let Some(section) = sections(part).pop() else {
            dressed.push_str(part);
            continue;
        };
        for line in part.lines().map(str::trim_end) {
            if line.starts_with("a=candidate:") || line == "a=end-of-candidates" {
                continue;
            }
            write_line(&mut dressed, line, &section, limits);
            if let Some(payload_type) = opus_at(line, &section).filter(|_| words == Words::Offer)
                && !section.nacks.contains(&payload_type)
            {
                let _ = write!(dressed, "a=rtcp-fb:{payload_type} nack\r\n");
            }
        }
        if first && (section.sends || section.receives || section.kind == Kind::Other) {
            first = false;
            candidates
                .iter()
                .enumerate()
                .for_each(|(at, candidate)| write_candidate(&mut dressed, at, candidate));
            dressed.push_str("a=end-of-candidates\r\n");
        }
    }
    dressed
}

/// Our description as a client sees it that may not send: no section receives. The library, which goes on without knowing, could
/// otherwise take a refused section for a stream of ours.
pub(crate) fn taking_nothing(sdp: &str) -> String {
    let silent = |line: &str| match line {
        "a=sendrecv" => "a=sendonly\r\n".to_owned(),
        "a=recvonly" => "a=inactive\r\n".to_owned(),
        line => format!("{line}\r\n"),
    };
    sdp.lines().map(|line| silent(line.trim_end())).collect()
}

/// The session part, then every section.
fn split_sections(sdp: &str) -> Vec<&str> {
    let mut cuts = vec![0];
    cuts.extend(sdp.match_indices("\nm=").map(|(at, _)| at + 1));
    cuts.push(sdp.len());
    cuts.windows(2).map(|cut| &sdp[cut[0]..cut[1]]).collect()
}

fn write_line(out: &mut String, line: &str, section: &Section, limits: Limits) {
    out.push_str(line);
    if let Some(fmtp) = line.strip_prefix("a=fmtp:")
        && section.receives
        && opus(section, fmtp).is_some()
        && !line.contains("usedtx")
    {
        out.push_str(";usedtx=1");
    }
    out.push_str("\r\n");
    if line.starts_with("c=") && section.receives && section.kind != Kind::Other {
        let bps = if section.kind == Kind::Audio { limits.audio_bps } else { limits.video_bps };
        let _ = write!(out, "b=AS:{}\r\nb=TIAS:{bps}\r\n", bps.div_ceil(1000));
    }
}

/// The payload type of Opus, if a line begins its description.
fn opus_at(line: &str, section: &Section) -> Option<u8> {
    opus(section, line.strip_prefix("a=rtpmap:")?)
}

/// The payload type of Opus, if an attribute's value begins with it.
fn opus(section: &Section, value: &str) -> Option<u8> {
    let payload_type = value.split(' ').next()?.parse().ok()?;
    let is_opus = |it: &Codec| it.payload_type == payload_type && it.mime.eq_ignore_ascii_case("audio/opus");
    section.codecs.iter().any(is_opus).then_some(payload_type)
}

/// Priorities as RFC 8445, section 5.1.2.1: UDP before TCP before a relay, and in the order of the settings.
fn write_candidate(out: &mut String, at: usize, candidate: &Candidate) {
    let preference: u32 = match (candidate.kind, candidate.transport) {
        (CandidateKind::Host, Transport::Udp) => 126,
        (CandidateKind::Host, Transport::Tcp) => 90,
        (CandidateKind::Relay, Transport::Udp) => 10,
        (CandidateKind::Relay, Transport::Tcp) => 0,
    };
    let order = 65_535 - u32::try_from(at).unwrap_or(65_535).min(65_535);
    let priority = preference << 24 | order << 8 | 255;
    let (ip, port) = (candidate.address.ip(), candidate.address.port());
    let transport = if candidate.transport == Transport::Udp { "udp" } else { "tcp" };
    let kind = match candidate.kind {
        CandidateKind::Host => "host",
        CandidateKind::Relay => "relay raddr 0.0.0.0 rport 0",
    };
    let passive = if candidate.transport == Transport::Tcp { " tcptype passive" } else { "" };
    let _ =
        write!(out, "a=candidate:{} 1 {transport} {priority} {ip} {port} typ {kind}{passive}\r\n", at + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n\
        a=mid:0\r\na=sendrecv\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=ssrc:7 cname:x\r\n\
        a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\n\
        a=sendonly\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=ssrc-group:FID 8 9\r\na=ssrc:8 cname:x\r\n\
        a=ssrc:9 cname:x\r\na=rid:q send\r\na=rid:f send\r\na=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n\
        a=candidate:1 1 udp 1 0e.local 9 typ host\r\n";

    fn loopback() -> Vec<Candidate> {
        let address = ([127, 0, 0, 1], 5000).into();
        vec![
            Candidate { address, local: address, transport: Transport::Udp, kind: CandidateKind::Host },
            Candidate { address, local: address, transport: Transport::Tcp, kind: CandidateKind::Host },
        ]
    }

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
    fn port_0_ends_a_section_unless_it_is_added_to_the_bundle() {
        let section = |lines: &str| {
            sections(&format!("m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n{lines}")).remove(0)
        };
        assert!(!section("a=sendonly\r\n").sends);
        assert!(section("a=sendonly\r\na=bundle-only\r\n").sends);
        assert!(section("a=bundle-only\r\na=sendrecv\r\n").receives);
        assert!(!section("a=bundle-only\r\na=inactive\r\n").sends);
    }

    #[test]
    fn names_and_foreign_families_are_not_checked() {
        let families = Families { v4: true, v6: false, loopback: false };
        let clean = sanitize(OFFER, families, &mut |_| true);
        assert!(clean.contains("10.0.0.1"));
        assert!(!clean.contains("0e.local"));
        let families = Families { v4: true, v6: false, loopback: false };
        for bad in [
            "candidate:1 1 udp 1 ::1 9 typ host",
            "candidate:1 1 udp 1 127.0.0.1 9 typ host",
            "candidate:1 1 tcp 1 10.0.0.1 9 typ host",
            "candidate:1 1 udp 1 224.0.0.1 9 typ host",
            "candidate:1 1 udp 1 10.0.0.1 0 typ host",
            "candidate:1 1 udp",
            "",
        ] {
            assert!(!usable(bad, families), "{bad}");
        }
    }

    #[test]
    fn sections_for_the_bundle_alone_are_open_and_unwanted_ones_are_not() {
        let offer = "v=0\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n\
            a=bundle-only\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:2\r\n";
        let opened = open_bundled(offer);
        assert_eq!(opened, offer.replacen("m=video 0", "m=video 9", 1));
        assert_eq!(
            sections(&opened).iter().map(|section| section.sends).collect::<Vec<_>>(),
            [true, true, false]
        );
    }

    #[test]
    fn our_descriptions_tell_addresses_limits_and_silence() {
        let dressed = dress(Words::Answer, OFFER, &loopback(), Limits::default());
        assert!(dressed.contains("a=candidate:1 1 udp 2130706431 127.0.0.1 5000 typ host\r\n"), "{dressed}");
        assert!(dressed.contains("127.0.0.1 5000 typ host tcptype passive\r\na=end-of-candidates\r\n"));
        assert!(!dressed.contains("10.0.0.1"));
        assert!(dressed.contains("c=IN IP4 0.0.0.0\r\nb=AS:128\r\nb=TIAS:128000\r\na=mid:0"));
        assert!(!dressed.contains("b=AS:2000"), "we do not receive on a section that we send on");
        assert!(dressed.contains("useinbandfec=1;usedtx=1"));
        assert!(!dressed.contains(" nack"), "an answer says what was offered");
    }

    #[test]
    fn our_offers_ask_for_lost_sound_once() {
        let offer = |sdp: &str| dress(Words::Offer, sdp, &loopback(), Limits::default());
        let dressed = offer(OFFER);
        assert_eq!(dressed.matches("a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 nack\r\n").count(), 1);
        assert_eq!(dressed.matches("nack").count(), 1);
        assert_eq!(offer(&dressed).matches("nack").count(), 1);
        assert_eq!((&sections(&dressed)[0].nacks[..], &sections(OFFER)[0].nacks[..]), (&[111][..], &[][..]));
    }
}
