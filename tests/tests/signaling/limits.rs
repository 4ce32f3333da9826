//! Clients that do not read what they are told, and an edge that has no place for another connection: both are told, by a code that
//! says to come back.

use e2e::socket::{Came, Socket};
use e2e::system::System;
use serde_json::{Value, json};

/// The close code of somebody who shall come back: "try again later".
const TRY_AGAIN_LATER: u16 = 1013;
/// Messages of one sender: what may be sent at once is 500 frames.
const MESSAGES: usize = 490;
/// The bytes of one message. With those of all senders they are more than the kernel and the edge keep for a socket (some 10 MiB, and
/// 512 frames).
const MESSAGE_BYTES: usize = 15_000;
/// Sessions that a media thread carries.
const SESSIONS_MAX: usize = 500;
/// Calls that they are in. A thread with nine tenths of that begins no other, so these begin first; and in a small one joins are told
/// to few.
const CALLS: usize = 25;

#[tokio::test]
async fn who_does_not_read_is_closed_and_comes_back_into_the_same_place() {
    let system = System::builder().workers(0).start().await;
    let base = system.edge.url();
    let call = system.client("ann").create_call(&[]).await;
    let (mut slow, joined) = Socket::join(&system.client("slow"), &base, &call).await;
    let mut senders = Vec::new();
    for user in ["ann", "bob", "cyd", "dan"] {
        senders.push(Socket::join(&system.client(user), &base, &call).await.0);
    }
    let text = "x".repeat(MESSAGE_BYTES);
    let said = senders.iter_mut().map(async |sender| {
        for _ in 0..MESSAGES {
            sender.send_to("slow", "message", json!({ "text": text })).await;
        }
        sender.ping().await;
    });
    futures::future::join_all(said).await;
    assert_eq!(slow.closed().await, TRY_AGAIN_LATER);

    let mut again = Socket::open(&system.client("slow"), &base, &call).await;
    again.send("join", json!({ "sessionId": joined["sessionId"] })).await;
    assert_eq!(again.frame("joined").await["data"]["sessionId"], joined["sessionId"]);
    again.send("message", json!("here")).await;
    for sender in &mut senders {
        loop {
            let Came::Frame(frame) = sender.next().await else { panic!("{} stays", sender.user) };
            assert_ne!(frame["type"], "participant-left");
            if frame["type"] == "message" {
                break;
            }
        }
    }
}

#[tokio::test]
async fn who_finds_a_full_thread_is_told_and_takes_no_place() {
    let system = System::builder().workers(0).set("WEBRTC_PUBLIC_IP", "127.0.0.1").start().await;
    let (host, base) = (system.client("host"), system.edge.url());
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        calls.push(host.create_call(&[]).await);
    }
    let mut sockets = Vec::new();
    for number in 0..SESSIONS_MAX {
        let user = system.client(&format!("user{number}"));
        sockets.push(Socket::join(&user, &base, &calls[number % CALLS]).await.0);
    }
    let (mut late, _) = Socket::join(&system.client("late"), &base, &calls[0]).await;
    assert_eq!(late.refused().await, "overloaded");
    assert_eq!(late.closed().await, TRY_AGAIN_LATER);
    let told = sockets[0].frame("participant-left").await;
    assert_eq!(told["userId"], "late");
    let whip = host.request(reqwest::Method::POST, &format!("/video-calls/{}/whip", calls[0]));
    let offer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";
    let refused = host.send(whip.header("content-type", "application/sdp").body(offer)).await.expect(503);
    assert_eq!((refused.code().as_str(), refused.header("retry-after")), ("overloaded", "1"));

    sockets[CALLS].send("leave", Value::Null).await;
    sockets[0].frame("participant-left").await;
    let (mut late, _) = Socket::join(&system.client("late"), &base, &calls[0]).await;
    late.ping().await;
}
