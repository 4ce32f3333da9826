//! Postgres is stopped in the middle: clients go on uploading, workers go on with what they do, rows and jobs follow.

use std::sync::Arc;
use std::time::Duration;

use e2e::client::{Recording, TrackKind};
use e2e::fixtures::Fixture;
use e2e::postgres::OwnPostgres;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::moments::{until, working_below};
use crate::result::{assert_encoded, assert_tidy, assert_whole};
use crate::uploads::{self, Acks};
use crate::workshop::{STAGES, Workshop, dismiss};

/// How long the database is away.
const OUTAGE: Duration = Duration::from_secs(10);
/// How many people upload.
const PEOPLE: usize = 10;
/// How often each of them has a chunk.
const CHUNK_EVERY: Duration = Duration::from_millis(700);
/// Chunks that all of them together have in the time of an outage.
const CHUNKS_OF_AN_OUTAGE: usize = PEOPLE * OUTAGE.as_millis() as usize / CHUNK_EVERY.as_millis() as usize;

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_live_recordings_are_taken_while_the_database_is_away() {
    let mut postgres = OwnPostgres::start().await;
    let workshop = Workshop::over(postgres.url(), &[]).await;
    let fixtures =
        ["chrome-webm-vp8", "chrome-webm-audio", "chrome-webm-vp9"].map(|name| Arc::new(Fixture::load(name)));
    let acks = Arc::new(Acks::new());
    let (mut people, mut uploads) = (Vec::new(), JoinSet::new());
    for n in 0..PEOPLE {
        let client = workshop.system.client(&format!("person-{n}"));
        let (recording, fixture) =
            (client.record(json!({})).await, Arc::clone(&fixtures[n % fixtures.len()]));
        people.push((client.clone(), recording.clone(), Arc::clone(&fixture)));
        let acks = Arc::clone(&acks);
        uploads.spawn(async move {
            uploads::upload(&client, &recording, TrackKind::Video, &fixture, &acks, Some(CHUNK_EVERY)).await;
        });
    }
    acks.reach(2 * PEOPLE).await;
    postgres.stop().await;
    acks.reach(acks.taken() + CHUNKS_OF_AN_OUTAGE).await;
    postgres.resume().await;
    while let Some(ended) = uploads.join_next().await {
        ended.unwrap();
    }
    let statuses = acks.statuses();
    assert_eq!(statuses.keys().collect::<Vec<_>>(), [&201], "{statuses:?}");

    for (client, recording, _) in &people {
        uploads::stop(client, recording).await;
    }
    let worker = workshop.worker("", &[]).await;
    for (client, recording, fixture) in &people {
        workshop.reaches(recording, "completed").await;
        assert_whole(&workshop.system, client, recording, &[(&client.user, fixture)]).await;
    }
    workshop.all_jobs_end().await;
    dismiss([worker]).await;
    assert_tidy(&workshop.system);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_run_while_the_database_is_away_lose_no_attempt() {
    let mut postgres = OwnPostgres::start().await;
    let workshop = Workshop::over(postgres.url(), &[]).await;
    let fixture = Arc::new(Fixture::load("ff-webm-vp8"));
    let encode = json!({ "format": "mp4", "videoCodec": "h264", "audioCodec": "aac" });
    let mut recorded = Vec::new();
    for options in [encode.clone(), encode, json!({}), json!({}), json!({}), json!({})] {
        recorded.push(workshop.record(&fixture, options).await);
    }
    let (first, second) = (workshop.worker("", &[]).await, workshop.worker("", &[]).await);
    let scratch = workshop.system.folders.scratch();
    until("work to be under way", async || (!working_below(&scratch).is_empty()).then_some(())).await;
    postgres.stop().await;
    let over = Instant::now() + OUTAGE;
    until("the outage to be over", async || (Instant::now() >= over).then_some(())).await;
    postgres.resume().await;

    for one in &recorded {
        one.client.wait_final(&one.recording).await;
    }
    workshop.all_jobs_end().await;
    dismiss([first, second]).await;
    assert_tidy(&workshop.system);
    for (n, one) in recorded.iter().enumerate() {
        for queue in STAGES {
            // What could not be published is tried again: once, and it is no lost worker.
            let outcomes = workshop.job(&one.recording, queue).await.outcomes;
            assert!(
                matches!(outcomes.as_slice(), [last] | [_, last] if last == "done"),
                "{queue}: {outcomes:?}"
            );
            assert!(!outcomes.iter().any(|outcome| outcome == "lost"), "{queue}: {outcomes:?}");
        }
        if n < 2 {
            assert_encoded(&workshop.system, &one.client, &one.recording, &fixture).await;
        } else {
            assert_whole(&workshop.system, &one.client, &one.recording, &[("ann", &fixture)]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_starts_without_its_database_goes_on_when_it_is_back() {
    let mut postgres = OwnPostgres::start().await;
    let mut workshop = Workshop::over(postgres.url(), &[]).await;
    let (client, fixture) = (workshop.system.client("ann"), Arc::new(Fixture::load("chrome-webm-vp8")));
    let recording: Recording = client.record(json!({})).await;
    let acks = Arc::new(Acks::new());
    let mut uploading = JoinSet::new();
    let (uploader, to, what, noted) =
        (client.clone(), recording.clone(), Arc::clone(&fixture), Arc::clone(&acks));
    uploading.spawn(async move {
        uploads::upload(&uploader, &to, TrackKind::Video, &what, &noted, Some(Duration::from_millis(100)))
            .await;
    });
    acks.reach(5).await;
    postgres.stop().await;
    workshop.system.edge.kill9();
    workshop.system.edge.restart().await;
    let _ = client.get("/healthz").await.expect(200);
    let not_ready = client.get("/readyz").await.expect(503);
    assert_eq!(not_ready.code(), "not-ready");
    let taken = acks.taken();
    postgres.resume().await;
    acks.reach(taken + 1).await;
    while let Some(ended) = uploading.join_next().await {
        ended.unwrap();
    }
    uploads::stop(&client, &recording).await;
    let worker = workshop.worker("", &[]).await;
    client.wait_final(&recording).await;
    assert_whole(&workshop.system, &client, &recording, &[("ann", &fixture)]).await;
    dismiss([worker]).await;
}
