//! Pieces of session descriptions, as WHIP and WHEP clients send them after the first exchange (RFC 8840, section 9), and what we
//! answer to a restart. Pure.
//!
//! Decision: a restart is carried out with the client's own offer under the new credentials. The media threads then have one way of
//! renegotiating, and nothing but ICE changes.

/// Candidates taken from one fragment; a client has about ten.
const CANDIDATES_MAX: usize = 64;

/// What identifies one side of an ICE session (RFC 8839, section 5.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) ufrag: String,
    pub(crate) password: String,
}

/// What a client's fragment says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// Whose candidates these are; others than before ask for a restart.
    pub(crate) credentials: Option<Credentials>,
    /// `candidate:…`.
    pub(crate) candidates: Vec<String>,
    /// Whether there are no more.
    pub(crate) last: Last,
}

/// Whether more candidates will come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Last {
    /// They may.
    #[default]
    No,
    /// These were all.
    Yes,
}

impl Fragment {
    /// Reads a fragment; what it does not know is passed over. `None`: it says nothing at all.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut fragment = Self { credentials: Credentials::of(text), ..Self::default() };
        for line in text.lines().map(str::trim_end) {
            match line.strip_prefix("a=") {
                Some("end-of-candidates") => fragment.last = Last::Yes,
                Some(candidate)
                    if candidate.starts_with("candidate:") && fragment.candidates.len() < CANDIDATES_MAX =>
                {
                    fragment.candidates.push(candidate.to_owned());
                }
                _ => {}
            }
        }
        (fragment != Self::default()).then_some(fragment)
    }
}

impl Credentials {
    /// Those of a description or a fragment; all sections of a bundle have the same.
    pub(crate) fn of(sdp: &str) -> Option<Self> {
        let find = |prefix| sdp.lines().find_map(|line: &str| line.trim_end().strip_prefix(prefix));
        let (ufrag, password) = (find("a=ice-ufrag:")?, find("a=ice-pwd:")?);
        let fits = |text: &str, least| (least..=256).contains(&text.len()) && text.bytes().all(is_ice_char);
        (fits(ufrag, 4) && fits(password, 22))
            .then(|| Self { ufrag: ufrag.to_owned(), password: password.to_owned() })
    }
}

/// RFC 8839, section 5.1.
fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

/// A client's offer under new credentials, without the candidates of the old ones.
pub(crate) fn renewed(offer: &str, credentials: &Credentials) -> String {
    let mut renewed = String::with_capacity(offer.len());
    for line in offer.lines().map(str::trim_end) {
        if line.starts_with("a=candidate:") || line == "a=end-of-candidates" {
            continue;
        }
        match line {
            _ if line.starts_with("a=ice-ufrag:") => {
                renewed.push_str("a=ice-ufrag:");
                renewed.push_str(&credentials.ufrag);
            }
            _ if line.starts_with("a=ice-pwd:") => {
                renewed.push_str("a=ice-pwd:");
                renewed.push_str(&credentials.password);
            }
            _ => renewed.push_str(line),
        }
        renewed.push_str("\r\n");
    }
    renewed
}

/// The part of our answer that a client needs after a restart (RFC 9725, section 4.3.3): our credentials and candidates, under the
/// first section of the bundle.
pub(crate) fn of_answer(answer: &str) -> String {
    let told = |line: &&str| {
        ["a=group:BUNDLE", "a=ice-options:", "a=ice-lite"].iter().any(|start| line.starts_with(start))
    };
    let (session, media) = answer.split_once("\nm=").map_or((answer, ""), |(session, rest)| (session, rest));
    let mut lines: Vec<&str> = session.lines().map(str::trim_end).filter(told).collect();
    let section = media.split("\nm=").next().unwrap_or_default();
    let first = section.lines().next().map(|line| format!("m={}", line.trim_end()));
    lines.extend(first.as_deref());
    let wanted = |line: &&str| {
        ["a=mid:", "a=ice-ufrag:", "a=ice-pwd:", "a=candidate:", "a=end-of-candidates"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    lines.extend(section.lines().map(str::trim_end).filter(wanted));
    lines.into_iter().flat_map(|line| [line, "\r\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\ns=-\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:abcd\r\n\
        a=ice-pwd:0123456789012345678901\r\na=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\na=end-of-candidates\r\nm=video 9 \
        UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";

    fn credentials(ufrag: &str) -> Credentials {
        Credentials { ufrag: ufrag.into(), password: "9876543210987654321098".into() }
    }

    #[test]
    fn a_fragment_tells_candidates_and_whose_they_are() {
        let text = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
            a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host\r\na=end-of-candidates\r\n";
        let fragment = Fragment::parse(text).unwrap();
        assert_eq!(fragment.credentials.unwrap().ufrag, "EsAw");
        assert_eq!(fragment.candidates, ["candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host"]);
        assert_eq!(fragment.last, Last::Yes);
        assert_eq!(Fragment::parse("hello"), None);
        assert_eq!(
            Fragment::parse(&"a=candidate:1\r\n".repeat(1_000)).unwrap().candidates.len(),
            CANDIDATES_MAX
        );
    }

    #[test]
    fn credentials_have_their_form() {
        for bad in [
            "a=ice-ufrag:abc\r\na=ice-pwd:0123456789012345678901",
            "a=ice-ufrag:abcd\r\na=ice-pwd:short",
            "a=ice-ufrag:ab d\r\na=ice-pwd:0123456789012345678901",
            "a=ice-ufrag:abcd",
        ] {
            assert_eq!(Credentials::of(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_offer_is_renewed_in_every_section() {
        let renewed = renewed(OFFER, &credentials("wxyz"));
        assert_eq!(renewed.matches("a=ice-ufrag:wxyz\r\na=ice-pwd:9876543210987654321098\r\n").count(), 2);
        assert!(!renewed.contains("candidate") && !renewed.contains("abcd"));
    }

    #[test]
    fn the_answer_to_a_restart_is_one_section() {
        let told = of_answer(OFFER);
        let expected = "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:abcd\r\n\
            a=ice-pwd:0123456789012345678901\r\na=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\na=end-of-candidates\r\n";
        assert_eq!(told, expected);
    }
}
