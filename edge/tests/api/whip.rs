//! WHIP and WHEP with clients that are real WebRTC connections, over real sockets.

use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::postgres::PgListener;

use crate::support::{Answer, TestEdge, answer, edge_with, token};
use browserless::{Over, Participant};

mod browserless;

const SETTINGS: &[(&str, &str)] = &[
    ("WEBRTC_PUBLIC_IP", "127.0.0.1"),
    ("WEBRTC_THREADS", "1"),
    ("WEBRTC_ICE_SERVERS", r#"[{"urls": "stun:stun.example.org"}]"#),
];

async fn post(edge: &TestEdge, path: &str, user: &str, sdp: String) -> Answer {
    let request =
        edge.request("POST", path).bearer_auth(token(user)).header("content-type", "application/sdp");
    answer(request.body(sdp)).await
}

async fn patch(edge: &TestEdge, session: &str, user: &str, tag: Option<&str>, fragment: &str) -> Answer {
    let request = edge.client.patch(session).bearer_auth(token(user));
    let request = request.header("content-type", "application/trickle-ice-sdpfrag").body(fragment.to_owned());
    answer(match tag {
        Some(tag) => request.header("if-match", tag),
        None => request,
    })
    .await
}

async fn delete(edge: &TestEdge, session: &str, user: &str) -> Answer {
    answer(edge.client.delete(session).bearer_auth(token(user))).await
}

/// Somebody who publishes, and their session.
async fn publisher(edge: &TestEdge, call: &str, user: &str) -> (Participant, Answer) {
    publisher_over(Over::Udp, edge, call, user).await
}

async fn publisher_over(over: Over, edge: &TestEdge, call: &str, user: &str) -> (Participant, Answer) {
    let mut client = Participant::over(over).await;
    let offer = client.offer_media();
    let begun = post(edge, &format!("/video-calls/{call}/whip"), user, offer).await.is(201);
    client.start(text(&begun));
    (client, begun)
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.bytes.clone()).unwrap()
}

/// Asks for a call's figures until they are so.
async fn until(edge: &TestEdge, call: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let stats = edge.get(&format!("/video-calls/{call}/stats"), "ann").await.is(200);
        if so(stats.data()) {
            return stats.data().clone();
        }
        assert!(tokio::time::Instant::now() < deadline, "never: {what}: {}", stats.data());
    }
}

fn flows(stats: &Value) -> bool {
    let published = stats["participants"][0]["published"].as_array();
    published.is_some_and(|tracks| {
        tracks.len() == 2 && tracks.iter().all(|track| track["packets"].as_u64() > Some(20))
    })
}

