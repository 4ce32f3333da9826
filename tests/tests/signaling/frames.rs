//! What frames do, and what is answered to those that mean nothing.

use e2e::socket::{Came, Socket};
use e2e::system::System;
use serde_json::{Value, json};

/// The longest frame that the API takes.
const FRAME_MAX: usize = 256 * 1024;

#[tokio::test]
async fn frames_that_mean_nothing_are_refused_and_the_socket_stays() {
    let system = System::builder().workers(0).start().await;
    let (ann, base) = (system.client("ann"), system.edge.url());
    let call = ann.create_call(&[]).await;
    let mut socket = Socket::open(&ann, &base, &call).await;
    for (frame, code) in [
        ("{".to_owned(), "malformed-json"),
        ("[]".to_owned(), "invalid-request"),
        (json!({ "type": "dance", "roomId": call, "userId": "ann" }).to_string(), "invalid-request"),
        (json!({ "type": "join", "roomId": call, "userId": "bob" }).to_string(), "forbidden"),
        (json!({ "type": "message", "roomId": call, "userId": "ann" }).to_string(), "not-joined"),
        (json!({ "type": "mute", "roomId": call, "userId": "ann" }).to_string(), "not-joined"),
        (json!({ "type": "join", "roomId": "nowhere", "userId": "ann" }).to_string(), "no-such-call"),
    ] {
        socket.raw(frame.clone()).await;
        assert_eq!(socket.refused().await, code, "{frame}");
    }
    let asked = json!({ "type": "dance", "roomId": call, "userId": "ann", "requestId": "r-7" });
    socket.raw(asked.to_string()).await;
    assert_eq!(socket.frame("error").await["requestId"], "r-7");
    socket.ping().await;
    socket.send("join", Value::Null).await;
    socket.frame("joined").await;
    for sdp in [json!("v=0\r\nnonsense"), json!("v=0\r\n"), json!({ "type": "offer", "sdp": "v=0" })] {
        socket.send("offer", json!({ "sdp": sdp })).await;
        assert_eq!(socket.refused().await, "invalid-description", "{sdp}");
    }
    socket.ping().await;
}

#[tokio::test]
async fn a_frame_beyond_256_kib_closes_the_socket_with_1009() {
    let system = System::builder().workers(0).start().await;
    let (ann, base) = (system.client("ann"), system.edge.url());
    let call = ann.create_call(&[]).await;
    let mut socket = Socket::open(&ann, &base, &call).await;
    socket.raw("x".repeat(FRAME_MAX)).await;
    assert_eq!(socket.refused().await, "malformed-json");
    socket.raw("x".repeat(FRAME_MAX + 1)).await;
    assert_eq!(socket.closed().await, 1009);
}

#[tokio::test]
async fn messages_and_mutes_are_told_to_the_room_and_a_message_to_one_to_that_one_alone() {
    let system = System::builder().workers(0).start().await;
    let base = system.edge.url();
    let call = system.client("ann").create_call(&["bob", "cyd"]).await;
    let (mut ann, _) = Socket::join(&system.client("ann"), &base, &call).await;
    let (mut bob, _) = Socket::join(&system.client("bob"), &base, &call).await;
    let (mut cyd, joined) = Socket::join(&system.client("cyd"), &base, &call).await;
    let there: Vec<&str> =
        joined["participants"].as_array().unwrap().iter().filter_map(|one| one["userId"].as_str()).collect();
    assert_eq!(there, ["ann", "bob"]);

    ann.send("message", json!({ "text": "all" })).await;
    ann.send_to("bob", "message", json!({ "text": "bob" })).await;
    ann.send_to("eve", "message", json!({})).await;
    assert_eq!(ann.refused().await, "no-such-participant");
    for (socket, texts) in [(&mut bob, ["all", "bob"].as_slice()), (&mut cyd, &["all"])] {
        for text in texts {
            let frame = socket.frame("message").await;
            assert_eq!((&frame["userId"], &frame["data"]["text"]), (&json!("ann"), &json!(text)));
        }
    }

    ann.send("mute", json!({ "kind": "audio" })).await;
    for socket in [&mut bob, &mut cyd] {
        // The next frame: cyd is not told what was for bob.
        let Came::Frame(frame) = socket.next().await else { panic!("the socket stays") };
        assert_eq!(
            (&frame["type"], &frame["data"]),
            (&json!("mute"), &json!({ "userId": "ann", "kind": "audio" }))
        );
    }
    let (_dan, joined) = Socket::join(&system.client("ann"), &base, &call).await;
    assert_eq!(joined["participants"].as_array().map(Vec::len), Some(2));
    // A session begins without mutes, and everybody hears of it.
    assert_eq!(cyd.frame("unmute").await["data"], json!({ "userId": "ann", "kind": "audio" }));
    bob.send("unmute", Value::Null).await;
    assert_eq!(cyd.frame("unmute").await["userId"], "bob");
}

#[tokio::test]
async fn descriptions_and_candidates_for_a_person_are_relayed_as_they_are() {
    let system = System::builder().workers(0).start().await;
    let base = system.edge.url();
    let call = system.client("ann").create_call(&["bob"]).await;
    let (mut ann, _) = Socket::join(&system.client("ann"), &base, &call).await;
    let (mut bob, _) = Socket::join(&system.client("bob"), &base, &call).await;
    let offer = json!({ "sdp": { "type": "offer", "sdp": "v=0\r\nanything" }, "more": [1] });
    let answer = json!({ "sdp": "v=0\r\nelse" });
    let candidate = json!({ "candidate": { "candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host", "sdpMid": "0", "own": true } });
    ann.send_to("bob", "offer", offer.clone()).await;
    ann.send_to("bob", "ice-candidate", candidate.clone()).await;
    ann.send_to("bob", "ice-candidate", json!({ "candidate": null })).await;
    for (kind, data) in
        [("offer", offer), ("ice-candidate", candidate), ("ice-candidate", json!({ "candidate": null }))]
    {
        let frame = bob.frame(kind).await;
        assert_eq!((&frame["userId"], &frame["data"]), (&json!("ann"), &data));
    }
    bob.send_to("ann", "answer", answer.clone()).await;
    assert_eq!(ann.frame("answer").await["data"], answer);
}
