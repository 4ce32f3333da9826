//! What a shard has to be told before it starts.

use std::net::SocketAddr;

use crate::path::Transport;

/// Settings of one shard.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses to advertise; at least one.
    pub candidates: Vec<Candidate>,
    /// What the caller calls our end of ways through a TURN server in [`crate::Path::local`], if it has one. The server's address is
    /// told by [`crate::Sfu::relayed`] when there is one, and may change; this name stays, so that connections outlive a change.
    pub relay: Option<SocketAddr>,
    /// What one user may send.
    pub limits: Limits,
    /// Sessions of the shard. When it is nearly reached no room is begun any more, and those that run go on undisturbed.
    pub max_sessions: usize,
}

/// A shard's sessions unless set otherwise. At 5.2 µs a packet one core forwards 190,000 a second; 500 sessions exchange 75,000, two
/// fifths of that, in calls of two with sound and pictures (150 packets a second each), and take 150 MB. Larger calls need more for each.
pub const MAX_SESSIONS: usize = 500;

/// An address at which peers reach us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What peers are told: a public address.
    pub address: SocketAddr,
    /// What the caller calls the same way in [`crate::Path::local`]: the socket's own address, which differs behind a NAT.
    pub local: SocketAddr,
    /// How it is reached; TCP is passive (RFC 6544).
    pub transport: Transport,
    /// How good it is.
    pub kind: CandidateKind,
}

/// How directly a candidate leads to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateKind {
    /// Our own socket.
    Host,
    /// A TURN server's, chosen last.
    Relay,
}

/// What one user may send, told to their client as bandwidth of each media section (RFC 3890). What comes far beyond it is thrown
/// away and counts as lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bits per second of a microphone.
    pub audio_bps: u32,
    /// Bits per second of a camera or a screen, all simulcast layers together.
    pub video_bps: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { audio_bps: 128_000, video_bps: 2_000_000 }
    }
}

/// Why a shard cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Nobody could reach it.
    #[error("no candidate to advertise")]
    NoCandidate,
    /// An address that nobody can reach.
    #[error("{0} cannot be advertised")]
    Unreachable(SocketAddr),
    /// The cryptography refused.
    #[error("no certificate could be made: {0}")]
    Certificate(String),
}
