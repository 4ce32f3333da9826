//! What a recorder of a room implements. It must not block: it is called from the thread that forwards media.

use crate::ids::{Medium, User};

/// One more subscriber of everything in a room, before any rewriting. Of simulcast it gets one layer at a time: the best that
/// flows, changed only at a keyframe of the new one.
pub trait Tap: Send {
    /// Comes before the first packet of a stream, and again when its description changes.
    fn stream(&mut self, user: &User, medium: Medium, stream: &StreamInfo);
    /// A whole decrypted packet, retransmissions unwrapped, extensions kept. `arrival_us`: microseconds since 1970.
    fn rtp(&mut self, user: &User, medium: Medium, arrival_us: i64, packet: &[u8]);
    /// A sender report (RFC 3550, section 6.4.1) of a stream.
    fn sender_report(&mut self, user: &User, medium: Medium, arrival_us: i64, ssrc: u32, ntp: u64, rtp: u32);
    /// What is recorded rests: nothing of media comes until [`Self::resume`], but marks do.
    fn pause(&mut self, since_us: i64);
    /// It goes on; streams are described again.
    fn resume(&mut self, at_us: i64);
    /// Something happened that the timeline should show. `medium`: which track; `None` is the person.
    fn mark(&mut self, user: &User, medium: Option<Medium>, arrival_us: i64, mark: TapMark);
}

/// How packets of one SSRC have to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// Whose packets.
    pub ssrc: u32,
    /// The payload type of its codec.
    pub payload_type: u8,
    /// `audio/opus`, `video/VP8`, …
    pub mime: String,
    /// Ticks of the RTP clock in a second.
    pub clock_rate: u32,
    /// Channels of sound, 0 for pictures.
    pub channels: u16,
    /// Format parameters of the codec as negotiated.
    pub fmtp: String,
    /// The simulcast layer; empty without.
    pub rid: String,
    /// Which header extension has which id.
    pub extensions: Vec<(u8, String)>,
}

/// An entry of a recording's timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapMark {
    /// The user came, also while an older session of theirs is still there; or was there when recording began.
    Joined,
    /// The user's last session left.
    Left,
    /// Nothing flows from here on, on purpose.
    Muted,
    /// It flows again; a session begins like this.
    Unmuted,
    /// A picture that needs no other begins here.
    Keyframe {
        /// Pixels.
        width: u16,
        /// Pixels.
        height: u16,
    },
}
