//! Our own addresses as the library sees them. They may be others than clients are told, which is written by `sdp`.

use std::net::SocketAddr;

use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::transport::RTCIceCandidateInit;

use crate::config::Config;
use crate::path::Transport;

use super::Refusal;

/// One of our sockets, and how the library knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Socket {
    pub(super) local: SocketAddr,
    pub(super) transport: Transport,
    pub(super) known_as: SocketAddr,
}

/// One per socket and transport: several public addresses of one socket are one to the library, and the description tells all.
pub(super) fn sockets(config: &Config) -> Vec<Socket> {
    let mut sockets: Vec<Socket> = Vec::new();
    for candidate in &config.candidates {
        if !sockets
            .iter()
            .any(|socket| socket.local == candidate.local && socket.transport == candidate.transport)
        {
            sockets.push(Socket {
                local: candidate.local,
                transport: candidate.transport,
                known_as: candidate.address,
            });
        }
    }
    sockets
}

/// Tells the library our addresses. Their priorities are its own affair: what clients see is written by `sdp`.
pub(super) fn gather(connection: &mut RTCPeerConnection, sockets: &[Socket]) -> Result<(), Refusal> {
    for (at, socket) in sockets.iter().enumerate() {
        let udp = socket.transport == Transport::Udp;
        let (transport, passive) = if udp { ("udp", "") } else { ("tcp", " tcptype passive") };
        let (ip, port, priority) = (socket.known_as.ip(), socket.known_as.port(), 2_130_706_431 - at);
        let candidate =
            format!("candidate:{} 1 {transport} {priority} {ip} {port} typ host{passive}", at + 1);
        connection.add_local_candidate(RTCIceCandidateInit { candidate, ..Default::default() })?;
    }
    Ok(())
}
