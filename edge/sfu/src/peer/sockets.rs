//! Our own addresses as the library sees them. They may be others than clients are told, which is written by `sdp`.

use std::net::SocketAddr;

use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::transport::RTCIceCandidateInit;

use crate::config::{CandidateKind, Config};
use crate::path::Transport;

use super::Refusal;

/// The library's priority of our first socket, which each further one is below: what RFC 8445, section 5.1.2.1, gives to one's own.
const PRIORITY_HOST: usize = 126 << 24 | 65_535 << 8 | 255;
/// And of the way through a TURN server: below all of them, as clients are told.
const PRIORITY_RELAY: usize = 10 << 24 | 65_535 << 8 | 255;

/// One of our sockets, and how the library knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Socket {
    pub(super) local: SocketAddr,
    pub(super) transport: Transport,
    pub(super) known_as: SocketAddr,
    kind: CandidateKind,
}

/// One per socket and transport: several public addresses of one socket are one to the library, and the description tells all. The
/// way through a TURN server is a socket like others to it, by a name that stays when the server gives us another address.
pub(super) fn sockets(config: &Config) -> Vec<Socket> {
    let mut sockets: Vec<Socket> = Vec::new();
    for candidate in config.candidates.iter().filter(|candidate| candidate.kind == CandidateKind::Host) {
        if !sockets
            .iter()
            .any(|socket| socket.local == candidate.local && socket.transport == candidate.transport)
        {
            sockets.push(Socket {
                local: candidate.local,
                transport: candidate.transport,
                known_as: candidate.address,
                kind: CandidateKind::Host,
            });
        }
    }
    let (transport, kind) = (Transport::Udp, CandidateKind::Relay);
    sockets.extend(config.relay.map(|local| Socket { local, transport, known_as: local, kind }));
    sockets
}

/// Tells the library our addresses. Their priorities are its own affair: what clients see is written by `sdp`.
pub(super) fn gather(connection: &mut RTCPeerConnection, sockets: &[Socket]) -> Result<(), Refusal> {
    for (at, socket) in sockets.iter().enumerate() {
        let udp = socket.transport == Transport::Udp;
        let (transport, passive) = if udp { ("udp", "") } else { ("tcp", " tcptype passive") };
        let (ip, port) = (socket.known_as.ip(), socket.known_as.port());
        let priority = match socket.kind {
            CandidateKind::Host => PRIORITY_HOST - at,
            CandidateKind::Relay => PRIORITY_RELAY,
        };
        let candidate =
            format!("candidate:{} 1 {transport} {priority} {ip} {port} typ host{passive}", at + 1);
        connection.add_local_candidate(RTCIceCandidateInit { candidate, ..Default::default() })?;
    }
    Ok(())
}
