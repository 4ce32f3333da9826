//! Where a datagram comes from and goes to, and when it came.

use std::net::SocketAddr;

/// How datagrams travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// One datagram, one packet.
    Udp,
    /// Framed as in RFC 4571; the caller frames and unframes.
    Tcp,
}

/// Both ends of a way between a peer and us. An arriving datagram has one, and so has a leaving one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    /// Our end: the `local` of one of [`crate::Config::candidates`].
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// What lies between.
    pub transport: Transport,
}

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// A session has read it.
    Taken,
    /// A session has read it and thrown it away: its sender sends more than one user may ([`crate::Limits`]).
    OverLimit,
    /// It belongs to no session, or its session could not read it: broken, forged, or too late.
    Refused,
}

/// When a datagram came, by the clock of the wall: the recording's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    /// Microseconds since 1970.
    pub unix_us: i64,
}
