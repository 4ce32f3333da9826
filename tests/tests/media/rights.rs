//! A token that does not grant publishing: its bearer sees and hears, and nothing of theirs goes anywhere.

use std::time::Instant;

use e2e::client::Client;
use reqwest::Method;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use serde_json::json;

use crate::client::Client as Connection;
use crate::member::Member;
use crate::{builder, until_published};

fn speak(connection: &mut Connection) {
    connection.publish(Instant::now(), RtpCodecKind::Audio);
    connection.publish(Instant::now(), RtpCodecKind::Video);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_publish_listens_and_is_told_what_is_refused() {
    let system = builder().set("QUALITY_INTERVAL_MS", "500").start().await;
    let (host, base) = (system.client("host"), system.edge.url());
    let call = host.create_call(&[]).await;
    let claims = json!({ "sub": "eve", "grants": { "call": call, "join": true, "publish": false } });
    let listener = Client::with_claims(&base, claims);

    let whip = listener.request(Method::POST, &format!("/video-calls/{call}/whip"));
    let offer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";
    let refused = listener.send(whip.header("content-type", "application/sdp").body(offer)).await.expect(403);
    assert_eq!(refused.code(), "not-granted");

    let place = (&*base, &*call);
    let mut ann = Member::join(&system.client("ann"), place, json!({}), speak).await;
    ann.frame("answer").await;
    until_published(&host, &call, "ann", 2).await;
    let mut eve = Member::join(&listener, place, json!({}), speak).await;
    let told = eve.frame("error").await;
    assert_eq!(told["data"]["code"], "not-granted", "{told}");
    eve.hears_more().await;
    let figures = ann.figures(|told| told.as_array().is_some_and(|people| people.len() == 2)).await;
    let eves = figures.as_array().unwrap().iter().find(|one| one["userId"] == "eve").unwrap();
    assert_eq!(eves["published"], json!([]), "{figures}");
    assert_eq!(ann.standing().heard, [0, 0]);
}
