//! ICE-TCP (RFC 6544, passive): clients whose network lets no UDP out connect to the TCP port of the same number as a shard's UDP
//! port. Packets are framed by their length (RFC 4571).
//!
//! This file must not know WebRTC beyond what a first packet looks like. Connections live on the async runtime; the media thread sees
//! packets in a bounded queue and gives packets to bounded writers, and waits for neither.
//!
//! Decisions:
//! - Inwards a full queue holds the reader, and so the client: TCP slows it down. Outwards a full writer drops, as UDP would.
//! - A connection that does not begin with a check of ICE is closed: the port is open to everybody.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sfu::{Path, Transport};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::datagrams::unmapped;
use super::sys::Waker;

/// Connections of one shard: more than it carries sessions, as a client opens one for each of our addresses.
const CONNECTIONS_MAX: usize = 1_024;
/// Packets of all connections that wait for the media thread: some turns of it.
const INWARD_MAX: usize = 1_024;
/// Packets that wait for one connection: a keyframe and a second of sound. More is a line that is too slow for what it gets.
const OUTWARD_MAX: usize = 512;
/// The largest packet taken: the same as from UDP, above every packet of WebRTC.
const PACKET_MAX: usize = 2_048;
/// How long a new connection may take for its first packet; checks begin at once.
const FIRST_MAX: Duration = Duration::from_secs(10);
/// How long a connection may be silent: twice the time after which its session is over.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long a write may hang before the connection is given up.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// Bytes that one write takes together: few system calls when packets wait.
const WRITE_BATCH: usize = 64 * 1024;
/// Connections that the kernel keeps while none is accepted.
const BACKLOG: i32 = 256;
/// How long to wait when no connection can be accepted: the process has run out of descriptors, and some will be given back.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Something that happened on a connection.
#[derive(Debug)]
pub(super) enum Happened {
    /// It has begun; packets for it go here.
    Opened(Path, mpsc::Sender<Bytes>),
    /// A packet came.
    Came(Path, Bytes),
    /// It is over.
    Closed(Path),
}

/// A port that is bound.
pub(super) struct Port(std::net::TcpListener);

impl Port {
    /// Binds a port on every address of the machine, as the UDP port of the same number is.
    ///
    /// # Errors
    /// When it is taken.
    pub(super) fn bind(port: u16) -> io::Result<Self> {
        match Self::bind_to(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
            Err(error) if super::datagrams::no_ipv6(&error) => {
                Self::bind_to(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
            }
            bound => bound,
        }
    }

    fn bind_to(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // Connections of a process before this one may still be closing.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(BACKLOG)?;
        Ok(Self(socket.into()))
    }

    /// Accepts connections until the process stops. `locals` are the local ends of our TCP candidates.
    ///
    /// # Errors
    /// When the runtime cannot take the socket.
    pub(super) fn serve(
        self,
        locals: Vec<SocketAddr>,
        waker: Arc<Waker>,
        stop: CancellationToken,
    ) -> io::Result<(mpsc::Receiver<Happened>, impl Future<Output = ()> + Send + 'static)> {
        let listener = TcpListener::from_std(self.0)?;
        let (happened, told) = mpsc::channel(INWARD_MAX);
        let shard = Shard { happened, waker, locals: locals.into() };
        Ok((told, async move {
            stop.run_until_cancelled(accept(listener, shard, stop.clone())).await;
        }))
    }
}

/// The way to the media thread.
#[derive(Clone)]
struct Shard {
    happened: mpsc::Sender<Happened>,
    waker: Arc<Waker>,
    locals: Arc<[SocketAddr]>,
}

impl Shard {
    async fn tell(&self, happened: Happened) -> io::Result<()> {
        let told = self.happened.send(happened).await;
        self.waker.wake();
        told.map_err(|_| io::ErrorKind::ConnectionAborted.into())
    }

