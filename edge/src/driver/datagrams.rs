//! One UDP port with batched input and output: `recvmmsg` with GRO, `sendmmsg` with GSO, and the plain path where the
//! kernel has neither.
//!
//! This file must not know WebRTC: datagrams and addresses only.
//!
//! Decisions:
//! - One IPv6 socket carries both families (addresses of IPv4 peers are mapped inside and never seen outside); a machine
//!   without IPv6 gets an IPv4 socket.
//! - The local address of each datagram is asked for (`IP_PKTINFO`) and given back when answering: on a machine with several
//!   addresses a peer ignores what comes from another one than it wrote to.
//! - Datagrams are copied once, into one arena, and handed to the kernel grouped by destination: segments of one destination
//!   become one GSO run. Copying 1.2 KiB costs less than owning a buffer per datagram. A full arena is sent at once: it stays in
//!   the cache, and a burst to a hundred subscribers does not leave megabytes behind.
//! - A send that would block is counted and dropped: it is media, and the next packet matters more.

mod outgoing;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use super::sys;
pub(super) use outgoing::{Destination, Outgoing, Run};
use outgoing::{runs, singles};

/// Datagrams taken from the kernel by one call. With GRO each may hold 64 segments.
pub(super) const RECEIVE_BATCH: usize = 32;
/// The bytes of a receive slot with GRO: the largest datagram that there is.
const SLOT_GRO: usize = 65_536;
/// The bytes of a receive slot without: above every path MTU that WebRTC uses.
const SLOT_PLAIN: usize = 2_048;
/// What is asked of the kernel for each direction of a port: a second of 60 Mbit/s while the thread is busy elsewhere.
const SOCKET_BUFFER: usize = 8 << 20;

/// A datagram as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Datagram<'a> {
    /// The peer.
    pub(super) from: SocketAddr,
    /// The address of ours that it was sent to.
    pub(super) to: IpAddr,
    /// Its bytes.
    pub(super) bytes: &'a [u8],
}

/// Whether the kernel cuts and joins runs of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offload {
    /// It does.
    On,
    /// It cannot, or refused once.
    Off,
}

/// A bound port.
#[derive(Debug)]
pub(super) struct Port {
    socket: UdpSocket,
    family: sys::Family,
    gso: Offload,
    gro: Offload,
}

/// What became of queued datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Datagrams that the kernel took.
    pub(super) datagrams: u64,
    /// Datagrams that it did not take.
    pub(super) dropped: u64,
    /// System calls that were made.
    pub(super) calls: u64,
}

