//! A call goes on while its ports are flooded with what is no media, from strangers and in the name of those who are there.

use std::net::SocketAddr;
use std::sync::Arc;

use e2e::client::Client;
use e2e::socket::{Came, Socket};
use e2e::system::System;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Duration, interval};

use crate::garbage::{Known, Noise, datagram};
use crate::participant::Participant;
use crate::{builder, metric, until_files, until_published};

/// Datagrams in a second, and for how long.
const DATAGRAMS_PER_SECOND: usize = 5_000;
const FLOOD: Duration = Duration::from_secs(5);
/// How they are paced.
const BURST_EVERY: Duration = Duration::from_millis(10);
/// What the edge may keep of it all: buffers of the kernel's size that were touched for the first time, logs, pools of the database.
/// Measured: below 1 MiB.
const GROWTH_MAX: u64 = 16 << 20;
/// Connections of each kind of misbehaviour over TCP.
const CONNECTIONS: usize = 200;

/// Bob publishes, and ann plays him; eve is there to hear whether somebody leaves.
struct Call {
    bob: Participant,
    ann: Participant,
    eve: Socket,
    operator: Client,
}

impl Call {
    async fn begin(system: &System) -> Self {
        let (base, operator) = (system.edge.url(), system.client("root"));
        let call = system.client("ann").create_call(&[]).await;
        let (eve, _) = Socket::join(&system.client("eve"), &base, &call).await;
        let mut bob = Participant::publish(&system.client("bob"), &call).await;
        bob.connected().await;
        until_published(&system.client("ann"), &call, "bob", 2).await;
        let mut ann = Participant::play(&system.client("ann"), &call, "bob").await;
        ann.hears_more().await;
        Self { bob, ann, eve, operator }
    }

    /// Fails unless media flow and nobody has left.
    async fn goes_on(&mut self) {
        self.ann.hears_more().await;
        assert!(self.bob.standing().connected && self.ann.standing().connected);
        self.eve.send("ping", Value::Null).await;
        loop {
            let Came::Frame(frame) = self.eve.next().await else { panic!("eve stays") };
            assert_ne!(frame["type"], "participant-left");
            if frame["type"] == "pong" {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_on_under_5000_malformed_datagrams_a_second() {
    let mut system = builder().start().await;
    let mut call = Call::begin(&system).await;
    let before = system.edge.program().memory();
    let counted = received(&call.operator).await;

    let stranger = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let sockets = [stranger, Arc::clone(&call.bob.socket), Arc::clone(&call.ann.socket)];
    let known = [Known::of(&call.bob), Known::of(&call.ann)];
    let flood = tokio::spawn(flood(sockets, known, call.bob.edge));
    while !flood.is_finished() {
        call.goes_on().await;
    }
    let sent = flood.await.unwrap();
    call.goes_on().await;

    assert!(system.edge.program().runs());
    let grown = system.edge.program().memory().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "the edge holds {} KiB more", grown >> 10);
    let [datagrams, refused] = received(&call.operator).await;
    // What the kernel has no room for is not seen by the edge: the thread that reads is behind now and then on a busy machine.
    assert!(datagrams - counted[0] > sent as f64 / 2.0, "{sent} sent, {datagrams} counted");
    assert!(refused - counted[1] > sent as f64 / 4.0, "{sent} sent, {refused} refused");
}

async fn received(operator: &Client) -> [f64; 2] {
    [
        metric(operator, "callreel_media_datagrams_received_total").await,
        metric(operator, "callreel_media_datagrams_refused_total").await,
    ]
}

/// Every kind of datagram from every socket; how many were sent.
async fn flood(sockets: [Arc<UdpSocket>; 3], known: [Known; 2], edge: SocketAddr) -> usize {
    let (mut noise, mut sent) = (Noise(0x9E37_79B9_7F4A_7C15), 0);
    let bursts = FLOOD.as_millis() / BURST_EVERY.as_millis();
    let burst = DATAGRAMS_PER_SECOND * usize::try_from(BURST_EVERY.as_millis()).unwrap() / 1_000;
    let mut pace = interval(BURST_EVERY);
    for _ in 0..bursts {
        pace.tick().await;
        for _ in 0..burst {
            // 18 kinds, 3 sockets and 2 sessions have common factors: the rounds of each are counted apart.
            let bytes = datagram(sent, &mut noise, &known[sent / 54 % 2]);
            sockets[sent / 18 % 3].send_to(&bytes, edge).await.unwrap();
            sent += 1;
        }
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_on_while_its_tcp_port_is_misused() {
    let mut system = builder().start().await;
    let mut call = Call::begin(&system).await;
    let before = system.edge.program().memory();
    let files = system.edge.program().open_files();
    let mut slow = Vec::new();
    for number in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(call.bob.edge).await.unwrap();
        // Half of a length, or a length and half of what it promises; and then nothing any more.
        let begun: &[u8] = if number % 2 == 0 { &[0] } else { &[0, 100, 0, 1, 0] };
        stream.write_all(begun).await.unwrap();
        slow.push(stream);
    }
    let (mut noise, known) = (Noise(0x2545_F491_4F6C_DD1D), Known::of(&call.bob));
    for turn in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(call.bob.edge).await.unwrap();
        let frames: Vec<u8> = (turn..turn + 50)
            .flat_map(|turn| {
                let bytes = datagram(turn, &mut noise, &known);
                [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
            })
            .collect();
        // It may be closed before it has taken everything.
        let _ = stream.write_all(&frames).await;
        let _ = stream.shutdown().await;
        if turn % 50 == 0 {
            call.goes_on().await;
        }
    }
    call.goes_on().await;
    for mut stream in slow {
        let end = stream.read(&mut [0; 1]).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    call.goes_on().await;
    assert!(system.edge.program().runs());
    let grown = system.edge.program().memory().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "the edge holds {} KiB more", grown >> 10);
    until_files(&mut system, files).await;
}
