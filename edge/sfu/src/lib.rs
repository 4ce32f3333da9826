//! A selective forwarding unit without I/O: rooms, peers, forwarding, keyframes and the recording tap of one shard.
//!
//! This crate must not know sockets, clocks, files, SQL, tokio or JSON. Its caller owns the port and the clock: it hands in
//! datagrams, commands and the time, and takes out datagrams and events. So a test moves the clock by hand, and a call of
//! an hour runs in a second.
//!
//! | module | holds |
//! |---|---|
//! | [`Sfu`] (`sfu`) | one shard: dispatch of commands, datagrams and timers |
//! | `command`, `event`, `ids`, `path`, `config` | the words a caller and a shard exchange |
//! | `tap` | what a recorder of a room implements |
//! | `demux`, `timers` | which peer a datagram or an instant belongs to |
//! | `session`, `negotiation` | one peer's place in a room; whose turn it is to offer |
//! | `room`, `track`, `forward` | who is there, what is published, where it goes |
//! | `format`, `packet` | how media are described; one packet |
//! | `keyframe` | asking publishers for keyframes, merged and throttled |
//! | [`codec`] | what a video payload says of itself: keyframe, size, temporal layer |
//! | [`leg`] | how a packet is rewritten for one subscriber |
//! | [`estimate`], [`twcc`] | how much may be sent to a subscriber, from its transport-wide feedback |
//! | [`layers`] | which simulcast layer a subscriber gets |
//! | [`quality`], [`speaker`] | bitrate, loss, jitter and round trip; who speaks |
//! | [`throttle`] | when to ask for a keyframe |
//! | `peer` | one WebRTC connection: the only module that knows `rtc` |
//!
//! How a caller drives a shard: read a batch of datagrams, give each to [`Sfu::receive`], run due commands and
//! [`Sfu::timeout`], then [`Sfu::flush`] once and take every [`Sfu::poll_event`]; sleep until [`Sfu::poll_timeout`].
//! Flushing once per batch and not per packet was the largest single win that was measured.

pub mod codec;
mod command;
mod config;
mod demux;
pub mod estimate;
mod event;
mod format;
mod forward;
mod ids;
mod keyframe;
pub mod layers;
pub mod leg;
mod negotiation;
mod packet;
mod path;
mod peer;
pub mod quality;
mod room;
mod session;
mod sfu;
pub mod speaker;
mod tap;
#[cfg(test)]
mod testing;
pub mod throttle;
mod timers;
mod track;
pub mod twcc;

pub use command::{Command, Layer, Muting, Pausing, Reception, Role, Wish};
pub use config::{Candidate, CandidateKind, Config, ConfigError, Limits, MAX_SESSIONS};
pub use event::{Event, LegReport, PeerReport, SignalError, TrackInfo, TrackReport};
pub use ids::{Medium, Mid, PeerId, RoomId, User};
pub use path::{Arrival, Fate, Path, Transport};
pub use sfu::Sfu;
pub use tap::{StreamInfo, Tap, TapMark};
