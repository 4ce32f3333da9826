//! What frames of the socket do to media: who receives what, and what is told of it while it flows.

use std::time::Instant;

use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use serde_json::{Value, json};

use crate::client::Client as Connection;
use crate::member::Member;
use crate::{builder, metric};

fn speak_in_layers(connection: &mut Connection) {
    connection.publish(Instant::now(), RtpCodecKind::Audio);
    connection.publish_layers(Instant::now());
}

fn listen(connection: &mut Connection) {
    connection.publish(Instant::now(), RtpCodecKind::Audio);
}

/// The layer of ben's camera that ann gets; null when she gets none.
fn layer(people: &Value) -> Value {
    let all = people.as_array().cloned().unwrap_or_default();
    let ann = all.into_iter().find(|one| one["userId"] == "ann").unwrap_or_default();
    let received = ann["received"].as_array().cloned().unwrap_or_default();
    let camera = received.into_iter().find(|leg| leg["userId"] == "ben" && leg["kind"] == "video");
    camera.map_or(Value::Null, |leg| leg["layer"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_receives_what_they_ask_for() {
    let system = builder().set("QUALITY_INTERVAL_MS", "500").start().await;
    let (host, base) = (system.client("host"), system.edge.url());
    let call = host.create_call(&[]).await;
    let place = (&*base, &*call);
    let nothing = json!({ "receive": false });
    let mut ann = Member::join(&system.client("ann"), place, nothing, listen).await;
    ann.frame("answer").await;
    let introduced = json!({ "metadata": { "name": "Ben" } });
    let mut ben = Member::join(&system.client("ben"), place, introduced, speak_in_layers).await;
    let joined = ann.frame("participant-joined").await;
    assert_eq!(joined["data"]["metadata"], json!({ "name": "Ben" }));
    ben.frame("answer").await;

    let sends_layers = |people: &Value| {
        let ben = people.as_array().and_then(|all| all.iter().find(|one| one["userId"] == "ben"));
        ben.and_then(|ben| ben["published"].as_array()).is_some_and(|tracks| tracks.len() == 4)
    };
    let figures = ann.figures(sends_layers).await;
    assert_eq!((layer(&figures), ann.standing().heard), (Value::Null, [0, 0]), "{figures}");

    ann.socket.send("subscribe", json!({ "userId": "ben" })).await;
    ann.hears_more().await;
    ann.figures(|people| layer(people) == "f").await;
    ann.socket.send("subscribe", json!({ "userId": "ben", "kind": "video", "layer": "q" })).await;
    ann.figures(|people| layer(people) == "q").await;
    ann.socket.send("subscribe", json!({ "userId": "ben", "kind": "video", "layer": "h" })).await;
    ann.figures(|people| layer(people) == "h").await;
    // All layers of this client have 480 lines.
    for (height, fits) in [(360, "q"), (1_080, "f")] {
        let size = json!({ "width": 640, "height": height });
        ann.socket.send("subscribe", json!({ "userId": "ben", "kind": "video", "size": size })).await;
        ann.figures(|people| layer(people) == fits).await;
    }
    ann.socket.send("unsubscribe", json!({ "userId": "ben" })).await;
    ann.figures(|people| layer(people).is_null()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_and_the_speaker_are_told_while_people_talk() {
    let system = builder().set("QUALITY_INTERVAL_MS", "500").start().await;
    let (host, base) = (system.client("host"), system.edge.url());
    let call = host.create_call(&[]).await;
    let loud = |connection: &mut Connection| {
        connection.level = 10;
        listen(connection);
    };
    let mut ann = Member::join(&system.client("ann"), (&base, &call), json!({}), listen).await;
    ann.frame("answer").await;
    let mut ben = Member::join(&system.client("ben"), (&base, &call), json!({}), loud).await;
    ben.frame("answer").await;
    let speaker = ann.frame("active-speaker").await;
    assert_eq!(speaker["data"]["userId"], "ben");

    let flows = |people: &Value| {
        let all = people.as_array().cloned().unwrap_or_default();
        let ben = all.iter().find(|one| one["userId"] == "ben").cloned().unwrap_or_default();
        ben["published"][0]["bitrateBps"].as_u64().is_some_and(|bps| bps > 0)
            && ben["published"][0]["packets"].as_u64().is_some_and(|packets| packets > 0)
    };
    ann.figures(flows).await;
    let told = Instant::now();
    let next = ann.frame("quality").await["data"]["participants"].take();
    assert!(flows(&next), "{next}");
    let with_received = next.as_array().unwrap().iter().filter(|one| !one["received"].is_null());
    assert_eq!(
        with_received.map(|one| &one["userId"]).collect::<Vec<_>>(),
        ["ann"],
        "of the others, what they publish"
    );
    assert!(told.elapsed().as_millis() < 2_000, "every 500 ms: {:?}", told.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_how_well_media_flow() {
    let system = builder().set("QUALITY_INTERVAL_MS", "500").start().await;
    let (host, base) = (system.client("host"), system.edge.url());
    let call = host.create_call(&[]).await;
    let mut ann = Member::join(&system.client("ann"), (&base, &call), json!({}), speak_in_layers).await;
    ann.frame("answer").await;
    let mut ben = Member::join(&system.client("ben"), (&base, &call), json!({}), listen).await;
    ben.hears_more().await;
    let round_trip = |people: &Value| {
        let all = people.as_array().cloned().unwrap_or_default();
        let ben = all.into_iter().find(|one| one["userId"] == "ben").unwrap_or_default();
        ben["received"].as_array().is_some_and(|legs| legs.iter().any(|leg| leg["roundTripMs"].is_number()))
    };
    ben.figures(round_trip).await;
    // What is told first is observed then.
    ben.figures(round_trip).await;
    for name in ["bitrate_bps", "jitter_seconds", "loss_ratio", "round_trip_seconds"] {
        assert!(metric(&host, &format!("callreel_media_{name}_count")).await > 0.0, "{name}");
    }
    assert!(metric(&host, "callreel_media_bitrate_bps_sum").await > 0.0);
    assert!(metric(&host, "callreel_media_keyframes_asked_total").await > 0.0);
    assert!(metric(&host, "callreel_media_packets_asked_again_total").await >= 0.0);
}
