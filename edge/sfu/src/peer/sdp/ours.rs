//! Our descriptions as the client shall see them: what the library does not write is added. It must not know connections.

use std::fmt::Write;

use crate::config::{Candidate, CandidateKind, Limits};
use crate::format::Codec;
use crate::path::Transport;

use super::{Kind, Section, sections, split_sections};

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
    use super::super::tests::OFFER;
    use super::*;

    fn loopback() -> Vec<Candidate> {
        let address = ([127, 0, 0, 1], 5000).into();
        vec![
            Candidate { address, local: address, transport: Transport::Udp, kind: CandidateKind::Host },
            Candidate { address, local: address, transport: Transport::Tcp, kind: CandidateKind::Host },
        ]
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
