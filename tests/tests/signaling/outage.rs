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
