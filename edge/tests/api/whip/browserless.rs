//! A WebRTC client without a browser: the one that the forwarding unit is tested with, over real sockets. Over TCP it believes to speak
//! UDP with the port of the same number; the edge sees a TCP connection and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

#[expect(dead_code, reason = "the other tests of this client need all of it")]
#[path = "../../../sfu/tests/call/client.rs"]
mod client;

use client::{Client, Sound};

/// How far its clock moves at a time: half of the time between two packets of sound.
const STEP: Duration = Duration::from_millis(10);

/// How packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Udp,
    UdpV6,
    Tcp,
}

/// A client; it vanishes without a word when dropped.
pub(crate) struct Participant {
    client: Arc<Mutex<Client>>,
    socket: Arc<UdpSocket>,
    /// Sound and pictures heard of bob so far.
    heard: watch::Receiver<(usize, usize)>,
    told: watch::Sender<(usize, usize)>,
    running: Option<JoinHandle<()>>,
    over: Over,
}

impl Participant {
    pub(crate) async fn new() -> Self {
        Self::over(Over::Udp).await
    }

    pub(crate) async fn over(over: Over) -> Self {
        let own = if over == Over::UdpV6 { "[::1]:0" } else { "127.0.0.1:0" };
        let socket = UdpSocket::bind(own).await.unwrap();
        let ciphers = [SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm];
        let client = Client::new(Instant::now(), socket.local_addr().unwrap(), &ciphers, Sound::Repeated);
        let (told, heard) = watch::channel((0, 0));
        Self {
            client: Arc::new(Mutex::new(client)),
            socket: Arc::new(socket),
            heard,
            told,
            running: None,
            over,
        }
    }

    pub(crate) fn offer_media(&mut self) -> String {
        let now = Instant::now();
        let client = Arc::get_mut(&mut self.client).unwrap().get_mut();
        client.publish(now, RtpCodecKind::Audio);
        client.publish(now, RtpCodecKind::Video);
        client.offer(now)
    }

    pub(crate) fn offer_to_play(&mut self) -> String {
        let client = Arc::get_mut(&mut self.client).unwrap().get_mut();
        for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
            client.connection.add_transceiver_from_kind(kind, None).unwrap();
        }
        client.offer(Instant::now())
    }

    /// Takes the answer, and lets media flow.
    pub(crate) fn start(&mut self, answer: String) {
        let server = passive(&answer);
        Arc::get_mut(&mut self.client).unwrap().get_mut().on_answer(Instant::now(), answer);
        let (client, socket, told) = (Arc::clone(&self.client), Arc::clone(&self.socket), self.told.clone());
        self.running = Some(match self.over {
            Over::Udp | Over::UdpV6 => tokio::spawn(run_udp(client, socket, told)),
            Over::Tcp => tokio::spawn(run_tcp(client, server, told)),
        });
    }

    /// Waits until sound and pictures have come.
    pub(crate) async fn hears(&mut self) {
        self.has_heard((0, 0)).await;
    }

    /// Waits until more of both has come.
    pub(crate) async fn hears_more(&mut self) {
        let so_far = *self.heard.borrow();
        self.has_heard(so_far).await;
    }

    async fn has_heard(&mut self, (sound, pictures): (usize, usize)) {
        let more = self.heard.wait_for(|now| now.0 > sound + 20 && now.1 > pictures + 20);
        tokio::time::timeout(Duration::from_secs(60), more).await.expect("nothing is heard").unwrap();
    }

    /// New credentials, as a fragment.
    pub(crate) async fn restart(&mut self) -> String {
        let mut client = self.client.lock().await;
        client.connection.restart_ice();
        let offer = client.offer(Instant::now());
        let wanted = |line: &&str| {
            ["a=ice-ufrag", "a=ice-pwd", "a=candidate"].iter().any(|start| line.starts_with(start))
        };
        offer.lines().filter(wanted).flat_map(|line| [line.trim_end(), "\r\n"]).collect()
    }

    /// Takes the server's new credentials, put into its first answer as WHIP clients do.
    pub(crate) async fn restarted(&mut self, answer: &str, fragment: &str) {
        let of = |start: &str| {
            fragment.lines().find(|line| line.starts_with(start)).unwrap().trim_end().to_owned()
        };
        let (ufrag, password) = (of("a=ice-ufrag:"), of("a=ice-pwd:"));
        let line = |line: &str| match line.trim_end() {
            line if line.starts_with("a=ice-ufrag:") => ufrag.clone(),
            line if line.starts_with("a=ice-pwd:") => password.clone(),
            line => line.to_owned(),
        };
        let answer: String = answer.lines().map(|text| line(text) + "\r\n").collect();
        self.client.lock().await.on_answer(Instant::now(), answer);
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

/// The edge's TCP candidate.
fn passive(answer: &str) -> SocketAddr {
    let candidate = answer.lines().find(|line| line.trim_end().ends_with("tcptype passive")).unwrap();
    let words: Vec<&str> = candidate.split(' ').collect();
    SocketAddr::new(words[4].parse().unwrap(), words[5].parse().unwrap())
}

async fn run_udp(client: Arc<Mutex<Client>>, socket: Arc<UdpSocket>, told: watch::Sender<(usize, usize)>) {
    let mut bytes = [0; 2048];
    loop {
        let received = tokio::time::timeout(STEP, socket.recv_from(&mut bytes)).await;
        let mut client = client.lock().await;
        if let Ok(Ok((len, from))) = received {
            client.receive(Instant::now(), from, &bytes[..len]);
        }
        for (to, datagram) in step(&mut client, &told) {
            // The edge may be gone.
            let _ = socket.send_to(&datagram, to).await;
        }
    }
}

async fn run_tcp(client: Arc<Mutex<Client>>, server: SocketAddr, told: watch::Sender<(usize, usize)>) {
    let (mut reader, mut writer) = TcpStream::connect(server).await.unwrap().into_split();
    let (frames, mut came) = tokio::sync::mpsc::channel(64);
    let reading = async move {
        loop {
            let mut frame = vec![0; usize::from(reader.read_u16().await.unwrap())];
            reader.read_exact(&mut frame).await.unwrap();
            frames.send(frame).await.unwrap();
        }
    };
    let running = async move {
        loop {
            let frame = tokio::time::timeout(STEP, came.recv()).await;
            let mut client = client.lock().await;
            if let Ok(Some(frame)) = frame {
                client.receive(Instant::now(), server, &frame);
            }
            for (_, datagram) in step(&mut client, &told) {
                writer.write_u16(u16::try_from(datagram.len()).unwrap()).await.unwrap();
                writer.write_all(&datagram).await.unwrap();
            }
        }
    };
    tokio::join!(reading, running);
}

/// Lets the client do what is due, and gives what it sends.
fn step(client: &mut Client, told: &watch::Sender<(usize, usize)>) -> Vec<(SocketAddr, bytes::BytesMut)> {
    client.run(Instant::now());
    let count = |kind| client.heard_of("bob", kind).len();
    told.send_replace((count("audio"), count("video")));
    client.outbox.drain(..).collect()
}
