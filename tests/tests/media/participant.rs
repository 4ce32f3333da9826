//! A WebRTC client without a browser that publishes by WHIP or plays by WHEP, over a UDP socket of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::client::Client;
use reqwest::Method;
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::client::{Client as Connection, Sound};

/// How far its clock moves at a time: from one packet of sound to the next. Hundreds of clients share two cores with the edge.
const STEP: Duration = Duration::from_millis(20);
/// The longest that anything is waited for, on a machine that is busy.
pub(crate) const WITHIN: Duration = Duration::from_secs(90);
/// More packets of each kind, that are taken for a flow.
pub(crate) const FLOWING: usize = 20;

/// How a client stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) connected: bool,
    /// Packets of sound and of pictures that came.
    pub(crate) heard: [usize; 2],
}

/// A client; it vanishes without a word when dropped.
pub(crate) struct Participant {
    pub(crate) socket: Arc<UdpSocket>,
    pub(crate) edge: SocketAddr,
    pub(crate) offer: String,
    pub(crate) answer: String,
    standing: watch::Receiver<Standing>,
    running: JoinHandle<()>,
}

impl Participant {
    /// Publishes sound and pictures.
    pub(crate) async fn publish(person: &Client, call: &str) -> Self {
        Self::begin(person, &format!("/video-calls/{call}/whip"), |connection| {
            connection.publish(Instant::now(), RtpCodecKind::Audio);
            connection.publish(Instant::now(), RtpCodecKind::Video);
        })
        .await
    }

    /// Publishes sound alone.
    pub(crate) async fn speak(person: &Client, call: &str) -> Self {
        Self::begin(person, &format!("/video-calls/{call}/whip"), |connection| {
            connection.publish(Instant::now(), RtpCodecKind::Audio);
        })
        .await
    }

    /// Plays somebody whose media come.
    pub(crate) async fn play(person: &Client, call: &str, of: &str) -> Self {
        Self::begin(person, &format!("/video-calls/{call}/whep/{of}"), |connection| {
            for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
                connection.connection.add_transceiver_from_kind(kind, None).unwrap();
            }
        })
        .await
    }

    async fn begin(person: &Client, path: &str, media: impl FnOnce(&mut Connection)) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let ciphers = [SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm];
        let mut connection =
            Connection::new(Instant::now(), socket.local_addr().unwrap(), &ciphers, Sound::Repeated);
        media(&mut connection);
        let offer = connection.offer(Instant::now());
        let request = person.request(Method::POST, path).header("content-type", "application/sdp");
        let answered = person.send(request.body(offer.clone())).await.expect(201);
        let answer = String::from_utf8(answered.body.to_vec()).unwrap();
        connection.on_answer(Instant::now(), answer.clone());
        let (tell, standing) = watch::channel(Standing::default());
        let (_, nobody) = mpsc::channel(1);
        let running = tokio::spawn(run(connection, Arc::clone(&socket), tell, nobody));
        Self { socket, edge: udp(&answer), offer, answer, standing, running }
    }

    /// Waits until it is connected.
    pub(crate) async fn connected(&mut self) {
        self.until("is not connected", |now| now.connected).await;
    }

    /// Waits until more sound and pictures have come.
    pub(crate) async fn hears_more(&mut self) {
        let before = self.standing.borrow().heard;
        self.until("hears nothing", |now| (0..2).all(|kind| now.heard[kind] > before[kind] + FLOWING)).await;
    }

    /// Waits until more sound has come.
    pub(crate) async fn hears_sound(&mut self) {
        let before = self.standing.borrow().heard[0];
        self.until("hears nothing", |now| now.heard[0] > before + FLOWING).await;
    }

    async fn until(&mut self, otherwise: &str, is_so: impl Fn(&Standing) -> bool) {
        let told =
            tokio::time::timeout(WITHIN, self.standing.wait_for(is_so)).await.map(|told| told.map(drop));
        assert!(matches!(told, Ok(Ok(()))), "a client {otherwise}: {:?}", *self.standing.borrow());
    }

    /// How it stands.
    pub(crate) fn standing(&self) -> Standing {
        *self.standing.borrow()
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// The edge's UDP candidate.
fn udp(answer: &str) -> SocketAddr {
    let candidate = answer.lines().find(|line| line.starts_with("a=candidate:") && line.contains(" udp "));
    let words: Vec<&str> = candidate.unwrap().split(' ').collect();
    format!("{}:{}", words[4], words[5]).parse().unwrap()
}

/// What signaling tells a connection.
pub(crate) enum Signal {
    /// The server's offer, and whom to give our answer.
    Offer(String, oneshot::Sender<Option<String>>),
    /// The server's answer.
    Answer(String),
}

/// Runs a connection until it is aborted, or nobody looks at it any more.
pub(crate) async fn run(
    mut connection: Connection,
    socket: Arc<UdpSocket>,
    tell: watch::Sender<Standing>,
    mut signals: mpsc::Receiver<Signal>,
) {
    let mut bytes = [0; 2048];
    let mut turns = tokio::time::interval(STEP);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = turns.tick() => {}
            Some(signal) = signals.recv() => match signal {
                Signal::Offer(offer, give) => {
                    // Whoever asked may be gone.
                    let _ = give.send(connection.on_offer(Instant::now(), offer));
                }
                Signal::Answer(answer) => connection.on_answer(Instant::now(), answer),
            },
            received = socket.recv_from(&mut bytes) => {
                // A port that was closed meanwhile is told by an error.
                if let Ok((len, from)) = received {
                    connection.receive(Instant::now(), from, &bytes[..len]);
                }
            }
        }
        connection.run(Instant::now());
        for (to, datagram) in connection.outbox.drain(..) {
            // The edge may be gone.
            let _ = socket.send_to(&datagram, to).await;
        }
        let count = |kind: &str| {
            connection.heard.iter().filter(|((_, of), _)| of == kind).map(|(_, packets)| packets.len()).sum()
        };
        tell.send_replace(Standing {
            connected: connection.connected,
            heard: [count("audio"), count("video")],
        });
    }
}
