//! What a shard tells its caller.

use std::time::Duration;

use crate::ids::{Medium, PeerId, RoomId, User};

/// Something happened that the caller has to pass on or note.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Our answer to the client's offer.
    Answer {
        /// To whom.
        peer: PeerId,
        /// The session description.
        sdp: String,
    },
    /// Our offer; the next word of the client should be its answer.
    Offer {
        /// To whom.
        peer: PeerId,
        /// The session description.
        sdp: String,
    },
    /// A command was not carried out; the session stays, if there was one.
    Refused {
        /// Whose.
        peer: PeerId,
        /// Why.
        error: SignalError,
    },
    /// Media can flow.
    Connected {
        /// Whose.
        peer: PeerId,
    },
    /// Nothing has been heard of it for some seconds; it may come back.
    Lost {
        /// Whose.
        peer: PeerId,
    },
    /// The connection is over. The session stays until it is told to leave: a new offer cannot revive it.
    Failed {
        /// Whose.
        peer: PeerId,
    },
    /// The first packet of a new track has come.
    Published {
        /// Whose.
        peer: PeerId,
        /// What.
        track: TrackInfo,
    },
    /// More comes on a track than its owner may send ([`crate::Limits`]): what is too much is thrown away. Told once of a track.
    OverLimit {
        /// Whose.
        peer: PeerId,
        /// Which.
        medium: Medium,
    },
    /// A track is no more.
    Unpublished {
        /// Whose.
        peer: PeerId,
        /// Which.
        medium: Medium,
    },
    /// Somebody else speaks.
    ActiveSpeaker {
        /// Where.
        room: RoomId,
        /// Who; `None` is nobody.
        user: Option<User>,
    },
    /// The figures that were asked for.
    Report {
        /// Of the command.
        token: u64,
        /// One per session.
        peers: Vec<PeerReport>,
    },
}

/// Why the caller's wish was not fulfilled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// Not a session description that we can work with.
    #[error("session description refused: {0}")]
    BadDescription(String),
    /// An answer that nobody waits for.
    #[error("no offer waits for an answer")]
    UnexpectedAnswer,
    /// An address that cannot be used.
    #[error("candidate refused: {0}")]
    BadCandidate(String),
    /// The client offers media that it may not send. The rest of its offer is answered.
    #[error("this session may not publish: the media that it offers are refused")]
    MayNotPublish,
    /// The session is there already.
    #[error("the session has joined already")]
    AlreadyJoined,
    /// The shard has as many sessions as it can serve, or is about to and this would begin another room.
    #[error("no room for more sessions")]
    Full,
    /// The connection could not be made: there is no session.
    #[error("no connection could be made: {0}")]
    NotMade(String),
    /// A description of ours could not be made.
    #[error("no description could be made: {0}")]
    Internal(String),
}

/// A published track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackInfo {
    /// Which of the user's.
    pub medium: Medium,
    /// `audio/opus`, `video/VP8`, …
    pub mime: String,
    /// Whether several layers were promised.
    pub simulcast: bool,
}

/// Quality of one session.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerReport {
    /// Where.
    pub room: RoomId,
    /// Which.
    pub peer: PeerId,
    /// Whose.
    pub user: User,
    /// What it sends to us, one per layer.
    pub published: Vec<TrackReport>,
    /// What it receives from us.
    pub received: Vec<LegReport>,
    /// How much we think can be sent to it, bits a second.
    pub estimate_bps: u64,
    /// Packets that it has asked for again since it joined (RFC 4585, section 6.2.1).
    pub asked_again: u64,
}

/// One stream that we receive. Counters begin with the track.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackReport {
    /// Which track.
    pub medium: Medium,
    /// Which layer; empty without simulcast.
    pub rid: String,
    /// Packets received, retransmitted ones included once.
    pub packets: u64,
    /// Bytes of header and payload received.
    pub bytes: u64,
    /// Packets thrown away because they were more than one user may send ([`crate::Limits`]); they count as lost too.
    pub over_limit: u64,
    /// Bits a second of late.
    pub bitrate_bps: u64,
    /// Share of packets that did not come, of late, 0 to 1 (RFC 3550, appendix A.3).
    pub loss: f32,
    /// Interarrival jitter as we see it.
    pub jitter: Duration,
    /// Keyframes that we asked for.
    pub keyframe_requests: u64,
}

/// One stream that we send. Counters begin with the subscription.
#[derive(Debug, Clone, PartialEq)]
pub struct LegReport {
    /// Of whom.
    pub of: User,
    /// Which track.
    pub medium: Medium,
    /// The layer that flows; empty without simulcast or before the first packet.
    pub rid: String,
    /// Packets sent, without retransmissions.
    pub packets: u64,
    /// Bytes of header and payload sent.
    pub bytes: u64,
    /// Bits a second of late.
    pub bitrate_bps: u64,
    /// Share of packets lost of late, 0 to 1, as the receiver's reports tell (RFC 3550, section 6.4.1).
    pub loss: f32,
    /// Interarrival jitter as the receiver sees it.
    pub jitter: Duration,
    /// Round trip, once known.
    pub round_trip: Option<Duration>,
}
