//! A proxy before a server, which does to it what networks and providers do. It counts what it did, so that a test can wait for
//! that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
const BUSY: (&str, &str) =
    ("503 Slow Down", "<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>");
/// What a server answers whose disks or quota are full, as MinIO does.
const FULL: (&str, &str) = (
    "507 Insufficient Storage",
    "<Error><Code>XMinioStorageFull</Code><Message>Storage backend has reached its minimum free drive threshold</Message></Error>",
);
/// What S3 answers to credentials that have ended.
const EXPIRED: (&str, &str) = (
    "403 Forbidden",
    "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>",
);
/// How long the rest of a refused request is taken.
const DRAIN_MAX: Duration = Duration::from_secs(2);

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
    /// Every request is answered with 507. Counts them.
    Full,
    /// Every request is answered with 403, as its credentials have ended. Counts them.
    Expired,
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
async fn carry(mut client: TcpStream, server: SocketAddr, shared: Arc<Shared>) -> std::io::Result<()> {
    if *shared.weather.borrow() == Weather::Away {
        shared.fault();
        return Ok(());
    }
    let mut server = TcpStream::connect(server).await?;
    let (mut requests, mut answers, mut sent) = (vec![0; BLOCK], vec![0; BLOCK], 0);
    loop {
        tokio::select! {
            read = client.read(&mut requests) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                let mut rest = &requests[..read];
                while !rest.is_empty() {
                    match shared.judge(sent, rest.len()).await {
                        Verdict::Pass(length) => {
                            let (now, later) = rest.split_at(length);
                            server.write_all(now).await?;
                            (rest, sent) = (later, sent + length as u64);
                            shared.sent.send_modify(|all| *all += length as u64);
                        }
                        // What is not read makes the kernel reset the connection.
                        Verdict::Close => return Ok(()),
                        Verdict::Refuse(answer) => return refuse(client, answer).await,
                    }
                }
            }
            read = server.read(&mut answers) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                client.write_all(&answers[..read]).await?;
            }
        }
    }
}

/// Answers, and takes the rest of the request so that the answer is read.
async fn refuse(mut client: TcpStream, (status, body): (&str, &str)) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/xml\r\nconnection: close\r\n");
    client.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    let mut nowhere = tokio::io::sink();
    let _ = timeout(DRAIN_MAX, tokio::io::copy(&mut client, &mut nowhere)).await;
    Ok(())
}

/// What happens to some bytes.
enum Verdict {
    /// So many of them go through.
    Pass(usize),
    /// The connection ends.
    Close,
    /// The request is refused with this status and body.
    Refuse((&'static str, &'static str)),
}

impl Shared {
    fn fault(&self) {
        self.faults.send_modify(|faults| *faults += 1);
    }

    /// `sent` is what the connection has sent already.
    async fn judge(&self, sent: u64, length: usize) -> Verdict {
        let mut changes = self.weather.subscribe();
        loop {
            let weather = *changes.borrow_and_update();
            match weather {
                Weather::Fair => return Verdict::Pass(length),
                Weather::StopsAfter(limit) if *self.sent.borrow() + (length as u64) <= limit => {
                    return Verdict::Pass(length);
                }
                Weather::StopsAfter(_) => {
                    self.fault();
                    if changes.changed().await.is_err() {
                        return Verdict::Close;
                    }
                }
                Weather::Resets(after) if sent + (length as u64) <= after => return Verdict::Pass(length),
                Weather::Resets(_) | Weather::Away => {
                    self.fault();
                    return Verdict::Close;
                }
                Weather::Busy | Weather::Full | Weather::Expired => {
                    self.fault();
                    return Verdict::Refuse(match weather {
                        Weather::Full => FULL,
                        Weather::Expired => EXPIRED,
                        _ => BUSY,
                    });
                }
                Weather::Slow(rate) => {
                    sleep(SLOW_PAUSE).await;
                    self.fault();
                    return Verdict::Pass(length.min((rate / 10).max(1)));
                }
            }
        }
    }
}
