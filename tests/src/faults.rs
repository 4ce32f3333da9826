//! A proxy before a server, which does to it what networks and providers do. It counts what it did, so that a test can wait for
//! that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Read at once.
const BLOCK: usize = 16 * 1024;
/// How long a test waits for faults to have happened.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two blocks of a connection that is slow.
const SLOW_PAUSE: Duration = Duration::from_millis(100);
/// What a provider answers that has too much to do.
const BUSY: &str = "HTTP/1.1 503 Slow Down\r\ncontent-type: application/xml\r\ncontent-length: 76\r\nconnection: close\r\n\r\n\
    <Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>";

/// What happens to what clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// All of it goes through.
    Fair,
    /// Nothing goes through any more once so many bytes have, of all connections; they stay open. Counts connections that wait.
    StopsAfter(u64),
    /// Each connection is reset after so many bytes. Counts them.
    Resets(u64),
    /// Every request is answered with 503. Counts them.
    Busy,
    /// Every connection is closed at once. Counts them.
    Away,
    /// So many bytes per second go through, for each connection. Counts tenths of seconds.
    Slow(usize),
}

/// The proxy; ends with its value.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    weather: watch::Sender<Weather>,
    sent: watch::Sender<u64>,
    faults: watch::Sender<u64>,
}

impl Proxy {
    /// Opens a port of its own before a server.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback address has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            weather: watch::Sender::new(Weather::Fair),
            sent: watch::Sender::new(0),
            faults: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, server, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    /// Where it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes the weather, and counts its faults from zero.
    pub fn set(&self, weather: Weather) {
        self.shared.faults.send_replace(0);
        self.shared.weather.send_replace(weather);
    }

    /// How many bytes of clients have gone through.
    #[must_use]
    pub fn sent(&self) -> u64 {
        *self.shared.sent.borrow()
    }

    /// Returns when the present weather has had so many faults.
    ///
    /// # Panics
    /// When it has not in time.
    pub async fn faults(&self, count: u64) {
        let (mut faults, weather) = (self.shared.faults.subscribe(), *self.shared.weather.borrow());
        let happened = timeout(PATIENCE, faults.wait_for(|faults| *faults >= count)).await;
        assert!(happened.is_ok(), "{weather:?} has had {} faults of {count}", *self.shared.faults.borrow());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(carry(client, server, Arc::clone(&shared)));
    }
}

/// Ends when either side does, which closes both.
async fn carry(client: TcpStream, server: SocketAddr, shared: Arc<Shared>) {
    let weather = *shared.weather.borrow();
    if weather == Weather::Away {
        return shared.fault();
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (mut from_server, to_server)) = (client.into_split(), server.into_split());
    let (answers, mut to_client_later) = (tokio::sync::Mutex::new(to_client), None::<OwnedWriteHalf>);
    let back = async {
        let mut to_client = answers.lock().await;
        let _ = tokio::io::copy(&mut from_server, &mut *to_client).await;
    };
    let end = tokio::select! {
        () = back => End::Closed,
        end = forward(from_client, to_server, &shared) => end,
    };
    if end == End::Busy {
        let mut to_client = to_client_later.take().unwrap_or_else(|| answers.into_inner());
        let _ = to_client.write_all(BUSY.as_bytes()).await;
        let _ = to_client.shutdown().await;
    }
}