    /// The candidate that a connection came to, as with datagrams.
    fn path(&self, stream: &TcpStream, from: SocketAddr) -> io::Result<Path> {
        let (to, remote) = (unmapped(stream.local_addr()?).ip(), unmapped(from));
        let local = local(&self.locals, to).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Path { local, remote, transport: Transport::Tcp })
    }
}

/// The candidate at an address; at one that we do not offer, the first of its family.
pub(super) fn local(locals: &[SocketAddr], to: IpAddr) -> Option<SocketAddr> {
    let exact = locals.iter().find(|local| local.ip() == to);
    let family = || locals.iter().find(|local| local.is_ipv4() == to.is_ipv4());
    exact.or_else(family).or(locals.first()).copied()
}

async fn accept(listener: TcpListener, shard: Shard, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("cannot accept media over TCP: {error}");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (shard, stop) = (shard.clone(), stop.clone());
        tokio::spawn(async move {
            if let Some(Err(error)) = stop.run_until_cancelled(carry(stream, from, &shard)).await {
                debug!("a connection of media has ended: {error}");
            }
            drop(place);
        });
    }
}

/// Carries one connection to its end.
async fn carry(stream: TcpStream, from: SocketAddr, shard: &Shard) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let path = shard.path(&stream, from)?;
    let (mut reader, writer) = stream.into_split();
    let first = timeout(FIRST_MAX, packet(&mut reader)).await??;
    if !is_check(&first) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let (packets, waiting) = mpsc::channel(OUTWARD_MAX);
    shard.tell(Happened::Opened(path, packets)).await?;
    shard.tell(Happened::Came(path, first)).await?;
    let over = tokio::select! {
        over = read(&mut reader, path, shard) => over,
        over = write(writer, waiting) => over,
    };
    shard.tell(Happened::Closed(path)).await?;
    over
}

async fn read(reader: &mut OwnedReadHalf, path: Path, shard: &Shard) -> io::Result<()> {
    loop {
        let packet = timeout(SILENCE_MAX, packet(reader)).await??;
        shard.tell(Happened::Came(path, packet)).await?;
    }
}

