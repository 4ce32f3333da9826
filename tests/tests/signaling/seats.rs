//! Places in a room: how many there are, who takes whose, and how long one is kept.

use e2e::socket::{Came, FRAME_WITHIN, Socket};
use e2e::system::System;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

#[tokio::test]
async fn a_full_room_lets_nobody_more_in_but_those_who_sit_there() {
    let system = System::builder().workers(0).start().await;
    let (host, base) = (system.client("ann"), system.edge.url());
    let made = host.post("/video-calls", &json!({ "maxParticipants": 2 })).await.expect(201);
    let call = made.data()["id"].as_str().unwrap().to_owned();
    let (_ann, _) = Socket::join(&host, &base, &call).await;
    let (mut bob, _) = Socket::join(&system.client("bob"), &base, &call).await;
    let mut cyd = Socket::open(&system.client("cyd"), &base, &call).await;
    cyd.send("join", Value::Null).await;
    assert_eq!(cyd.refused().await, "room-full");
    let (_again, _) = Socket::join(&system.client("bob"), &base, &call).await;
    assert_eq!(bob.closed().await, 4001);
}

#[tokio::test]
async fn the_older_session_of_the_same_person_is_closed_and_nobody_else_notices() {
    let system = System::builder().workers(0).start().await;
    let base = system.edge.url();
    let call = system.client("ann").create_call(&["bob"]).await;
    let (mut ann, _) = Socket::join(&system.client("ann"), &base, &call).await;
    let (mut older, _) = Socket::join(&system.client("bob"), &base, &call).await;
    ann.frame("participant-joined").await;
    let (mut newer, _) = Socket::join(&system.client("bob"), &base, &call).await;
    assert_eq!(older.closed().await, 4001);
    newer.send("message", json!(1)).await;
    let Came::Frame(frame) = ann.next().await else { panic!("ann stays") };
    assert_eq!(frame["type"], "message", "no frame before it");
    newer.send("leave", Value::Null).await;
    let frame = ann.frame("participant-left").await;
    assert_eq!(frame["data"], json!({ "userId": "bob", "reason": "left" }));
}

#[tokio::test]
async fn a_session_that_is_taken_up_again_keeps_its_place_though_its_older_socket_ends_later() {
    let system = System::builder().workers(0).start().await;
    let base = system.edge.url();
    let call = system.client("ann").create_call(&["bob", "cyd"]).await;
    let (mut ann, _) = Socket::join(&system.client("ann"), &base, &call).await;
    let (mut older, joined) = Socket::join(&system.client("bob"), &base, &call).await;
    ann.frame("participant-joined").await;
    let mut newer = Socket::open(&system.client("bob"), &base, &call).await;
    newer.send("join", json!({ "sessionId": joined["sessionId"] })).await;
    let again = newer.frame("joined").await;
    assert_eq!(again["data"]["sessionId"], joined["sessionId"]);
    assert_eq!(older.closed().await, 4001);
    drop(older);
    // Somebody else who leaves without a word is given up after 15 s; bob, who is there, is not, and hears of it.
    let (cyd, _) = Socket::join(&system.client("cyd"), &base, &call).await;
    newer.frame("participant-joined").await;
    drop(cyd);
    // Both sockets are read all the time: who does not answer pings is given up as well.
    let told = async {
        for kind in ["participant-joined", "participant-left"] {
            assert_eq!(ann.frame(kind).await["userId"], "cyd");
        }
    };
    let (frame, ()) = tokio::join!(newer.frame("participant-left"), told);
    assert_eq!(frame["data"], json!({ "userId": "cyd", "reason": "disconnected" }));
    ann.send("message", json!(1)).await;
    newer.frame("message").await;
}

#[tokio::test]
async fn who_loses_the_socket_may_come_back_within_15_s_with_their_session() {
    let system = System::builder().workers(0).start().await;
    let base = system.edge.url();
    let call = system.client("ann").create_call(&["bob"]).await;
    let (mut ann, _) = Socket::join(&system.client("ann"), &base, &call).await;
    let (bob, joined) = Socket::join(&system.client("bob"), &base, &call).await;
    ann.frame("participant-joined").await;
    drop(bob);
    ann.ping().await;
    let mut bob = Socket::open(&system.client("bob"), &base, &call).await;
    bob.send("join", json!({ "sessionId": joined["sessionId"] })).await;
    assert_eq!(bob.frame("joined").await["data"]["sessionId"], joined["sessionId"]);
    bob.send("message", json!(1)).await;
    let Came::Frame(frame) = ann.next().await else { panic!("ann stays") };
    assert_eq!(frame["type"], "message", "nobody left");
}

#[tokio::test]
async fn a_call_with_invitations_is_for_those_who_were_invited_and_one_without_for_all() {
    let system = System::builder().workers(0).start().await;
    let (host, base) = (system.client("ann"), system.edge.url());
    let closed = host.create_call(&["bob"]).await;
    let open = host.create_call(&[]).await;
    let mut eve = Socket::open(&system.client("eve"), &base, &closed).await;
    eve.send("join", Value::Null).await;
    assert_eq!(eve.refused().await, "forbidden");
    eve.room = open;
    eve.send("join", Value::Null).await;
    eve.frame("joined").await;
    eve.send("join", Value::Null).await;
    assert_eq!(eve.refused().await, "invalid-request");
}

#[tokio::test]
async fn who_falls_silent_on_an_open_socket_is_gone_for_the_others_after_15_s() {
    /// Less than the 15 s of the API: what bob was silent for before this looks at the clock.
    const EARLY_MAX: Duration = Duration::from_secs(1);
    let system = System::builder().workers(0).start().await;
    let base = system.edge.url();
    let call = system.client("ann").create_call(&["bob"]).await;
    let (mut ann, _) = Socket::join(&system.client("ann"), &base, &call).await;
    // Nobody reads bob's socket from here on, so no ping is answered.
    let (mut bob, _) = Socket::join(&system.client("bob"), &base, &call).await;
    let silent = Instant::now();
    let left = ann.frame("participant-left").await;
    assert_eq!(left["data"], json!({ "userId": "bob", "reason": "disconnected" }));
    let (took, wanted) = (silent.elapsed(), Duration::from_secs(15));
    assert!(took + EARLY_MAX >= wanted && took <= FRAME_WITHIN, "{took:?}");
    assert_eq!(bob.closed().await, 4003);
}
