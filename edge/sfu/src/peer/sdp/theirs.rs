//! A client's descriptions and addresses as the library shall see them: what it would misread is said otherwise, what we may not do is
//! left out. It must not know connections.

use std::iter;
use std::net::IpAddr;

use crate::config::Candidate;

use super::{Port, sections, split_sections};

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

#[cfg(test)]
mod tests {
    use super::super::tests::OFFER;
    use super::*;

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
}
