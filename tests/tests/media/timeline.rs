//! The timeline that a recording's logs tell: who was there, and what was muted.

use std::time::Instant;

use e2e::client::{Client, Recording};
use e2e::system::System;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use serde_json::json;
use shared::capture::Mark;
use shared::capture::rtp::{Logged, Records};
use shared::id::RecordingId;
use shared::spool::Spool;
use shared::testing::Changes;
use shared::track::TrackKind;

use crate::client::Client as Connection;
use crate::member::Member;
use crate::{builder, until_published};

fn speak(connection: &mut Connection) {
    connection.publish(Instant::now(), RtpCodecKind::Audio);
}

/// Waits until a recording that was stopped is sealed: all logs are in the spool.
pub(crate) async fn sealed(system: &System, host: &Client, recording: &Recording) {
    let mut changes = Changes::of(&system.db, &["recording"]).await;
    while host.recording(recording).await["status"] != "processing" {
        changes.next().await;
    }
}

/// What the log of somebody's medium says beside packets. What says again how it is, as each segment and each track that is published
/// anew does, is left out.
pub(crate) fn marks(system: &System, recording: &Recording, user: &str, kind: TrackKind) -> Vec<Mark> {
    let spool = Spool::open(system.folders.spool()).unwrap();
    let id = RecordingId::parse(&recording.id).unwrap();
    for track in spool.tracks(&id).unwrap() {
        let (mut records, mut marks) = (Records::open(&spool, &id, &track).unwrap(), Vec::new());
        while let Some(logged) = records.read_next().unwrap() {
            if let Logged::Mark { mark, .. } = logged
                && !matches!(mark, Mark::Stream(_) | Mark::Totals { .. } | Mark::Keyframe { .. })
            {
                let about = |presence: bool| {
                    move |mark: &&Mark| matches!(mark, Mark::Joined | Mark::Left) == presence
                };
                let presence = about(true)(&&mark);
                if marks.iter().rev().find(about(presence)) != Some(&mark) {
                    marks.push(mark);
                }
            }
        }
        let spec = records.spec().unwrap();
        if spec.participant.as_str() == user && spec.kind == kind {
            return marks;
        }
    }
    panic!("{user} has no log of {kind:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_mutes_and_comes_back_in_a_new_session_is_neither_muted_nor_gone() {
    let system = builder().set("CALL_EMPTY_TIMEOUT", "60s").start().await;
    let (host, base) = (system.client("host"), system.edge.url());
    let call = host.create_call(&[]).await;
    let place = (&*base, &*call);
    let mut ann = Member::join(&system.client("ann"), place, json!({}), speak).await;
    ann.frame("answer").await;
    let mut ben = Member::join(&system.client("ben"), place, json!({}), speak).await;
    ben.frame("answer").await;
    let recording = host.start_recording(&call, &json!({ "thumbnails": 0 })).await;
    ben.frame("recording-started").await;
    until_published(&host, &call, "ann", 1).await;
    ann.socket.send("mute", json!({ "kind": "audio" })).await;
    ben.frame("mute").await;

    let mut again = Member::join(&system.client("ann"), place, json!({}), speak).await;
    assert_eq!(ben.frame("unmute").await["data"], json!({ "userId": "ann", "kind": "audio" }));
    again.frame("answer").await;
    until_published(&host, &call, "ann", 1).await;
    again.socket.send("leave", json!(null)).await;
    ben.frame("participant-left").await;
    host.stop(&recording).await;
    sealed(&system, &host, &recording).await;

    let ann = marks(&system, &recording, "ann", TrackKind::Audio);
    let told = [Mark::Resumed, Mark::Joined, Mark::Unmuted, Mark::Muted, Mark::Unmuted, Mark::Left];
    assert_eq!(ann, told);
    assert_eq!(marks(&system, &recording, "ben", TrackKind::Audio), told[..3]);
}
