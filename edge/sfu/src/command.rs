//! What a caller asks of a shard.

use std::fmt;

use crate::codec::Size;
use crate::ids::{Medium, Mid, PeerId, RoomId, User};
use crate::tap::Tap;

/// One wish of the caller. Commands about a peer that is not there are ignored: it has left in between.
pub enum Command {
    /// A session enters a room. The connection begins with its first offer, or with ours if it makes none.
    Join {
        /// Which room; made when it is not there.
        room: RoomId,
        /// Its session.
        peer: PeerId,
        /// Whose.
        user: User,
        /// What for.
        role: Role,
    },
    /// Another session takes a session's place with everything that was asked for it: what it wants and what is muted. Its
    /// connection begins anew, with an offer of a new connection of the client's.
    Renew {
        /// Whose connection is over.
        peer: PeerId,
        /// Who takes its place.
        fresh: PeerId,
    },
    /// A session leaves; its connection is closed.
    Leave {
        /// Whose.
        peer: PeerId,
    },
    /// Everybody leaves.
    CloseRoom {
        /// Which.
        room: RoomId,
    },
    /// The client's offer; answered by `Event::Answer` or `Event::Refused`.
    Offer {
        /// Whose.
        peer: PeerId,
        /// The session description.
        sdp: String,
        /// Sections that show a screen. Without any, the first video section is the camera and the others are screens.
        screens: Vec<Mid>,
    },
    /// The client's answer to our last offer.
    Answer {
        /// Whose.
        peer: PeerId,
        /// The session description.
        sdp: String,
    },
    /// One of the client's addresses; `None` ends them.
    Candidate {
        /// Whose.
        peer: PeerId,
        /// `candidate:…` as in RFC 8839, section 5.1.
        candidate: Option<String>,
    },
    /// What a session wants to receive of another user; everything, to begin with.
    Subscribe {
        /// Who wants.
        peer: PeerId,
        /// Of whom.
        of: User,
        /// Which track; `None` is all of them.
        medium: Option<Medium>,
        /// How much.
        wish: Wish,
    },
    /// Media of a muted track are neither forwarded nor recorded.
    Mute {
        /// Whose.
        peer: PeerId,
        /// Which track; `None` is all of them.
        medium: Option<Medium>,
        /// On or off.
        muting: Muting,
    },
    /// `Some`: record from now on, and ask every picture for a keyframe. `None`: no more.
    Record {
        /// Which room; made when it is not there.
        room: RoomId,
        /// Where to.
        tap: Option<Box<dyn Tap>>,
    },
    /// Lets what is recorded of a room rest, or go on.
    Pause {
        /// Which room; nothing happens in one that is not recorded.
        room: RoomId,
        /// Rest or go on.
        pausing: Pausing,
    },
    /// Figures of quality, answered by `Event::Report`.
    Report {
        /// Of one room; `None` is all of them.
        room: Option<RoomId>,
        /// Comes back with the answer.
        token: u64,
    },
}

impl fmt::Debug for Command {
    /// Without session descriptions: they hold addresses of people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join { room, peer, .. } => write!(f, "join {peer} {room}"),
            Self::Renew { peer, fresh } => write!(f, "renew {peer} as {fresh}"),
            Self::Leave { peer } => write!(f, "leave {peer}"),
            Self::CloseRoom { room } => write!(f, "close room {room}"),
            Self::Offer { peer, .. } => write!(f, "offer {peer}"),
            Self::Answer { peer, .. } => write!(f, "answer {peer}"),
            Self::Candidate { peer, .. } => write!(f, "candidate {peer}"),
            Self::Subscribe { peer, of, medium, wish } => {
                write!(f, "subscribe {peer} {of} {medium:?} {wish:?}")
            }
            Self::Mute { peer, medium, muting } => write!(f, "mute {peer} {medium:?} {muting:?}"),
            Self::Record { room, tap } => {
                write!(f, "record {room} {}", if tap.is_some() { "on" } else { "off" })
            }
            Self::Pause { room, pausing } => write!(f, "pause {room} {pausing:?}"),
            Self::Report { token, .. } => write!(f, "report {token}"),
        }
    }
}

/// What a session does in its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Speaks and listens, over one connection that either side may renegotiate.
    Member(Reception),
    /// The same, but may not speak: what its client sends is refused in our descriptions and goes nowhere.
    Listener(Reception),
    /// Publishes by WHIP (RFC 9725): we never offer.
    Publisher,
    /// Plays one user by WHEP: everything there is goes into the answer, and we never offer.
    Player {
        /// Who is played.
        of: User,
    },
}

impl Role {
    /// Whether its client has signaling by which it can be told more than our answer.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self, Self::Member(_) | Self::Listener(_))
    }
}

/// What a member receives before it subscribes to anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception {
    /// Everybody.
    Everything,
    /// Nobody, until asked.
    Nothing,
}

/// How much of a track is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    No,
    /// The best that fits, up to this.
    UpTo(Layer),
    /// The same, and no layer larger than what fills a tile of this size, in pixels of the screen.
    Tile(Layer, Size),
}

/// A simulcast layer, by its usual name (`q`, `h`, `f`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// A quarter of the size.
    Quarter,
    /// Half of it.
    Half,
    /// All of it.
    Full,
}

/// Whether what is recorded of a room rests. Marks of who comes and goes are told also while it does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pausing {
    /// Nothing that flows is recorded.
    Paused {
        /// Since when, microseconds since 1970; never later than now.
        since_us: i64,
    },
    /// It is recorded; every picture is asked for a keyframe.
    #[default]
    Running,
}

/// Whether a track is muted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Muting {
    /// Nobody shall hear or see it.
    Muted,
    /// It flows.
    Unmuted,
}