impl Port {
    /// Binds a port on every address of the machine; 0 lets the kernel choose.
    ///
    /// # Errors
    /// When the port is taken.
    pub(super) fn bind(port: u16) -> io::Result<Self> {
        match Self::bind_to(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
            Err(error) if no_ipv6(&error) => Self::bind_to(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
            bound => bound,
        }
    }

    /// Binds one address.
    ///
    /// # Errors
    /// When it is taken, or not ours.
    pub(super) fn bind_to(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        let family = if address.is_ipv6() { sys::Family::V6 } else { sys::Family::V4 };
        if family == sys::Family::V6 {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        sys::ask_for_local_address(socket.as_fd(), family)?;
        sys::grow_buffers(socket.as_fd(), SOCKET_BUFFER);
        let gro = sys::enable_gro(socket.as_fd());
        let gso = sys::probe_gso(socket.as_fd());
        socket.bind(&SockAddr::from(address))?;
        Ok(Self { socket: socket.into(), family, gso, gro })
    }

    /// What was bound.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Takes the plain path from now on, as on a kernel without GSO.
    #[cfg(test)]
    pub(super) fn without_offload(mut self) -> Self {
        self.gso = Offload::Off;
        self
    }

    /// Room for what [`Port::receive`] takes at once.
    pub(super) fn received(&self) -> Received {
        let slot = if self.gro == Offload::On { SLOT_GRO } else { SLOT_PLAIN };
        Received {
            bytes: vec![0; slot * RECEIVE_BATCH].into(),
            slot,
            metas: Vec::with_capacity(RECEIVE_BATCH),
        }
    }

    /// Takes what has arrived, up to one batch. `Ok(0)`: nothing.
    ///
    /// # Errors
    /// Those of the operating system, other than that nothing has arrived.
    pub(super) fn receive(&self, into: &mut Received) -> io::Result<usize> {
        into.metas.clear();
        sys::receive(self.socket.as_fd(), &mut into.bytes, into.slot, &mut into.metas)
    }

    /// Sends everything that is queued, in order for each destination, and empties the queue.
    pub(super) fn send(&mut self, queue: &mut Outgoing) -> Sent {
        let mut sent = Sent::default();
        queue.order();
        let mut rest = queue.queued.as_slice();
        while !rest.is_empty() {
            let (runs, used) = runs(rest, self.gso);
            self.send_runs(&queue.arena, &runs, &mut sent);
            rest = &rest[used..];
        }
        queue.clear();
        sent
    }

    fn send_runs(&mut self, arena: &[u8], runs: &[Run], sent: &mut Sent) {
        let mut done = 0;
        while done < runs.len() {
            sent.calls += 1;
            match sys::send(self.socket.as_fd(), self.family, arena, &runs[done..]) {
                Ok(taken) => {
                    sent.datagrams +=
                        runs[done..done + taken].iter().map(|run| run.segments as u64).sum::<u64>();
                    done += taken;
                }
                // A device that cannot cut runs says so once; from then on they are cut here.
                Err(error) if runs[done].segments > 1 && sys::is_gso_refusal(&error) => {
                    self.gso = Offload::Off;
                    let single = singles(&runs[done]);
                    self.send_runs(arena, &single, sent);
                    done += 1;
                }
                Err(_) => {
                    sent.dropped += runs[done].segments as u64;
                    done += 1;
                }
            }
        }
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether a socket cannot be had because the machine has no IPv6.
pub(super) fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// What one [`Port::receive`] took.
#[derive(Debug)]
pub(super) struct Received {
    bytes: Box<[u8]>,
    slot: usize,
    metas: Vec<Meta>,
}

/// What the kernel says of a slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    pub(super) from: SocketAddr,
    pub(super) to: IpAddr,
    pub(super) len: usize,
    /// The size of each segment but the last; 0: the slot is one datagram.
    pub(super) segment: usize,
    /// Whether the kernel cut the datagram's end off.
    pub(super) truncated: Truncated,
}

/// Whether a datagram is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truncated {
    /// Its end is missing.
    Yes,
    /// It is whole.
    No,
}

impl Received {
    /// The datagrams, one by one. What does not fit a slot is left out: no peer of ours sends such.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        let slots = self.metas.iter().zip(self.bytes.chunks(self.slot));
        slots.filter(|(meta, _)| meta.truncated == Truncated::No).flat_map(|(meta, slot)| {
            let segment = if meta.segment == 0 { meta.len.max(1) } else { meta.segment };
            slot[..meta.len].chunks(segment).map(|bytes| Datagram { from: meta.from, to: meta.to, bytes })
        })
    }
}

/// The address without the IPv6 mapping that a socket of both families puts around IPv4.
pub(super) fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A storage that the kernel fills in.
pub(super) fn storage() -> SockAddrStorage {
    SockAddrStorage::zeroed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends through real sockets and gives back what arrived, sorted.
    fn through(port: &mut Port, to: &Port, sizes: &[usize]) -> Vec<(usize, u8)> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, to.address().unwrap().port()));
        let mut out = Outgoing::default();
        for (number, &size) in sizes.iter().enumerate() {
            let to = Destination { to: address, from: IpAddr::V4(Ipv4Addr::LOCALHOST) };
            out.push(to, &vec![u8::try_from(number).unwrap(); size]);
        }
        let sent = port.send(&mut out);
        assert_eq!((sent.datagrams, sent.dropped, out.len()), (sizes.len() as u64, 0, 0));
        let mut received = to.received();
        let mut arrived = Vec::new();
        while arrived.len() < sizes.len() {
            sys::wait(&[to.as_fd()], None).unwrap();
            to.receive(&mut received).unwrap();
            for datagram in received.datagrams() {
                assert_eq!(datagram.to, IpAddr::V4(Ipv4Addr::LOCALHOST), "our address as the peer wrote it");
                assert!(
                    datagram.bytes.iter().all(|byte| *byte == datagram.bytes[0]),
                    "segments are not mixed"
                );
                arrived.push((datagram.bytes.len(), datagram.bytes[0]));
            }
        }
        arrived
    }

    #[test]
    fn datagrams_cross_with_and_without_offload() {
        let sizes = [1200, 1200, 1200, 700, 1, 1200, 1200];
        let expected: Vec<_> = (0u8..).zip(sizes).map(|(number, size)| (size, number)).collect();
        let to = Port::bind(0).unwrap();
        assert_eq!(through(&mut Port::bind(0).unwrap(), &to, &sizes), expected);
        assert_eq!(through(&mut Port::bind(0).unwrap().without_offload(), &to, &sizes), expected);
    }

    #[test]
    fn both_families_reach_one_port() {
        let port = Port::bind(0).unwrap();
        let number = port.address().unwrap().port();
        let mut received = port.received();
        for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let Ok(client) = UdpSocket::bind((ip, 0)) else { continue };
            client.send_to(b"hello", (ip, number)).unwrap();
            sys::wait(&[port.as_fd()], None).unwrap();
            port.receive(&mut received).unwrap();
            let datagram = received.datagrams().next().unwrap();
            assert_eq!((datagram.from, datagram.to), (client.local_addr().unwrap(), ip));
        }
    }

    #[test]
    fn a_destination_that_cannot_be_reached_costs_only_its_own() {
        let to = Port::bind(0).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, to.address().unwrap().port()));
        let mut out = Outgoing::default();
        let from = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        // Port 0 is refused by the kernel before anything leaves.
        out.push(Destination { to: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), from }, b"lost");
        out.push(Destination { to: address, from }, b"arrives");
        let sent = Port::bind(0).unwrap().send(&mut out);
        assert_eq!((sent.datagrams, sent.dropped), (1, 1));
    }
}
