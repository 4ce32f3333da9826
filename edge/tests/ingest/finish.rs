//! How a stopped recording comes to its first job.

use serde_json::Value;

use crate::support::{edge, edge_with, when_in};

#[tokio::test(flavor = "multi_thread")]
async fn complete_tracks_end_the_wait() {
    let edge = edge().await;
    let recording = edge.recording().await;
    recording.put("bob", 0, b"first").await.is(201);
    recording.stop().await;
    assert_eq!(recording.state().await, "stopping");
    recording.put("bob", 1, b"late").await.is(201);
    recording.complete("bob", 1).await.is(200);
    recording.becomes("processing").await;
    recording.put("bob", 2, b"too late").await.is_problem(409, "recording-not-live");
    assert_eq!(recording.jobs().await, 1);
    assert!(recording.spooled_bytes() > 9, "the capture is where a worker finds it");
    let (token, payload): (String, Value) = sqlx::query_as(
        "select r.stage_token, convert_from(j.job, 'UTF8')::jsonb from recording r, apalis.jobs j
         where r.id = $1 and j.job_type = 'mux-recording'",
    )
    .bind(&recording.id)
    .fetch_one(&edge.db)
    .await
    .unwrap();
    assert_eq!(
        (payload["token"].as_str(), payload["recording"].as_str()),
        (Some(&*token), Some(&*recording.id))
    );
    let events: Vec<String> =
        sqlx::query_scalar("select type from event where recording_id = $1 order by id")
            .bind(&recording.id)
            .fetch_all(&edge.db)
            .await
            .unwrap();
    assert_eq!(events, ["recording.started", "recording.stopping", "recording.processing"]);
    let tracks = edge.folder.path().join("capture/tracks");
    let left = tracks.join(&recording.id);
    when_in(&tracks, move || !left.exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_beyond_the_declared_last_is_taken_and_becomes_the_last() {
    let edge = edge().await;
    let recording = edge.recording().await;
    recording.put("bob", 0, b"first").await.is(201);
    recording.complete("bob", 0).await.is(200);
    recording.put("bob", 2, b"third").await.is(201);
    let status = recording.status("bob").await.is(200).body["data"]["tracks"][0].clone();
    assert_eq!((&status["lastSequence"], &status["complete"]), (&2.into(), &false.into()));
    recording.put("bob", 1, b"second").await.is(201);
    let status = recording.status("bob").await.is(200).body["data"]["tracks"][0].clone();
    assert_eq!((&status["lastSequence"], &status["complete"]), (&2.into(), &true.into()));
    recording.stop().await;
    recording.becomes("processing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeout_ends_the_wait_for_an_incomplete_track() {
    let edge = edge_with(&[("RECORDING_FINISH_TIMEOUT", "1s")]).await;
    let recording = edge.recording().await;
    recording.put("bob", 0, b"first").await.is(201);
    recording.stop().await;
    recording.becomes("processing").await;
    let received: Value = sqlx::query_scalar("select received from track where recording_id = $1")
        .bind(&recording.id)
        .fetch_one(&edge.db)
        .await
        .unwrap();
    assert_eq!(received, serde_json::json!([[0, 0]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_without_a_chunk_is_sealed_too() {
    let edge = edge_with(&[("RECORDING_FINISH_TIMEOUT", "0")]).await;
    let recording = edge.recording().await;
    recording.stop().await;
    recording.becomes("processing").await;
    assert_eq!(recording.jobs().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_duration_stops_a_recording() {
    let edge = edge_with(&[("RECORDING_MAX_DURATION", "1s"), ("RECORDING_FINISH_TIMEOUT", "0")]).await;
    let recording = edge.recording().await;
    recording.becomes("processing").await;
    let data: Value = sqlx::query_scalar("select data from event where type = 'recording.stopping'")
        .fetch_one(&edge.db)
        .await
        .unwrap();
    assert_eq!(data["reason"], "max-duration");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_by_somebody_else_is_noticed() {
    let edge = edge_with(&[("RECORDING_FINISH_TIMEOUT", "0")]).await;
    let recording = edge.recording().await;
    let stop = "update recording set state = 'stopping', stopped_at = now() where id = $1";
    sqlx::query(stop).bind(&recording.id).execute(&edge.db).await.unwrap();
    recording.becomes("processing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_was_given_up_while_its_edge_lived_is_processed_with_its_capture() {
    let edge = edge().await;
    let recording = edge.recording().await;
    recording.put("bob", 0, b"first").await.is(201);
    let fail = "update recording set state = 'failed', failed_at = now(), error_code = 'edge-lost', deadline_at = null where id = $1";
    sqlx::query(fail).bind(&recording.id).execute(&edge.db).await.unwrap();
    recording.becomes("processing").await;
    assert!(recording.spooled_bytes() > 0);
    recording.put("bob", 1, b"x").await.is_problem(409, "recording-not-live");
    assert_eq!(recording.jobs().await, 1);
}