#[tokio::test]
async fn somebody_publishes_is_played_restarts_and_is_recorded() {
    let edge = edge_with(SETTINGS).await;
    let call = edge.call().await;
    let recording = edge.recording(&call).await;
    let (mut bob, begun) = publisher(&edge, &call, "bob").await;
    assert_eq!(begun.header("content-type"), "application/sdp");
    assert_eq!(begun.header("link"), r#"<stun:stun.example.org>; rel="ice-server""#);
    let (session, tag) = (begun.header("location").to_owned(), begun.header("etag").to_owned());
    assert!(session.starts_with(&format!("{}/video-calls/{call}/whip/", edge.base)));

    let stats = until(&edge, &call, "bob's media come", flows).await;
    assert_eq!((&stats["participantCount"], &stats["participants"][0]["userId"]), (&json!(1), &json!("bob")));
    let carried = edge.get("/video-calls/stats", "root").await.is(200);
    assert_eq!((&carried.data()["rooms"], &carried.data()["participants"]), (&json!(1), &json!(1)));
    assert!(carried.data()["bytesReceived"].as_u64().unwrap() > 1_000);

    let mut ann = Participant::new().await;
    let offer = ann.offer_to_play();
    let played = post(&edge, &format!("/video-calls/{call}/whep/bob"), "ann", offer).await.is(201);
    ann.start(text(&played));
    ann.hears().await;

    let fragment = bob.restart().await;
    patch(&edge, &session, "bob", None, &fragment).await.is_problem(428, "precondition-required");
    patch(&edge, &session, "bob", Some("\"other\""), &fragment).await.is_problem(412, "precondition-failed");
    patch(&edge, &session, "ann", Some("*"), &fragment).await.is_problem(404, "no-such-session");
    let restarted = patch(&edge, &session, "bob", Some("*"), &fragment).await.is(200);
    assert_eq!(restarted.header("content-type"), "application/trickle-ice-sdpfrag");
    let renewed = restarted.header("etag").to_owned();
    assert_ne!(renewed, tag);
    bob.restarted(&text(&begun), &text(&restarted)).await;
    ann.hears_more().await;
    patch(&edge, &session, "bob", Some(&tag), "a=end-of-candidates\r\n")
        .await
        .is_problem(412, "precondition-failed");
    patch(&edge, &session, "bob", Some(&renewed), "a=end-of-candidates\r\n").await.is(204);

    // The same of who plays.
    let (watching, tag) = (played.header("location").to_owned(), played.header("etag").to_owned());
    let fragment = ann.restart().await;
    patch(&edge, &watching, "ann", None, &fragment).await.is_problem(428, "precondition-required");
    patch(&edge, &watching, "bob", Some("*"), &fragment).await.is_problem(404, "no-such-session");
    let restarted = patch(&edge, &watching, "ann", Some("\"other\""), &fragment).await;
    restarted.is_problem(412, "precondition-failed");
    let restarted = patch(&edge, &watching, "ann", Some("*"), &fragment).await.is(200);
    assert_ne!(restarted.header("etag"), tag);
    ann.restarted(&text(&played), &text(&restarted)).await;
    ann.hears_more().await;
    patch(&edge, &watching, "ann", Some(restarted.header("etag")), "a=end-of-candidates\r\n").await.is(204);

    delete(&edge, &watching, "ann").await.is(200);
    delete(&edge, &session, "bob").await.is(200);
    delete(&edge, &session, "bob").await.is_problem(404, "no-such-session");
    let left = until(&edge, &call, "bob has left", |stats| stats["participantCount"] == 0).await;
    assert_eq!(left["recording"]["id"], recording);
    edge.post(&format!("/video-calls/{call}/recording/stop"), "ann", Value::Null).await.is(202);
    let path = format!("/video-calls/{call}/recording/{recording}");
    let shown = edge.get(&path, "ann").await.is(200);
    let tracks = shown.data()["tracks"].as_array().unwrap();
    assert_eq!(tracks.len(), 2, "{tracks:?}");
    assert!(
        tracks.iter().all(|track| track["participantId"] == "bob" && track["source"] == "server"),
        "{tracks:?}"
    );
}

#[tokio::test]
async fn people_without_udp_publish_and_play_themselves_over_tcp() {
    publish_and_play(&edge_with(SETTINGS).await, Over::Tcp).await;
}

#[tokio::test]
async fn people_publish_and_play_themselves_over_ipv6() {
    let edge = edge_with(&[("WEBRTC_PUBLIC_IP", "::1"), ("WEBRTC_THREADS", "1")]).await;
    publish_and_play(&edge, Over::UdpV6).await;
}

async fn publish_and_play(edge: &TestEdge, over: Over) {
    let call = edge.call().await;
    let (_bob, _) = publisher_over(over, edge, &call, "bob").await;
    until(edge, &call, "bob's media come", flows).await;
    let mut player = Participant::over(over).await;
    let offer = player.offer_to_play();
    let played = post(edge, &format!("/video-calls/{call}/whep/bob"), "bob", offer).await.is(201);
    player.start(text(&played));
    player.hears().await;
    player.hears_more().await;
}

#[tokio::test]
async fn who_vanishes_is_noticed_and_comes_back_in_place_of_the_lost_session() {
    let edge = edge_with(SETTINGS).await;
    let call = edge.call().await;
    let (bob, begun) = publisher(&edge, &call, "bob").await;
    until(&edge, &call, "bob's media come", flows).await;
    drop(bob);
    let (bob, again) = publisher(&edge, &call, "bob").await;
    assert_ne!(begun.header("location"), again.header("location"));
    delete(&edge, begun.header("location"), "bob").await.is_problem(404, "no-such-session");
    until(&edge, &call, "bob's media come again", flows).await;
    drop(bob);
    until(&edge, &call, "bob is gone", |stats| stats["participantCount"] == 0).await;
    delete(&edge, again.header("location"), "bob").await.is_problem(404, "no-such-session");
    assert_eq!(edge.events("participant.joined").await, 1);
}

#[tokio::test]
async fn a_call_that_records_by_itself_does_so_though_the_database_goes_away_meanwhile() {
    let edge = edge_with(SETTINGS).await;
    // The first recording that is begun meets a server that shuts down; sequences do not roll back.
    let outage = "
        create sequence tries;
        create function refuse_the_first() returns trigger language plpgsql as $$ begin
            if nextval('tries') = 1 then raise 'shutting down' using errcode = '57P01'; end if;
            return new;
        end $$;
        create function tell() returns trigger language plpgsql as $$ begin
            perform pg_notify('recorded', new.call_id); return null;
        end $$;
        create trigger outage before insert on recording for each row execute function refuse_the_first();
        create trigger told after insert on recording for each row execute function tell();";
    sqlx::raw_sql(outage).execute(&edge.db).await.unwrap();
    let mut recorded = PgListener::connect_with(&edge.db).await.unwrap();
    recorded.listen("recorded").await.unwrap();
    let body = json!({ "participants": ["bob"], "record": { "thumbnails": 0 } });
    let call = edge.post("/video-calls", "ann", body).await.is(201).data()["id"].as_str().unwrap().to_owned();
    let (_bob, _) = publisher(&edge, &call, "bob").await;
    let patience = std::time::Duration::from_secs(60);
    let told = tokio::time::timeout(patience, recorded.recv()).await.expect("it is recorded").unwrap();
    assert_eq!(told.payload(), call);
    for event in ["call.started", "participant.joined", "recording.started"] {
        assert_eq!(edge.events(event).await, 1, "{event}");
    }
}

#[tokio::test]
async fn limits_hold_as_for_joins() {
    let settings = [SETTINGS, &[("WEBRTC_MAX_SESSIONS", "1")]].concat();
    let edge = edge_with(&settings).await;
    let small = edge.post("/video-calls", "ann", json!({ "maxParticipants": 1 })).await.is(201);
    let small = small.data()["id"].as_str().unwrap().to_owned();
    let call = edge.call().await;
    let offer = async || Participant::new().await.offer_media();
    let whip = format!("/video-calls/{small}/whip");
    let stranger = post(&edge, &format!("/video-calls/{call}/whip"), "mallory", offer().await).await;
    stranger.is_problem(403, "forbidden");
    post(&edge, "/video-calls/nowhere/whip", "ann", offer().await).await.is_problem(404, "no-such-call");
    post(&edge, &whip, "ann", "v=0\r\n".into()).await.is_problem(400, "invalid-description");
    post(&edge, &whip, "ann", "hello".into()).await.is_problem(400, "invalid-description");
    edge.post(&whip, "ann", json!({})).await.is_problem(415, "unsupported-media-type");
    answer(edge.request("POST", &whip).body(offer().await)).await.is_problem(401, "unauthenticated");

    let nobody = post(&edge, &format!("/video-calls/{small}/whep/bob"), "ann", offer().await).await;
    nobody.is_problem(404, "no-such-participant");
    let begun = post(&edge, &whip, "ann", offer().await).await.is(201);
    let early = post(&edge, &format!("/video-calls/{small}/whep/ann"), "cyd", offer().await).await;
    early.is_problem(409, "not-publishing");
    assert_eq!(early.header("retry-after"), "1");
    post(&edge, &whip, "cyd", offer().await).await.is_problem(409, "room-full");
    let elsewhere = format!("/video-calls/{call}/whip");
    let refused = post(&edge, &elsewhere, "bob", offer().await).await;
    refused.is_problem(503, "overloaded");
    // Who is there already takes their own place.
    post(&edge, &whip, "ann", offer().await).await.is(201);
    delete(&edge, begun.header("location"), "ann").await.is_problem(404, "no-such-session");
    edge.send("DELETE", &format!("/video-calls/{small}"), "ann", Value::Null).await.is(200);
    post(&edge, &whip, "ann", offer().await).await.is_problem(409, "call-ended");
    post(&edge, &elsewhere, "bob", offer().await).await.is(201);
}

#[tokio::test]
async fn what_may_be_posted_is_told_to_everybody_and_to_preflights() {
    let edge = edge_with(&[("ALLOWED_ORIGINS", "https://app.example.org")]).await;
    for path in ["/video-calls/a/whip", "/video-calls/a/whep/bob", "/api/video-calls/a/whip"] {
        let asked = answer(edge.request("OPTIONS", path)).await;
        assert!(asked.status.is_success(), "{path}");
        assert_eq!(asked.header("accept-post"), "application/sdp", "{path}");
    }
    let preflight = edge
        .request("OPTIONS", "/video-calls/a/whip")
        .header("origin", "https://app.example.org")
        .header("access-control-request-method", "PATCH")
        .header("access-control-request-headers", "if-match");
    let preflight = answer(preflight).await.is(200);
    assert!(preflight.header("access-control-allow-methods").contains("PATCH"));
    assert!(preflight.header("access-control-allow-headers").contains("if-match"));
    let closed = crate::support::edge().await;
    let asked = answer(closed.request("OPTIONS", "/video-calls/a/whip")).await;
    assert_eq!((asked.status, asked.header("accept-post")), (StatusCode::NO_CONTENT, "application/sdp"));
}
