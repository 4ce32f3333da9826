//! An edge that ends and starts again on its folder.

use crate::support::edge;

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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_live_is_shipped_at_the_start() {
    let edge = edge().await;
    let recording = edge.recording().await;
    recording.put("bob", 0, b"before").await.is(201);
    let (call, id) = (recording.call.clone(), recording.id.clone());
    edge.stop().await;
    let fail = "update recording set state = 'failed', failed_at = now(), error_code = 'x', deadline_at = null where id = $1";
    sqlx::query(fail).bind(&id).execute(&edge.db).await.unwrap();
    let edge = edge.restart(&[]).await;
    let recording = edge.again(&call, &id);
    crate::support::eventually(async || recording.spooled_bytes() > 0).await;
    recording.put("bob", 1, b"x").await.is_problem(409, "recording-not-live");
}
