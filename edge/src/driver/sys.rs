//! The system calls that no library offers in the shape that the driver needs: `recvmmsg`, `sendmmsg` with a control message
//! each, `ppoll`, `eventfd`. All of the driver's `unsafe` is here, each call in one function.
//!
//! This file must not decide anything: what is sent to whom is `datagrams`' business.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use socket2::SockAddr;

use super::datagrams::{Meta, Offload, RECEIVE_BATCH, Run, Truncated, storage, unmapped};

/// Bytes for the control messages of one datagram: packet info of either family and a segment size, each with its header.
const CONTROL: usize = 96;

/// Control messages of one datagram, aligned as the kernel wants them.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// Which addresses a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6, and IPv4 as mapped addresses.
    V6,
}

/// Asks the kernel to tell the local address of every datagram.
pub(super) fn ask_for_local_address(fd: BorrowedFd<'_>, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => set(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        Family::V6 => set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
    }
}

/// Enlarges both buffers: beyond the system's limit where that is allowed, else up to it.
pub(super) fn grow_buffers(fd: BorrowedFd<'_>, bytes: usize) {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    for (force, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        if set(fd, libc::SOL_SOCKET, force, bytes).is_err() {
            // Less than asked for is no reason not to start.
            let _ = set(fd, libc::SOL_SOCKET, plain, bytes);
        }
    }
}

/// Lets the kernel join segments that arrive together (Linux 5.0).
pub(super) fn enable_gro(fd: BorrowedFd<'_>) -> Offload {
    offload(&set(fd, libc::SOL_UDP, libc::UDP_GRO, 1))
}

/// Whether the kernel cuts runs into segments (Linux 4.18): a size of 0 asks and changes nothing.
pub(super) fn probe_gso(fd: BorrowedFd<'_>) -> Offload {
    offload(&set(fd, libc::SOL_UDP, libc::UDP_SEGMENT, 0))
}

/// Whether a send failed because the device or kernel cannot cut runs, as far as an error can tell.
pub(super) fn is_gso_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE))
}

fn offload(set: &io::Result<()>) -> Offload {
    if set.is_ok() { Offload::On } else { Offload::Off }
}

#[expect(unsafe_code, reason = "setsockopt of options that socket2 does not name")]
fn set(fd: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and length are those of `value`, which lives through the call.
    let done = unsafe {
        let value = ptr::from_ref(&value).cast();
        libc::setsockopt(fd.as_raw_fd(), level, option, value, length::<i32>())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn length<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("structures of the kernel are small")
}

/// Takes datagrams: the n-th into the n-th slot of `bytes`.
#[expect(unsafe_code, reason = "recvmmsg")]
pub(super) fn receive(
    fd: BorrowedFd<'_>,
    bytes: &mut [u8],
    slot: usize,
    metas: &mut Vec<Meta>,
) -> io::Result<usize> {
    let mut addresses: [libc::sockaddr_storage; RECEIVE_BATCH];
    let mut controls = [Control([0; CONTROL]); RECEIVE_BATCH];
    let mut vectors: [libc::iovec; RECEIVE_BATCH];
    let mut headers: [libc::mmsghdr; RECEIVE_BATCH];
    // SAFETY: all-zero is a valid value of these plain structures of the kernel.
    unsafe {
        addresses = zeroed();
        vectors = zeroed();
        headers = zeroed();
    }
    let slots = bytes.chunks_exact_mut(slot).take(RECEIVE_BATCH);
    let mut count = 0;
    for (index, slot) in slots.enumerate() {
        vectors[index] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        let header = &mut headers[index].msg_hdr;
        header.msg_name = ptr::from_mut(&mut addresses[index]).cast();
        header.msg_namelen = length::<libc::sockaddr_storage>();
        header.msg_iov = ptr::from_mut(&mut vectors[index]);
        header.msg_iovlen = 1;
        header.msg_control = controls[index].0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL;
        count += 1;
    }
    // SAFETY: each of the `count` headers points at an address, a vector, a slot and a control buffer that live through the
    // call, with their true lengths; nothing else refers to them meanwhile.
    let got = unsafe {
        libc::recvmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _, ptr::null_mut())
    };
    if got < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) };
    }
    let got = usize::try_from(got).expect("checked above");
    for (header, address) in headers[..got].iter().zip(&addresses) {
        metas.extend(meta(header, address));
    }
    Ok(got)
}