/// The next packet (RFC 4571, section 2).
async fn packet(reader: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Bytes> {
    let len = usize::from(reader.read_u16().await?);
    if len > PACKET_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut packet = BytesMut::zeroed(len);
    reader.read_exact(&mut packet).await?;
    Ok(packet.freeze())
}

async fn write(mut writer: OwnedWriteHalf, mut waiting: mpsc::Receiver<Bytes>) -> io::Result<()> {
    let mut batch = Vec::with_capacity(WRITE_BATCH);
    while let Some(packet) = waiting.recv().await {
        frame(&mut batch, &packet);
        while batch.len() < WRITE_BATCH
            && let Ok(packet) = waiting.try_recv()
        {
            frame(&mut batch, &packet);
        }
        timeout(WRITE_MAX, writer.write_all(&batch)).await??;
        batch.clear();
    }
    Ok(())
}

fn frame(batch: &mut Vec<u8>, packet: &[u8]) {
    // A packet of ours is never longer than a datagram.
    let Ok(len) = u16::try_from(packet.len()) else { return };
    batch.extend_from_slice(&len.to_be_bytes());
    batch.extend_from_slice(packet);
}

/// A STUN binding request (RFC 8489, section 5): what every ICE connection begins with.
fn is_check(packet: &[u8]) -> bool {
    packet.len() >= 20 && packet[..2] == [0, 1] && packet[4..8] == [0x21, 0x12, 0xA4, 0x42]
}

/// The connections of a shard, as its thread sees them.
#[derive(Debug)]
pub(super) struct Connections {
    happened: mpsc::Receiver<Happened>,
    writers: HashMap<Path, mpsc::Sender<Bytes>>,
}

impl Connections {
    pub(super) fn new(happened: mpsc::Receiver<Happened>) -> Self {
        Self { happened, writers: HashMap::new() }
    }

    /// The next packet that has come.
    pub(super) fn receive(&mut self) -> Option<(Path, Bytes)> {
        loop {
            match self.happened.try_recv().ok()? {
                Happened::Opened(path, writer) => drop(self.writers.insert(path, writer)),
                Happened::Came(path, packet) => return Some((path, packet)),
                Happened::Closed(path) => drop(self.writers.remove(&path)),
            }
        }
    }

    /// Whether more may have come.
    pub(super) fn is_waiting(&self) -> bool {
        !self.happened.is_empty()
    }

    /// Gives a packet to a connection that has room for it.
    pub(super) fn send(&self, path: Path, packet: &[u8]) -> Result<(), Dropped> {
        let writer = self.writers.get(&path).ok_or(Dropped)?;
        writer.try_send(Bytes::copy_from_slice(packet)).map_err(|_| Dropped)
    }
}

/// The connection is gone, or too slow.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dropped;

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    struct Server {
        address: SocketAddr,
        connections: Connections,
        waker: Arc<Waker>,
        stop: CancellationToken,
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.stop.cancel();
        }
    }

    fn server() -> Server {
        let port = Port::bind(0).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.0.local_addr().unwrap().port()));
        let (waker, stop) = (Arc::new(Waker::new().unwrap()), CancellationToken::new());
        let (happened, serving) = port.serve(vec![address], Arc::clone(&waker), stop.clone()).unwrap();
        tokio::spawn(serving);
        Server { address, connections: Connections::new(happened), waker, stop }
    }

    impl Server {
        /// Waits as a media thread does.
        async fn receive(mut self) -> (Self, Path, Bytes) {
            tokio::task::spawn_blocking(move || {
                loop {
                    if let Some((path, packet)) = self.connections.receive() {
                        return (self, path, packet);
                    }
                    super::super::sys::wait(&[std::os::fd::AsFd::as_fd(&*self.waker)], None).unwrap();
                    self.waker.drain();
                }
            })
            .await
            .unwrap()
        }
    }

    async fn client(server: &Server, packets: &[&[u8]]) -> TcpStream {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let mut bytes = Vec::new();
        packets.iter().for_each(|packet| frame(&mut bytes, packet));
        stream.write_all(&bytes).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn packets_cross_in_both_directions_and_in_order() {
        let server = server();
        let mut stream = client(&server, &[&CHECK, b"one", b"", b"two"]).await;
        let (mut server, mut came) = (server, Vec::new());
        let mut path = None;
        while came.len() < 4 {
            let (back, from, packet) = server.receive().await;
            (server, path) = (back, Some(from));
            came.push(packet);
        }
        assert_eq!(came, [&CHECK[..], b"one", b"", b"two"]);
        let path = path.unwrap();
        assert_eq!((path.local, path.remote), (server.address, stream.local_addr().unwrap()));
        for packet in [&b"three"[..], b"four"] {
            server.connections.send(path, packet).unwrap();
        }
        assert_eq!(packet(&mut stream).await.unwrap(), &b"three"[..]);
        assert_eq!(packet(&mut stream).await.unwrap(), &b"four"[..]);
    }

    #[tokio::test]
    async fn what_does_not_begin_with_a_check_is_closed() {
        let server = server();
        for packets in [&[&b"GET / HTTP/1.1"[..]][..], &[&CHECK, &[0; PACKET_MAX + 1]]] {
            let mut stream = client(&server, packets).await;
            let end = stream.read(&mut [0; 1]).await;
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_costs_only_its_own_packets() {
        let server = server();
        let stream = client(&server, &[&CHECK]).await;
        let (server, path, _) = server.receive().await;
        let full = (0..100_000).any(|_| server.connections.send(path, &[0; 1200]) == Err(Dropped));
        assert!(full);
        drop(stream);
        let nobody = Path { remote: SocketAddr::from(([192, 0, 2, 1], 9)), ..path };
        assert_eq!(server.connections.send(nobody, b"x"), Err(Dropped));
    }
}
