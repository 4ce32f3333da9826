//! A call's life: active with the first who comes, over when the host says so or nobody is left, and what the rows say of it.

use e2e::client::Client;
use e2e::socket::{FRAME_WITHIN, Socket};
use e2e::system::System;
use serde_json::{Value, json};
use shared::testing::Changes;
use sqlx::PgPool;
use tokio::time::timeout;

/// The call as its host sees it, as soon as it is so.
pub(crate) async fn until_call(
    system: &System,
    host: &Client,
    call: &str,
    is_so: impl Fn(&Value) -> bool,
) -> Value {
    let mut changes = Changes::of(&system.db, &["call", "participant", "recording"]).await;
    let mut told = Value::Null;
    let becomes = async {
        loop {
            told = host.get(&format!("/video-calls/{call}")).await.data();
            if is_so(&told) {
                return;
            }
            changes.next().await;
        }
    };
    let became = timeout(FRAME_WITHIN, becomes).await;
    assert!(became.is_ok(), "the call does not become so: {told}");
    told
}

/// The state of somebody's row; null when there is none.
pub(crate) fn state_of(call: &Value, user: &str) -> Value {
    let people = call["participants"].as_array().cloned().unwrap_or_default();
    people.iter().find(|one| one["userId"] == user).map_or(Value::Null, |one| one["state"].clone())
}

/// When somebody came and went, as the call's host sees it.
fn times_of(call: &Value, user: &str) -> (Value, Value) {
    let people = call["participants"].as_array().cloned().unwrap_or_default();
    let person = people.into_iter().find(|one| one["userId"] == user).unwrap_or_default();
    (person["joinedAt"].clone(), person["leftAt"].clone())
}

/// The events of a call, oldest first.
pub(crate) async fn events(db: &PgPool, call: &str) -> Vec<String> {
    let rows = sqlx::query_scalar("select type from event where call_id = $1 order by id").bind(call);
    rows.fetch_all(db).await.expect("the database is there")
}

#[tokio::test]
async fn a_call_is_active_from_the_first_join_and_over_when_nobody_was_there_for_long_enough() {
    let system = System::builder().workers(0).set("CALL_EMPTY_TIMEOUT", "2s").start().await;
    let (host, base) = (system.client("ann"), system.edge.url());
    let call = host.create_call(&["bob"]).await;
    let told = until_call(&system, &host, &call, |_| true).await;
    assert_eq!((&told["status"], state_of(&told, "bob")), (&json!("created"), json!("invited")));
    let (mut bob, _) = Socket::join(&system.client("bob"), &base, &call).await;
    let is_in = |told: &Value| told["status"] == "active" && state_of(told, "bob") == "joined";
    let told = until_call(&system, &host, &call, is_in).await;
    let (joined_at, left_at) = times_of(&told, "bob");
    assert!(joined_at.is_string() && left_at.is_null(), "{told}");
    let (mut again, _) = Socket::join(&system.client("bob"), &base, &call).await;
    again.send("leave", Value::Null).await;
    let told = until_call(&system, &host, &call, |told| told["status"] == "ended").await;
    assert_eq!(state_of(&told, "bob"), "left");
    let (kept, left_at) = times_of(&told, "bob");
    assert_eq!(kept, joined_at, "who comes again in the place of an older session was there all the time");
    // Times are RFC 3339 UTC, all of one length.
    assert!(left_at.as_str() > joined_at.as_str(), "{told}");
    let happened = events(&system.db, &call).await;
    assert_eq!(
        happened,
        ["call.created", "call.started", "participant.joined", "participant.left", "call.ended"]
    );
    again.send("join", Value::Null).await;
    assert_eq!(again.refused().await, "call-ended");
    assert_eq!(bob.closed().await, 4001);
}

#[tokio::test]
async fn an_empty_call_ends_its_recording() {
    let system = System::builder().workers(0).set("CALL_EMPTY_TIMEOUT", "2s").start().await;
    let (host, base) = (system.client("ann"), system.edge.url());
    let made = host.post("/video-calls", &json!({ "record": { "thumbnails": 0 } })).await.expect(201);
    let call = made.data()["id"].as_str().unwrap().to_owned();
    let (mut bob, _) = Socket::join(&system.client("bob"), &base, &call).await;
    bob.frame("recording-started").await;
    bob.send("leave", Value::Null).await;
    let sealed = |told: &Value| told["status"] == "ended" && told["recordingStatus"] == "processing";
    until_call(&system, &host, &call, sealed).await;
    let stopping = "select data->>'reason' from event where call_id = $1 and type = 'recording.stopping'";
    let reasons: Vec<String> =
        sqlx::query_scalar(stopping).bind(&call).fetch_all(&system.db).await.expect("the database is there");
    assert_eq!(reasons, ["call-ended"]);
}