/// What the kernel said of one datagram. `None` cannot happen for an IP socket, and would leave its slot out; so that slots
/// and metas stay in step, a foreign family is told as truncated.
fn meta(header: &libc::mmsghdr, address: &libc::sockaddr_storage) -> Option<Meta> {
    let cut = header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
    let from = socket_addr(address, header.msg_hdr.msg_namelen);
    let known = from.is_some() && !cut;
    let mut meta = Meta {
        from: from.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
        to: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        len: usize::try_from(header.msg_len).ok()?,
        segment: 0,
        truncated: if known { Truncated::No } else { Truncated::Yes },
    };
    read_control(&header.msg_hdr, &mut meta);
    Some(meta)
}

#[expect(unsafe_code, reason = "copies an address that the kernel wrote")]
fn socket_addr(address: &libc::sockaddr_storage, len: libc::socklen_t) -> Option<SocketAddr> {
    let mut copy = storage();
    // SAFETY: both are the kernel's `sockaddr_storage`, and `len` is what the kernel wrote of it.
    let address = unsafe {
        *copy.view_as::<libc::sockaddr_storage>() = *address;
        SockAddr::new(copy, len)
    };
    address.as_socket().map(unmapped)
}

#[expect(unsafe_code, reason = "walks the kernel's control messages")]
fn read_control(header: &libc::msghdr, meta: &mut Meta) {
    // SAFETY: `header` was filled in by recvmmsg and its control buffer is alive; CMSG_FIRSTHDR and CMSG_NXTHDR stay within
    // its length, and each message is read, unaligned, as the type that its level and type name.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(head) = message.as_ref() {
            let data = libc::CMSG_DATA(message);
            match (head.cmsg_level, head.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    meta.to = IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    meta.to = IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)).to_canonical();
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let segment = data.cast::<libc::c_int>().read_unaligned();
                    meta.segment = usize::try_from(segment).unwrap_or(0);
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
}

/// Hands runs to the kernel; says how many it took, one at least.
///
/// # Errors
/// What the kernel said of the first.
#[expect(unsafe_code, reason = "sendmmsg")]
pub(super) fn send(fd: BorrowedFd<'_>, family: Family, arena: &[u8], runs: &[Run]) -> io::Result<usize> {
    let addresses: Vec<SockAddr> = runs.iter().map(|run| address(run.destination.to, family)).collect();
    let vectors: Vec<libc::iovec> =
        runs.iter().flat_map(|run| &run.parts).map(|&part| vector(arena, part)).collect();
    let mut controls = vec![Control([0; CONTROL]); runs.len()];
    let mut headers = Vec::with_capacity(runs.len());
    let mut first = 0;
    for ((run, address), control) in runs.iter().zip(&addresses).zip(&mut controls) {
        // SAFETY: all-zero is a valid `mmsghdr`.
        let mut message: libc::mmsghdr = unsafe { zeroed() };
        let header = &mut message.msg_hdr;
        header.msg_name = address.as_ptr().cast_mut().cast();
        header.msg_namelen = address.len();
        header.msg_iov = ptr::from_ref(&vectors[first]).cast_mut();
        header.msg_iovlen = run.parts.len();
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL;
        header.msg_controllen = write_control(header, run, family);
        if header.msg_controllen == 0 {
            header.msg_control = ptr::null_mut();
        }
        first += run.parts.len();
        headers.push(message);
    }
    let count = u32::try_from(headers.len()).expect("a batch is small");
    // SAFETY: every header points at an address, vectors into `arena` and a control buffer that live through the call; the
    // kernel only reads them, but for the lengths that it writes into `headers`.
    let taken =
        unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _) };
    usize::try_from(taken).ok().filter(|taken| *taken > 0).ok_or_else(io::Error::last_os_error)
}

