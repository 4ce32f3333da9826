//! An edge that ends and starts again on its folder.

use crate::support::{TestEdge, edge, when_in};

#[tokio::test(flavor = "multi_thread")]
async fn clients_go_on_after_a_restart() {
    let edge = edge().await;
    let recording = edge.recording().await;
    for sequence in 0..5 {
        recording.put("bob", sequence, b"before").await.is(201);
    }
    let (call, id) = (recording.call.clone(), recording.id.clone());
    let edge = edge.restart(&[]).await;
    let recording = edge.again(&call, &id);
    recording.put("bob", 4, b"before").await.is(200);
    recording.put("bob", 4, b"after").await.is_problem(409, "chunk-conflict");
    recording.put("bob", 5, b"after").await.is(201);
    let status = recording.status("bob").await.is(200);
    assert_eq!(status.body["data"]["tracks"][0]["received"], serde_json::json!([[0, 5]]));
    recording.complete("bob", 5).await.is(200);
    recording.stop().await;
    recording.becomes("processing").await;
    let tracks: i64 = sqlx::query_scalar("select count(*) from track").fetch_one(&edge.db).await.unwrap();
    assert_eq!(tracks, 1, "the track has one id through both lives");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_was_stopping_is_finished_after_a_restart() {
    let edge = edge().await;
    let recording = edge.recording().await;
    recording.put("bob", 0, b"before").await.is(201);
    recording.stop().await;
    let (call, id) = (recording.call.clone(), recording.id.clone());
    let edge = edge.restart(&[]).await;
    let recording = edge.again(&call, &id);
    recording.put("bob", 1, b"late").await.is(201);
    recording.complete("bob", 1).await.is(200);
    recording.becomes("processing").await;
    assert_eq!(recording.jobs().await, 1);
}

/// Ends an edge that holds a chunk of a recording, changes the recording's row as `ended` says, and starts the edge again.
async fn returned(ended: &str) -> (TestEdge, String, String) {
    let edge = edge().await;
    let recording = edge.recording().await;
    recording.put("bob", 0, b"before").await.is(201);
    let (call, id) = (recording.call.clone(), recording.id.clone());
    edge.stop().await;
    let end = format!("update recording set deadline_at = null, {ended} where id = $1");
    sqlx::query(sqlx::AssertSqlSafe(end)).bind(&id).execute(&edge.db).await.unwrap();
    (edge.restart(&[]).await, call, id)
}

/// Waits until the edge has shipped what it had of a recording and keeps no more of it.
async fn is_let_go(edge: &TestEdge, id: &str) {
    let tracks = edge.folder.path().join("capture/tracks");
    let left = tracks.join(id);
    when_in(&tracks, move || !left.exists()).await;
    assert!(edge.again("", id).spooled_bytes() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_was_given_up_is_processed_with_the_share_of_the_edge_that_comes_back() {
    let failed = "state = 'failed', failed_at = now(), error_code = 'edge-lost'";
    let (edge, call, id) = returned(failed).await;
    let recording = edge.again(&call, &id);
    recording.becomes("processing").await;
    assert!(recording.spooled_bytes() > 0);
    assert_eq!(recording.jobs().await, 1);
    let told: (Option<String>, i32, i64) = sqlx::query_as(
        "select error_code, revision, (select sum(chunks)::bigint from track where recording_id = r.id) from recording r where id = $1",
    )
    .bind(&id)
    .fetch_one(&edge.db)
    .await
    .unwrap();
    assert_eq!(told, (None, 1, 1));
    let last = "select data->>'again' from event where recording_id = $1 and type = 'recording.processing'";
    let again: String = sqlx::query_scalar(last).bind(&id).fetch_one(&edge.db).await.unwrap();
    assert_eq!(again, "true");
    recording.put("bob", 1, b"x").await.is_problem(409, "recording-not-live");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_completed_recording_shows_stays_while_it_is_processed_again() {
    let completed =
        "state = 'completed', stopped_at = now(), sealed_at = now(), completed_at = now(), format = 'webm',
        output_key = 'recordings/old/recording.webm', output_revision = 0";
    let (edge, call, id) = returned(completed).await;
    let recording = edge.again(&call, &id);
    recording.becomes("processing").await;
    let path = format!("/video-calls/{call}/recording/{id}");
    let told = edge.json("GET", &path, "ann", &serde_json::Value::Null).await.is(200).body;
    assert_eq!(told["data"]["outputPath"], "recordings/old/recording.webm", "{told}");
    assert!(told["data"]["outputUrl"].is_string(), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_recording_stays_deleted_when_its_edge_comes_back() {
    let (edge, call, id) = returned("state = 'deleted', deleted_at = now()").await;
    is_let_go(&edge, &id).await;
    let recording = edge.again(&call, &id);
    assert_eq!((recording.state().await.as_str(), recording.jobs().await), ("deleted", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_whose_rest_is_gone_does_not_replace_what_was_made_of_it() {
    let completed =
        "state = 'completed', stopped_at = now(), sealed_at = now(), completed_at = now(), output_key = 'k',
        output_revision = 0, capture_deleted_at = now()";
    let (edge, call, id) = returned(completed).await;
    is_let_go(&edge, &id).await;
    let recording = edge.again(&call, &id);
    assert_eq!((recording.state().await.as_str(), recording.jobs().await), ("completed", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_was_handed_over_before_changes_nothing() {
    let edge = edge().await;
    let recording = edge.recording().await;
    recording.put("bob", 0, b"before").await.is(201);
    let (call, id) = (recording.call.clone(), recording.id.clone());
    edge.stop().await;
    // What a process leaves that ends between the seal and the tidying up of its folder.
    let sealed = "with flushed as (update recording_edge set flushed_at = now() where recording_id = $1)
        update recording set state = 'completed', stopped_at = now(), sealed_at = now(), completed_at = now(), output_key = 'k',
            output_revision = 0, deadline_at = null where id = $1";
    sqlx::query(sealed).bind(&id).execute(&edge.db).await.unwrap();
    let edge = edge.restart(&[]).await;
    is_let_go(&edge, &id).await;
    let recording = edge.again(&call, &id);
    assert_eq!((recording.state().await.as_str(), recording.jobs().await), ("completed", 0));
}
