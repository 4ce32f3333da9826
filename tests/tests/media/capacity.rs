//! Rooms are spread over the media threads, each on a port of its own, and an edge that is full harms no room that runs.

use std::net::{TcpListener, UdpSocket};

use e2e::socket::Socket;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use serde_json::{Value, json};

use crate::client::Client as Connection;
use crate::member::Member;
use crate::participant::Participant;
use crate::{builder, until_published};

/// Two ports in a row that nobody has, for datagrams and for connections.
fn two_ports() -> u16 {
    let is_free = |port: u16| {
        UdpSocket::bind(("0.0.0.0", port)).is_ok() && TcpListener::bind(("0.0.0.0", port)).is_ok()
    };
    let first = || UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    std::iter::repeat_with(first).find(|port| is_free(*port) && is_free(port + 1)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_begin_on_the_thread_with_the_fewest_people_and_threads_have_ports_in_a_row() {
    let first = two_ports();
    let system = builder().set("WEBRTC_THREADS", "2").set("WEBRTC_UDP_PORT", first.to_string()).start().await;
    let (host, mut ports, mut people) = (system.client("host"), Vec::new(), Vec::new());
    for user in ["ann", "bob"] {
        let call = host.create_call(&[]).await;
        let mut publisher = Participant::speak(&system.client(user), &call).await;
        publisher.connected().await;
        until_published(&host, &call, user, 1).await;
        ports.push(publisher.edge.port());
        people.push(publisher);
        if user == "ann" {
            let mut more = Participant::speak(&system.client("cyd"), &call).await;
            more.connected().await;
            assert_eq!(more.edge.port(), ports[0], "a room stays on its thread");
            people.push(more);
        }
    }
    assert_ne!(ports[0], ports[1]);
    let third = Participant::speak(&system.client("dan"), &host.create_call(&[]).await).await;
    assert_eq!(third.edge.port(), ports[1], "there is one person, on the other are two");
    ports.sort_unstable();
    assert_eq!(ports, [first, first + 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_edge_begins_no_room_and_media_of_those_that_run_go_on() {
    const SESSIONS_MAX: usize = 5;
    let system = builder().set("WEBRTC_MAX_SESSIONS", SESSIONS_MAX.to_string()).start().await;
    let (host, base) = (system.client("host"), system.edge.url());
    let (runs, other) = (host.create_call(&[]).await, host.create_call(&[]).await);
    let speak = |connection: &mut Connection| {
        connection.publish(std::time::Instant::now(), RtpCodecKind::Audio);
        connection.publish(std::time::Instant::now(), RtpCodecKind::Video);
    };
    let mut ann = Member::join(&system.client("ann"), (&base, &runs), json!({}), speak).await;
    ann.frame("answer").await;
    let mut ben = Member::join(&system.client("ben"), (&base, &runs), json!({}), speak).await;
    ben.hears_more().await;
    let mut sockets = Vec::new();
    for number in 2..SESSIONS_MAX {
        let user = system.client(&format!("user{number}"));
        sockets.push(Socket::join(&user, &base, &runs).await.0);
    }
    let mut late = Socket::open(&system.client("late"), &base, &other).await;
    late.send("join", Value::Null).await;
    assert_eq!(late.refused().await, "overloaded");
    let whip = host.request(reqwest::Method::POST, &format!("/video-calls/{other}/whip"));
    let offer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";
    let refused = host.send(whip.header("content-type", "application/sdp").body(offer)).await.expect(503);
    assert_eq!(refused.code(), "overloaded");
    ben.hears_more().await;
    // Whoever may come into a room that runs still does.
    late.room = runs;
    late.send("join", Value::Null).await;
    late.frame("joined").await;
    ben.hears_more().await;
}