fn address(to: SocketAddr, family: Family) -> SockAddr {
    match (to, family) {
        (SocketAddr::V4(v4), Family::V6) => {
            SockAddr::from(SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())))
        }
        (other, _) => SockAddr::from(other),
    }
}

fn vector(arena: &[u8], (start, len): (usize, usize)) -> libc::iovec {
    libc::iovec { iov_base: arena[start..start + len].as_ptr().cast_mut().cast(), iov_len: len }
}

/// Writes the control messages of a run, and says how long they are.
fn write_control(header: &mut libc::msghdr, run: &Run, family: Family) -> usize {
    let mut used = 0;
    let from = run.destination.from;
    if !from.is_unspecified() {
        used += match (from, family) {
            (IpAddr::V4(from), Family::V4) => {
                let spec_dst = libc::in_addr { s_addr: u32::from(from).to_be() };
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: spec_dst,
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                put(header, used, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
            }
            (from, Family::V6) => {
                let from = match from {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                let address = libc::in6_addr { s6_addr: from.octets() };
                put(
                    header,
                    used,
                    libc::IPPROTO_IPV6,
                    libc::IPV6_PKTINFO,
                    libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: 0 },
                )
            }
            (IpAddr::V6(_), Family::V4) => 0,
        };
    }
    if run.segments > 1 {
        let size = u16::try_from(run.parts[0].1).expect("a run has at most 64,000 bytes");
        used += put(header, used, libc::SOL_UDP, libc::UDP_SEGMENT, size);
    }
    used
}

/// Appends one control message at `at`; says how many bytes it takes.
#[expect(unsafe_code, reason = "writes a control message in the kernel's layout")]
fn put<T>(header: &libc::msghdr, at: usize, level: i32, kind: i32, value: T) -> usize {
    let size = u32::try_from(size_of::<T>()).expect("structures of the kernel are small");
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute. The message begins at a multiple of CMSG's alignment, `at` being a sum
    // of CMSG_SPACEs, and ends within CONTROL bytes: the largest two need 40 + 24.
    unsafe {
        let space = libc::CMSG_SPACE(size) as usize;
        assert!(at + space <= CONTROL, "control messages fit their buffer");
        let message = header.msg_control.cast::<u8>().add(at).cast::<libc::cmsghdr>();
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = libc::CMSG_LEN(size) as usize;
        libc::CMSG_DATA(message).cast::<T>().write_unaligned(value);
        space
    }
}

/// Waits until one of the files can be read, or the time is over (`None`: for ever).
///
/// # Errors
/// Those of `ppoll`, other than that a signal came.
#[expect(unsafe_code, reason = "ppoll: milliseconds are too coarse for pacing")]
pub(super) fn wait(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    let poll = |fd: &BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut polled: Vec<libc::pollfd> = fds.iter().map(poll).collect();
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `polled` and the time live through the call, with their true lengths.
    let ready =
        unsafe { libc::ppoll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout, ptr::null()) };
    let error = io::Error::last_os_error();
    if ready >= 0 || error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}

/// Wakes a thread that waits in [`wait`].
#[derive(Debug)]
pub(super) struct Waker(OwnedFd);

impl Waker {
    /// Makes one.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    #[expect(unsafe_code, reason = "eventfd")]
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers; a descriptor that it returns is ours alone.
        unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(OwnedFd::from_raw_fd(fd))) }
        }
    }

    /// Wakes whoever waits, or the next one who will.
    #[expect(unsafe_code, reason = "write to an eventfd")]
    pub(super) fn wake(&self) {
        let one = 1u64;
        // SAFETY: eight bytes are read from `one`. It fails only when the counter is full, and then the waiter is awake.
        unsafe { libc::write(self.0.as_raw_fd(), ptr::from_ref(&one).cast(), size_of::<u64>()) };
    }

    /// Forgets the wakings so far.
    #[expect(unsafe_code, reason = "read from an eventfd")]
    pub(super) fn drain(&self) {
        let mut count = 0u64;
        // SAFETY: eight bytes are written into `count`. It fails only when there was no waking.
        unsafe { libc::read(self.0.as_raw_fd(), ptr::from_mut(&mut count).cast(), size_of::<u64>()) };
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
