//! The database goes away during a call: signaling goes on, and rows and events follow.

use std::time::Duration;

use e2e::postgres::OwnPostgres;
use e2e::socket::Socket;
use e2e::system::System;
use serde_json::{Value, json};
use tokio::time::{Instant, interval};

use crate::life::{events, state_of, until_call};

/// How long the database is away.
const AWAY: Duration = Duration::from_secs(20);
/// Between two looks at locks, which give no signal.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often people say something meanwhile.
const TALK_EVERY: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_call_goes_on_while_the_database_is_away_and_rows_and_events_follow() {
    let mut cluster = OwnPostgres::start().await;
    let system = System::builder().workers(0).database_url(cluster.url()).start().await;
    let (host, base) = (system.client("ann"), system.edge.url());
    let call = host.create_call(&["bob", "cyd"]).await;
    let (mut ann, _) = Socket::join(&host, &base, &call).await;
    let (mut bob, _) = Socket::join(&system.client("bob"), &base, &call).await;
    until_call(&system, &host, &call, |told| state_of(told, "bob") == "joined").await;

    cluster.stop().await;
    let back = Instant::now() + AWAY;
    let mut talk = interval(TALK_EVERY);
    while Instant::now() < back {
        talk.tick().await;
        ann.send("message", json!({})).await;
        ann.send("mute", Value::Null).await;
        bob.frame("message").await;
        bob.frame("mute").await;
    }
    // Who sits there may come again without the database.
    let (mut bob, _) = Socket::join(&system.client("bob"), &base, &call).await;
    bob.send("leave", Value::Null).await;
    ann.frame("participant-left").await;

    cluster.resume().await;
    until_call(&system, &host, &call, |told| state_of(told, "bob") == "left").await;
    let happened = events(&system.db, &call).await;
    assert_eq!(happened.iter().filter(|kind| *kind == "participant.left").count(), 1, "{happened:?}");
    let (_cyd, _) = Socket::join(&system.client("cyd"), &base, &call).await;
    until_call(&system, &host, &call, |told| state_of(told, "cyd") == "joined").await;
}

#[tokio::test]
async fn a_call_is_recorded_by_itself_although_the_database_goes_away_at_that_moment() {
    let mut cluster = OwnPostgres::start().await;
    let system = System::builder().workers(0).database_url(cluster.url()).start().await;
    let (host, base) = (system.client("ann"), system.edge.url());
    let made = host.post("/video-calls", &json!({ "record": { "thumbnails": 0 } })).await.expect(201);
    let call = made.data()["id"].as_str().unwrap().to_owned();
    // Its recording waits for this.
    let mut held = system.db.begin().await.unwrap();
    sqlx::query("lock table recording in share mode").execute(&mut *held).await.unwrap();
    let (mut ann, _) = Socket::join(&host, &base, &call).await;
    let mut looks = interval(LOOK_EVERY);
    while sqlx::query_scalar::<_, i64>("select count(*) from pg_locks where not granted")
        .fetch_one(&mut *held)
        .await
        .unwrap()
        == 0
    {
        looks.tick().await;
    }
    cluster.stop().await;
    drop(held);
    cluster.resume().await;

    let started = ann.frame("recording-started").await;
    let told = until_call(&system, &host, &call, |told| told["isRecorded"] == true).await;
    assert_eq!(told["recordings"][0]["id"], started["data"]["recordingId"], "{told}");
    let happened = events(&system.db, &call).await;
    assert_eq!(happened, ["call.created", "call.started", "participant.joined", "recording.started"]);
}
