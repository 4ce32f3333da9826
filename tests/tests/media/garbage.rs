//! Datagrams of every protocol on the port, each wrong in its own way.

use std::iter;

use crate::participant::Participant;

/// STUN's fixed second word (RFC 8489, section 5).
const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
/// A datagram as large as networks carry.
const LARGE: usize = 1_400;

/// Bytes that are the same in every run (xorshift64).
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.to_le_bytes()[7]
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        iter::repeat_with(|| self.byte()).take(len).collect()
    }

    fn below(&mut self, end: usize) -> usize {
        (usize::from(self.byte()) << 8 | usize::from(self.byte())) % end
    }
}

/// What a forger knows of a session that goes on.
pub(crate) struct Known {
    /// The user name of its checks, `ours:theirs`.
    user_name: String,
    /// Of what its client sends.
    ssrcs: Vec<u32>,
}

impl Known {
    pub(crate) fn of(participant: &Participant) -> Self {
        let ufrag = |sdp: &str| value(sdp, "a=ice-ufrag:").next().unwrap().to_owned();
        let user_name = format!("{}:{}", ufrag(&participant.answer), ufrag(&participant.offer));
        let ssrc = |line: &str| line.split(' ').next().and_then(|ssrc| ssrc.parse().ok());
        let mut ssrcs: Vec<u32> = value(&participant.offer, "a=ssrc:").filter_map(ssrc).collect();
        ssrcs.push(1);
        Self { user_name, ssrcs }
    }
}

fn value<'a>(sdp: &'a str, name: &'static str) -> impl Iterator<Item = &'a str> {
    sdp.lines().filter_map(move |line| line.trim_end().strip_prefix(name))
}

/// The next datagram: kinds take turns.
pub(crate) fn datagram(turn: usize, noise: &mut Noise, known: &Known) -> Vec<u8> {
    let ssrc = known.ssrcs[noise.below(known.ssrcs.len())];
    match turn % 18 {
        0 => Vec::new(),
        1 => noise.bytes(1),
        2 => {
            let len = noise.below(LARGE);
            noise.bytes(len)
        }
        3 => check(known, &[integrity(noise)], noise),
        4 => check(known, &[attribute(0x25, &[]), integrity(noise)], noise),
        // A check that says to be 64 KiB long, and one that ends in the middle of an attribute.
        5 => [&check(known, &[], noise)[..], &[0x00, 0x08, 0xFF, 0xFF]].concat(),
        6 => {
            let whole = check(known, &[integrity(noise)], noise);
            let end = noise.below(whole.len());
            whole[..end].to_vec()
        }
        // Answers to nothing: success, and an error that says to change roles.
        7 => stun([0x01, 0x01], &[integrity(noise)], noise),
        8 => stun([0x01, 0x11], &[attribute(0x09, &[0, 0, 4, 87])], noise),
        9 => stun([0x00, 0x11], &[attribute(0x06, b"x:y")], noise),
        // Channel data of TURN (RFC 8656, section 12.4).
        10 => [&[0x40, 0x01, 0x00, 0x20][..], &noise.bytes(0x20)].concat(),
        // DTLS: a hello that is none, an alert that closes, data of an epoch to come, a record that ends early.
        11 => {
            record(22, [0, 0], &[&[1, 0, 0, 200, 0, 0, 0, 0, 0, 0, 0, 200][..], &noise.bytes(200)].concat())
        }
        12 => record(21, [0, 0], &[1, 0]),
        13 => record(23, [0, 7], &noise.bytes(120)),
        14 => record(22, [0, 1], &noise.bytes(60))[..20].to_vec(),
        // RTP and RTCP of streams that are there, sealed with the wrong key; and heads that lie about their length.
        15 => rtp(0x90, ssrc, noise),
        16 => rtp(if turn.is_multiple_of(4) { 0x8F } else { 0xB0 }, ssrc, noise),
        _ => rtcp(ssrc, noise),
    }
}

/// A binding request under a session's user name (RFC 8445, section 7.2).
fn check(known: &Known, more: &[Vec<u8>], noise: &mut Noise) -> Vec<u8> {
    let name = attribute(0x06, known.user_name.as_bytes());
    let mut attributes = vec![name, attribute(0x24, &[0x6E, 0, 0x1E, 0xFF]), attribute(0x802A, &[9; 8])];
    attributes.extend_from_slice(more);
    stun([0x00, 0x01], &attributes, noise)
}

fn stun(kind: [u8; 2], attributes: &[Vec<u8>], noise: &mut Noise) -> Vec<u8> {
    let body = attributes.concat();
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&kind[..], &len, &COOKIE, &noise.bytes(12), &body].concat()
}

/// `MESSAGE-INTEGRITY` of somebody who does not know the password.
fn integrity(noise: &mut Noise) -> Vec<u8> {
    attribute(0x08, &noise.bytes(20))
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).unwrap().to_be_bytes();
    let padding = vec![0; value.len().next_multiple_of(4) - value.len()];
    [&kind.to_be_bytes()[..], &len, value, &padding].concat()
}

/// A record of DTLS 1.2 (RFC 6347, section 4.1).
fn record(kind: u8, epoch: [u8; 2], body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, 0xFE, 0xFD][..], &epoch, &[0, 0, 0, 0, 0, 9], &len, body].concat()
}

fn rtp(first: u8, ssrc: u32, noise: &mut Noise) -> Vec<u8> {
    let kind = [96, 97, 111, 0][noise.below(4)];
    let (numbers, body) = (noise.bytes(6), noise.below(LARGE));
    [&[first, kind][..], &numbers, &ssrc.to_be_bytes(), &[0xBE, 0xDE, 0, 1], &noise.bytes(body)].concat()
}

fn rtcp(ssrc: u32, noise: &mut Noise) -> Vec<u8> {
    let kind = 200 + u8::try_from(noise.below(8)).unwrap();
    let body = noise.below(100);
    [&[0x81, kind, 0, 12][..], &ssrc.to_be_bytes(), &noise.bytes(body)].concat()
}
