//! The least that forwarding can cost on this machine: per packet a copy, a header, AES-128-GCM, and its part of a `sendmmsg` to as many
//! sockets as there are subscribers; in bursts as runs that the kernel cuts (GSO).

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use nix::cmsg_space;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg, setsockopt, sockopt};
use nix::sys::time::TimeValLike;

use super::pictures::PAYLOAD_BYTES;
use super::rate::Rate;
use super::receive::Receiver;

/// RTP's header without extensions.
const HEADER: usize = 12;
/// Header, payload, and the tag of AES-GCM.
const PACKET: usize = HEADER + PAYLOAD_BYTES + 16;
/// Between two looks of those who receive, as the subscribers' thread has it.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// What the kernel keeps for each of them meanwhile.
const SOCKET_BUFFER: usize = 2 << 20;

/// CPU time per packet of sending at this rate to so many for so long.
pub(super) fn measure(ip: IpAddr, subscribers: u32, rate: Rate, seconds: u64) -> anyhow::Result<Duration> {
    let sinks = (0..subscribers).map(|_| sink(ip)).collect::<anyhow::Result<Vec<UdpSocket>>>()?;
    let addresses = sinks.iter().map(UdpSocket::local_addr).collect::<Result<Vec<_>, _>>()?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| drain(&sinks, &done));
        let sent = Sender::new(ip, &addresses)?.send(rate, rate.packets_in(seconds));
        done.store(true, Ordering::Relaxed);
        let received = drained.join().map_err(|_| anyhow::anyhow!("the floor's receiver has ended"))??;
        let (packets, cpu) = sent?;
        ensure!(received == packets, "{received} of the floor's {packets} packets have come");
        Ok(cpu / u32::try_from(packets)?)
    })
}

fn sink(ip: IpAddr) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind((ip, 0))?;
    if setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BUFFER)?;
    }
    setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
    Ok(socket)
}

/// Takes everything until told; counts it.
fn drain(sinks: &[UdpSocket], done: &AtomicBool) -> anyhow::Result<u64> {
    let (mut receiver, mut received) = (Receiver::new(), 0);
    loop {
        let last = done.load(Ordering::Relaxed);
        for sink in sinks {
            receiver.drain(sink, |_| received += 1)?;
        }
        if last {
            return Ok(received);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

struct Sender {
    socket: UdpSocket,
    to: Vec<Option<SockaddrIn>>,
    keys: Vec<LessSafeKey>,
    packet: Vec<u8>,
    /// The packets of one departure, those of one destination together.
    arena: Vec<u8>,
}

impl Sender {
    fn new(ip: IpAddr, addresses: &[SocketAddr]) -> anyhow::Result<Self> {
        let to = addresses.iter().map(|address| match address {
            SocketAddr::V4(address) => Some(SockaddrIn::from(*address)),
            SocketAddr::V6(_) => None,
        });
        let key = |number: usize| {
            let key = UnboundKey::new(&AES_128_GCM, &[number as u8; 16]).context("a key of 16 bytes")?;
            Ok(LessSafeKey::new(key))
        };
        Ok(Self {
            socket: UdpSocket::bind((ip, 0))?,
            to: to.collect(),
            keys: (0..addresses.len()).map(key).collect::<anyhow::Result<_>>()?,
            packet: vec![0x5a; HEADER + PAYLOAD_BYTES],
            arena: Vec::new(),
        })
    }

    /// Returns how many have left, and this thread's CPU time for them.
    fn send(&mut self, rate: Rate, packets: u64) -> anyhow::Result<(u64, Duration)> {
        let mut next = Instant::now();
        let (mut number, mut sent, before) = (0, 0, used()?);
        while number < packets {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            next += rate.every();
            self.seal(number, rate.together())?;
            sent += self.depart(rate.together())?;
            number += u64::from(rate.together());
        }
        Ok((sent, used()? - before))
    }

    fn seal(&mut self, first: u64, together: u32) -> anyhow::Result<()> {
        self.arena.resize(self.keys.len() * together as usize * PACKET, 0);
        let places = self.arena.chunks_mut(PACKET);
        let legs =
            self.keys.iter().enumerate().flat_map(|leg| (0..u64::from(together)).map(move |at| (leg, at)));
        for (place, ((leg, key), at)) in places.zip(legs) {
            let number = first + at;
            let (plain, tag) = place.split_at_mut(HEADER + PAYLOAD_BYTES);
            plain.copy_from_slice(&self.packet);
            plain[2..4].copy_from_slice(&(number as u16).to_be_bytes());
            plain[8..12].copy_from_slice(&(leg as u32).to_be_bytes());
            let mut nonce = [0; NONCE_LEN];
            nonce[4..].copy_from_slice(&number.to_be_bytes());
            let (header, payload) = plain.split_at_mut(HEADER);
            let (nonce, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(header));
            let made = key.seal_in_place_separate_tag(nonce, aad, payload).context("a packet is sealed")?;
            tag.copy_from_slice(made.as_ref());
        }
        Ok(())
    }

    /// One call for all destinations; returns how many packets the kernel took.
    fn depart(&self, together: u32) -> anyhow::Result<u64> {
        let run = together as usize * PACKET;
        let slices: Vec<[IoSlice<'_>; 1]> = self.arena.chunks(run).map(|run| [IoSlice::new(run)]).collect();
        let segment = PACKET as u16;
        let control = [ControlMessage::UdpGsoSegments(&segment)];
        let (controls, space) =
            if together > 1 { (&control[..], Some(cmsg_space!(u16))) } else { (&control[..0], None) };
        let (mut done, fd) = (0, self.socket.as_raw_fd());
        while done < slices.len() {
            let mut headers = MultiHeaders::preallocate(slices.len() - done, space.clone());
            let (rest, to) = (&slices[done..], &self.to[done..]);
            done += sendmmsg(fd, &mut headers, rest, to, controls, MsgFlags::empty())?.count();
        }
        Ok(done as u64 * u64::from(together))
    }
}

/// CPU time of this thread.
fn used() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(us)?))
}
