//! Batches of datagrams with the kernel's own time of arrival, so that what the generator does in between adds no latency to
//! what it measures; and what the kernel could not keep for it.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg};
use nix::sys::time::TimeSpec;

/// Messages of one call. Each may be a run of segments that the kernel has joined.
const BATCH: usize = 8;
/// The largest of them.
const SLOT: usize = 65_536;

/// Room for a batch.
pub(super) struct Receiver(Vec<Vec<u8>>);

/// A datagram.
pub(super) struct Datagram<'a> {
    pub(super) from: SocketAddr,
    /// When it came, microseconds since 1970.
    pub(super) at_us: i64,
    pub(super) bytes: &'a [u8],
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self(vec![vec![0; SLOT]; BATCH])
    }

    /// Shows every datagram that waits at a socket.
    ///
    /// # Errors
    /// Those of the operating system, other than that nothing waits.
    pub(super) fn drain(&mut self, socket: &impl AsFd, mut show: impl FnMut(Datagram<'_>)) -> io::Result<()> {
        loop {
            let mut slices: Vec<[IoSliceMut<'_>; 1]> =
                self.0.iter_mut().map(|slot| [IoSliceMut::new(slot)]).collect();
            // The kernel shortens the room for control messages with every call: it has to be laid out anew.
            let mut headers = MultiHeaders::preallocate(BATCH, Some(cmsg_space!(TimeSpec, i32)));
            let fd = socket.as_fd().as_raw_fd();
            let received = match recvmmsg(fd, &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None) {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let mut messages = 0;
            for message in received {
                messages += 1;
                let from: Option<SockaddrIn> = message.address;
                let (mut at_us, mut segment) = (0, message.bytes.max(1));
                for control in message.cmsgs()? {
                    match control {
                        ControlMessageOwned::ScmTimestampns(at) => {
                            at_us = at.tv_sec() * 1_000_000 + at.tv_nsec() / 1_000;
                        }
                        ControlMessageOwned::UdpGroSegments(size) => {
                            segment = usize::try_from(size).unwrap_or(segment).max(1);
                        }
                        _ => {}
                    }
                }
                let Some(from) = from else { continue };
                let from = SocketAddr::from((from.ip(), from.port()));
                for bytes in message.iovs().flat_map(|bytes| bytes.chunks(segment)) {
                    show(Datagram { from, at_us, bytes });
                }
            }
            if messages < BATCH {
                return Ok(());
            }
        }
    }
}

/// How many datagrams the kernel has thrown away at these ports of ours because their buffers were full.
///
/// # Errors
/// When the kernel does not tell.
pub(super) fn overflown(ports: &[u16]) -> io::Result<u64> {
    let table = std::fs::read_to_string("/proc/net/udp")?;
    Ok(table.lines().skip(1).filter_map(|line| dropped(line, ports)).sum())
}

/// Of a socket's line (proc_net_udp(5)): the local address and port in hexadecimal digits are the second word, drops the last.
fn dropped(line: &str, ports: &[u16]) -> Option<u64> {
    let port = line.split_whitespace().nth(1)?.rsplit(':').next()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    ports.contains(&port).then(|| line.split_whitespace().last()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_those_of_our_ports() {
        let line =
            "  325: 020200C0:0BB8 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 2 2 0 17";
        assert_eq!(dropped(line, &[3_000]), Some(17));
        assert_eq!(dropped(line, &[3_001]), None);
    }
}
