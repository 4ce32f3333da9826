//! ICE servers for clients.

use serde_json::{Value, json};

use crate::support::{answer, edge, edge_with};

#[tokio::test]
async fn everybody_gets_turn_credentials_of_their_own() {
    let settings = [
        ("WEBRTC_ICE_SERVERS", r#"[{"urls": "stun:stun.example.org"}]"#),
        ("WEBRTC_TURN_SERVER_URL", "turn:turn.example.org?transport=udp"),
        ("WEBRTC_TURN_SECRET", "north"),
    ];
    let edge = edge_with(&settings).await;
    let told = edge.get("/video-calls/ice-servers", "ann").await.is(200);
    let servers = &told.data()["iceServers"];
    assert_eq!(servers[0], json!({ "urls": ["stun:stun.example.org"] }));
    assert!(servers[1]["username"].as_str().unwrap().ends_with(":ann"));
    assert!(told.data()["expiresAt"].is_string());
    let other = edge.get("/api/video-calls/ice-servers", "bob").await.is(200);
    assert_ne!(other.data()["iceServers"][1]["credential"], servers[1]["credential"]);
}

#[tokio::test]
async fn without_settings_there_are_none_and_strangers_are_told_nothing() {
    let edge = edge().await;
    assert_eq!(
        *edge.get("/video-calls/ice-servers", "ann").await.is(200).data(),
        json!({ "iceServers": [] })
    );
    answer(edge.request("GET", "/video-calls/ice-servers")).await.is_problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_call_cannot_be_called_as_a_route() {
    let edge = edge().await;
    for word in ["ice-servers", "recording", "stats", "ws"] {
        edge.post("/video-calls", "ann", json!({ "id": word })).await.is_problem(400, "invalid-request");
    }
    edge.send("GET", "/video-calls/ws", "ann", Value::Null).await.is_problem(400, "invalid-request");
}
