//! A member of a call without a browser: a socket for signaling, and a WebRTC connection that it negotiates.

use std::sync::Arc;
use std::time::Instant;

use e2e::client::Client;
use e2e::socket::{Came, Socket};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::client::{Client as Connection, Sound};
use crate::participant::{FLOWING, Signal, Standing, WITHIN, run};

/// Descriptions that may wait for the connection: there is one at a time in each direction.
const SIGNALS_MAX: usize = 4;

/// A member; their connection vanishes without a word when dropped, and so does their socket.
pub(crate) struct Member {
    pub(crate) socket: Socket,
    signals: mpsc::Sender<Signal>,
    standing: watch::Receiver<Standing>,
    running: JoinHandle<()>,
}

impl Member {
    /// Joins and offers what `media` publishes.
    pub(crate) async fn join(
        person: &Client,
        (base, call): (&str, &str),
        data: Value,
        media: impl FnOnce(&mut Connection),
    ) -> Self {
        let mut socket = Socket::open(person, base, call).await;
        socket.send("join", data).await;
        socket.frame("joined").await;
        let udp = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let ciphers = [SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm];
        let mut connection =
            Connection::new(Instant::now(), udp.local_addr().unwrap(), &ciphers, Sound::Repeated);
        media(&mut connection);
        let offer = connection.offer(Instant::now());
        let (tell, standing) = watch::channel(Standing::default());
        let (signals, told) = mpsc::channel(SIGNALS_MAX);
        let running = tokio::spawn(run(connection, udp, tell, told));
        socket.send("offer", json!({ "sdp": offer })).await;
        Self { socket, signals, standing, running }
    }

    /// The next frame of a type; descriptions before it are negotiated, others passed over.
    pub(crate) async fn frame(&mut self, kind: &str) -> Value {
        loop {
            match self.socket.any().await {
                Came::Frame(frame) => {
                    self.negotiate(&frame).await;
                    if frame["type"] == kind {
                        return frame;
                    }
                }
                Came::Closed(code) => panic!("{} waits for {kind}; closed with {code}", self.socket.user),
            }
        }
    }

    /// The next figures of quality that are so, with descriptions before them negotiated.
    pub(crate) async fn figures(&mut self, is_so: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let quality = self.frame("quality").await["data"]["participants"].take();
                if is_so(&quality) {
                    return quality;
                }
            }
        };
        tokio::time::timeout(WITHIN, found).await.unwrap_or_else(|_| panic!("the figures do not become so"))
    }

    /// Waits until more sound and pictures have come.
    pub(crate) async fn hears_more(&mut self) {
        let before = self.standing.borrow().heard;
        let more = move |now: &Standing| (0..2).all(|kind| now.heard[kind] > before[kind] + FLOWING);
        let mut standing = self.standing.clone();
        let told = async {
            loop {
                tokio::select! {
                    told = standing.wait_for(more) => return told.map(drop),
                    _ = self.frame("offer") => {}
                }
            }
        };
        let told = tokio::time::timeout(WITHIN, told).await;
        assert!(matches!(told, Ok(Ok(()))), "{} hears nothing", self.socket.user);
    }

    /// How their connection stands.
    pub(crate) fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    async fn negotiate(&mut self, frame: &Value) {
        let sdp = || frame["data"]["sdp"]["sdp"].as_str().unwrap_or_default().to_owned();
        let ended = "the connection runs for as long as its member is there";
        if frame["type"] == "answer" {
            self.signals.send(Signal::Answer(sdp())).await.unwrap_or_else(|_| panic!("{ended}"));
        } else if frame["type"] == "offer" {
            let (give, given) = oneshot::channel();
            self.signals.send(Signal::Offer(sdp(), give)).await.unwrap_or_else(|_| panic!("{ended}"));
            if let Some(answer) = given.await.expect(ended) {
                self.socket.send("answer", json!({ "sdp": answer })).await;
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.running.abort();
    }
}
