//! One who receives: counts by headers, decrypts everything until the first frame is there and samples from then on.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::rtp::header::Header;
use rtc::shared::marshal::Unmarshal;
use tokio::sync::oneshot;

use super::client::{Client, Media, VP8};
use super::feedback::Feedback;
use super::pictures::{self, FRAME_PACKETS};
use super::receive::Datagram;

/// One packet in so many is decrypted. It has no divisor in common with a frame, so that each of its packets has its turn.
const SAMPLE_EVERY: u16 = 17;

/// What has come since the last count.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Packets of media, each once.
    pub(super) media: u64,
    /// Packets whose numbers are missing, less those that came late.
    pub(super) missing: i64,
    /// Packets that repeat or probe.
    pub(super) repeats: u64,
    /// From sending to arrival, of samples.
    pub(super) latencies: Vec<Duration>,
}

/// A subscriber.
pub(super) struct Subscriber {
    client: Client,
    feedback: Feedback,
    first: First,
    /// Source and number of the newest packet.
    newest: Option<(u32, u16)>,
}

/// Where the first frame stands.
enum First {
    /// So many packets of a keyframe are there.
    Awaited {
        packets: u32,
        seen: oneshot::Sender<i64>,
    },
    Seen,
}

impl Subscriber {
    /// One whose descriptions are exchanged. The receiver is told when its first frame was whole, in microseconds since 1970.
    pub(super) fn new(client: Client, answer: &str) -> (Self, oneshot::Receiver<i64>) {
        let (seen, first) = oneshot::channel();
        let feedback = Feedback::agreed(answer);
        (Self { client, feedback, first: First::Awaited { packets: 0, seen }, newest: None }, first)
    }

    pub(super) fn socket(&self) -> Arc<UdpSocket> {
        self.client.socket()
    }

    pub(super) fn port(&self) -> u16 {
        self.client.port()
    }

    /// Takes a datagram that came `age` before `now`.
    pub(super) fn take(
        &mut self,
        now: Instant,
        age: Duration,
        datagram: &Datagram<'_>,
        counted: &mut Counted,
    ) {
        let bytes = datagram.bytes;
        if !is_rtp(bytes) {
            self.client.receive(now, datagram.from, bytes);
            return;
        }
        let Ok(header) = Header::unmarshal(&mut &bytes[..]) else { return };
        let (payload_type, ssrc, sequence) = (header.payload_type, header.ssrc, header.sequence_number);
        self.feedback.heard(now.checked_sub(age).unwrap_or(now), header);
        if payload_type != VP8 {
            counted.repeats += 1;
            return;
        }
        counted.media += 1;
        counted.missing += self.missing(ssrc, sequence);
        if matches!(self.first, First::Seen) && !sequence.is_multiple_of(SAMPLE_EVERY) {
            return;
        }
        let Some(media) = self.client.receive(now, datagram.from, bytes) else { return };
        let Some(seen) = pictures::read(&media.payload) else { return };
        let latency = u64::try_from(datagram.at_us - seen.sent_us).unwrap_or_default();
        counted.latencies.push(Duration::from_micros(latency));
        self.look(&media, seen.begins_keyframe, datagram.at_us);
    }

    /// How many numbers are left out before this one; -1 for one that was left out.
    fn missing(&mut self, ssrc: u32, sequence: u16) -> i64 {
        let ahead = match self.newest {
            Some((known, newest)) if known == ssrc => sequence.wrapping_sub(newest).cast_signed(),
            _ => 1,
        };
        if ahead > 0 {
            self.newest = Some((ssrc, sequence));
        }
        if ahead > 0 { i64::from(ahead) - 1 } else { -1 }
    }

    fn look(&mut self, media: &Media, begins_keyframe: bool, at_us: i64) {
        let First::Awaited { packets, .. } = &mut self.first else { return };
        *packets = match *packets {
            _ if begins_keyframe => 1,
            0 => 0,
            so_far => so_far + 1,
        };
        if *packets == FRAME_PACKETS && media.marker {
            let whole = std::mem::replace(&mut self.first, First::Seen);
            if let First::Awaited { seen, .. } = whole {
                let _ = seen.send(at_us);
            }
        } else if media.marker {
            *packets = 0;
        }
    }

    /// Reports, and does what is due.
    pub(super) fn run(&mut self, now: Instant) {
        let mut reports = self.feedback.due(now);
        if !matches!(self.first, First::Seen) {
            reports.extend(self.feedback.request(now));
        }
        if !reports.is_empty() {
            self.client.report(now, reports);
        }
        self.client.run(now);
    }
}

/// By the first byte, and not RTCP by the second (RFC 7983, section 7; RFC 5761, section 4).
fn is_rtp(bytes: &[u8]) -> bool {
    matches!(bytes, [128..192, second, ..] if !(64..96).contains(&(second & 0x7f)))
}