#[tokio::test]
async fn ending_a_call_tells_everybody_and_closes_their_sockets() {
    let system = System::builder().workers(0).start().await;
    let (host, base) = (system.client("ann"), system.edge.url());
    let call = host.create_call(&["bob"]).await;
    let (mut bob, _) = Socket::join(&system.client("bob"), &base, &call).await;
    until_call(&system, &host, &call, |told| state_of(told, "bob") == "joined").await;
    let _ = host.delete(&format!("/video-calls/{call}")).await.expect(200);
    bob.frame("room-closed").await;
    assert_eq!(bob.closed().await, 4002);
    let told = until_call(&system, &host, &call, |told| told["status"] == "ended").await;
    assert_eq!(state_of(&told, "bob"), "left");
}

#[tokio::test]
async fn a_call_that_asks_to_be_recorded_is_from_the_first_join_on() {
    let system = System::builder().workers(0).start().await;
    let (host, base) = (system.client("ann"), system.edge.url());
    let made = host.post("/video-calls", &json!({ "record": { "thumbnails": 0 } })).await.expect(201);
    let call = made.data()["id"].as_str().unwrap().to_owned();
    let (mut ann, _) = Socket::join(&host, &base, &call).await;
    let started = ann.frame("recording-started").await;
    let told = until_call(&system, &host, &call, |told| told["isRecorded"] == true).await;
    assert_eq!(told["recordings"][0]["id"], started["data"]["recordingId"], "{told}");
    let _ = host.post(&format!("/video-calls/{call}/recording/stop"), &json!({})).await.expect(202);
    let stopped = ann.frame("recording-stopped").await;
    assert_eq!(stopped["data"], started["data"]);
}

#[tokio::test]
async fn a_pause_is_told_and_outlives_the_edge() {
    let mut system = System::builder().workers(0).start().await;
    let (host, base) = (system.client("ann"), system.edge.url());
    let call = host.create_call(&["bob"]).await;
    let (mut ann, told) = Socket::join(&host, &base, &call).await;
    assert_eq!((&told["recording"], &told["recordingPaused"]), (&Value::Null, &json!(false)));
    let turn = async |turn: &str, status: u16| {
        host.post(&format!("/video-calls/{call}/recording/{turn}"), &json!({})).await.expect(status)
    };
    turn("start", 201).await;
    let started = ann.frame("recording-started").await;
    turn("pause", 200).await;
    assert_eq!(ann.frame("recording-paused").await["data"], started["data"]);
    system.edge.restart().await;
    let (mut ann, _) = Socket::join(&host, &base, &call).await;
    for told in ["recording-started", "recording-paused"] {
        assert_eq!(ann.frame(told).await["data"], started["data"]);
    }
    let (mut bob, told) = Socket::join(&system.client("bob"), &base, &call).await;
    let recording = &started["data"]["recordingId"];
    assert_eq!((&told["recording"], &told["recordingPaused"]), (recording, &json!(true)));
    turn("resume", 200).await;
    for person in [&mut ann, &mut bob] {
        assert_eq!(person.frame("recording-resumed").await["data"], started["data"]);
    }
    turn("stop", 202).await;
    ann.frame("recording-stopped").await;
}

#[tokio::test]
async fn an_edge_that_is_told_to_end_tells_everybody_to_come_back() {
    let mut system = System::builder().workers(0).start().await;
    let (host, base) = (system.client("ann"), system.edge.url());
    let call = host.create_call(&[]).await;
    let (mut ann, _) = Socket::join(&host, &base, &call).await;
    until_call(&system, &host, &call, |told| told["status"] == "active").await;
    let ended = system.edge.term();
    let told = async {
        let draining = ann.frame("draining").await;
        assert!(draining["data"]["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0), "{draining}");
        assert_eq!(ann.closed().await, 1001);
    };
    let (status, ()) = tokio::join!(ended, told);
    assert!(status.success());
    system.edge.restart().await;
    let (_ann, _) = Socket::join(&host, &base, &call).await;
    until_call(&system, &host, &call, |told| told["status"] == "active" && state_of(told, "ann") == "joined")
        .await;
}

/// Ends the call at the moment in which the edge claims it: after it was found to be on, and before anybody sits in it.
const ENDS_WHEN_CLAIMED: &str = "
    create function ends() returns trigger language plpgsql as $$
    begin new.state := 'ended'; new.ended_at := now(); return new; end $$;
    create trigger ends before update of edge_id on call for each row execute function ends();";

#[tokio::test]
async fn who_comes_in_while_the_call_ends_is_sent_out_again() {
    let system = System::builder().workers(0).start().await;
    let (host, base) = (system.client("ann"), system.edge.url());
    let call = host.create_call(&["bob"]).await;
    sqlx::raw_sql(ENDS_WHEN_CLAIMED).execute(&system.db).await.expect("the database takes a trigger");
    let (mut bob, _) = Socket::join(&system.client("bob"), &base, &call).await;
    bob.frame("room-closed").await;
    assert_eq!(bob.closed().await, 4002);
    let mut again = Socket::open(&system.client("bob"), &base, &call).await;
    again.send("join", Value::Null).await;
    assert_eq!(again.refused().await, "call-ended");
}
